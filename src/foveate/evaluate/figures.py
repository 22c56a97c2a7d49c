"""Drawings of an evaluation as SVG: confusion matrix, reliability plot, accuracy against cost.

Text and axes take the colour of their surroundings, so one drawing serves light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from foveate.core.text import shorten, visible
from foveate.core.units import si
from foveate.viz.pages import render
from foveate.viz.palette import COLOURS, OTHER
from foveate.viz.timeline import nice_step

_LETTERS = 24  # of a class name beside a matrix
_LETTER = 7.0  # width of a letter at 12 pixels, rounded up; measuring needs a browser


def confusion_svg(
    rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]
) -> str:
    """A confusion matrix: one row per true class, shaded by its share of the row.

    Args:
        rows: Names of the true classes.
        columns: Names of the predicted ones.
        counts: Videos, `counts[true][predicted]`.
    """
    cell = max(4, min(34, 720 // max(len(columns), 1)))
    longest = min(_LETTERS, max((len(name) for name in (*rows, *columns)), default=0))
    right = sum(line[i] for i, line in enumerate(counts) if i < len(line))
    return render(
        "confusion.svg.j2",
        rows=rows,
        columns=columns,
        counts=counts,
        cell=cell,
        # Smaller cells have no space for names beside them.
        named=cell >= 9,
        edge=30 + (int(_LETTER * longest) if cell >= 9 else 0),
        small=9 if cell < 28 else 12,
        counted=cell >= 18,
        letters=_LETTERS,
        fill=COLOURS[0],
        label=f"Confusion matrix: {right} of {sum(map(sum, counts))} correct",
    )


def reliability_svg(bins: Sequence[Mapping[str, float | int | None]]) -> str:
    """Accuracy against confidence; the dashed diagonal is perfect calibration, bar width shows n.

    Args:
        bins: As in `Evaluation.reliability`.
    """
    side, left, top = 260, 60, 28
    most = max((b["n"] or 0 for b in bins), default=0) or 1
    bars = []
    for i, b in enumerate(bins):
        if b["accuracy"] is None or b["confidence"] is None:
            continue
        step = side / len(bins)
        width = step * (0.25 + 0.75 * math.sqrt((b["n"] or 0) / most))
        # A bar stays inside its bin, and so inside the axes and off its neighbours.
        x = min(max(b["confidence"] * side - width / 2, i * step), (i + 1) * step - width)
        height = max(1.0, b["accuracy"] * side)
        bars.append({**b, "x": x, "width": width, "height": height})
    marks = [(0.25 * k, f"{25 * k} %") for k in range(5)]
    return render(
        "reliability.svg.j2",
        title="Accuracy by confidence",
        bars=bars,
        side=side,
        left=left,
        top=top,
        columns=[(left + share * side, text) for share, text in marks],
        rows=[(top + (1 - share) * side, text) for share, text in marks],
        fill=COLOURS[0],
    )


@dataclass(frozen=True)
class Point:
    """One recogniser in a plot of accuracy against cost; a muted one is grey and has no name."""

    name: str
    cost: float
    value: float
    low: float
    high: float
    muted: bool = field(default=False, kw_only=True)


def cost_svg(points: Sequence[Point], cost: str, value: str) -> str:
    """Accuracy against cost on a logarithmic axis; the line joins the Pareto front.

    Args:
        points: One per recogniser; those without a positive cost are left out.
        cost: What the horizontal axis shows, with its unit.
        value: What the vertical axis shows.
    """
    shown = [p for p in points if p.cost > 0 and math.isfinite(p.value)]
    width, height, left, top = 620, 340, 60, 28
    low = math.log10(min((p.cost for p in shown), default=1.0)) - 0.15
    high = math.log10(max((p.cost for p in shown), default=10.0)) + 0.15
    # The vertical axis begins below the lowest interval, at a tick.
    ends = [v for p in shown for v in (p.value, p.value if p.muted else p.low)]
    lowest = min(filter(math.isfinite, ends), default=0.0)
    step = 0.1 if lowest < 0.6 else 0.05
    floor = max(0.0, math.floor(lowest / step - 1e-9) * step)

    def across(amount: float) -> float:
        return left + (math.log10(amount) - low) / (high - low) * width

    def down(share: float) -> float:
        return top + (1 - share) / (1 - floor) * height

    title = f"{value} against {cost}"
    places = [(across(p.cost), down(p.value)) for p in shown]
    return render(
        "cost.svg.j2",
        points=[
            asdict(p)
            | {
                "x": places[i][0],
                "y": places[i][1],
                "fill": OTHER if p.muted else COLOURS[i % len(COLOURS)],
                "interval": (down(p.low), down(p.high))
                if math.isfinite(p.low + p.high) and not p.muted
                else None,
            }
            for i, p in enumerate(shown)
        ],
        front=[(across(p.cost), down(p.value)) for p in front(shown)],
        labels=_labels(
            ["" if p.muted else p.name for p in shown], places, (left, top, width, height)
        ),
        columns=[
            (across(mark), si(mark).replace(".00", "").replace(".0", ""))
            for mark in _decades(low, high)
        ],
        rows=[
            (down(floor + k * step), f"{floor + k * step:.0%}".replace("%", " %"))
            for k in range(round((1 - floor) / step) + 1)
        ],
        title=title[:1].upper() + title[1:],
        fill=COLOURS[0],
        cost=cost,
        value=value,
        width=width,
        height=height,
        left=left,
        top=top,
    )


def history_svg(
    values: Mapping[int, float], value: str, text: Callable[[float], str], highest: bool
) -> str:
    """The values of a study's trials, and a line along the best so far.

    Args:
        values: By number of the trial; those that are not finite are left out.
        value: What the vertical axis shows.
        text: Writes a value with its unit.
        highest: Whether larger values are better.
    """
    shown = {number: v for number, v in sorted(values.items()) if math.isfinite(v)}
    width, height, left, top = 620, 220, 90, 28
    marks = _round_marks(min(shown.values(), default=0.0), max(shown.values(), default=1.0))
    last = max(max(shown, default=1), 1)

    def place(number: int, v: float) -> tuple[float, float]:
        share = (v - marks[0]) / (marks[-1] - marks[0])
        return left + (0.02 + 0.96 * number / last) * width, top + (1 - share) * height

    best: list[tuple[float, float]] = []
    so_far: float | None = None
    for number, v in shown.items():
        if so_far is None or (v > so_far if highest else v < so_far):
            so_far = v
            best.append(place(number, v))
    step = max(1, -(-last // 10))
    return render(
        "history.svg.j2",
        points=[
            {"number": number, "x": x, "y": y, "text": text(v)}
            for number, v in shown.items()
            for x, y in [place(number, v)]
        ],
        best=best,
        columns=[(place(k, marks[0])[0], str(k)) for k in range(0, last + 1, step)],
        rows=[(place(0, mark)[1], text(mark)) for mark in marks],
        title=f"{value[:1].upper()}{value[1:]} by trial",
        value=value,
        fill=COLOURS[0],
        width=width,
        height=height,
        left=left,
        top=top,
    )


def _round_marks(low: float, high: float) -> list[float]:
    """Round numbers in equal steps, around all values between the two ends."""
    step = nice_step((high - low) or abs(high) or 1.0, 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * k for k in range(first, max(last, first + 1) + 1)]


def _labels(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    frame: tuple[int, int, int, int],
) -> list[dict[str, Any]]:
    """Places for the names of points where they cover no point, no other name and no border.

    A name is at the nearest of several places around its point; a line leads to it.
    """
    left, top, width, height = frame
    taken: list[Sequence[float]] = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    labels = []
    for i, (full, (x, y)) in enumerate(zip(names, places, strict=True)):
        if not full:
            continue
        name = shorten(visible(full), 34)
        wide = _LETTER * len(name)
        boxes = [
            ((x + dx, y + dy - 11, x + dx + wide, y + dy + 4), dx, dy)
            if dx > 0
            else ((x + dx - wide, y + dy - 11, x + dx, y + dy + 4), dx, dy)
            for dy in sorted(range(-height, height, 8), key=abs)
            for dx in (10, -10, 40, -40)
        ]
        inside = [
            one
            for one in boxes
            if one[0][0] >= left
            and one[0][2] <= left + width
            and one[0][1] >= top
            and one[0][3] <= top + height
        ]
        free = [one for one in inside if not any(_overlap(one[0], other) for other in taken)]
        if not free:
            continue  # its hover text still has the name
        box, dx, dy = min(free, key=lambda one: math.hypot(one[1], 2 * one[2]))
        taken.append(box)
        labels.append(
            {
                "name": name,
                "x": x + dx,
                "y": y + dy,
                "left": dx < 0,
                "from": (x, y),
                "fill": COLOURS[i % len(COLOURS)],
            }
        )
    return labels


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: points that no other beats in both cost and value, by cost."""
    best, kept = -math.inf, []
    for point in sorted(points, key=lambda p: (p.cost, -p.value)):
        if point.value > best:
            best = point.value
            kept.append(point)
    return kept


def _decades(low: float, high: float) -> list[float]:
    """At most 12 round numbers between powers of ten."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    marks: list[float] = []
    for digits in ((1, 2, 5), range(1, 10)):
        marks = [digit * 10.0**power for power in powers for digit in digits]
        marks = [mark for mark in marks if low <= math.log10(mark) <= high]
        if len(marks) > 2:  # a narrow axis needs the finer ones
            break
    return marks[:12]
