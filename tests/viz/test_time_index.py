"""The right segment and the right boxes at a time, on both sides of every border."""

from __future__ import annotations

import pytest
from made_up import segment

from foveate.core import Result, Trace, TraceStep
from foveate.viz.time_index import TimeIndex


def index(*segments: object, steps: list[TraceStep] | None = None) -> TimeIndex:
    trace = Trace(size=[100, 100], steps=steps) if steps else None
    return TimeIndex.of(Result(source="a", model="m", segments=list(segments), trace=trace))


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(-0.1, None), (0, "a"), (1.999, "a"), (2.0, "b"), (4.0, "b"), (4.001, None), (6, "c")],
)
def test_a_segment_holds_its_start_and_the_last_one_its_end(
    seconds: float, label: str | None
) -> None:
    found = index(segment(2, 4, "b"), segment(0, 2, "a"), segment(6, 6, "c")).segment(seconds)
    assert (found.label if found else None) == label


def test_the_later_of_two_overlapping_segments_is_shown_and_the_longer_comes_back() -> None:
    both = index(segment(0, 10, "long"), segment(2, 3, "short"), segment(4, 5, "other"))
    shown = [found.label for t in (1, 2.5, 3.5, 4.5, 9) if (found := both.segment(t))]
    assert shown == ["long", "short", "long", "other", "long"]


def test_each_frame_has_its_own_box() -> None:
    step = TraceStep(time=0.5, frames=[0.0, 0.5], boxes=[[0, 0, 10, 10], [20, 20, 30, 30]])
    found = index(steps=[step])
    assert found.boxes(-0.1) == ()
    assert found.boxes(0.0) == found.boxes(0.49) == ((0, 0, 10, 10),)
    assert found.boxes(0.5) == ((20, 20, 30, 30),)


def test_a_box_is_not_held_for_long() -> None:
    found = index(steps=[TraceStep(time=0, frames=[0.0], boxes=[[0, 0, 10, 10]])])
    assert found.boxes(1.0)
    assert not found.boxes(1.01)


def test_boxes_that_do_not_pair_with_frames_belong_to_all_of_them() -> None:
    boxes = [[0, 0, 1, 1], [5, 5, 4, 4], [1, 2, 3], [2, 2, 9, 9]]
    found = index(steps=[TraceStep(time=1, frames=[0.0, 1.0], boxes=boxes)])
    assert found.boxes(0.5) == found.boxes(1.0) == ((0, 0, 1, 1), (2, 2, 9, 9))
