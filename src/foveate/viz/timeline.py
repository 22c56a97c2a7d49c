"""A timeline as one SVG: labels with their scores over time, and the frames looked at.

Text and axis take the colour of their surroundings, so one drawing serves light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from foveate.core import Result, Segment, TraceStep
from foveate.core.text import plural, shorten, visible
from foveate.core.units import clock, percent, seconds, share
from foveate.viz.columns import Bar, bars_of
from foveate.viz.pages import render
from foveate.viz.palette import colour_of, colours_of, is_none, key_of, ranking
from foveate.viz.time_index import looks_of, segments_of, span_of

_LEFT, _RIGHT = 46, 26
_LANE = 20  # row of labels above the bars
_PLOT = 64  # height of a score of 1
_AXIS = 22
_STRIP = 24
_LINE = 20  # one row of the key
_LETTER = 6.4  # mean width of a letter at 12 pixels; measuring needs a browser
_KEY_LABEL = 34

# Up to this many looks have their own hover text; more become one path.
_SINGLE_LOOKS = 60

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def timeline_svg(result: Result, width: int = 940, detail: bool = True) -> str:
    """Draw the timeline of a Result.

    Bars are segments, as high as their score. Below the axis, a tick stands for every frame that
    was looked at. With more segments than the drawing has columns, each column shows the label
    that covers most of it, and the description says so.

    Args:
        result: What was recognised; of a failed one only the empty axis is drawn.
        width: Width of the drawing in pixels, at least 200.
        detail: Whether single looks have hover text, where there are few. A page of many
            timelines is smaller without.

    Returns:
        One `<svg>` element, for a file of its own or for a page; it refers to nothing outside.
    """
    width = max(200, width)
    segments, looks = segments_of(result), looks_of(result)
    span = span_of(result, segments, looks)
    length = width - _LEFT - _RIGHT
    # A video of zero length has everything at its first moment.
    scale = length / span if span > 0 else length
    colours = colours_of(segments)
    bars = bars_of(segments, scale, length)
    single = detail and len(looks) <= _SINGLE_LOOKS
    places = [min(max(time * scale, 0.0), float(length)) for time, _ in looks]
    step = nice_step(span, max(2, length // 80))
    # Without segments, as of a detector, there is only the axis with its looks.
    lane, plot = (_LANE, _PLOT) if bars else (_AXIS // 4, 0)
    strip = lane + plot + _AXIS
    top = strip + (_STRIP if looks else 0)
    key = _key(segments, colours, width, top + 6)
    return render(
        "timeline.svg.j2",
        width=width,
        height=key[-1]["y"] + _LINE + 4 if key else top,
        left=_LEFT,
        lane=lane,
        plot=plot,
        length=length,
        strip=strip,
        label=_summary(segments, len(looks), span),
        names=_names(bars, length),
        bars=[_bar(bar, colours) for bar in bars],
        ticks=[
            (k * step * scale, tick_text(k * step, step))
            for k in range(int(span / step + 1e-9) + 1)
        ],
        looks=looks,
        single_looks=[(x, _look(*look)) for x, look in zip(places, looks, strict=True)]
        if single
        else [],
        # Ticks closer than half a pixel cannot be distinguished.
        joined_looks=[] if single else [x / 2 for x in sorted({round(2 * x) for x in places})],
        key=key,
    )


def nice_step(span: float, most: int) -> float:
    """A round distance between ticks, with at most `most` intervals in `span`."""
    if span <= 0 or most < 1:
        return 1.0
    rough = span / most
    if 1 <= rough <= _STEPS[-1]:
        return float(next(step for step in _STEPS if step >= rough))
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999999)


def _summary(segments: Sequence[Segment], looks: int, span: float) -> str:
    """The drawing in words, for screen readers."""
    names = [f"{shorten(name, 40)} for {seconds(time)}" for name, time in ranking(segments)[:3]]
    text = f"Timeline of {seconds(span)} with {plural(len(segments), 'segment')}"
    text += f": {', '.join(names)}" if names else ""
    text += f". {plural(looks, 'frame')} looked at" if looks else ""
    return f"{text}."


def _names(bars: Sequence[Bar], length: int) -> list[tuple[float, str]]:
    """Labels above the bars with their places, once for each run of a label, where they fit."""
    names = []
    place = 0
    while place < len(bars):
        first, end = bars[place], place
        while end + 1 < len(bars) and bars[end + 1].segment.label == first.segment.label:
            end += 1
        letters = int((min(bars[end].x2, length) - first.x1 - 9) / _LETTER)
        name = visible(first.segment.label)
        # A few letters and an ellipsis say nothing; the key and the hover text do.
        if letters >= min(len(name), 8) and not is_none(first.segment):
            names.append((first.x1, shorten(name, letters)))
        place = end + 1
    return names


def _bar(bar: Bar, colours: dict[str, str]) -> dict[str, Any]:
    segment, wide = bar.segment, bar.x2 - bar.x1
    digits = 0 if segment.end - segment.start >= 60 else 1
    title = (
        f"{shorten(segment.label, 200)}, {percent(segment.score)}, "
        f"{clock(segment.start, digits)}–{clock(segment.end, digits)}"
    )
    return {
        "x": bar.x1,
        # A gap between neighbours, unless the bar is too narrow for it.
        "width": max(0.5, wide - 1.0 if wide > 4 else wide),
        "height": max(1.5, _PLOT * share(segment.score)),
        "fill": colour_of(segment, colours),
        "title": title if bar.count == 1 else f"mostly {title} ({bar.count:,} segments here)",
    }


def tick_text(tick: float, step: float) -> str:
    """The text of a tick at so many seconds, with as many digits as `step` needs."""
    if step >= 1:
        return clock(tick)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick:.{digits}f} s" if digits < 4 else f"{tick:g} s"


def _look(time: float, step: TraceStep) -> str:
    """The hover text of a look: its time, what it used and how it ended."""
    words = [f"looked at {clock(time, 2)}"]
    if step.modalities:
        words.append(" + ".join(step.modalities))
    if step.exit is not None:
        words.append(f"exit {step.exit}")
    if step.fallback:
        words.append("fallback")
    return shorten(", ".join(words), 200)


def _key(
    segments: Sequence[Segment], colours: dict[str, str], width: int, top: int
) -> list[dict[str, Any]]:
    """The entries of the key of colours, in rows."""
    entries: list[dict[str, Any]] = []
    x, y = float(_LEFT), top
    for colour, full, covered in key_of(segments, colours):
        name, time = shorten(visible(full), _KEY_LABEL), seconds(covered)
        wide = 17 + (len(name) + len(time) + 1) * _LETTER + 18
        if x + wide > width and x > _LEFT:
            x, y = float(_LEFT), y + _LINE
        entries.append({"x": x, "y": y, "fill": colour, "name": name, "time": time})
        x += wide
    return entries
