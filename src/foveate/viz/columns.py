"""Segments laid out along an axis, with no more bars than the axis has columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foveate.core import Segment

# Up to here every segment is drawn as itself.
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
    """What one label has of one column."""

    segment: Segment
    cover: float = 0.0
    score: float = 0.0
    count: int = 0


def bars_of(segments: Sequence[Segment], scale: float, room: int) -> list[Bar]:
    """Lay segments out as bars, ascending and inside the axis.

    Args:
        segments: By start; all times finite.
        scale: Pixels per second.
        room: Length of the axis in pixels.
    """
    if len(segments) <= _MOST_BARS:
        return [_bar(segment, scale, room) for segment in segments]
    columns: list[dict[str, _Tally]] = [{} for _ in range(room)]
    for segment in segments:
        _spread(segment, scale, columns)
    return _joined(columns, scale)


def _bar(segment: Segment, scale: float, room: int) -> Bar:
    x1 = min(max(segment.start * scale, 0.0), room - 2.0)
    x2 = min(segment.end * scale, float(room))
    # A moment has no length, but it must not vanish.
    return Bar(x1, max(x2, x1 + 2.0), segment)


def _spread(segment: Segment, scale: float, columns: list[dict[str, _Tally]]) -> None:
    """Add one segment to every column that it touches."""
    last = len(columns) - 1
    x1, x2 = max(0.0, segment.start * scale), max(0.0, segment.end * scale)
    first = min(int(x1), last)
    # An end on the border of a column does not touch the next one.
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
        begun = sum(tally.count for tally in tallies.values())
        before = bars[-1] if bars else None
        if (
            before is not None
            and before.x2 == column
            and before.segment.label == best.segment.label
            and abs(before.segment.score - score) < 0.01
        ):
            held = before.segment.model_copy(update={"end": (column + 1) / scale})
            bars[-1] = Bar(before.x1, column + 1.0, held, before.count + begun)
            continue
        shown = best.segment.model_copy(
            update={"start": column / scale, "end": (column + 1) / scale, "score": score}
        )
        bars.append(Bar(float(column), column + 1.0, shown, max(1, begun)))
    return bars
