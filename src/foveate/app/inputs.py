"""Arguments to inputs: files, folders, patterns and standard input."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from foveate.core import ConfigError, MediaError
from foveate.media.limits import DEFAULT_LIMITS, Limits

STDIN = "<stdin>"
_ADDRESS = "an address, and only files are opened (save it to a file first)"


@dataclass(frozen=True)
class Item:
    """One input: a file, or a line saying why there is none.

    Attributes:
        path: What was typed, or found in a folder or by a pattern.
        problem: Why it cannot be read.
        stream: The content of standard input or of a pipe, which can be read only once.
        typed: Its name where a path would change it, as in addresses.
    """

    path: Path
    problem: str | None = None
    stream: BinaryIO | None = None
    typed: str | None = None

    @property
    def source(self) -> Path | BinaryIO:
        """What `open_source` takes."""
        return self.stream or self.path

    @property
    def name(self) -> str:
        """Its name in messages."""
        from foveate.media import display_name

        return display_name(self.typed or self.path)


def expand(inputs: Iterable[str], limits: Limits = DEFAULT_LIMITS) -> Iterator[Item]:
    """Expand arguments to inputs, without duplicates.

    Files stand for themselves, folders for the videos in them, patterns such as `clips/**/*.mp4`
    for what they match, and `-` for standard input.

    Args:
        inputs: As they were typed.
        limits: Bounds on what is read from a stream.
    """
    seen: set[Path] = set()
    for text in inputs:
        for item in _expanded(text, limits):
            if item.path not in seen:
                seen.add(item.path)
                yield item


def _expanded(text: str, limits: Limits) -> Iterator[Item]:
    from foveate.media import find_media
    from foveate.media.folder import picture_names
    from foveate.media.source import is_pipe

    path = Path(text)
    if not text:
        # Not the folder that a path takes it for.
        yield Item(path, "an empty name, not a file or folder", typed="''")
    elif text == "-" or is_pipe(path):
        yield _streamed(path, limits)
    # Not `Path.is_dir`: that raises on names that no file can have.
    elif os.path.isdir(path):
        found = find_media(path)
        empty = not found and not picture_names(path)
        problem = "no video files and no numbered pictures in this folder" if empty else None
        yield from (Item(one, problem) for one in found or [path])
    elif os.path.lexists(path):
        yield Item(path)
    elif "://" in text:
        yield Item(path, _ADDRESS, typed=text)
    elif glob.has_magic(text):
        matches = _matches(text)
        if not matches:
            yield Item(path, "no such file, and nothing matches it as a pattern")
        for match in matches:
            yield from _expanded(str(match), limits)
    else:
        yield Item(path)


def _matches(pattern: str) -> list[Path]:
    """Files and folders that a pattern matches, sorted, none hidden and none through links.

    A pattern that ends with a suffix, such as `*.dat`, matches all such files; any other one only
    what a folder would give.
    """
    from foveate.media.names import is_system, is_video

    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    # Only a whole part `**` stands for folders; elsewhere two asterisks mean one.
    rest = [part if part == "**" else re.sub(r"\*+", "*", part) for part in parts[first:]]
    base = Path(*parts[:first])
    try:
        found = sorted(base.glob(os.path.join(*rest)))
    except (OSError, ValueError, NotImplementedError, re.error):
        return []
    suffix = Path(rest[-1]).suffix
    every = len(suffix) > 1 and not glob.has_magic(suffix)
    return [
        path
        for path in found
        if not any(map(is_system, path.parts[len(base.parts) :]))
        and (every or path.is_dir() or is_video(path.name))
    ]


def _streamed(path: Path, limits: Limits) -> Item:
    """Standard input or a pipe, read to its end."""
    from foveate.media.source import buffered, read_pipe

    item = Item(path, typed=STDIN if str(path) == "-" else None)
    try:
        if item.typed is None:
            return replace(item, stream=read_pipe(path, limits))
        if sys.stdin is None or sys.stdin.isatty():
            return replace(item, problem="nothing is piped into it (foveate predict - < clip.mp4)")
        return replace(item, stream=buffered(sys.stdin.buffer, STDIN, limits))
    except MediaError as error:
        return replace(item, problem=str(error).removeprefix(f"{item.name}: "))


def check_rate(fps: float | None, items: Iterable[Item]) -> None:
    """Refuse `--fps` where it cannot be meant.

    Raises:
        FoveateError: It is out of range, or no input is a folder of pictures.
    """
    from foveate.media.array import checked_rate

    if fps is None:
        return
    checked_rate("--fps", fps)
    if not any(os.path.isdir(item.path) for item in items):
        raise ConfigError("--fps: only for folders of pictures", "video files have their own rate")
