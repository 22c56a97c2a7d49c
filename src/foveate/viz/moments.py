"""What a Result says about one moment of its video, found without a scan per frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from foveate.core import Result, Segment, TraceStep

# A box says where the program looked at one frame. Held longer, it would claim too much.
_HOLD = 1.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Glance:
    """One frame that was looked at.

    Attributes:
        time: Seconds from the first frame.
        boxes: `(x1, y1, x2, y2)` in pixels of the upright source frame; empty means all of it.
    """

    time: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Moments:
    """An index by time over segments and glances of one Result; build it with `of`."""

    segments: Sequence[Segment]
    glances: Sequence[Glance]
    starts: Sequence[float]
    reach: Sequence[float]
    times: Sequence[float]

    @classmethod
    def of(cls, result: Result) -> Moments:
        """Index a Result."""
        segments = segments_of(result)
        glances = _glances_of(result)
        return cls(
            segments=segments,
            glances=glances,
            starts=[segment.start for segment in segments],
            # The latest end so far tells how far back an overlapping segment can hide.
            reach=list(accumulate((segment.end for segment in segments), max)),
            times=[glance.time for glance in glances],
        )

    def segment(self, seconds: float) -> Segment | None:
        """The segment shown at that time; where two overlap, the one that began later.

        A segment holds its start and not its end, unless nothing follows there.
        """
        closed = None
        place = bisect_right(self.starts, seconds) - 1
        while place >= 0 and self.reach[place] >= seconds:
            segment = self.segments[place]
            if segment.end > seconds:
                return segment
            if segment.end == seconds and closed is None:
                closed = segment
            place -= 1
        return closed

    def boxes(self, seconds: float) -> tuple[Box, ...]:
        """The boxes of the last frame looked at by then, if that is no more than a second ago."""
        place = bisect_right(self.times, seconds) - 1
        if place < 0 or seconds - self.times[place] > _HOLD:
            return ()
        return self.glances[place].boxes


def segments_of(result: Result) -> list[Segment]:
    """The segments by start."""
    return sorted(result.segments, key=lambda segment: (segment.start, segment.end))


def looks_of(result: Result) -> list[tuple[float, TraceStep]]:
    """The time of every frame looked at, ascending, with the turn of the loop it belongs to."""
    steps = result.trace.steps if result.trace else []
    found = [(time, step) for step in steps for time in step.frames]
    return sorted(found, key=lambda look: look[0])


def span_of(
    result: Result, segments: Sequence[Segment], looks: Sequence[tuple[float, TraceStep]]
) -> float:
    """Seconds that a timeline has to cover; 0 if nothing says."""
    span = max([0.0, *(segment.end for segment in segments)])
    if looks:
        span = max(span, looks[-1][0])
    if result.duration is not None:
        span = max(span, result.duration)
    return span


def _glances_of(result: Result) -> list[Glance]:
    steps = result.trace.steps if result.trace else []
    found = [glance for step in steps for glance in _glances(step)]
    return sorted(found, key=lambda glance: glance.time)


def _glances(step: TraceStep) -> list[Glance]:
    boxes = [_box(box) for box in step.boxes]
    # One box per frame is the rule; any other number belongs to the step as a whole.
    paired = len(boxes) == len(step.frames)
    every = tuple(box for box in boxes if box)
    return [
        Glance(time, tuple(box for box in boxes[k : k + 1] if box) if paired else every)
        for k, time in enumerate(step.frames)
    ]


def _box(values: Sequence[float]) -> Box | None:
    if len(values) != 4:
        return None
    x1, y1, x2, y2 = values
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
