"""The segment and the boxes of a Result at one time, found without a scan per frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from foveate.core import Detection, Result, Segment, TraceStep

# Boxes belong to one frame. Shown for longer, they would be wrong.
_HOLD = 1.0

Box = tuple[float, float, float, float]
FrameTokens = tuple[tuple[float, ...], tuple[int, ...], Sequence[int]]


@dataclass(frozen=True)
class TimeIndex:
    """Segments and boxes of one Result by time; build it with `of`.

    Attributes:
        segments: By start.
        starts: Start of each segment, in seconds.
        latest_ends: The latest end of each segment and those before it.
        times: Times of the frames looked at, ascending.
        frame_boxes: Boxes of each of these frames, in pixels of the upright source frame; empty
            for the whole frame.
        detections: What was found in each of these frames.
        tokens: The tokens that were computed of each of these frames, as `(region, grid, numbers)`
            of `core.result.Tokens`; None for all.
    """

    segments: Sequence[Segment]
    starts: Sequence[float]
    latest_ends: Sequence[float]
    times: Sequence[float]
    frame_boxes: Sequence[tuple[Box, ...]]
    detections: Sequence[Sequence[Detection]] = ()
    tokens: Sequence[FrameTokens | None] = ()

    @classmethod
    def of(cls, result: Result) -> TimeIndex:
        """Index a Result."""
        segments = segments_of(result)
        steps = result.trace.steps if result.trace else []
        # A glance at whole frames does not hide the patches that it chose.
        steps = [step for step in steps if step.part != "glance"] or steps
        frames = sorted(
            (frame for step in steps for frame in _frames(step)), key=lambda frame: frame[0]
        )
        found: dict[float, list[Detection]] = {}
        for one in result.detections:
            found.setdefault(one.time, []).append(one)
        if not frames:  # no trace was kept
            frames = [(time, (), None) for time in sorted(found)]
        return cls(
            segments=segments,
            starts=[segment.start for segment in segments],
            latest_ends=list(accumulate((segment.end for segment in segments), max)),
            times=[time for time, *_ in frames],
            frame_boxes=[boxes for _, boxes, _ in frames],
            detections=[found.get(time, ()) for time, *_ in frames] if found else (),
            tokens=[tokens for *_, tokens in frames],
        )

    def segment(self, seconds: float) -> Segment | None:
        """The segment shown at that time; of two that overlap, the one that began later.

        A segment contains its start, and its end only if nothing follows there.
        """
        ending = None
        place = bisect_right(self.starts, seconds) - 1
        while place >= 0 and self.latest_ends[place] >= seconds:
            segment = self.segments[place]
            if segment.end > seconds:
                return segment
            if segment.end == seconds and ending is None:
                ending = segment
            place -= 1
        return ending

    def boxes(self, seconds: float) -> tuple[Box, ...]:
        """The boxes of the last frame looked at by then, if that is at most a second ago."""
        place = self._last(seconds)
        return () if place is None else self.frame_boxes[place]

    def found(self, seconds: float) -> Sequence[Detection]:
        """What was detected in that frame, likewise."""
        place = self._last(seconds)
        return () if place is None or not self.detections else self.detections[place]

    def shown(self, seconds: float) -> FrameTokens | None:
        """The tokens that were computed of that frame, likewise; None for all."""
        place = self._last(seconds)
        return None if place is None or not self.tokens else self.tokens[place]

    def _last(self, seconds: float) -> int | None:
        # Times of frames in a file are rounded to its own clock.
        place = bisect_right(self.times, seconds + 1e-4) - 1
        return None if place < 0 or seconds - self.times[place] > _HOLD else place


def segments_of(result: Result) -> list[Segment]:
    """The segments by start."""
    return sorted(result.segments, key=lambda segment: (segment.start, segment.end))


def looks_of(result: Result) -> list[tuple[float, TraceStep]]:
    """The time of every frame looked at, ascending, with its step of the trace."""
    steps = result.trace.steps if result.trace else []
    found = [(time, step) for step in steps for time in step.frames]
    return sorted(found, key=lambda look: look[0])


def span_of(
    result: Result, segments: Sequence[Segment], looks: Sequence[tuple[float, TraceStep]]
) -> float:
    """Seconds that a timeline has to cover; 0 if nothing is known."""
    ends = [segment.end for segment in segments] + [time for time, _ in looks[-1:]]
    return max([0.0, result.duration or 0.0, *ends])


def _frames(step: TraceStep) -> list[tuple[float, tuple[Box, ...], FrameTokens | None]]:
    """The frames of a step with their boxes and tokens."""
    found, kept = step.tokens, None if step.tokens is None else step.tokens.kept
    if found is None or kept is None or len(kept) != len(step.frames):
        return [(time, boxes, None) for time, boxes in _boxes(step)]
    return [
        (time, boxes, (tuple(found.region), tuple(found.grid), numbers))
        for (time, boxes), numbers in zip(_boxes(step), kept, strict=True)
    ]


def _boxes(step: TraceStep) -> list[tuple[float, tuple[Box, ...]]]:
    """The frames of a step with their boxes."""
    boxes = [_box(box) for box in step.boxes]
    every = tuple(box for box in boxes if box)
    # Usually there is one box per frame; any other number belongs to every frame of the step.
    if len(boxes) != len(step.frames):
        return [(time, every) for time in step.frames]
    return [(time, (box,) if box else ()) for time, box in zip(step.frames, boxes, strict=True)]


def _box(values: Sequence[float]) -> Box | None:
    if len(values) != 4:
        return None
    x1, y1, x2, y2 = values
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
