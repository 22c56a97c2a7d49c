"""Drawings of an evaluation as SVG: confusion matrix, reliability plot, accuracy against cost.

Text and axes take the colour of their surroundings, so one drawing serves light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foveate.core.text import escape, shorten
from foveate.core.units import percent, si
from foveate.viz.palette import COLOURS

_QUIET = 'font-size="11" opacity=".75"'
_BLUE = COLOURS[0]
_LETTERS = 18  # of a class name beside a matrix
_NUMBERED = 26  # classes up to which cells carry their count


def confusion_svg(
    rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]
) -> str:
    """A confusion matrix: one row per right class, shaded by its share of the row.

    Args:
        rows: Names of the right classes.
        columns: Names of the predicted ones.
        counts: Videos, `counts[right][predicted]`.
    """
    cell = max(4, min(34, 620 // max(len(columns), 1)))
    named = cell >= 9
    longest = min(_LETTERS, max((len(name) for name in (*rows, *columns)), default=0))
    edge = 14 + (int(6.6 * longest) if named else 0)
    parts = []
    if named:
        middle = cell / 2 + 4
        for r, name in enumerate(rows):
            label = shorten(name, _LETTERS)
            parts.append(_text(edge - 6, edge + r * cell + middle, label, "end"))
        for c, name in enumerate(columns):
            place = f'transform="translate({edge + c * cell + middle:g} {edge - 6}) rotate(-90)"'
            parts.append(f"<text {place}>{escape(shorten(name, _LETTERS))}</text>")
    for r, line in enumerate(counts):
        for c, number in enumerate(line):
            if number or r == c:
                hover = f"{rows[r]} → {columns[c]}: {number} of {sum(line)}"
                share = number / max(sum(line), 1)
                parts.append(_cell(edge + c * cell, edge + r * cell, cell - 1, share, hover))
                if number and len(columns) <= _NUMBERED:
                    at = (edge + (c + 0.5) * cell - 0.5, edge + r * cell + cell / 2 + 4)
                    ink = ' fill="#fff"' if share > 0.6 else ""
                    parts.append(_text(*at, str(number), "middle", f'pointer-events="none"{ink}'))
    width, height = edge + len(columns) * cell + 8, edge + len(rows) * cell + 8
    right = sum(line[i] for i, line in enumerate(counts) if i < len(line))
    return _svg(width, height, f"Confusion matrix: {right} of {sum(map(sum, counts))} right", parts)


def reliability_svg(bins: Sequence[Mapping[str, float | int | None]]) -> str:
    """Accuracy against confidence; the diagonal is perfect calibration, bar width shows n.

    Args:
        bins: As in `Evaluation.reliability`.
    """
    side, left, top = 260, 44, 10
    most = max((int(b["n"] or 0) for b in bins), default=0) or 1
    parts = [_frame(left, top, side, side)]
    parts += _ticks(left, top, side)
    parts.append(
        f'<path d="M{left} {top + side}L{left + side} {top}" stroke="currentColor" '
        'stroke-dasharray="4 4" opacity=".5" fill="none"/>'
    )
    for b in bins:
        accuracy, confidence, n = b["accuracy"], b["confidence"], int(b["n"] or 0)
        if accuracy is None or confidence is None:
            continue
        wide = side / len(bins) * (0.25 + 0.75 * math.sqrt(n / most))
        x, high = left + float(confidence) * side - wide / 2, max(1.0, float(accuracy) * side)
        hover = (
            f"confidence {percent(float(confidence))}: {percent(float(accuracy))} right, {n} videos"
        )
        parts.append(
            f'<rect x="{x:.1f}" y="{top + side - high:.1f}" width="{wide:.1f}" height="{high:.1f}" '
            f'fill="{_BLUE}" fill-opacity=".75"><title>{hover}</title></rect>'
        )
    parts.append(_caption(left + side / 2, top + side + 34, "confidence of the best class"))
    parts.append(_caption(12, top + side / 2, "share that is right", turned=True))
    return _svg(left + side + 16, top + side + 42, "Reliability of the confidence", parts)


@dataclass(frozen=True)
class Point:
    """One recogniser in a plot of accuracy against cost."""

    name: str
    cost: float
    value: float
    low: float
    high: float


def cost_svg(points: Sequence[Point], cost: str, value: str) -> str:
    """Accuracy against cost, cost on a logarithmic axis; the line joins what nothing beats.

    Args:
        points: One per recogniser; those without a positive cost are left out.
        cost: What the horizontal axis shows, with its unit.
        value: What the vertical axis shows.
    """
    shown = [p for p in points if p.cost > 0 and math.isfinite(p.value)]
    width, height, left, top = 560, 300, 50, 12
    low = math.log10(min((p.cost for p in shown), default=1.0)) - 0.15
    high = math.log10(max((p.cost for p in shown), default=10.0)) + 0.15

    def across(amount: float) -> float:
        return left + (math.log10(amount) - low) / (high - low) * width

    def down(share: float) -> float:
        return top + (1 - share) * height

    parts = [_frame(left, top, width, height), *_ticks(left, top, height, across=False)]
    for mark in _decades(low, high):
        parts.append(_text(across(mark), top + height + 16, si(mark), "middle", _QUIET))
    line = " L".join(f"{across(p.cost):.1f} {down(p.value):.1f}" for p in front(shown))
    if line:
        parts.append(f'<path d="M{line}" fill="none" stroke="{_BLUE}" stroke-width="1.5"/>')
    for i, p in enumerate(shown):
        x, y = across(p.cost), down(p.value)
        colour = COLOURS[i % len(COLOURS)]
        if math.isfinite(p.low) and math.isfinite(p.high):
            span = f"M{x:.1f} {down(p.low):.1f}V{down(p.high):.1f}"
            parts.append(f'<path d="{span}" stroke="{colour}"/>')
        hover = escape(f"{p.name}: {percent(p.value)} at {si(p.cost)}")
        place = f'cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"'
        parts.append(f"<circle {place}><title>{hover}</title></circle>")
        late = x > left + width * 0.6
        side = ("end", x - 9) if late else ("start", x + 9)
        parts.append(_text(side[1], y - 7, shorten(p.name, 40), side[0]))
    parts.append(_caption(left + width / 2, top + height + 36, cost))
    parts.append(_caption(12, top + height / 2, value, turned=True))
    return _svg(left + width + 14, top + height + 46, f"{value} against {cost}", parts)


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both cost and value, by cost."""
    best, kept = -math.inf, []
    for point in sorted(points, key=lambda p: (p.cost, -p.value)):
        if point.value > best:
            best = point.value
            kept.append(point)
    return kept


def _decades(low: float, high: float) -> list[float]:
    marks = [
        digit * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for digit in (1, 2, 5)
    ]
    return [mark for mark in marks if low <= math.log10(mark) <= high][:12]


def _ticks(left: float, top: float, side: float, across: bool = True) -> list[str]:
    """Quarters of 0..1 along the vertical axis and, if asked, along the horizontal one."""
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(left - 6, top + (1 - share) * side + 4, f"{share:g}", "end", _QUIET))
        if across:
            at = left + share * side
            parts.append(_text(at, top + side + 16, f"{share:g}", "middle", _QUIET))
    return parts


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}{' ' if more else ''}{more}>{escape(text)}</text>"


def _cell(x: float, y: float, side: float, share: float, hover: str) -> str:
    """A square of a matrix, shaded by a share; even none leaves a trace of the diagonal."""
    return (
        f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="2" fill="{_BLUE}" '
        f'fill-opacity="{0.06 + 0.94 * share:.3f}"><title>{escape(hover)}</title></rect>'
    )


def _frame(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="none" '
        'stroke="currentColor" opacity=".35"/>'
    )


def _caption(x: float, y: float, text: str, turned: bool = False) -> str:
    place = f'transform="translate({x:g} {y:g}) rotate(-90)"' if turned else f'x="{x:g}" y="{y:g}"'
    return f'<text {place} text-anchor="middle" {_QUIET}>{escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(label)}" '
        'fill="currentColor" font-family="system-ui, sans-serif" font-size="12">'
        + "".join(parts)
        + "</svg>"
    )
