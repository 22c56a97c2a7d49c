"""COCO-style video annotations (CocoVID): videos, images, annotations and categories in JSON.

An image belongs to a video (`video_id`) and is a frame of it: the picture `file_name` of a folder,
or frame `frame_id`, counted from 0, of a video file. Annotations have `bbox` as `[x, y, width,
height]` and, for tracks, `instance_id` or `track_id`. One file, or one per split (`train.json`,
`val.json`, `test.json`) in the folder or in `annotations/`. Annotations that stand for crowds
(`iscrowd`) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.objects import Pictures, VideoBoxes, checked_box, noting
from foveate.data.readers.request import Listing, Request, composed, split_in
from foveate.data.readers.tree import Kind
from foveate.data.record import ObjectBox
from foveate.media import display_name
from foveate.media.names import is_video

CROWDS: Kind = ("annotation of a crowd", "annotations of crowds")
_KEYS = ("videos", "images", "annotations", "categories")
_ENDS = 65536  # bytes at both ends of a file in which its keys are looked for


def claims(path: Path) -> bool:
    """Whether there is JSON with videos, images and categories."""
    return bool(_files(path))


def read(request: Request) -> Listing:
    """Read all files; every fault of an entry is noted."""
    classes: tuple[str, ...] | None = None
    records = []
    for file in _files(request.path):
        found = _File(request, file)
        if classes is not None and found.classes != classes:
            request.faults.add(text.at(file, 1), "has other categories than the files before it")
        classes = classes or found.classes
        records += [one.record() for one in found.videos.values() if one is not None]
    if classes is None:
        raise DataError(f"{display_name(request.path)}: no JSON with videos and images")
    request.count_unnamed([r for r in records if is_video(r.path.name)])
    return Listing(records, classes, multilabel=True)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.suffix.lower() == ".json" and _is_one(path) else []
    for folder in (path, path / "annotations"):
        files = [one for one in sorted(folder.glob("*.json")) if _is_one(one)]
        if files:
            return files
    return []


def _is_one(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            start = stream.read(_ENDS)
            stream.seek(max(0, file.stat().st_size - _ENDS))
            sample = start + stream.read()
    except OSError:
        return False
    opens = start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
    # A file that was cut off is taken too, so that its reader says so.
    ends = b'"categories"' in sample or not sample.rstrip().endswith(b"}")
    return opens and ends and all(word in sample for word in (b"video", b'"images"'))


@dataclass(frozen=True)
class _Image:
    """A frame: its video, None if that is missing, its number, and its size if it is known."""

    video: VideoBoxes | None
    frame: int
    size: tuple[float, float] | None


class _File:
    """One annotation file.

    Attributes:
        classes: Names of the categories in the order of their ids.
        videos: By id; None for those that are missing.
    """

    def __init__(self, request: Request, file: Path) -> None:
        self.request, self.file = request, file
        rows = text.json_lists(file, request.faults)
        for key in _KEYS:
            if key not in rows:
                raise DataError(f"{text.at(file, 1)}: no list {key!r}")
            for line, row in rows[key]:
                if not isinstance(row, dict):
                    raise DataError(f"{text.at(file, line)}: an entry of {key!r} is no object")
        self._pictures = Pictures()
        self._names = self._categories(rows["categories"])
        self.classes = tuple(self._names.values())
        self._split = split_in(file.stem)
        self._of_video: dict[Any, list[str]] = {}
        for _, row in rows["images"]:
            self._of_video.setdefault(_id(row, "video_id"), []).append(str(row.get("file_name")))
        self.videos: dict[int, VideoBoxes | None] = {}
        self._images: dict[int, _Image] = {}
        self._seen: set[int] = set()
        for key, take in (("videos", self._video), ("images", self._image), (_KEYS[2], self._box)):
            for line, row in rows[key]:
                where = text.at(file, line)
                noting(request, where, _named, key[:-1], take, row, where)

    def _categories(self, rows: list[tuple[int, Any]]) -> dict[int, str]:
        names: dict[int, str] = {}
        for line, row in rows:
            number, name = _id(row, "id"), row.get("name")
            if number is None or number in names or not isinstance(name, str) or not name.strip():
                self.request.faults.add(
                    text.at(self.file, line), "a category needs a unique id and a name"
                )
            else:
                names[number] = composed(name.strip())
        if len(set(names.values())) < len(names):
            self.request.faults.add(text.at(self.file, 1), "two categories have the same name")
        return dict(sorted(names.items()))

    def _video(self, row: dict[str, Any], where: str) -> None:
        number = _id(row, "id")
        if number is None or number in self.videos:
            raise ValueError("a video needs a unique id")
        self.videos[number] = None
        given = next((row[k] for k in ("file_name", "name") if isinstance(row.get(k), str)), "")
        # A video without an ending is the folder of its pictures, which their names tell too.
        parents = {str(PurePosixPath(name).parent) for name in self._of_video.get(number, [])}
        names = [given, *sorted(parents - {"."})] if given else sorted(parents)
        if not names:
            raise ValueError("a video needs a file_name or a name")
        tried = [name for one in names for name in (one, f"../{one}") if name.strip("./")]
        path = self.request.locate(*tried, where=where)
        if path is not None and where not in self.request.broken:
            self.videos[number] = VideoBoxes(path, where, self._split)

    def _image(self, row: dict[str, Any], where: str) -> None:
        number, video = _id(row, "id"), _id(row, "video_id")
        if number is None or number in self._images:
            raise ValueError("an image needs a unique id")
        if video not in self.videos:
            raise ValueError(f"no video has the id {row.get('video_id')!r}")
        found = self.videos[video]
        size = tuple(row.get(key) for key in ("width", "height"))
        known = all(isinstance(edge, int | float) and edge > 0 for edge in size)
        frame = -1
        if found is not None:
            frame = self._frame(row, found)
            if frame in found.frames:
                raise ValueError(f"frame {frame} of the video is given twice")
            found.frames[frame] = []
        self._images[number] = _Image(found, frame, size if known else None)  # type: ignore[arg-type]

    def _frame(self, row: dict[str, Any], video: VideoBoxes) -> int:
        if video.path.is_dir():
            name = PurePosixPath(str(row.get("file_name"))).name
            frame = self._pictures.frame(video.path, name)
            if frame is None:
                raise ValueError(f"no such picture: {display_name(name)}")
            return frame
        number = next((_id(row, key) for key in ("frame_id", "frame_index") if key in row), None)
        if number is None or number < 0:
            raise ValueError("an image of a video file needs a frame_id, counted from 0")
        return number

    def _box(self, row: dict[str, Any], where: str) -> None:
        number, image = _id(row, "id"), self._images.get(_id(row, "image_id") or 0)
        if image is None:
            raise ValueError(f"no image has the id {row.get('image_id')!r}")
        if number is not None and number in self._seen:
            raise ValueError(f"the id {number} is given twice")
        if number is not None:
            self._seen.add(number)
        if row.get("iscrowd"):
            self.request.passed.add(CROWDS, where)
            return
        category = _id(row, "category_id")
        if category not in self._names:
            raise ValueError(f"no category has the id {row.get('category_id')!r}")
        box = row.get("bbox")
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise ValueError("bbox is not [x, y, width, height]")
        track = next((_id(row, key) for key in ("instance_id", "track_id") if key in row), None)
        x, y, width, height = map(float, box)
        placed = checked_box((x, y, x + width, y + height), image.size)
        if image.video is not None:
            image.video.add(image.frame, ObjectBox(self._names[category], placed, track))


def _named(kind: str, take: Callable[..., None], row: dict[str, Any], where: str) -> None:
    """Take an entry; faults name it, because these files are often a single line."""
    try:
        take(row, where)
    except ValueError as error:
        number = _id(row, "id")
        name = f"{kind} without an id" if number is None else f"{kind} {number}"
        raise ValueError(f"{error} ({name})") from None


def _id(row: Mapping[str, Any], key: str) -> int | None:
    value = row.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
