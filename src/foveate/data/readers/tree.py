"""Scans a folder for clips, and counts everything that is skipped, by kind.

Pictures are frames of a clip only where a folder holds two or more numbered ones and no video.
Thumbnails, posters and previews beside videos neither hide those nor become clips.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from foveate.media import display_name
from foveate.media.folder import is_picture
from foveate.media.names import is_image, is_system, is_video

Kind = tuple[str, str]  # of what is passed over, for one and for several
PICTURE: Kind = ("picture that is no frame of a clip", "pictures that are no frames of a clip")
FRAMES: Kind = ("folder with pictures of a video beside it", "folders with pictures of a video")
BELOW: Kind = ("folder below the frames of a clip", "folders below the frames of a clip")
SYSTEM: Kind = ("hidden or system entry", "hidden or system entries")
OTHER: Kind = ("file that is no video", "files that are no videos")
SPECIAL: Kind = ("pipe, socket or device", "pipes, sockets or devices")
LINK: Kind = ("link to a folder", "links to folders")
CLOSED: Kind = ("folder that cannot be read", "folders that cannot be read")

_SHOWN = 3  # names of each kind that are kept
_DEEPEST = 100  # levels of folders that are read
_LINKS = 2  # levels below the root where links to folders are followed: splits and classes
_WORD = (
    r"(?:synophoto|thumb(?:nail)?s?|posters?|previews?|covers?|(?:extra)?fan-?art|extrathumbs?|"
    r"backdrops?|screen-?shots?|story-?boards?|sprites?|art-?works?)"
)
_NUMBERED = re.compile(r"(.*?)([0-9]+)([^0-9]*\.\w+)")
_ONLY_WORDS = re.compile(rf"[ ._-]*{_WORD}(?:[ ._-]*(?:{_WORD}|[smxl]{{1,3}}|[0-9]+))*[ ._-]*")
_AROUND = re.compile(rf"^{_WORD}[0-9]*[ ._-]+|[ ._-]+(?:{_WORD}|frames?|images?|img|[0-9]+)[0-9]*$")


class PassedOver:
    """Counts what is not read, by kind, and keeps the first names of each.

    Args:
        root: Folder that names are given relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._counts: dict[Kind, int] = defaultdict(int)
        self._names: dict[Kind, list[str]] = defaultdict(list)

    def add(self, kind: Kind, path: Path | str | None = None, count: int = 1) -> None:
        """Count something; `path` is what it is called, a path below the root or a line."""
        self._counts[kind] += count
        names = self._names[kind]
        if path is not None and len(names) < _SHOWN:
            name = os.path.relpath(path, self.root) if isinstance(path, Path) else path
            names.append(display_name(name.replace(os.sep, "/")))

    def merge(self, other: PassedOver) -> None:
        """Add what another one counted."""
        for kind, count in other._counts.items():
            self._counts[kind] += count
            self._names[kind] = (self._names[kind] + other._names[kind])[:_SHOWN]

    def lines(self) -> tuple[str, ...]:
        """One line a kind: how many, what, and the first names."""
        return tuple(
            f"{count} {kind[count != 1]}{self._named(kind, count)}"
            for kind, count in self._counts.items()
        )

    def _named(self, kind: Kind, count: int) -> str:
        names = self._names[kind]
        if not names:
            return ""
        more = f" and {count - len(names)} more" if count > len(names) else ""
        return f": {', '.join(names)}{more}"


@dataclass
class Folder:
    """One folder: names of its videos and pictures, sorted, and its folders."""

    path: Path
    videos: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name alone."""
        return self.path.name

    def walk(self) -> Iterator[Folder]:
        """This folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    @property
    def has_videos(self) -> bool:
        """Whether there is a video in it, at any depth."""
        return any(folder.videos for folder in self.walk())

    @property
    def frames(self) -> list[str]:
        """Its numbered pictures, which `media.folder` would show."""
        return [name for name in self.pictures if is_picture(name)]


def scan(path: Path, passed: PassedOver, depth: int = 0) -> Folder:
    """List a folder and all below it; what is neither video nor picture is counted.

    Args:
        path: The folder.
        passed: Counts hidden entries, other files, links and folders that cannot be read.
        depth: Levels above it that were listed already.
    """
    folder = Folder(path)
    try:
        with os.scandir(path if depth < _DEEPEST else "") as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError:
        passed.add(CLOSED, path)
        return folder
    below = []
    for entry in entries:
        if is_system(entry.name):
            passed.add(SYSTEM, Path(entry.path))
        elif _is_folder(entry):
            below.append(entry)
        elif not entry.is_file() and os.path.exists(entry.path):
            passed.add(SPECIAL, Path(entry.path))
        elif is_video(entry.name):
            folder.videos.append(entry.name)
        elif is_image(entry.name):
            folder.pictures.append(entry.name)
        else:
            passed.add(OTHER, Path(entry.path))
    for entry in below:
        if entry.is_symlink() and (depth >= _LINKS or _leads_up(entry.path)):
            passed.add(LINK, Path(entry.path))
        else:
            folder.folders.append(scan(path / entry.name, passed, depth + 1))
    return folder


def walk(folder: Path) -> Iterator[Path]:
    """Every clip below a folder, sorted: videos, and folders of numbered pictures."""
    passed = PassedOver(folder)
    yield from clips(scan(folder, passed), passed)


def clips(folder: Folder, passed: PassedOver) -> list[Path]:
    """The clips below a folder, which is none itself.

    Args:
        folder: From `scan`.
        passed: Counts pictures that are no frames.
    """
    stems = {_stem(name) for inner in folder.walk() for name in inner.videos}
    return [path for path, _ in _clips(folder, stems, passed, inner=False)]


def holds_frames(folder: Folder) -> bool:
    """Whether the pictures that lie in a folder are frames which should have one of their own."""
    if not folder.frames or folder.has_videos or _only_previews(folder, set()):
        return False
    deeper = _clips(folder, set(), PassedOver(folder.path), inner=False)
    most = max((count for _, count in deeper), default=0)
    return 2 * len(folder.frames) >= most


def is_gallery(folder: Folder, beside: list[Folder]) -> bool:
    """Whether a folder holds previews of the videos in other folders beside it."""
    return (
        _ONLY_WORDS.fullmatch(folder.name.lower()) is not None
        and not folder.has_videos
        and any(other.has_videos for other in beside)
    )


def _clips(
    folder: Folder, stems: set[str], passed: PassedOver, inner: bool = True
) -> list[tuple[Path, int]]:
    """Clips below a folder, each with its number of pictures (0 for a video)."""
    own = {_stem(name) for name in folder.videos if not animated(name)}
    previews = [
        name
        for name in folder.videos
        if animated(name)
        and (_names_one(name, own) or (folder.frames and _ONLY_WORDS.fullmatch(_stem(name))))
    ]
    found = [(folder.path / name, 0) for name in folder.videos if name not in previews]
    below = PassedOver(passed.root)
    deeper: list[tuple[Path, int]] = []
    for sub in folder.folders:
        if sub.frames and not sub.has_videos and _names_one(sub.name, own):
            below.add(FRAMES, sub.path)
        else:
            deeper += _clips(sub, stems, below)
    frames = folder.frames
    most = max((count for _, count in deeper), default=0)
    hidden = bool(found) or any(sub.has_videos for sub in folder.folders)
    if (
        inner
        and len(frames) >= 2
        and 2 * len(frames) >= most
        and not hidden
        and not _only_previews(folder, stems)
    ):
        for name in [*previews, *folder.pictures]:
            if name not in frames:
                passed.add(PICTURE, folder.path / name)
        for sub in folder.folders:
            passed.add(BELOW, sub.path)
        return [(folder.path, len(frames))]
    for name in [*previews, *folder.pictures]:
        passed.add(PICTURE, folder.path / name)
    passed.merge(below)
    return found + deeper


def _only_previews(folder: Folder, stems: set[str]) -> bool:
    """Whether all numbered pictures of a folder are named after videos, or as previews."""
    if stems and (_ONLY_WORDS.fullmatch(folder.name.lower()) or not _in_steps(folder.frames)):
        return True
    return all(
        _ONLY_WORDS.fullmatch(_stem(name)) is not None or _names_one(name, stems)
        for name in folder.frames
    )


def _in_steps(names: list[str]) -> bool:
    """Whether pictures have one name and numbers in even steps, as frames do and photos do not."""
    found = [_NUMBERED.fullmatch(name.lower()) for name in names]
    numbers = sorted(int(match[2][-18:]) for match in found if match)
    return (
        len({(match[1], match[3]) for match in found if match}) == 1
        and len({b - a for a, b in pairwise(numbers)}) == 1
    )


def _names_one(name: str, stems: set[str]) -> bool:
    """Whether a picture or folder is named after one of some videos: `a.mp4.jpg`, `thumb_a.png`."""
    stem = _stem(name)
    return stem in stems or _stem(stem) in stems or _stem(_AROUND.sub("", stem)) in stems


def _stem(name: str) -> str:
    """A name in lower case, without the ending of a video or picture."""
    stem, suffix = os.path.splitext(name.lower())
    return stem if is_video(name) or is_image(name) or not suffix else name.lower()


def animated(name: str) -> bool:
    """Whether a file name has the ending of an animated picture, which may be a preview."""
    return name.lower().endswith((".gif", ".apng"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere, or in a circle
        return False


def _leads_up(link: str) -> bool:
    """Whether a link leads to a folder that it lies in."""
    target, here = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return here == target or here.startswith(target.rstrip(os.sep) + os.sep)
