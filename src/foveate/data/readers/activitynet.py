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
from foveate.data.readers.request import SPLITS, Listing, Request, composed
from foveate.data.readers.tree import Kind
from foveate.data.record import Record

WITHHELD: Kind = ("video whose labels are withheld", "videos whose labels are withheld")
_BEYOND = 1.0  # seconds by which published stretches leave their video


def claims(path: Path) -> bool:
    """Whether there is one JSON file with a database of videos."""
    return len(_files(path)) == 1


def read(request: Request) -> Listing:
    """Read all subsets whose labels are public."""
    file = text.only(_files(request.path), request.path, "a database of videos")
    found = text.JsonFile(file, request.faults)
    database = found.value.get("database") if isinstance(found.value, dict) else None
    if not isinstance(database, dict):
        raise DataError(f"{text.at(file, 1)}: no database of videos")
    classes = _taxonomy(found.value.get("taxonomy"))
    records: list[Record] = []
    for name, video in database.items():
        where = found.where(name)
        try:
            stretches = _stretches(name, video, classes)
        except ValueError as error:
            request.fault(where, f"video {name}: {error}")
            continue
        if not stretches:
            request.passed.add(WITHHELD, name)
            continue
        path = request.locate(f"v_{name}", name, where=where, anywhere=True)
        if path is None:
            continue
        split = SPLITS[str(video["subset"]).lower()]
        for (start, end), labels in stretches.items():
            records.append(Record(path, labels, start, end, split, name, where))
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
    inner = {node.get("parentId") for node in named}
    leaves = {composed(str(n["nodeName"])) for n in named if n.get("nodeId") not in inner}
    return tuple(sorted(leaves))


def _stretches(
    name: str, video: Any, classes: tuple[str, ...]
) -> dict[tuple[float, float], tuple[str, ...]]:
    """Labels by stretch; empty for videos whose labels are withheld."""
    if not isinstance(video, dict):
        raise ValueError("not an object")
    subset = str(video.get("subset", "")).lower()
    if subset not in SPLITS:
        raise ValueError(f"unknown subset {video.get('subset')!r}")
    annotations = video.get("annotations", [])
    if not isinstance(annotations, list):
        raise ValueError("the annotations are not a list")
    if not annotations and SPLITS[subset] != "test":
        raise ValueError("no annotations")
    out: dict[tuple[float, float], tuple[str, ...]] = {}
    for annotation in annotations:
        label, place = _one(annotation, video.get("duration"))
        if classes and label not in classes:
            guess = nearest(label, classes)
            raise ValueError(
                f"unknown class {label!r}{f' (did you mean {guess!r}?)' if guess else ''}"
            )
        if label in out.get(place, ()):
            raise ValueError(f"{label!r} from {place[0]:g} to {place[1]:g} s is given twice")
        out[place] = (*out.get(place, ()), label)
    return out


def _one(annotation: Any, duration: Any) -> tuple[str, tuple[float, float]]:
    """Label and stretch of one annotation."""
    try:
        label = composed(annotation["label"].strip())
        start, end = (float(value) for value in annotation["segment"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("an annotation without a label or without two numbers") from None
    if not label:
        raise ValueError("an annotation with an empty label")
    if not 0 <= start < end < float("inf"):
        raise ValueError(f"the stretch {start:g} to {end:g} s is empty or reversed")
    if isinstance(duration, int | float) and start >= duration + _BEYOND:
        raise ValueError(f"a stretch starts at {start:g} s, the video lasts {duration:g} s")
    return label, (start, end)
