"""What a reader is given, what it gives back, and how it finds the files that are named."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from foveate.core.config import nearest
from foveate.data.errors import Faults
from foveate.data.readers.tree import Kind, PassedOver, animated, walk
from foveate.data.record import Record
from foveate.media import SUFFIXES, display_name
from foveate.media.names import is_system, is_video

SPLITS = {
    "train": "train", "training": "train", "trn": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "validating": "val",
    "vld": "val", "dev": "val", "devel": "val", "development": "val",
    "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
UNNAMED: Kind = ("video that no line names", "videos that no line names")
_ELSEWHERE = "if the clips lie elsewhere, name their folder"
# What names of splits are joined with: `training_set`, `test-videos`, `ValData`.
_FILLERS = frozenset(
    ["set", "data", "dataset", "split", "subset", "part", "fold", "video", "videos", "clip",
     "clips", "sample", "samples", "frame", "frames", "file", "files", "image", "images", "list"]
)  # fmt: skip


@dataclass
class Listing:
    """What a reader found.

    Attributes:
        records: In the order of the annotation; those of `Request.broken` lines too.
        classes: Names in the order of their indices, None if only the records tell.
        multilabel: Whether a clip may have several classes.
        named: Whether labels are the words of a table, among which a number is odd.
    """

    records: list[Record]
    classes: tuple[str, ...] | None = None
    multilabel: bool = False
    named: bool = False


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
        broken: Files and lines with a fault; of their records only the labels are checked.
        passed: Counts what is not read.
    """

    path: Path
    root: Path
    faults: Faults
    part: int = 1
    allow_missing: bool = False
    left_out: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.files = Files(self.root)
        self.passed = PassedOver(self.path if self.path.is_dir() else self.path.parent)
        self._inside = False
        self._outside: list[tuple[str, str]] = []

    def fault(self, where: str, what: str) -> None:
        """Note a fault of a line, which breaks its record."""
        self.broken.add(where)
        self.faults.add(where, what)

    def locate(self, *names: str, where: str, anywhere: bool = False) -> Path | None:
        """The clip of the first name that exists.

        Args:
            *names: Paths below the root (or absolute), the ending may be missing.
            where: File and line that name it.
            anywhere: Also look for a file of that name in any folder below the root.

        Returns:
            None where it is missing and may be. Where that is a fault, it is noted, and the path
            is the one at which the clip should be.
        """
        for name in names:
            found = self.files.find(name)
            if found is not None:
                self._place(found, name, where)
                return found
        several = self.files.anywhere(names[0]) if anywhere else []
        if len(several) == 1:
            self._inside = True
            return several[0]
        name = display_name(names[0])
        if several:
            self.fault(where, f"{name} exists {len(several)} times below the folder")
        elif self.allow_missing:
            self.left_out.append(f"{where}: no such file: {name}")
            return None
        else:
            guess = self.files.like(names[0])
            hint = f"did you mean {display_name(guess)}?" if guess else _ELSEWHERE
            self.fault(where, f"no such file: {name} ({hint})")
        return self.root / names[0]

    def count_unnamed(self, records: Sequence[Record]) -> None:
        """Count the videos that lie beside the clips of some records and are in none of them."""
        paths = {record.path for record in records}
        for folder in sorted({path.parent for path in paths}):
            for name in self.files.names(folder):
                if is_video(name) and not is_system(name) and folder / name not in paths:
                    self.passed.add(UNNAMED, folder / name)

    def settle(self) -> None:
        """Note the paths that leave the root, where others stay inside.

        A list all of whose clips lie elsewhere (absolute paths, or `../videos/`) means that.
        """
        for where, name in self._outside if self._inside else ():
            self.fault(where, f"{display_name(name)} is outside the folder of the clips")

    def _place(self, found: Path, name: str, where: str) -> None:
        root = os.path.abspath(self.root)
        if os.path.abspath(found).startswith(root.rstrip(os.sep) + os.sep):
            self._inside = True
        else:
            self._outside.append((where, name))


class Files:
    """Clips below a folder; each folder is listed once, however many clips are asked for.

    Names are compared as they are written, then in the composed form of Unicode (NFC): some file
    systems store `é` as two characters, and annotations come from others.

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
            if path.name in ("", "..") or path == self._root:
                continue
            folder = self._folder(path.parent)
            names = self._names(folder)
            found = names.get(path.name) or names.get(composed(path.name))
            if found is not None:
                return folder / found
        return None

    def has(self, name: str) -> bool:
        """Whether there is a file or folder of that name, ending and all."""
        found = self.find(name)
        return found is not None and composed(found.name) == composed(
            Path(name.replace("\\", "/")).name
        )

    def names(self, folder: Path) -> list[str]:
        """Names of the files and folders in a folder, sorted."""
        return sorted(set(self._names(folder).values()))

    def anywhere(self, name: str) -> list[Path]:
        """Videos and frame folders of that name (the ending may differ) in any folder."""
        if self._stems is None:
            self._stems = {}
            for path in walk(self._root):
                self._stems.setdefault(composed(_stem(path.name)), []).append(path)
        return self._stems.get(composed(_stem(Path(name).name)), [])

    def like(self, name: str) -> str | None:
        """A clip in the same folder whose name looks like this one; None outside the root."""
        path = Path(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            return None
        names = (n for n in self.names(self._root / path.parent) if is_video(n) or "." not in n)
        stems = {_stem(n).casefold(): n for n in islice(names, 5000)}
        guess = nearest(_stem(path.name).casefold(), stems)
        return None if guess is None else (path.parent / stems[guess]).as_posix()

    def _folder(self, path: Path) -> Path:
        """The folder of that name; one of the same name in composed form where there is none."""
        if self._names(path) or path.parent == path:
            return path
        parent = self._folder(path.parent)
        return parent / self._names(parent).get(composed(path.name), path.name)

    def _names(self, folder: Path) -> dict[str, str]:
        """Names in a folder by name, and those of videos also without their ending."""
        if folder not in self._listed:
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            # An animated preview beside a video has the same name without its ending.
            videos = [*filter(animated, names), *(n for n in reversed(names) if not animated(n))]
            found = {composed(_stem(name)): name for name in videos}
            found.update({_stem(name): name for name in videos})
            found.update({composed(name): name for name in reversed(names)})
            found.update({name: name for name in names})
            self._listed[folder] = found
        return self._listed[folder]


def split_of(name: str) -> str | None:
    """The split that the name of a folder stands for: `Train`, `val_set`, `test-1`, `trainData`.

    Returns:
        None for any other name, also for one with another word in it.
    """
    if not name.isascii():
        return None
    words = re.findall("[a-z]+", name.lower())
    for filler in ("dataset", "set", "data", "split"):
        words = [w.removesuffix(filler) if w.removesuffix(filler) in SPLITS else w for w in words]
    found = {SPLITS.get(word, word) for word in words if word not in _FILLERS}
    if found == {"train", "val"}:
        return "train"
    return found.pop() if len(found) == 1 and found <= set(SPLITS.values()) else None


def split_in(stem: str) -> str | None:
    """The split that the name of a file contains among other words: `kinetics_train_list`."""
    words = re.split(r"[^a-z]+", stem.lower())
    for filler in ("list", "set", "split", "data"):
        words = [w.removesuffix(filler) if w.removesuffix(filler) in SPLITS else w for w in words]
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def composed(text: str) -> str:
    """Text in the composed form of Unicode (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name
