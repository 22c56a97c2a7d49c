"""A Result as text, as HTML for notebooks, and as rows of a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from foveate.core.text import escape, plural, visible
from foveate.core.units import clock, count, macs, percent, seconds, size

if TYPE_CHECKING:
    from pydantic import BaseModel

    from foveate.core.result import Detection, Result, Score, Segment, StageCost

What = Literal["labels", "segments", "detections", "steps"]

# Explicit names, so that an empty table has its columns too.
COLUMNS: dict[What, tuple[str, ...]] = {
    "labels": ("source", "label", "index", "score"),
    "segments": ("source", "start", "end", "label", "index", "score"),
    "detections": ("source", "time", "x1", "y1", "x2", "y2", "label", "index", "score", "track"),
    "steps": (
        "source", "time", "frames", "boxes", "modalities", "exit", "gate", "fallback", "part",
        "proposals", "tokens",
    ),
}  # fmt: skip

_MOST = 20  # segments, labels of detections and warnings that are listed


def line(result: Result) -> str:
    """One line: source, best label, cost."""
    source = visible(result.source)
    if not result.ok:
        return f"{source}: failed: {reason(result)}"
    if result.task == "detect":
        labels = len({detection.label for detection in result.detections})
        said = f"{plural(len(result.detections), 'detection')} of {plural(labels, 'label')}"
    elif result.top is None:
        said = "no label"
    else:
        said = _scored(result.top)
        if result.unknown:
            said = f"unknown (best label {said})"
        if result.segments:
            said += f", {plural(len(result.segments), 'segment')}"
    return f"{source}: {said}, {macs(result.cost.macs)}, {seconds(result.cost.seconds)}"


def reason(result: Result) -> str:
    """Why a source failed, without the name of the source."""
    if result.error is None:
        return "no reason given"
    return visible(result.error.message.removeprefix(f"{result.source}: "))


def summary(result: Result) -> str:
    """A few lines: labels, segments or detections, cost by stage, warnings."""
    head = f"model {visible(result.model)}"
    if result.preset:
        head += f", preset {visible(result.preset)}"
    if result.duration is not None:
        head += f", {seconds(result.duration)} of video"
    lines, found = [line(result), f"  {head}"], tally(result.detections)
    for name, entries in (
        ("labels", [_scored(score) for score in result.labels]),
        ("segments", [f"{_span(segment)}  {_scored(segment)}" for segment in result.segments]),
        ("detections", [f"{visible(row[0])}: {_counted(*row)}" for row in found]),
        ("cost", [f"{visible(stage.name)}: {_stage(stage)}" for stage in result.cost.stages]),
        ("warnings", [visible(text) for text in result.warnings]),
    ):
        shown = entries[:_MOST]
        if len(entries) > _MOST:
            shown.append(f"and {count(len(entries) - _MOST)} more")
        lines += [f"  {'' if at else name:<11} {text}" for at, text in enumerate(shown)]
    return "\n".join(lines)


def tally(detections: Iterable[Detection]) -> list[tuple[str, int, int, float]]:
    """Per label, most frequent first: label, detections, tracks, best score."""
    found: dict[str, list[Detection]] = defaultdict(list)
    for detection in detections:
        found[detection.label].append(detection)
    rows = [
        (label, len(some), len({d.track for d in some} - {None}), max(d.score for d in some))
        for label, some in found.items()
    ]
    return sorted(rows, key=lambda row: -row[1])


def html(result: Result) -> str:
    """A small table for notebooks; all text is escaped, without scripts or external resources."""
    entries = [(score.label, percent(score.score)) for score in result.labels]
    entries += [(_span(s), _scored(s)) for s in result.segments]
    entries += [(row[0], _counted(*row)) for row in tally(result.detections)]
    entries += [("warning", text) for text in result.warnings]
    shown = entries[:_MOST]
    if len(entries) > _MOST:
        shown.append(("", f"and {count(len(entries) - _MOST)} more"))
    body = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in shown)
    return f"<div><strong>{escape(line(result))}</strong><table>{body}</table></div>"


def rows(result: Result, what: What) -> Sequence[Mapping[str, Any]]:
    """Plain rows with the columns `COLUMNS[what]`."""
    if what == "detections":
        return [
            {
                "source": result.source,
                **dict(zip(("x1", "y1", "x2", "y2"), detection.box, strict=True)),
                **detection.model_dump(exclude={"box"}),
            }
            for detection in result.detections
        ]
    items: Sequence[BaseModel] = result.labels if what == "labels" else result.segments
    if what == "steps":
        items = result.trace.steps if result.trace else []
    return [{"source": result.source, **item.model_dump()} for item in items]


def _scored(item: Score | Segment) -> str:
    if getattr(item, "index", None) is None and item.label == "unknown":
        return item.label  # the score is that of the best class, which is not meant
    return f"{visible(item.label)} {percent(item.score)}"


def _span(segment: Segment) -> str:
    return f"{clock(segment.start, 1)} to {clock(segment.end, 1)}"


def _counted(label: str, detections: int, tracks: int, best: float) -> str:
    """A row of `tally` as text, without the label."""
    said = plural(detections, "detection")
    if tracks:
        said += f", {plural(tracks, 'track')}"
    return f"{said}, best {percent(best)}"


def _stage(stage: StageCost) -> str:
    said = [plural(stage.calls, "call"), seconds(stage.seconds)]
    if stage.macs:
        said.append(macs(stage.macs))
    if stage.frames:
        said.append(plural(stage.frames, "frame"))
    if stage.bytes:
        said.append(size(stage.bytes))
    return ", ".join(said)
