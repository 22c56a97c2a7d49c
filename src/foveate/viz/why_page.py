"""One HTML page about where a policy looked and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

from foveate.core.text import plural
from foveate.core.units import percent, share
from foveate.core.units import seconds as in_seconds
from foveate.viz.pages import render, write_page
from foveate.viz.time_index import Box
from foveate.viz.timeline import nice_step, tick_text
from foveate.viz.why import Reason, describe

_MOST_BARS = 350


@dataclass(frozen=True)
class Explained:
    """What the page shows of one input.

    Attributes:
        name: Name of the input.
        reasons: One per frame looked at, in order.
        pictures: `(reason, JPEG bytes)` of some of them, as `draw_reason` draws them.
        notes: Warnings, such as why optical flow is used instead of motion vectors.
        size: `(width, height)` of the source that boxes refer to, None if unknown.
        hold: Seconds for which a window stays in its place unless the shot ends; None if it may
            move with every frame.
        threshold: Gate below which the whole frame is used, None without one.
        summary: What the windows were chosen by; None says what motion was made of.
        maps: What the maps are.
        scale: What their colours mean.
    """

    name: str
    reasons: Sequence[Reason]
    pictures: Sequence[tuple[Reason, bytes]]
    notes: Sequence[str] = ()
    size: tuple[int, int] | None = None
    hold: float | None = None
    threshold: float | None = None
    summary: str | None = None
    maps: str = "their motion maps"
    scale: str = "motion: none to most"


def write_reasons(
    path: str | os.PathLike[str], inputs: Sequence[Explained], title: str = "Where it looked"
) -> None:
    """Write the page of `reasons_page` atomically.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    write_page(path, reasons_page(inputs, title))


def reasons_page(inputs: Sequence[Explained], title: str = "Where it looked") -> str:
    """Build the page: HTML with everything inside."""
    return render(
        "reasons.html.j2",
        title=title,
        inputs=[(one, conclusion(one), _gates(one), len(_places(one)) > 1) for one in inputs],
        describe=describe,
    )


def conclusion(one: Explained) -> str:
    """What the window did, in one or two sentences."""
    frames = plural(len(one.reasons), "frame")
    fallbacks = sum(reason.fallback for reason in one.reasons)
    boxes = _places(one)
    shown = [len(reason.tokens[2]) for reason in one.reasons if reason.tokens is not None]
    if shown:
        text = f"The network computes {fmean(shown):.0f} patch tokens of each of {frames}"
    elif not boxes:
        text = f"No window: the network sees each frame as a whole ({frames})"
    elif len(boxes) == 1:
        text = "One window for the whole video"
    elif one.hold is not None:
        text = f"One window per shot, for at most {in_seconds(one.hold)}: {len(boxes)} windows"
    else:
        text = f"The window moves: {len(boxes)} places in {frames}"
    follows = sum(reason.follows for reason in one.reasons)
    if follows:
        text += f"; it follows what crosses the picture in {follows} of {frames}"
    if boxes and one.size:
        area = fmean((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes)
        text += f", {percent(area / (one.size[0] * one.size[1]))} of the frame"
    text += "."
    if shown and fallbacks:
        text += f" Nothing moved in {fallbacks} of them: the tokens in the middle."
    elif fallbacks:
        text += f" The motion was too diffuse for a window (fallback) in {fallbacks} of {frames}."
    return text


def _places(one: Explained) -> list[Box]:
    """The places of the window, in order: one for each time that it moved."""
    boxes = (reason.box for reason in one.reasons if reason.box and not reason.fallback)
    return [box for box, _ in groupby(boxes)]


def _gates(one: Explained) -> str:
    """The plot of gates over time, empty where nothing was measured."""
    shown = [(r.time, share(r.gate), r.fallback) for r in one.reasons if r.gate is not None]
    if not shown:
        return ""
    width, height, left, top = 700, 110, 60, 28
    start, last = shown[0][0], shown[-1][0]
    # The last bar is as wide as the mean of the others.
    span = (last - start) * len(shown) / (len(shown) - 1) if last > start else 1.0
    per_bar = -(-len(shown) // _MOST_BARS)
    groups = [shown[k : k + per_bar] for k in range(0, len(shown), per_bar)]
    edges = [(group[0][0] - start) / span * width for group in groups] + [float(width)]
    step = nice_step(span, 8)
    ticks = range(-int(-start // step), int((start + span) / step + 1e-9) + 1)
    return render(
        "gates.svg.j2",
        title="Gate: motion inside the window, beyond its share of the frame",
        bars=[
            {
                "x": x,
                "width": max(0.5, end - x - (end - x > 3)),
                "height": fmean(gate for _, gate, _ in group) * height,
                "fallback": any(fell for *_, fell in group),
            }
            for group, (x, end) in zip(groups, pairwise(edges), strict=True)
        ],
        columns=[
            (left + (k * step - start) / span * width, tick_text(k * step, step)) for k in ticks
        ],
        rows=[(top + (1 - k / 2) * height, f"{50 * k} %") for k in range(3)],
        width=width,
        height=height,
        left=left,
        top=top,
        threshold=one.threshold,
    )
