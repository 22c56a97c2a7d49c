"""Segments as bars along an axis, with no more bars than the axis has columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foveate.core import Segment

# Up to this many segments, each has its own bar.
_MOST_BARS = 400


@dataclass(frozen=True)
class Bar:
    """One bar of a timeline.

    Attributes:
        x1: Left end, in pixels from the start of the axis.
        x2: Right end, in the same pixels.
        segment: What it shows; where `count` is above one, the label that covers most of the bar
            with its mean score there.
        count: How many segments it stands for.
    """

    x1: float
    x2: float
    segment: Segment
    count: int = 1


@dataclass
class _Tally:
    """One label in one column: seconds covered, their scores, segments that begin there."""

    segment: Segment
    cover: float = 0.0
    score: float = 0.0
    count: int = 0


def bars_of(segments: Sequence[Segment], scale: float, width: int) -> list[Bar]:
    """Lay segments out as bars, ascending and inside the axis.

    Args:
        segments: By start; all times finite.
        scale: Pixels per second.
        width: Length of the axis in pixels.
    """
    if len(segments) <= _MOST_BARS:
        return [_bar(segment, scale, width) for segment in segments]
    columns: list[dict[str, _Tally]] = [{} for _ in range(width)]
    for segment in segments:
        _spread(segment, scale, columns)
    return _joined(columns, scale)


def _bar(segment: Segment, scale: float, width: int) -> Bar:
    x1 = min(max(segment.start * scale, 0.0), width - 2.0)
    x2 = min(segment.end * scale, float(width))
    # A segment of zero length must stay visible.
    return Bar(x1, max(x2, x1 + 2.0), segment)


def _spread(segment: Segment, scale: float, columns: list[dict[str, _Tally]]) -> None:
    """Add one segment to every column that it touches."""
    last = len(columns) - 1
    x1, x2 = max(0.0, segment.start * scale), max(0.0, segment.end * scale)
    first = min(int(x1), last)
    # A segment that ends on the border of a column does not touch the next one.
    final = max(first, min(-int(-x2 // 1) - 1, last))
    for column in range(first, final + 1):
        cover = max(min(x2, column + 1.0) - max(x1, float(column)), 1e-9)
        tally = columns[column].setdefault(segment.label, _Tally(segment))
        tally.cover += cover
        tally.score += cover * segment.score
        tally.count += column == first


def _joined(columns: list[dict[str, _Tally]], scale: float) -> list[Bar]:
    """One bar per run of columns with the same label and nearly the same score."""
    bars: list[Bar] = []
    for column, tallies in enumerate(columns):
        if not tallies:
            continue
        best = max(tallies.values(), key=lambda tally: tally.cover)
        score = best.score / best.cover
        count = sum(tally.count for tally in tallies.values())
        end = (column + 1) / scale
        if bars and bars[-1].x2 == column:
            last = bars[-1]
            shown = last.segment
            if shown.label == best.segment.label and abs(shown.score - score) < 0.01:
                longer = shown.model_copy(update={"end": end})
                bars[-1] = Bar(last.x1, column + 1.0, longer, last.count + count)
                continue
        values = {"start": column / scale, "end": end, "score": score}
        shown = best.segment.model_copy(update=values)
        bars.append(Bar(float(column), column + 1.0, shown, max(1, count)))
    return bars
