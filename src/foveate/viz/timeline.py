"""A timeline as one SVG: what was seen when, how surely, and where the program looked.

Text and axis take the colour of their surroundings, so one drawing serves light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from foveate.core import Result, Segment, TraceStep
from foveate.core.text import escape, plural, shorten, visible
from foveate.core.units import clock, percent, seconds, share
from foveate.viz.columns import Bar, bars_of
from foveate.viz.moments import looks_of, segments_of, span_of
from foveate.viz.palette import colour_of, colours_of, is_none, key_of, ranking

Look = tuple[float, TraceStep]

_LEFT, _RIGHT = 46, 26
_LANE = 20  # row of labels over the bars
_PLOT = 64  # height of a score of 1
_AXIS = 22
_STRIP = 24
_LINE = 20  # one row of the key
_LETTER = 6.4  # mean width of a letter at 12 pixels; measuring needs a browser
_KEY_LABEL = 34

_QUIET = 'font-size="11" opacity=".75"'

# Fewer ticks than this carry their own hover text; more become one path.
_SINGLE_TICKS = 60

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def timeline_svg(result: Result, width: int = 940, detail: bool = True) -> str:
    """Draw the timeline of a Result.

    Bars are segments, as high as their score. Below the axis, a tick stands for every frame that
    was looked at. With more segments than the drawing has columns, each column shows the label
    that covers most of it, and the description says so.

    Args:
        result: What was recognised; a failed one has no timeline to draw.
        width: Width of the drawing in its own pixels, at least 200.
        detail: Whether single looks carry hover text, where they are few enough to be hit. A page
            of many timelines is smaller without.

    Returns:
        One `<svg>` element, fit for a file of its own and for a page; it refers to nothing outside.
    """
    width = max(200, width)
    segments, looks = segments_of(result), looks_of(result)
    span = span_of(result, segments, looks)
    room = width - _LEFT - _RIGHT
    # A video of no length still has something to show: everything at its only moment.
    scale = room / span if span > 0 else room
    colours = colours_of(segments)
    bars = bars_of(segments, scale, room)
    parts = [
        _grid(room) if segments else "",
        _lane(bars, room),
        _bars(bars, colours),
        _axis(span, room, scale),
    ]
    height = _LANE + _PLOT + _AXIS
    if looks:
        parts.append(_strip(looks, scale, room, height, detail))
        height += _STRIP
    key, rows = _key(segments, colours, width, height + 6)
    parts.append(key)
    height += rows * _LINE + (10 if rows else 0)
    label = escape(_summary(segments, len(looks), span))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img" aria-label="{label}" fill="currentColor"'
        f' font-family="system-ui, sans-serif" font-size="12">'
        + "".join(part for part in parts if part)
        + "</svg>"
    )


def nice_step(span: float, most: int) -> float:
    """A distance between ticks that people count in, for at most `most` intervals in `span`."""
    if span <= 0 or most < 1:
        return 1.0
    rough = span / most
    if 1 <= rough <= _STEPS[-1]:
        return float(next(step for step in _STEPS if step >= rough))
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999999)


def _summary(segments: Sequence[Segment], looks: int, span: float) -> str:
    """The drawing in words, for those who do not see it."""
    names = [f"{shorten(name, 40)} for {seconds(time)}" for name, time in ranking(segments)[:3]]
    said = f"Timeline of {seconds(span)} with {plural(len(segments), 'segment')}"
    said += f": {', '.join(names)}" if names else ""
    said += f". {plural(looks, 'frame')} looked at" if looks else ""
    return f"{said}."


def _lane(bars: Sequence[Bar], room: int) -> str:
    """Labels over the bars, once for each run of one label and only where they fit."""
    parts = []
    place = 0
    while place < len(bars):
        first = bars[place]
        end = place
        while end + 1 < len(bars) and bars[end + 1].segment.label == first.segment.label:
            end += 1
        letters = int((min(bars[end].x2, room) - first.x1 - 9) / _LETTER)
        name = visible(first.segment.label)
        # A few letters and an ellipsis say nothing; the key and the hover text do.
        if letters >= min(len(name), 8) and not is_none(first.segment):
            parts.append(
                f'<text x="{_LEFT + first.x1 + 1:.1f}" y="{_LANE - 7}">'
                f"{escape(shorten(name, letters))}</text>"
            )
        place = end + 1
    return "".join(parts)


def _bars(bars: Sequence[Bar], colours: dict[str, str]) -> str:
    parts = []
    base = _LANE + _PLOT
    for bar in bars:
        # A hair of paper between neighbours, as long as there is something left of the bar.
        gap = 1.0 if bar.x2 - bar.x1 > 4 else 0.0
        tall = max(1.5, _PLOT * share(bar.segment.score))
        parts.append(
            f'<rect x="{_LEFT + bar.x1:.1f}" y="{base - tall:.1f}"'
            f' width="{max(0.5, bar.x2 - bar.x1 - gap):.1f}" height="{tall:.1f}"'
            f' fill="{colour_of(bar.segment, colours)}"><title>{escape(_hover(bar))}</title></rect>'
        )
    return "".join(parts)


def _hover(bar: Bar) -> str:
    segment = bar.segment
    digits = 0 if segment.end - segment.start >= 60 else 1
    said = (
        f"{shorten(segment.label, 200)}, {percent(segment.score)}, "
        f"{clock(segment.start, digits)}–{clock(segment.end, digits)}"
    )
    return said if bar.count == 1 else f"mostly {said} ({bar.count:,} segments here)"


def _grid(room: int) -> str:
    """The height of a score of 1 and of a half, behind the bars."""
    right = _LEFT + room
    return (
        f'<path d="M{_LEFT} {_LANE + 0.5}H{right}M{_LEFT} {_LANE + _PLOT / 2 + 0.5}H{right}"'
        ' stroke="currentColor" opacity=".13"/>'
        f'<g text-anchor="end" {_QUIET}>'
        f'<text x="{_LEFT - 6}" y="{_LANE + 4}">100 %</text>'
        f'<text x="{_LEFT - 6}" y="{_LANE + _PLOT + 4}">0 %</text></g>'
    )


def _axis(span: float, room: int, scale: float) -> str:
    """The base line with its times."""
    base = _LANE + _PLOT
    step = nice_step(span, max(2, room // 80))
    ticks = [k * step for k in range(int(span / step + 1e-9) + 1)]
    marks = "".join(f"M{_LEFT + tick * scale:.1f} {base}v4" for tick in ticks)
    names = "".join(
        f'<text x="{_LEFT + tick * scale:.1f}" y="{base + 16}">{_tick_name(tick, step)}</text>'
        for tick in ticks
    )
    return (
        f'<path d="M{_LEFT} {base + 0.5}H{_LEFT + room}{marks}" stroke="currentColor"'
        f' opacity=".45" fill="none"/><g text-anchor="middle" {_QUIET}>{names}</g>'
    )


def _tick_name(tick: float, step: float) -> str:
    if step >= 1:
        return clock(tick)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick:.{digits}f} s" if digits < 4 else f"{tick:g} s"


def _strip(looks: Sequence[Look], scale: float, room: int, top: int, detail: bool) -> str:
    """A tick for every frame that was looked at."""
    said = escape(f"{plural(len(looks), 'frame')} looked at")
    head = (
        f'<text x="{_LEFT - 6}" y="{top + 14}" text-anchor="end" {_QUIET}>'
        f'looks</text><g class="looks" stroke="currentColor" opacity=".6">'
        f'<rect x="{_LEFT}" y="{top + 3}" width="{room}" height="14" opacity=".12"'
        f' stroke="none"><title>{said}</title></rect>'
    )
    if detail and len(looks) <= _SINGLE_TICKS:
        ticks = _ticks(looks, scale, room, top)
        return f"{head}{ticks}</g>"
    # Ticks closer than half a pixel are one tick to the eye.
    places = sorted({round(2 * _clamp(time * scale, room)) for time, _ in looks})
    path = "".join(f"M{_LEFT + place / 2:g} {top + 5}v10" for place in places)
    return f'{head}<path d="{path}" stroke-width=".7"><title>{said}</title></path></g>'


def _clamp(x: float, room: int) -> float:
    return min(max(x, 0.0), float(room))


def _ticks(looks: Sequence[Look], scale: float, room: int, top: int) -> str:
    """One path per look, each with its own hover text."""
    parts = []
    before, said = None, ""
    for time, step in looks:
        # Neighbours mostly share their turn, so its words are made once.
        if step is not before:
            before, said = step, escape(shorten(_words(step), 200))
        x = _LEFT + _clamp(time * scale, room)
        parts.append(
            f'<path d="M{x:.1f} {top + 5}v10">'
            f"<title>looked at {clock(time, 2)}{said}</title></path>"
        )
    return "".join(parts)


def _words(step: TraceStep) -> str:
    """What a turn of the loop used and how it ended."""
    said = [" + ".join(step.modalities)] if step.modalities else []
    if step.exit is not None:
        said.append(f"exit {step.exit}")
    if step.fallback:
        said.append("fallback")
    return "".join(f", {word}" for word in said)


def _key(
    segments: Sequence[Segment], colours: dict[str, str], width: int, top: int
) -> tuple[str, int]:
    """The key of colours, in rows; returns the drawing and its number of rows."""
    parts = []
    x, row = float(_LEFT), 0
    for colour, full, covered in key_of(segments, colours):
        name, time = shorten(visible(full), _KEY_LABEL), seconds(covered)
        wide = 17 + (len(name) + len(time) + 1) * _LETTER + 18
        if x + wide > width and x > _LEFT:
            x, row = float(_LEFT), row + 1
        y = top + row * _LINE
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="11" height="11" rx="2" fill="{colour}"/>'
            f'<text x="{x + 17:.1f}" y="{y + 10}">{escape(name)}'
            f'<tspan dx="6" opacity=".7">{time}</tspan></text>'
        )
        x += wide
    return "".join(parts), row + 1 if parts else 0
