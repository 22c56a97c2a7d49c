"""Drawings of an evaluation as SVG: confusion matrix, reliability plot, accuracy against cost.

Text and axes take the colour of their surroundings, so one drawing serves light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from foveate.viz.pages import render
from foveate.viz.palette import COLOURS

_LETTERS = 18  # of a class name beside a matrix


def confusion_svg(
    rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]
) -> str:
    """A confusion matrix: one row per true class, shaded by its share of the row.

    Args:
        rows: Names of the true classes.
        columns: Names of the predicted ones.
        counts: Videos, `counts[true][predicted]`.
    """
    cell = max(4, min(34, 620 // max(len(columns), 1)))
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
        edge=14 + (int(6.6 * longest) if cell >= 9 else 0),
        letters=_LETTERS,
        fill=COLOURS[0],
        label=f"Confusion matrix: {right} of {sum(map(sum, counts))} correct",
    )


def reliability_svg(bins: Sequence[Mapping[str, float | int | None]]) -> str:
    """Accuracy against confidence; the diagonal is perfect calibration, bar width shows n.

    Args:
        bins: As in `Evaluation.reliability`.
    """
    side = 260
    filled = [b for b in bins if b["accuracy"] is not None and b["confidence"] is not None]
    most = max((b["n"] or 0 for b in filled), default=0) or 1
    bars = [
        {
            **b,
            "width": side / len(bins) * (0.25 + 0.75 * math.sqrt((b["n"] or 0) / most)),
            "height": max(1.0, (b["accuracy"] or 0.0) * side),
        }
        for b in filled
    ]
    return render("reliability.svg.j2", bars=bars, side=side, left=44, top=10, fill=COLOURS[0])


@dataclass(frozen=True)
class Point:
    """One recogniser in a plot of accuracy against cost."""

    name: str
    cost: float
    value: float
    low: float
    high: float


def cost_svg(points: Sequence[Point], cost: str, value: str) -> str:
    """Accuracy against cost on a logarithmic axis; the line joins the Pareto front.

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

    return render(
        "cost.svg.j2",
        points=[
            asdict(p)
            | {
                "x": across(p.cost),
                "y": down(p.value),
                "fill": COLOURS[i % len(COLOURS)],
                "interval": (down(p.low), down(p.high)) if math.isfinite(p.low + p.high) else None,
            }
            for i, p in enumerate(shown)
        ],
        front=[(across(p.cost), down(p.value)) for p in front(shown)],
        marks=[(across(mark), mark) for mark in _decades(low, high)],
        fill=COLOURS[0],
        cost=cost,
        value=value,
        width=width,
        height=height,
        left=left,
        top=top,
    )


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
    marks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [mark for mark in marks if low <= math.log10(mark) <= high][:12]
