"""From the evidence of a source to its answer: one reducer per task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from foveate.core import Detections, Evidence, ModelError, Score, Segment
from foveate.core.result import Detection
from foveate.pipeline.tracking import Tracker
from foveate.policy.stopping import probabilities
from foveate.policy.unknown import Familiar

NONE, UNKNOWN = "none", "unknown"
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Naming:
    """How scores become labels.

    Attributes:
        labels: Name of every class.
        top_k: How many labels are given.
        none_below: Segments that score lower are `none`.
        familiar: What the training clips are like; other windows are `unknown`. None for never.
    """

    labels: Sequence[str]
    top_k: int = 5
    none_below: float = 0.2
    familiar: Familiar | None = None

    def unknown(self, window: WindowScores) -> bool:
        """Whether a window is like nothing that the model was trained on."""
        features = window.features
        return (
            self.familiar is not None and features is not None and self.familiar.unknown(features)
        )


class Reducer(Protocol):
    """Collects the model's evidence of one source."""

    def take(self, evidence: Evidence) -> None:
        """Take the answer for the window so far, or new detections."""

    def hold(self, times: Sequence[float]) -> None:
        """Repeat the last answer at these times."""

    def close(self, start: float, end: float, joins: bool = False) -> None:
        """A window is over; the last answer is its answer.

        Args:
            start: Seconds.
            end: Seconds.
            joins: It is too short to be answered alone and follows the window before it.
        """

    def cut(self) -> None:
        """A scene cut: what follows shows something else."""

    def fields(self, naming: Naming, end: float | None) -> dict[str, Any]:
        """Fields of the `Result` of the whole source, whose end is known or not."""

    def step(
        self, naming: Naming, span: tuple[float, float], joins: bool = False
    ) -> dict[str, Any]:
        """Fields of the `Result` of a stream's step; what is over is forgotten.

        Args:
            naming: How scores become labels.
            span: Start of the window, and how far it was seen.
            joins: As for `close`.
        """


@dataclass(frozen=True)
class WindowScores:
    """The decision on a window: scores (classes,) in 0..1, between two times.

    `exit` is the name of the exit that decided, `features` are (channels,), where there are some.
    """

    start: float
    end: float
    scores: Scores
    exit: str | None = None
    features: Scores | None = None


class ClassReducer:
    """Scores of windows to the labels and segments of a video.

    Args:
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
        classes: Number of scores that an answer must have; None accepts any.

    Attributes:
        windows: The windows that are over; a short one is part of the one before it.
        current: (classes,) scores of the last answer.
        exit: Name of the exit that gave it.
        features: (channels,) that it was given for; None if the network has none.
        answer: The last answer for a window, or for it and the one before it.
    """

    def __init__(self, output: str = "softmax", classes: int | None = None) -> None:
        self.output, self.classes = output, classes
        self.windows: list[WindowScores] = []
        self.current: Scores | None = None
        self.exit: str | None = None
        self.features: Scores | None = None
        self._before: WindowScores | None = None  # the answer for the window before this one
        self._start = 0.0  # of the window of the last answer
        self.answer: WindowScores | None = None

    def take(self, evidence: Evidence) -> None:
        """The scores of the last exit."""
        if evidence.logits:
            self.exit = evidence.exit
            self.current = probabilities(evidence.logits[self.exit], self.output)
            if self.classes is not None and self.current.shape != (self.classes,):
                raise ModelError(
                    f"the network gives scores of shape {self.current.shape} for "
                    f"{self.classes} labels",
                    "give one label per output",
                )
            if not np.isfinite(self.current).all():
                raise ModelError("the scores of the network are not finite")
            found = evidence.features
            self.features = None if found is None else found.reshape(-1, found.shape[-1]).mean(0)

    def hold(self, times: Sequence[float]) -> None:
        """The scores stay as they are."""

    def close(self, start: float, end: float, joins: bool = False) -> None:
        """Keep the scores for the window, or for it and the one before it."""
        if self.current is None:
            return
        window = self._answer(start, end, joins)
        if joins and self.windows:
            self.windows.pop()
        self.windows.append(window)

    def cut(self) -> None:
        """Windows are answered one by one."""

    def _answer(self, start: float, end: float, joins: bool) -> WindowScores:
        """The last answer for a window, or for it and the one before it."""
        assert self.current is not None
        if self.answer is not None and self._start != start:
            self._before = self.answer
        window = WindowScores(start, end, self.current, self.exit, self.features)
        if joins and self._before is not None:
            window = joined(self._before, window)
        self._start, self.answer = start, window
        return window

    def fields(self, naming: Naming, end: float | None) -> dict[str, Any]:
        """Labels, segments and how many windows each exit decided."""
        if not self.windows:
            return {}
        return {
            "labels": top(clip_scores(self.windows, end), naming.labels, naming.top_k),
            "segments": segments(self.windows, naming, end),
            "unknown": unknown(self.windows, naming, end),
            "exits": exits(self.windows),
        }

    def step(
        self, naming: Naming, span: tuple[float, float], joins: bool = False
    ) -> dict[str, Any]:
        """The scores of now; exits only of windows that are over."""
        decided = exits(self.windows)
        self.windows.clear()
        if self.current is None:
            return {}
        now = self._answer(*span, joins)
        return {
            "labels": top(now.scores, naming.labels, naming.top_k),
            "segments": segments([now], naming, None),
            "unknown": unknown([now], naming, None),
            "exits": decided,
        }


class DetectionReducer:
    """Detections of frames, as they come.

    Args:
        classes: Number of classes that labels are indices of; None accepts any.
        track: Whether objects are numbered over time.

    Attributes:
        frames: What was found, frame after frame.
    """

    def __init__(self, classes: int | None = None, track: bool = False) -> None:
        self.classes = classes
        self.frames: list[Detections] = []
        self._tracker = Tracker() if track else None
        self._last: Detections | None = None
        self._end = 0.0  # of the last window
        self._cuts: list[float] = []

    def take(self, evidence: Evidence) -> None:
        """The detections of further frames.

        Raises:
            ModelError: Numbers that do not belong together, are not finite or name no class.
        """
        for frame in evidence.detections:
            _check_detections(frame, self.classes)
        self.frames += evidence.detections
        self._last = self.frames[-1] if self.frames else self._last

    def hold(self, times: Sequence[float]) -> None:
        """The boxes of the last frame, at other times."""
        if self._last is not None:
            self.frames += [replace(self._last, time=time) for time in times]

    def close(self, start: float, end: float, joins: bool = False) -> None:
        """Detections belong to frames, not to windows."""
        self._end = end

    def cut(self) -> None:
        """Tracks end where the last window did."""
        self._cuts.append(self._end)

    def fields(self, naming: Naming, end: float | None) -> dict[str, Any]:
        """All detections, and the best score of each class as labels."""
        found = [one for frame in self._in_order(end) for one in detections(frame, naming.labels)]
        best: dict[int, float] = {}
        for one in found:
            best[one.index] = max(one.score, best.get(one.index, 0.0))
        order = sorted(best, key=lambda index: -best[index])[: naming.top_k]
        labels = [Score(label=naming.labels[i], index=i, score=best[i]) for i in order]
        return {"task": "detect", "labels": labels, "detections": found}

    def _in_order(self, end: float | None) -> list[Detections]:
        """Frames in order of time, the later answer of two for one time, with tracks."""
        latest = {frame.time: frame for frame in self.frames if end is None or frame.time <= end}
        frames = [latest[time] for time in sorted(latest)]
        if self._tracker is None:
            return frames
        tracked = []
        for frame in frames:
            while self._cuts and self._cuts[0] <= frame.time:
                self._cuts.pop(0)
                self._tracker.restart()
            tracked.append(self._tracker(frame))
        return tracked

    def step(
        self, naming: Naming, span: tuple[float, float], joins: bool = False
    ) -> dict[str, Any]:
        """The detections since the last step."""
        found = self.fields(naming, None)
        self.frames.clear()
        return found


def _check_detections(frame: Detections, classes: int | None) -> None:
    boxes, scores = np.asarray(frame.boxes, np.float64), np.asarray(frame.scores, np.float64)
    labels = np.asarray(frame.labels)
    count = len(scores)
    if boxes.reshape(-1, 4).shape != (count, 4) or len(labels) != count:
        raise ModelError(f"{boxes.shape} boxes, {count} scores and {len(labels)} labels of a frame")
    if frame.tracks is not None and len(frame.tracks) != count:
        raise ModelError(f"{len(frame.tracks)} tracks for {count} boxes")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ModelError("boxes or scores of the network are not finite")
    if count and (labels.min() < 0 or (classes is not None and labels.max() >= classes)):
        raise ModelError(f"a detection of class {labels.max()}, and there are {classes} labels")
    if count and (scores.min() < 0 or scores.max() > 1):
        raise ModelError("scores of detections must be in 0..1")
    if count and (boxes[:, 2:] < boxes[:, :2]).any():
        raise ModelError("a detected box is turned inside out")


def detections(frame: Detections, labels: Sequence[str]) -> list[Detection]:
    """The boxes of a frame as plain values."""
    tracks = [None] * len(frame.boxes) if frame.tracks is None else frame.tracks
    return [
        Detection(
            time=frame.time,
            box=[float(value) for value in box],
            label=labels[int(index)],
            index=int(index),
            score=float(score),
            track=None if track is None else int(track),
        )
        for box, index, score, track in zip(
            frame.boxes, frame.labels, frame.scores, tracks, strict=True
        )
    ]


def top(scores: Scores, labels: Sequence[str], count: int) -> list[Score]:
    """The best `count` labels.

    Args:
        scores: (classes,) in 0..1.
        labels: One per class.
        count: How many.
    """
    order = np.argsort(-scores, kind="stable")[:count]
    return [Score(label=labels[i], index=int(i), score=float(scores[i])) for i in order]


def segments(windows: Sequence[WindowScores], naming: Naming, end: float | None) -> list[Segment]:
    """Runs of windows with the same label.

    That is the best one; `unknown` where the window is like nothing that the model was trained on,
    `none` where the best score is too low.

    Args:
        windows: In order of time.
        naming: Labels and thresholds.
        end: The video's end; no segment reaches beyond it.

    Returns:
        Segments in order of time; the score is the mean over the windows of the run, weighted by
        their length.
    """
    runs: list[list[tuple[float, float, int | str, float]]] = []
    for window in windows:
        best = int(window.scores.argmax())
        score = float(window.scores[best])
        label: int | str = best if score >= naming.none_below else NONE
        if naming.unknown(window):
            label = UNKNOWN
        until = window.end if end is None else max(window.start, min(window.end, end))
        item = (window.start, until, label, score)
        touches = runs and runs[-1][-1][2] == item[2] and item[0] - runs[-1][-1][1] < 1e-3
        if touches:
            runs[-1].append(item)
        else:
            runs.append([item])
    return [_segment(run, naming.labels) for run in runs]


def _segment(run: list[tuple[float, float, int | str, float]], labels: Sequence[str]) -> Segment:
    label = run[0][2]
    weights = [max(end - start, 1e-6) for start, end, _, _ in run]
    score = sum(w * item[3] for w, item in zip(weights, run, strict=True)) / sum(weights)
    return Segment(
        start=run[0][0],
        end=run[-1][1],
        label=label if isinstance(label, str) else labels[label],
        index=None if isinstance(label, str) else label,
        score=score,
    )


def unknown(windows: Sequence[WindowScores], naming: Naming, end: float | None) -> bool | None:
    """Whether more than half of the seconds is unknown; None if the model cannot say."""
    if naming.familiar is None or all(window.features is None for window in windows):
        return None
    parts = {True: 0.0, False: 0.0}
    for window in windows:
        until = window.end if end is None else min(window.end, end)
        parts[naming.unknown(window)] += max(until - window.start, 1e-6)
    return parts[True] > parts[False]


def joined(first: WindowScores, second: WindowScores) -> WindowScores:
    """Two windows as one: the mean of their scores, weighted by their seconds.

    Exit and features are those of the first, which is whole.
    """
    scores = clip_scores([first, second])
    return WindowScores(first.start, second.end, scores, first.exit, first.features)


def clip_scores(windows: Sequence[WindowScores], end: float | None = None) -> Scores:
    """The clip's scores: the mean over its windows, weighted by their seconds, (classes,).

    A last window of one frame, behind a clip that is a little longer than the model's, must not
    count as much as the clip.

    Args:
        windows: In order of time.
        end: The video's end; no window counts beyond it.
    """
    until = [window.end if end is None else min(window.end, end) for window in windows]
    seconds = [max(e - window.start, 1e-6) for e, window in zip(until, windows, strict=True)]
    mean = np.average([window.scores for window in windows], axis=0, weights=seconds)
    return np.asarray(mean, np.float32)


def exits(windows: Sequence[WindowScores]) -> dict[str, int]:
    """How many windows each exit decided, in the order in which they first did."""
    return dict(Counter(window.exit for window in windows if window.exit is not None))
