"""One HTML page about any number of Results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from foveate.core import Result, Trace
from foveate.core.result_text import tally
from foveate.core.text import plural, shorten
from foveate.core.units import clock, count, macs, percent
from foveate.core.units import seconds as units
from foveate.viz.modalities import lanes_of, modalities_svg
from foveate.viz.pages import Thumbnails, render, write_page
from foveate.viz.time_index import looks_of
from foveate.viz.timeline import timeline_svg

# Up to this many inputs are unfolded; more are a list to choose from.
_FEW = 3
# A printed page cannot be unfolded: up to this many inputs are printed in full.
_PRINTED = 20


def report(
    results: Sequence[Result], thumbnails: Thumbnails | None = None, title: str = "Video report"
) -> str:
    """Build the page.

    Args:
        results: In the order in which they are shown; failed ones too.
        thumbnails: `Result.source` → `(seconds, JPEG bytes)` of a few frames, as `to_jpeg` gives.
        title: Heading of the page.

    Returns:
        HTML with everything inside: style, drawings and images.
    """
    detail = len(results) <= _PRINTED
    items = [
        _item(number, result, (thumbnails or {}).get(result.source, ()), detail)
        for number, result in enumerate(results, start=1)
    ]
    return render("report.html.j2", title=title, items=items, few=_FEW, printed=_PRINTED)


def write_report(
    path: str | os.PathLike[str],
    results: Sequence[Result],
    thumbnails: Thumbnails | None = None,
    title: str = "Video report",
) -> None:
    """Write the page of `report` atomically.

    Args:
        path: The file; one that exists is replaced.
        results: As for `report`.
        thumbnails: As for `report`.
        title: As for `report`.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    write_page(path, report(results, thumbnails, title))


def _item(
    number: int, result: Result, frames: Sequence[tuple[float, bytes]], detail: bool
) -> dict[str, Any]:
    """What the template shows of one input."""
    steps = result.trace.steps if result.trace else []
    # Messages begin with the name of the file, which is already next to them.
    message = result.error.message if result.error else ""
    return {
        "number": number,
        "result": result,
        "source": result.source,
        "reason": message.removeprefix(f"{result.source}: "),
        "timeline": timeline_svg(result, detail=detail) if result.segments or steps else "",
        "modalities": modalities_svg(result) if lanes_of(result) else "",
        "detections": tally(result.detections),
        "exits": result.exits if any("." in name for name in result.exits) else {},
        "trace": _trace(result, result.trace) if result.trace and steps else [],
        "frames": frames,
        "windows": any(step.boxes for step in steps),
    }


def _trace(result: Result, trace: Trace) -> list[tuple[str, str]]:
    """Where the program looked: frames, modalities, exits, boxes, gates and fallbacks."""
    steps, times = trace.steps, [time for time, _ in looks_of(result)]
    entries = [("Looked at", f"{plural(len(times), 'frame')} in {plural(len(steps), 'step')}")]
    if times:
        first, last = clock(times[0], 1), clock(times[-1], 1)
        entries.append(("Frames", first if len(times) == 1 else f"{first} to {last}"))
    if result.task == "detect":
        entries += _counts("Frames by part", (
            step.part or "held" for step in steps for _ in step.frames
        ))  # fmt: skip
        if times:
            spent = result.cost.macs / len(times)
            entries.append(
                ("Per frame", f"{macs(spent)}, {units(result.cost.seconds / len(times))}")
            )
    entries += _counts("Modalities", (name for step in steps for name in step.modalities))
    entries += _counts("Exits", (step.exit for step in steps if step.exit is not None))
    area = _seen_area(trace)
    if area is not None:
        entries.append(("Part of the frame seen", percent(area)))
    gates = [step.gate for step in steps if step.gate is not None]
    if gates:
        entries.append(("Gate", f"{min(gates):.2f} to {max(gates):.2f}"))
    fallbacks = sum(step.fallback for step in steps)
    if fallbacks:
        entries.append(("Fallbacks", f"{count(fallbacks)} of {plural(len(steps), 'step')}"))
    return entries


def _counts(title: str, names: Iterable[str]) -> list[tuple[str, str]]:
    found = Counter(names).most_common()
    shown = [f"{shorten(name, 100)} {count(times)}×" for name, times in found[:6]]
    if len(found) > 6:
        shown.append(f"{len(found) - 6} more")
    return [(title, ", ".join(shown))] if shown else []


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
