"""Temporal localisation: average precision of scored segments at thresholds of temporal IoU.

Detections are matched within their video, so that a resample of videos needs no new matching: each
metric is a function of weights on the videos, as all metrics of `evaluate.metrics`.

Source: Caba Heilbron et al., "ActivityNet: A Large-Scale Video Benchmark for Human Activity
Understanding", CVPR 2015, and its evaluation code (`eval_detection.py`): interpolated precision;
detections in order of their score; each takes the unmatched segment of its label that it overlaps
best, if by the threshold; all others, duplicates among them, are false positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.core import ConfigError
from foveate.data.timelines import Timelines
from foveate.evaluate.metrics import (
    Floats,
    Statistic,
    Stretch,
    known,
    nanmean,
    ratio,
    tiou_of,
    value_of,
)

THUMOS = tuple(round(0.3 + 0.1 * i, 2) for i in range(5))  # .3 to .7
ACTIVITYNET = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # .5 to .95
AVERAGES = {"tiou=0.3:0.1:0.7": THUMOS, "tiou=0.5:0.05:0.95": ACTIVITYNET}

Scored = tuple[float, float, str, float]
"""Start and end in seconds, a label, and a score (higher is more confident)."""


@dataclass(frozen=True)
class Localisation:
    """True and predicted segments of N videos.

    Args:
        truth: Of each video its true segments.
        predicted: Of each video its predicted segments, in any order.
        labels: The classes; None for those of the true segments, sorted. Predictions of other
            labels are ignored, as are those of classes without a true segment.

    Raises:
        ConfigError: Another number of videos, or a segment that does not end after its start.
    """

    truth: Sequence[Sequence[Stretch]]
    predicted: Sequence[Sequence[Scored]]
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if len(self.truth) != len(self.predicted):
            raise ConfigError(
                f"{len(self.truth)} true and {len(self.predicted)} predicted timelines"
            )
        spans = [one for rows in self.truth for one in rows]
        spans += [one[:3] for rows in self.predicted for one in rows]
        for start, end, label in spans:
            if not start < end:
                raise ConfigError(f"the segment {start:g} to {end:g} s of {label!r} is empty")

    @property
    def classes(self) -> list[str]:
        """The classes, whether or not they have true segments."""
        if self.labels is not None:
            return list(self.labels)
        return sorted({label for rows in self.truth for _, _, label in rows})

    def count(self, label: str) -> int:
        """How many true segments a class has."""
        return sum(name == label for rows in self.truth for _, _, name in rows)

    def average_precision(self, label: str, tious: Sequence[float]) -> Statistic:
        """Average precision of one class, averaged over thresholds; NaN without true segments."""
        scores, videos, overlaps = [], [], []
        positives = np.zeros(len(self.truth))
        for i, (true, said) in enumerate(zip(self.truth, self.predicted, strict=True)):
            spans = [(start, end) for start, end, name in true if name == label]
            ours = sorted((s for s in said if s[2] == label), key=lambda s: -s[3])
            positives[i] = len(spans)
            right = np.array([_matched(spans, ours, tiou) for tiou in tious])
            overlaps.append(right.reshape(len(tious), len(ours)))
            scores += [one[3] for one in ours]
            videos += [i] * len(ours)
        right = np.concatenate(overlaps, axis=1) if overlaps else np.zeros((len(tious), 0))
        parts = [_interpolated(np.array(scores), row, np.array(videos, int), positives)
                 for row in right]  # fmt: skip
        return lambda weights: np.mean([part(weights) for part in parts], axis=0)

    def mean_average_precision(self, tious: Sequence[float]) -> Statistic:
        """Mean over the classes that have true segments."""
        parts = [self.average_precision(label, tious) for label in self.classes]
        return lambda weights: nanmean(np.stack([part(weights) for part in parts], 1))

    def statistics(self) -> dict[str, Statistic]:
        """mAP at each threshold of .3 to .7, and both averages, by settings of their names."""
        one = {f"tiou={tiou:g}": self.mean_average_precision([tiou]) for tiou in THUMOS}
        return {**one, **{k: self.mean_average_precision(v) for k, v in AVERAGES.items()}}

    def by_class(self) -> list[dict[str, Any]]:
        """Label, true segments and average precisions (named as in `statistics`) of each class."""
        rows = {**{f"tiou={tiou:g}": (tiou,) for tiou in THUMOS}, **AVERAGES}
        return [
            {
                "label": label,
                "segments": self.count(label),
                "average_precision": {
                    name: known(value_of(self.average_precision(label, tious), len(self.truth)))
                    for name, tious in rows.items()
                },
            }
            for label in self.classes
        ]


def localisation_of(
    truth: Timelines, predicted: Timelines, labels: Sequence[str] | None = None
) -> Localisation:
    """Predicted timelines against true ones, such as those of `data.read_timelines`.

    Videos are matched by name, or else by name without folders, suffix and ActivityNet's `v_`.
    A video without a prediction has none; predictions of other videos are an error.

    Args:
        truth: Segments by video.
        predicted: Segments with scores by video.
        labels: As for `Localisation`.

    Raises:
        ConfigError: A predicted video that is not among the true ones, or a segment without score.
    """
    names = {**{_key(name): name for name in truth}, **{name: name for name in truth}}
    said: dict[str, list[Scored]] = {name: [] for name in truth}
    for name, line in predicted.items():
        ours = names.get(name, names.get(_key(name)))
        if ours is None:
            raise ConfigError(f"no true segments of the predicted video {name!r}")
        for one in line.segments:
            if one.score is None:
                raise ConfigError(f"{name}: a predicted segment without a score")
            said[ours].append((one.start, one.end, one.label, one.score))
    return Localisation(
        [[(one.start, one.end, one.label) for one in line.segments] for line in truth.values()],
        list(said.values()),
        labels,
    )


def _key(name: str) -> str:
    return PurePosixPath(name).stem.removeprefix("v_")


def _matched(
    truth: Sequence[tuple[float, float]], said: Sequence[Scored], tiou: float
) -> list[float]:
    """Whether each detection, best score first, is a true positive: 1 or 0."""
    taken: set[int] = set()
    out = []
    for start, end, *_ in said:
        free = [(tiou_of((start, end), span), -i) for i, span in enumerate(truth) if i not in taken]
        best, index = max(free, default=(0.0, 0))
        # Times such as .1 + .2 are not exact; an overlap of exactly the threshold counts.
        right = best >= tiou - 1e-9 and best > 0
        if right:
            taken.add(-index)
        out.append(float(right))
    return out


def _interpolated(
    scores: Floats, right: Floats, video: NDArray[np.int64], positives: Floats
) -> Statistic:
    """Area under the interpolated precision-recall curve of detections.

    Args:
        scores: (D,) of the detections; equal scores are ranked together.
        right: (D,) of 0 and 1.
        video: (D,) index of the video of each.
        positives: (N,) true segments of each video.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, correct, where = scores[order], right[order], video[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(order) else order

    def statistic(weights: Floats) -> Floats:
        total = weights @ positives
        if not len(order):
            return np.where(total > 0, 0.0, np.nan)
        each = weights[:, where]
        seen, found = each.cumsum(1)[:, ends], (each * correct).cumsum(1)[:, ends]
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        gained = np.diff(found, axis=1, prepend=0.0)
        return ratio((gained * best).sum(1), total)

    return statistic
