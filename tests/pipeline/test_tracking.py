"""Tracks: one number per object, through gaps, crossings and cuts."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.core import Detections
from foveate.pipeline.tracking import Tracker, overlap

RATE = 25.0


def frame(number: float, *boxes: tuple[float, ...], labels: list[int] | None = None) -> Detections:
    """A frame with boxes (x, y, side)."""
    corners = np.array([(x, y, x + side, y + side) for x, y, side in boxes]).reshape(-1, 4)
    classes = np.array(labels if labels is not None else [0] * len(boxes), int)
    return Detections(number / RATE, corners, np.full(len(boxes), 0.9), classes)


def test_overlap() -> None:
    a, b = (
        np.array([[0, 0, 10, 10.0]]),
        np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 9.0]]),
    )
    assert overlap(a, b) == pytest.approx(np.array([[1, 1 / 3, 0]]))
    assert overlap(a, b[:0]).shape == (1, 0)
    assert overlap(np.array([[5, 5, 5, 5.0]]), b).max() == 0


def test_two_objects_that_cross_keep_their_numbers() -> None:
    tracker = Tracker()
    seen = []
    for n in range(40):  # one to the right, the other to the left and a little lower
        boxes = [(4.0 * n, 0, 30), (156 - 4.0 * n, 14, 30)]
        order = [0, 1] if n % 3 else [1, 0]
        tracks = tracker(frame(n, *(boxes[i] for i in order))).tracks
        seen.append([int(tracks[order.index(i)]) for i in (0, 1)])
    assert len({tuple(pair) for pair in seen}) == 1
    assert set(seen[0]) == {1, 2}


def test_a_gap_is_bridged_by_the_speed_and_a_long_one_is_not() -> None:
    tracker = Tracker()
    for n in range(10):
        tracker(frame(n, (6.0 * n, 0, 20)))
    for n in range(10, 16):
        assert len(tracker(frame(n)).tracks) == 0
    # 36 pixels on: it does not overlap with where it was seen last.
    assert tracker(frame(16, (96.0, 0, 20))).tracks.tolist() == [1]
    assert tracker(frame(60, (96.0 + 6 * 44, 0, 20))).tracks.tolist() == [2]


def test_classes_are_not_mixed_and_a_cut_ends_all() -> None:
    tracker = Tracker()
    assert tracker(frame(0, (0, 0, 20), (50, 0, 20), labels=[0, 1])).tracks.tolist() == [1, 2]
    assert tracker(frame(1, (0, 0, 20), (50, 0, 20), labels=[1, 1])).tracks.tolist() == [3, 2]
    tracker.restart()
    assert tracker(frame(2, (0, 0, 20), labels=[1])).tracks.tolist() == [4]


def test_frames_far_apart_are_followed_too() -> None:
    """As between key frames only, where boxes were not moved."""
    tracker = Tracker()
    found = [tracker(frame(10 * n, (8.0 * n, 3, 40))).tracks.tolist() for n in range(8)]
    assert found == [[1]] * 8
