"""Label Studio JSON: a list of tasks, each a video with labelled segments.

Frames are counted at the rate in `data.fps`, or at Label Studio's 24 a second.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from foveate.data.readers import text
from foveate.data.readers.request import Listing, Request
from foveate.data.record import Record
from foveate.data.timelines import FPS, label_studio_videos


def claims(path: Path) -> bool:
    """Whether this is a JSON list of tasks, or the only one in a folder."""
    return len(_files(path)) == 1


def read(request: Request) -> Listing:
    """Read the annotations; a record is one segment."""
    file = text.only(_files(request.path), request.path, "tasks")
    source = text.JsonFile(file, request.faults)
    records: list[Record] = []
    for video in label_studio_videos(source, request.fault, FPS):
        name, where, line = video.name, video.where, video.timeline
        path = request.locate(name, PurePosixPath(name).name, where=where, anywhere=True)
        if path is not None:
            records += [
                Record(path, (one.label,), one.start, one.end, line.split, name, where)
                for one in line.segments
            ]
    request.count_unnamed(records)
    return Listing(records, multilabel=True)


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [p for p in files if p.suffix.lower() == ".json" and _has_tasks(p)]


def _has_tasks(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            start = stream.read(65536)
    except OSError:
        return False
    return start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"[") and b'"data"' in start
