"""From what a user typed to the list of inputs: files as they are, folders as their videos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = "an address, and only files are opened (save it to a file first)"


@dataclass(frozen=True)
class Item:
    """One input: a file, or a line saying why there is none."""

    path: Path
    problem: str | None = None


def expand(inputs: Iterable[str]) -> Iterator[Item]:
    """Files as they are, folders as the videos in them; nothing twice."""
    from foveate.media import find_media
    from foveate.media.folder import picture_names

    seen: set[Path] = set()
    for text in inputs:
        path = Path(text)
        if not text:
            # Not the folder that a path takes it for.
            yield Item(path, "an empty name, not a file or folder")
            continue
        # Not `Path.is_dir`: that raises on names that no file can have.
        if not os.path.isdir(path):
            is_address = "://" in text and not os.path.lexists(path)
            found, problem = [path], _ADDRESS if is_address else None
        else:
            found, problem = find_media(path), None
            if not found and not picture_names(path):
                problem = "no video files and no numbered pictures in this folder"
        for one in found or [path]:
            if one not in seen:
                seen.add(one)
                yield Item(one, problem)
