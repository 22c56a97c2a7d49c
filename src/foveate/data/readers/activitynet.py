"""ActivityNet JSON: untrimmed videos, each with labelled stretches.

A record is one stretch; stretches of a video that are the same share a record with both labels.
`Dataset.whole_videos` gives one record per video with all its labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.core.config import nearest
from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import Listing, Request, composed
from foveate.data.readers.tree import Kind
from foveate.data.record import Record
from foveate.data.timelines import TimedVideo, activitynet_videos

WITHHELD: Kind = ("video whose labels are withheld", "videos whose labels are withheld")
_BEYOND = 1.0  # seconds by which published stretches leave their video


def claims(path: Path) -> bool:
    """Whether there is one JSON file with a database of videos."""
    return len(_files(path)) == 1


def read(request: Request) -> Listing:
    """Read all subsets whose labels are public."""
    file = text.only(_files(request.path), request.path, "a database of videos")
    found = text.JsonFile(file, request.faults)
    if not isinstance(found.value, dict) or not isinstance(found.value.get("database"), dict):
        raise DataError(f"{text.at(file, 1)}: no database of videos")
    classes = _taxonomy(found.value.get("taxonomy"))
    records: list[Record] = []
    for video in activitynet_videos(found, request.fault):
        name, where, split = video.name, video.where, video.timeline.split
        stretches = _stretches(request, video, classes)
        if split is None:
            request.fault(where, f"unknown subset {video.entry.get('subset')!r}")
        elif not video.entry.get("annotations"):
            if split == "test":
                request.passed.add(WITHHELD, name)
            else:
                request.fault(where, "no annotations")
        elif path := request.locate(f"v_{name}", name, where=where, anywhere=True):
            records += [
                Record(path, labels, start, end, split, name, where)
                for (start, end), labels in stretches.items()
            ]
    request.count_unnamed(records)
    return Listing(records, classes or None, multilabel=True)


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    return [p for p in files if p.suffix.lower() == ".json" and _has_database(p)]


def _has_database(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            start = stream.read(65536)
            stream.seek(max(0, file.stat().st_size - 1024))
            end = stream.read()
    except OSError:
        return False
    return start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") and (
        b'"database"' in start or b'"database"' in end or b'"taxonomy"' in start
    )


def _taxonomy(nodes: Any) -> tuple[str, ...]:
    """Names of the leaves, sorted; empty where there is no taxonomy."""
    if not isinstance(nodes, list):
        return ()
    named = [node for node in nodes if isinstance(node, dict) and "nodeName" in node]
    inner = {str(node.get("parentId")) for node in named}
    leaves = {composed(str(n["nodeName"])) for n in named if str(n.get("nodeId")) not in inner}
    return tuple(sorted(leaves))


def _stretches(
    request: Request, video: TimedVideo, classes: tuple[str, ...]
) -> dict[tuple[float, float], tuple[str, ...]]:
    """Labels by stretch, without those that cannot be meant."""
    duration = video.entry.get("duration")
    out: dict[tuple[float, float], tuple[str, ...]] = {}
    for one in video.timeline.segments:
        place, label, fault = (one.start, one.end), one.label, None
        if classes and label not in classes:
            guess = nearest(label, classes)
            fault = f"unknown class {label!r}{f' (did you mean {guess!r}?)' if guess else ''}"
        elif isinstance(duration, int | float) and one.start >= duration + _BEYOND:
            fault = f"a segment starts at {one.start:g} s, the video lasts {duration:g} s"
        elif label in out.get(place, ()):
            fault = f"{label!r} from {one.start:g} to {one.end:g} s is given twice"
        if fault:
            request.fault(video.where, fault)
        else:
            out[place] = (*out.get(place, ()), label)
    return out
