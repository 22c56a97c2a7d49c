"""Timelines as files: ActivityNet JSON, Label Studio JSON, CSV; ground truth and predictions.

A timeline is the segments of one video; predicted segments have scores. `read_timelines` also reads
the JSON Lines of `foveate predict --json`. Times are in seconds from the first frame.

Label Studio counts frames: `ranges` hold the first and the last frame of a segment, from 1. The
frame rate is kept in `data.fps`, and times are rounded to whole frames.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from foveate.core import ConfigError, read_results
from foveate.core.files import replace_file
from foveate.data.errors import DataError, Faults
from foveate.data.readers import text
from foveate.data.readers.request import SPLITS, composed
from foveate.data.record import Dataset
from foveate.media import display_name

FORMATS = ("activitynet", "label-studio", "csv")
FPS = 24.0  # Label Studio's rate of videos whose tag names none
_SUBSETS = {"train": "training", "val": "validation", "test": "testing"}
_COLUMNS = ("path", "label", "start", "end")


@dataclass(frozen=True, order=True)
class TimedLabel:
    """One segment.

    Attributes:
        start: In seconds.
        end: In seconds, after the start.
        label: Its class.
        score: Of a prediction, higher is more confident; None in ground truth.
    """

    start: float
    end: float
    label: str
    score: float | None = None


@dataclass(frozen=True)
class Timeline:
    """The segments of one video, and its split if it is known: train, val or test."""

    segments: tuple[TimedLabel, ...]
    split: str | None = None


Timelines = Mapping[str, Timeline]
"""Timelines by the name of the video, such as its path below the folder of the videos."""


def timelines_of(dataset: Dataset, split: str | None = None) -> dict[str, Timeline]:
    """The labelled segments of a data set.

    Args:
        dataset: Its records have a start and an end.
        split: Which videos; None for all.

    Raises:
        DataError: A record without an end.
    """
    faults, found = Faults(display_name(dataset.root)), dict[str, list[TimedLabel]]()
    splits: dict[str, str | None] = {}
    for record in dataset.records if split is None else dataset.subset(split).records:
        name = dataset.name(record)
        if record.end is None:
            faults.add(record.where or name, f"{name}: a segment without an end")
            continue
        splits.setdefault(name, record.split)
        found.setdefault(name, []).extend(
            TimedLabel(record.start or 0.0, record.end, label) for label in record.labels
        )
    faults.check()
    return {name: Timeline(tuple(rows), splits[name]) for name, rows in found.items()}


def read_timelines(
    path: str | os.PathLike[str], format: str | None = None, *, fps: float | None = None
) -> dict[str, Timeline]:
    """Read ground truth or predictions; no video is opened.

    Args:
        path: The file.
        format: One of `FORMATS` or `results`; recognised by its content if None.
        fps: Frames per second of Label Studio's tasks that do not say it (`data.fps`).

    Raises:
        DataError: With all faults, each by file and line or task.
        ResultError: A damaged file of results.
    """
    file = Path(path)
    faults = Faults(display_name(file.name))
    format = format or _recognised(file)
    if format == "results":
        return {
            result.source: Timeline(
                tuple(
                    TimedLabel(s.start, s.end, s.label, s.score)
                    for s in result.segments
                    if s.index is not None
                )
            )
            for result in read_results(file)
            if result.ok
        }
    if format == "csv":
        found = _read_csv(file, faults)
    elif format in FORMATS:
        source = text.JsonFile(file, faults)
        videos = (
            activitynet_videos(source, faults.add)
            if format == "activitynet"
            else label_studio_videos(source, faults.add, fps)
        )
        found = {video.name: video.timeline for video in videos}
    else:
        raise _unknown(format)
    faults.check()
    return found


def write_timelines(
    path: str | os.PathLike[str],
    timelines: Timelines,
    format: str | None = None,
    *,
    fps: float = FPS,
) -> None:
    """Write ground truth (segments without scores) or predictions; the file is replaced atomically.

    Args:
        path: The file.
        timelines: Segments by video; all have scores or none has.
        format: One of `FORMATS`; by the suffix if None: `.csv`, or ActivityNet for `.json`.
        fps: Frames per second of the Label Studio tasks; times are rounded to its frames.

    Raises:
        ConfigError: An unknown format, or segments with and without scores.
        FoveateError: The file cannot be written.
    """
    file = Path(path)
    format = format or {".csv": "csv", ".json": "activitynet"}.get(file.suffix.lower())
    if format not in FORMATS:
        raise _unknown(format or file.suffix)
    scored = {one.score is not None for line in timelines.values() for one in line.segments}
    if len(scored) > 1:
        raise ConfigError(
            f"{display_name(file.name)}: some segments have scores and some have none",
            "write ground truth and predictions to two files",
        )
    predicted = scored == {True}
    if format == "csv":
        said = _csv(timelines, predicted)
    else:
        values = (
            _as_activitynet(timelines, predicted)
            if format == "activitynet"
            else _as_tasks(timelines, predicted, fps)
        )
        said = json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    replace_file(file, said.encode("utf-8"))


# --- ActivityNet ------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimedVideo:
    """A video of a JSON file.

    Attributes:
        name: Its id or path.
        where: File, and line or task.
        timeline: Its segments without the faulty ones.
        entry: All that ActivityNet's database holds of it.
    """

    name: str
    where: str
    timeline: Timeline
    entry: Mapping[str, Any] = field(default_factory=dict)


def activitynet_videos(
    source: text.JsonFile, fault: Callable[[str, str], None]
) -> Iterator[TimedVideo]:
    """The videos of an ActivityNet file, of ground truth (`database`) or predictions (`results`).

    Args:
        source: The file.
        fault: Called with the place and the cause of each fault.

    Raises:
        DataError: It holds neither.
    """
    value = source.value if isinstance(source.value, dict) else {}
    database, results = value.get("database"), value.get("results")
    videos = database if isinstance(database, dict) else results
    if not isinstance(videos, dict):
        raise DataError(f"{text.at(source.path, 1)}: neither a database nor results of videos")
    for name, entry in videos.items():
        where = source.where(name, "video")
        if videos is results:
            entry = {"annotations": entry}
        if not isinstance(entry, dict):
            fault(where, "not an object")
            continue
        annotations = entry.get("annotations", [])
        if not isinstance(annotations, list):
            fault(where, "its segments are not a list")
            continue
        rows = []
        for number, one in enumerate(annotations, 1):
            try:
                start, end = one["segment"]
                score = one["score"] if videos is results else None
                rows.append(_segment(start, end, one["label"], score))
            except (KeyError, TypeError, ValueError) as error:
                fault(where, f"segment {number}: {_reason(error)}")
        split = SPLITS.get(str(entry.get("subset", "")).lower())
        yield TimedVideo(name, where, Timeline(tuple(rows), split), entry)


def _as_activitynet(timelines: Timelines, predicted: bool) -> dict[str, Any]:
    rows = {
        name: [
            {"segment": [one.start, one.end], "label": one.label}
            | ({"score": one.score} if predicted else {})
            for one in line.segments
        ]
        for name, line in timelines.items()
    }
    if predicted:
        return {"version": "VERSION 1.3", "results": rows, "external_data": {}}
    return {
        "version": "VERSION 1.3",
        "database": {
            name: {
                "subset": _SUBSETS.get(timelines[name].split or "train", "training"),
                "annotations": annotations,
            }
            for name, annotations in rows.items()
        },
    }


# --- Label Studio -----------------------------------------------------------------------------


def label_studio_videos(
    source: text.JsonFile, fault: Callable[[str, str], None], fps: float | None
) -> Iterator[TimedVideo]:
    """Annotations of the tasks, or the predictions of tasks that have no annotations.

    Args:
        source: The file.
        fault: Called with the place and the cause of each fault.
        fps: Frames per second of tasks that do not say it.

    Raises:
        DataError: It is not a list of tasks.
    """
    if not isinstance(source.value, list):
        raise DataError(f"{text.at(source.path, 1)}: not a list of tasks")
    seen: set[str] = set()
    for number, task in enumerate(source.value, 1):
        where = f"{source.path.name}: task {number}"
        data = task.get("data") if isinstance(task, dict) else None
        values = data if isinstance(data, dict) else {}
        name = next((path for path in map(_video, values.values()) if path), None)
        if name is None:
            fault(where, "no video in its data")
            continue
        if name in seen:
            fault(where, f"the video {name} is in an earlier task")
            continue
        seen.add(name)
        rows: list[TimedLabel] = []
        done = _answers(task, "annotations")
        kept = (done or _answers(task, "predictions") or [{}])[0]
        regions = kept.get("result") or []
        if not isinstance(regions, list):
            fault(where, "its result is not a list")
            continue
        for at, region in enumerate(regions, 1):
            try:
                score = None if done else region.get("score", kept.get("score"))
                rows += _regions(region, values.get("fps", fps), score, bool(done))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                fault(where, f"region {at}: {_reason(error)}")
        split = SPLITS.get(str(values.get("split", "")).lower())
        yield TimedVideo(name, where, Timeline(tuple(rows), split))


def _answers(task: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The annotations or predictions of a task that were not cancelled."""
    rows = task.get(kind)
    found = [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []
    return [one for one in found if not one.get("was_cancelled")]


def _regions(region: Any, rate: Any, score: Any, truth: bool) -> Iterator[TimedLabel]:
    value = region["value"]
    if not truth and score is None:
        raise ValueError("a prediction without a score")
    if "timelinelabels" in value:
        if not isinstance(rate, int | float) or not rate > 0:
            raise ValueError("frames without a frame rate (in data.fps, or give one)")
        for one in value["ranges"]:
            for label in value["timelinelabels"]:
                yield _segment((one["start"] - 1) / rate, one["end"] / rate, label, score)
    elif "labels" in value:  # labels of the sound track, in seconds
        for label in value["labels"]:
            yield _segment(value["start"], value["end"], label, score)


def _as_tasks(timelines: Timelines, predicted: bool, fps: float) -> list[dict[str, Any]]:
    tasks = []
    for name, line in timelines.items():
        regions = [
            {
                "id": f"{number}",
                "type": "timelinelabels",
                "from_name": "videoLabels",
                "to_name": "video",
                "value": {
                    "ranges": [_frames(one, fps)],
                    "timelinelabels": [one.label],
                },
                **({"score": one.score} if predicted else {}),
            }
            for number, one in enumerate(line.segments, 1)
        ]
        data = {"video": name, "fps": fps, **({"split": line.split} if line.split else {})}
        kind = "predictions" if predicted else "annotations"
        tasks.append({"data": data, kind: [{"result": regions}]})
    return tasks


def _frames(one: TimedLabel, fps: float) -> dict[str, int]:
    first = round(one.start * fps) + 1
    return {"start": first, "end": max(first, round(one.end * fps))}


def _video(value: Any) -> str | None:
    """The path of a video in a task: of local storage, of an upload, or as it is."""
    if not isinstance(value, str):
        return None
    parts = urlsplit(value)
    local = parse_qs(parts.query).get("d")
    path = local[0] if local else unquote(parts.path) if parts.scheme else value
    return path if PurePosixPath(path).suffix else None


# --- CSV --------------------------------------------------------------------------------------


def _read_csv(file: Path, faults: Faults) -> dict[str, Timeline]:
    table = text.table(file, faults)
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{text.at(file, 1)}: no column {', '.join(missing)}")
    found: dict[str, list[TimedLabel]] = {}
    splits: dict[str, str | None] = {}
    for line, row in table.rows:
        where = text.at(file, line)
        if not row["path"]:
            faults.add(where, "no path")
            continue
        rows = found.setdefault(row["path"], [])
        splits.setdefault(row["path"], SPLITS.get(row.get("split", "").lower()))
        if not any(row[name] for name in _COLUMNS[1:]):
            continue  # a video without segments
        try:
            start, end = (text.number(row[name], name) for name in ("start", "end"))
            if "score" in row and not row["score"]:
                raise ValueError("no score, although there is a column for it")
            score = text.number(row["score"], "score") if "score" in row else None
            rows.append(_segment(start, end, row["label"], score))
        except (TypeError, ValueError) as error:
            faults.add(where, _reason(error))
    return {name: Timeline(tuple(rows), splits[name]) for name, rows in found.items()}


def _csv(timelines: Timelines, predicted: bool) -> str:
    splits = any(line.split for line in timelines.values())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(["score"] if predicted else []), *(["split"] if splits else [])])
    empty = TimedLabel(0.0, 0.0, "")
    for name, line in timelines.items():
        for one in line.segments or (empty,):
            row: list[Any] = [name, one.label, one.start, one.end, *([one.score] * predicted)]
            if one is empty:
                row[1:] = [""] * (len(row) - 1)
            writer.writerow([*row, *([line.split or ""] if splits else [])])
    return out.getvalue()


# --- common -----------------------------------------------------------------------------------


def _segment(start: Any, end: Any, label: Any, score: Any) -> TimedLabel:
    """A checked segment.

    Raises:
        ValueError: With a line that says what is wrong.
    """
    for value in (start, end, *(() if score is None else (score,))):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number")
        if not abs(value) < float("inf"):
            raise ValueError(f"{value!r} is not finite")
    if not 0 <= start < end:
        raise ValueError(f"the segment {start:g} to {end:g} s does not end after its start")
    if not isinstance(label, str) or not label.strip():
        raise ValueError("no label")
    label = composed(label.strip())
    return TimedLabel(float(start), float(end), label, None if score is None else float(score))


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    if isinstance(error, TypeError | AttributeError) or "unpack" in str(error):
        return "not a segment with two numbers and a label"
    return str(error)


def _recognised(file: Path) -> str:
    if file.suffix.lower() in (".csv", ".tsv"):
        return "csv"
    line = text.head(file)
    if line.startswith("["):
        return "label-studio"
    return "results" if '"schema"' in line else "activitynet"


def _unknown(format: str) -> ConfigError:
    return ConfigError(f"no format {format!r} of timelines", f"known: {', '.join(FORMATS)}")
