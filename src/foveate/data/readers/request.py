"""What a reader is given, what it gives back, and how it finds the files that are named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foveate.core.config import nearest
from foveate.data.errors import Faults
from foveate.data.record import Record
from foveate.media import SUFFIXES, display_name
from foveate.media.folder import is_picture

SPLITS = {
    "train": "train", "training": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip


@dataclass
class Listing:
    """What a reader found.

    Attributes:
        records: In the order of the annotation.
        classes: Names in the order of their indices, None if only the records tell.
        multilabel: Whether a clip may have several classes.
    """

    records: list[Record]
    classes: tuple[str, ...] | None = None
    multilabel: bool = False


@dataclass
class Request:
    """A data set to read.

    Attributes:
        path: The annotation file, or a folder.
        root: Folder that the clips lie in.
        faults: Takes what is wrong.
        part: Which of several published splits (UCF-101, HMDB-51), from 1.
        allow_missing: Leave clips out that are not there, instead of calling it a fault.
        left_out: Lines about the clips that were left out.
    """

    path: Path
    root: Path
    faults: Faults
    part: int = 1
    allow_missing: bool = False
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = Files(self.root)

    def locate(self, *names: str, where: str, anywhere: bool = False) -> Path | None:
        """The clip of the first name that exists; None where that is a fault, which is noted.

        Args:
            *names: Paths below the root (or absolute), the ending may be missing.
            where: File and line that name it.
            anywhere: Also look for a file of that name in any folder below the root.
        """
        for name in names:
            found = self.files.find(name)
            if found is not None:
                return found
        several = self.files.anywhere(names[0]) if anywhere else []
        if len(several) == 1:
            return several[0]
        name = display_name(names[0])
        if several:
            self.faults.add(where, f"{name} exists {len(several)} times below the folder")
        elif self.allow_missing:
            self.left_out.append(f"{where}: no such file: {name}")
        else:
            guess = self.files.like(names[0])
            cure = f"did you mean {display_name(guess)}?" if guess else "or give the clips' folder"
            self.faults.add(where, f"no such file: {name} ({cure})")
        return None


class Files:
    """Clips below a folder; each folder is listed once, however many clips are asked for.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, dict[str, str]] = {}
        self._stems: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path | None:
        """The file or folder of that name, or a video whose name has an ending more."""
        for spelling in (name, name.replace("\\", "/")):
            path = self._root / spelling
            found = self._names(path.parent).get(path.name)
            if found is not None:
                return path.with_name(found)
        return None

    def anywhere(self, name: str) -> list[Path]:
        """Videos and frame folders of that name (the ending may differ) in any folder."""
        if self._stems is None:
            self._stems = {}
            for path in walk(self._root):
                self._stems.setdefault(_stem(path.name), []).append(path)
        return self._stems.get(_stem(Path(name).name), [])

    def like(self, name: str) -> str | None:
        """A name in the same folder that looks like this one."""
        path = self._root / name
        guess = nearest(path.name, list(self._names(path.parent))[:5000])
        return None if guess is None else (Path(name).parent / guess).as_posix()

    def _names(self, folder: Path) -> dict[str, str]:
        """Names in a folder by name, and those of videos also without their ending."""
        if folder not in self._listed:
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            self._listed[folder] = {_stem(name): name for name in reversed(names)}
            self._listed[folder].update({name: name for name in names})
        return self._listed[folder]


def walk(folder: Path) -> Iterator[Path]:
    """Every clip below a folder, sorted: files with a video's ending and folders of pictures."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = sorted(name for name in files if not name.startswith("."))
        here = Path(place)
        if here != folder and any(is_picture(name) for name in files):
            folders.clear()
            yield here
            continue
        yield from (here / name for name in files if Path(name).suffix.lower() in SUFFIXES)


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name
