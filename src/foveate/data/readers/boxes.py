"""Boxes in tables: `boxes.csv` with a row per object, or a folder per sequence.

A table has the columns `path`, `frame` (counted from 0), `label`, and `x1, y1, x2, y2` or `x, y, w,
h` in pixels; `track`, `split` and `group` (or `source`) may follow. A row without coordinates is a
frame without objects; frames without any row are not annotated. A sequence is a folder with the
pictures in `frames/` and `boxes_xywh.csv`, a line `x,y,w,h` per picture of one object without a
header; all of them are of the class `object`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.objects import Pictures, VideoBoxes, checked_box, noting
from foveate.data.readers.request import SPLITS, Listing, Request, composed, split_of
from foveate.data.record import ObjectBox
from foveate.media import display_name
from foveate.media.names import is_video

FILE, SEQUENCE, PICTURES = "boxes.csv", "boxes_xywh.csv", "frames"
LABEL = "object"
CORNERS, SIDES = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")


def claims(path: Path) -> bool:
    """Whether there is `boxes.csv`, a table with its columns, or a folder of sequences."""
    if path.is_dir():
        return (path / FILE).is_file() or bool(_sequences(path))
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return False
    line = text.head(path)
    try:
        columns = {name.lower() for name in text.fields(line, text.delimiter_of(line))}
    except ValueError:
        return False
    return {"path", "frame"} <= columns and (columns >= {*CORNERS} or columns >= {*SIDES})


def read(request: Request) -> Listing:
    """Read the table or all sequences; every fault of a row is noted."""
    file = request.path / FILE if request.path.is_dir() else request.path
    if not file.is_file():
        return _read_sequences(request)
    table = text.table(file, request.faults)
    corners = set(CORNERS) <= set(table.columns)
    names = CORNERS if corners else SIDES
    for name in ("path", "frame", "label", *names):
        if name not in table.columns:
            there = ", ".join(table.columns)
            raise DataError(f"{text.at(file, 1)}: no column {name}", f"there are: {there}")
    videos: dict[str, VideoBoxes | None] = {}

    def take(row: Mapping[str, str], where: str) -> None:
        name = row["path"]
        if not name:
            raise ValueError("no path")
        if name not in videos:
            path = request.locate(name, where=where)
            group = composed(row.get("group") or row.get("source") or "") or None
            videos[name] = None if path is None else VideoBoxes(path, where, _split(row), group)
        video = videos[name]
        if video is not None and video.split != _split(row):
            raise ValueError(f"{display_name(name)} is in another split at {video.where}")
        frame = text.whole(row["frame"])
        if frame is None:
            raise ValueError(f"frame {row['frame']!r} is not a number, counted from 0")
        values = [_coordinate(row[key], key) for key in names]
        if all(value is None for value in values):
            if video is not None:
                video.frames.setdefault(frame, [])
            return
        found = ObjectBox(_label(row), _box(values, corners), _track(row))
        if video is not None:
            video.add(frame, found)

    for line, row in table.rows:
        where = text.at(file, line)
        noting(request, where, take, row, where)
    records = [video.record() for video in videos.values() if video is not None]
    request.count_unnamed([r for r in records if is_video(r.path.name)])
    return Listing(records, multilabel=True)


def _read_sequences(request: Request) -> Listing:
    folders = _sequences(request.path)
    if not folders:
        raise DataError(f"{display_name(request.path)}: no {FILE}, and no folders of sequences")
    pictures, records = Pictures(), []
    for folder in folders:
        file, frames = folder / SEQUENCE, folder / PICTURES
        video = VideoBoxes(frames, text.at(file, 1), group=folder.name)
        rows = text.lines(file, request.faults)
        for frame, (line, row) in enumerate(rows):
            where = f"{folder.name}/{text.at(file, line)}"

            def take(row: str = row, frame: int = frame, video: VideoBoxes = video) -> None:
                values = [_coordinate(field, "a coordinate") for field in text.fields(row, ",")]
                if len(values) != 4:
                    raise ValueError(f"not of the form: x,y,w,h ({row!r})")
                video.add(frame, ObjectBox(LABEL, _box(values, corners=False), 0))

            noting(request, where, take)
        if len(rows) != pictures.count(frames):
            request.faults.add(
                f"{folder.name}/{SEQUENCE}",
                f"{len(rows)} boxes for {pictures.count(frames)} pictures",
            )
        records.append(video.record())
    return Listing(records, (LABEL,), multilabel=True)


def _sequences(path: Path) -> list[Path]:
    """The sequence, or those in a folder."""
    try:
        folders = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())]
    except OSError:
        return []
    return [one for one in folders if (one / SEQUENCE).is_file() and (one / PICTURES).is_dir()]


def _coordinate(field: str, name: str) -> float | None:
    return text.number(field, name, least=-1e9)


def _box(values: list[float | None], corners: bool) -> tuple[float, float, float, float]:
    if None in values:
        raise ValueError("a coordinate of the box is missing")
    a, b, c, d = (float(value or 0.0) for value in values)
    return checked_box((a, b, c, d) if corners else (a, b, a + c, b + d))


def _label(row: Mapping[str, str]) -> str:
    if not row["label"]:
        raise ValueError("no label")
    return composed(row["label"])


def _track(row: Mapping[str, str]) -> int | None:
    given = row.get("track", "")
    track = text.whole(given)
    if given and track is None:
        raise ValueError(f"track {given!r} is not a number")
    return track


def _split(row: Mapping[str, str]) -> str | None:
    given = row.get("split", "")
    found = SPLITS.get(given.lower()) or split_of(given) if given else None
    if given and found is None:
        raise ValueError(f"unknown split {given!r} (train, val or test)")
    return found
