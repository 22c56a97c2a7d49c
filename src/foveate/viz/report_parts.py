"""The parts of a report about one input: labels, timeline, ledger, trace, pictures."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence

from foveate.core import Cost, Result, Score, StageCost, Trace
from foveate.core.result_text import tally
from foveate.core.text import escape, plural, shorten
from foveate.core.units import clock, count, macs, percent, seconds, share, si, size
from foveate.viz.moments import looks_of
from foveate.viz.timeline import timeline_svg

_LONG = 300  # characters of a name that are worth printing


def named(text: str) -> str:
    """A label, file name or message as HTML; isolated, so that its direction stays its own."""
    return f"<bdi>{escape(shorten(text, _LONG))}</bdi>"


def facts(result: Result) -> str:
    """Model, preset, length, and what the cost means for this length."""
    said = [f"Model {named(result.model)}"]
    if result.preset:
        said.append(f"preset {named(result.preset)}")
    if result.duration:
        said.append(f"{seconds(result.duration)} of video")
        if result.cost.macs:
            said.append(f"{macs(result.cost.macs / result.duration)} per second of video")
        if result.cost.seconds > 0:
            said.append(f"{result.duration / result.cost.seconds:.3g}× real time")
    return f'<p class="facts">{" · ".join(said)}</p>'


def labels(scores: Sequence[Score]) -> str:
    """The best labels of the clip, with bars."""
    if not scores:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{named(score.label)}</th>'
        f'<td class="gauge">{bar(score.score)}</td><td>{percent(score.score)}</td></tr>'
        for score in scores
    )
    return (
        "<table><caption>Labels of the whole clip</caption>"
        '<thead><tr><th scope="col">label</th><th scope="col"></th>'
        f'<th scope="col">score</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def detections(result: Result) -> str:
    """What was found, by label."""
    if not result.detections:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{named(label)}</th><td>{count(number)}</td>'
        f"<td>{_or_dash(tracks, count(tracks))}</td><td>{percent(best)}</td></tr>"
        for label, number, tracks, best in tally(result.detections)
    )
    return (
        '<table><caption>Detections</caption><thead><tr><th scope="col">label</th>'
        '<th scope="col">boxes</th><th scope="col">tracks</th><th scope="col">best</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def timeline(result: Result, detail: bool) -> str:
    """The timeline, if there is anything on it."""
    if not result.segments and not (result.trace and result.trace.steps):
        return ""
    drawing = timeline_svg(result, detail=detail)
    return f'<section><h3>Timeline</h3><div class="wide">{drawing}</div></section>'


def ledger(cost: Cost) -> str:
    """What each stage did, and the totals."""
    if not cost.stages:
        return ""
    rows = "".join(_stage(stage) for stage in cost.stages)
    calls = sum(stage.calls for stage in cost.stages)
    return (
        '<div class="wide"><table><caption>Cost</caption><thead><tr>'
        '<th scope="col">stage</th><th scope="col">calls</th><th scope="col">MACs</th>'
        '<th scope="col">time</th><th scope="col">frames decoded</th>'
        f'<th scope="col">read</th></tr></thead><tbody>{rows}</tbody><tfoot><tr>'
        f'<th scope="row">total</th><td>{count(calls)}</td><td>{si(cost.macs)}</td>'
        f"<td>{seconds(cost.seconds)}</td><td>{count(cost.frames_decoded)}</td>"
        f"<td>{size(cost.bytes_read)}</td></tr></tfoot></table></div>"
    )


def exits(result: Result) -> str:
    """How many windows each exit of the network decided, where there are several exits."""
    if not any("." in name for name in result.exits):
        return ""
    total = sum(result.exits.values())
    rows = "".join(
        f'<tr><th scope="row">{named(name)}</th><td class="gauge">{bar(number / total)}</td>'
        f"<td>{count(number)}</td></tr>"
        for name, number in result.exits.items()
    )
    return (
        '<table><caption>Exits that decided</caption><thead><tr><th scope="col">exit</th>'
        '<th scope="col"></th><th scope="col">windows</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _stage(stage: StageCost) -> str:
    return (
        f'<tr><th scope="row">{named(stage.name)}</th><td>{count(stage.calls)}</td>'
        f"<td>{_or_dash(stage.macs, si(stage.macs))}</td><td>{seconds(stage.seconds)}</td>"
        f"<td>{_or_dash(stage.frames, count(stage.frames))}</td>"
        f"<td>{_or_dash(stage.bytes, size(stage.bytes))}</td></tr>"
    )


def _or_dash(value: float, text: str) -> str:
    """A nought in a ledger is quieter as a dash; it is still a nought to a screen reader."""
    return text if value else '<span class="soft" aria-label="0">–</span>'


def looked(result: Result) -> str:
    """Where the program looked: frames, boxes, exits and what it could not do."""
    trace = result.trace
    if trace is None or not trace.steps:
        return ""
    times = [time for time, _ in looks_of(result)]
    entries = [
        ("Looked at", f"{plural(len(times), 'frame')} in {plural(len(trace.steps), 'turn')}")
    ]
    if times:
        first, last = clock(times[0], 1), clock(times[-1], 1)
        entries.append(("Frames", first if len(times) == 1 else f"{first} to {last}"))
    entries += _counts("Modalities", (name for step in trace.steps for name in step.modalities))
    entries += _counts("Exits", (step.exit for step in trace.steps if step.exit is not None))
    area = _seen_area(trace)
    if area is not None:
        entries.append(("Part of the frame seen", percent(area)))
    gates = [step.gate for step in trace.steps if step.gate is not None]
    if gates:
        entries.append(("Confidence decided on", f"{min(gates):.2f} to {max(gates):.2f}"))
    fallbacks = sum(step.fallback for step in trace.steps)
    if fallbacks:
        entries.append(("Fallbacks", f"{count(fallbacks)} of {plural(len(trace.steps), 'turn')}"))
    items = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in entries)
    return f'<section><h3>Where it looked</h3><dl class="trace">{items}</dl></section>'


def _counts(title: str, names: Iterable[str]) -> list[tuple[str, str]]:
    tally = Counter(names).most_common()
    if not tally:
        return []
    shown = [f"{named(name)} {count(times)}×" for name, times in tally[:6]]
    if len(tally) > 6:
        shown.append(f"{len(tally) - 6} more")
    return [(title, ", ".join(shown))]


def _seen_area(trace: Trace) -> float | None:
    """Mean share of the frame inside the boxes, None if whole frames were seen."""
    total = float(trace.size[0] * trace.size[1]) if len(trace.size) == 2 else 0.0
    areas = [
        (box[2] - box[0]) * (box[3] - box[1])
        for step in trace.steps
        for box in step.boxes
        if len(box) == 4
    ]
    return sum(areas) / len(areas) / total if areas and total > 0 else None


def pictures(frames: Sequence[tuple[float, bytes]]) -> str:
    """Thumbnails with their times; the JPEG data travels inside the page."""
    if not frames:
        return ""
    figures = "".join(
        f'<figure><img alt="Frame at {clock(time, 1)}" loading="lazy"'
        f' src="data:image/jpeg;base64,{b64encode(data).decode("ascii")}">'
        f"<figcaption>{clock(time, 1)}</figcaption></figure>"
        for time, data in frames
    )
    return f'<section><h3>Frames</h3><div class="frames">{figures}</div></section>'


def notes(result: Result) -> str:
    """The error and the warnings."""
    parts = []
    if result.error is not None:
        parts.append(
            f'<p class="note bad"><strong>Failed</strong> ({named(result.error.kind)}): '
            f"{named(result.error.message)}</p>"
        )
    if result.warnings:
        lines = "".join(f"<li>{named(line)}</li>" for line in result.warnings)
        parts.append(
            f'<div class="note warn"><strong>{plural(len(result.warnings), "warning")}</strong>'
            f"<ul>{lines}</ul></div>"
        )
    return "".join(parts)


def bar(score: float) -> str:
    """A score as a bar; the number stands beside it, so it is silent to a screen reader."""
    width = f"{share(score):.1%}"
    return f'<span class="bar" aria-hidden="true"><span style="width:{width}"></span></span>'
