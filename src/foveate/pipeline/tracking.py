"""Tracks: which box of a frame is the same object as a box of the frames before.

Boxes of one class are matched by their overlap with where a Kalman filter expects the tracks, as in
SORT (Bewley et al., arXiv 1602.00763), the largest overlap first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foveate.core import Detections

Array = np.ndarray[Any, Any]
OVERLAP = 0.3  # intersection over union from which a box may belong to a track
MEMORY = 1.0  # seconds for which a track without a box is kept
# Standard deviations, of the mean side of the box: of a measured edge, of the first speed (per
# second), and of the acceleration (per second squared).
MEASURED, SPEED, ACCELERATION = 0.05, 1.0, 3.0


@dataclass
class _Track:
    """Middle and size of a box with their speeds, one filter for each of the four.

    Attributes:
        number: Of the track.
        label: Class of the object.
        time: Seconds of the state.
        seen: Seconds of the last box.
        mean: (4, 2) values of (x, y, width, height), and their speeds.
        cov: (4, 2, 2).
    """

    number: int
    label: int
    time: float
    seen: float
    mean: Array
    cov: Array

    @property
    def scale(self) -> float:
        return float(max(self.mean[2:, 0].mean(), 1.0))

    def predict(self, time: float) -> None:
        """Move the state to a time."""
        step = max(0.0, time - self.time)
        move = np.array([[1.0, step], [0.0, 1.0]])
        noise = np.outer([step**2 / 2, step], [step**2 / 2, step])
        self.mean = self.mean @ move.T
        self.cov = move @ self.cov @ move.T + noise * (ACCELERATION * self.scale) ** 2
        self.time = time

    def update(self, values: Array) -> None:
        """Correct the state by a box (x, y, width, height)."""
        spread = self.cov[:, 0, 0] + (MEASURED * self.scale) ** 2
        gain = self.cov[:, :, 0] / spread[:, None]
        self.mean = self.mean + gain * (values - self.mean[:, 0])[:, None]
        self.cov = self.cov - gain[:, :, None] * self.cov[:, None, 0, :]
        self.seen = self.time

    def box(self) -> Array:
        """(4,) xyxy where the object is expected."""
        middle, size = self.mean[:2, 0], np.maximum(self.mean[2:, 0], 1.0)
        return np.concatenate([middle - size / 2, middle + size / 2])


class Tracker:
    """Numbers the objects of one source; frames are given in order of time."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 1

    def restart(self) -> None:
        """Forget all objects, as after a scene cut; numbers are not given again."""
        self._tracks.clear()

    def __call__(self, frame: Detections) -> Detections:
        """The frame with a track number for each box.

        Args:
            frame: Boxes of a frame; its own `tracks` are replaced.
        """
        self._tracks = [one for one in self._tracks if frame.time - one.seen <= MEMORY]
        for track in self._tracks:
            track.predict(frame.time)
        boxes = np.asarray(frame.boxes, np.float64).reshape(-1, 4)
        values = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        numbers = np.zeros(len(boxes), np.int64)
        taken: set[int] = set()
        expected = np.array([track.box() for track in self._tracks]).reshape(-1, 4)
        overlaps = overlap(boxes, expected)
        for at in np.argsort(-overlaps, axis=None, kind="stable"):
            row, column = divmod(int(at), max(len(expected), 1))
            if overlaps[row, column] < OVERLAP:
                break
            track = self._tracks[column]
            if numbers[row] or column in taken or track.label != int(frame.labels[row]):
                continue
            taken.add(column)
            numbers[row] = track.number
            track.update(values[row])
        for row in np.flatnonzero(numbers == 0).tolist():
            numbers[row] = self._next
            self._begin(int(frame.labels[row]), frame.time, values[row])
        return replace(frame, tracks=numbers)

    def _begin(self, label: int, time: float, values: Array) -> None:
        scale = max(values[2:].mean(), 1.0)
        cov = np.tile(np.diag([(MEASURED * scale) ** 2, (SPEED * scale) ** 2]), (4, 1, 1))
        mean = np.stack([values, np.zeros(4)], 1)
        self._tracks.append(_Track(self._next, label, time, time, mean, cov))
        self._next += 1


def overlap(a: Array, b: Array) -> Array:
    """Intersection over union (n, m) of boxes (n, 4) and (m, 4), xyxy."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(one[:, 2:] - one[:, :2], 0, None).prod(-1) for one in (a, b)]
    return np.asarray(common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9))
