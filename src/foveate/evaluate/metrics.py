"""Metrics, all as functions of weights on the samples.

A metric here is a `Statistic`: it takes weights (R, N) and gives R values. Weights of one give the
plain metric; the counts of a bootstrap resample give the metric of that resample. So an interval
is a few matrix products, and every metric is implemented once.

Metrics are named with their protocol, by `Protocol.name`, such as
`top1@video,views=1`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foveate.core import ConfigError

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Protocol:
    """The conditions under which a metric was measured.

    Attributes:
        level: Whether predictions are for whole videos or for single clips.
        views: Clips or crops whose scores were averaged into one prediction.
    """

    level: Literal["video", "clip"] = "video"
    views: int = 1

    def name(self, metric: str, **settings: float) -> str:
        """The metric's full name.

        >>> Protocol("video", 1).name("f1", tiou=0.5)
        'f1@video,views=1,tiou=0.5'
        """
        more = "".join(f",{key}={value:g}" for key, value in settings.items())
        return f"{metric}@{self.level},views={self.views}{more}"


def short_name(name: str) -> str:
    """The metric as headlines name it, without its protocol.

    >>> short_name("top1@video,views=1")
    'top-1'
    """
    metric = name.partition("@")[0]
    return {"top1": "top-1", "top5": "top-5", "map": "mAP", "map50": "mAP50"}.get(metric, metric)


def value_of(statistic: Statistic, samples: int) -> float:
    """The plain value: every sample counts once."""
    return float(statistic(np.ones((1, samples)))[0])


def known(value: float) -> float | None:
    """The value, or None if it is NaN."""
    return None if np.isnan(value) else float(value)


def hits(scores: NDArray[Any], labels: NDArray[Any], k: int = 1) -> Floats:
    """Whether the right class is among the k best, (N,) of 0 and 1.

    Args:
        scores: (N, classes), higher is better. Of equal scores the lower index goes first.
        labels: (N,) right class.
        k: How many classes count as predicted.
    """
    _check(scores, labels)
    right = np.take_along_axis(scores, labels[:, None], 1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    before = (scores > right) | ((scores == right) & earlier)
    found: Floats = (before.sum(1) < k).astype(np.float64)
    return found


def mean(values: NDArray[Any]) -> Statistic:
    """Weighted mean of (N,) values; over `hits` it is the accuracy."""
    return lambda weights: ratio(weights @ values, weights.sum(1))


def mean_class_accuracy(correct: NDArray[Any], labels: NDArray[Any]) -> Statistic:
    """Mean over classes of the accuracy within the class; absent classes do not count.

    Args:
        correct: (N,) of 0 and 1.
        labels: (N,) right class.
    """
    member = labels[:, None] == np.unique(labels)[None, :]

    def statistic(weights: Floats) -> Floats:
        return nanmean(ratio(weights @ (member * correct[:, None]), weights @ member))

    return statistic


def average_precision(scores: NDArray[Any], truth: NDArray[Any]) -> Statistic:
    """Area under the precision-recall steps of one class, without interpolation.

    Args:
        scores: (N,), higher is more confident. Equal scores are ranked together.
        truth: (N,) of 0 and 1.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    positive = truth[order].astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        ordered = weights[:, order]
        seen = ordered.cumsum(1)[:, ends]
        found = (ordered * positive).cumsum(1)[:, ends]
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        gained = np.diff(found, axis=1, prepend=0.0)
        return ratio((gained * precision).sum(1), found[:, -1])

    return statistic


def mean_average_precision(scores: NDArray[Any], truth: NDArray[Any]) -> Statistic:
    """Mean over classes of `average_precision`; classes without a positive do not count.

    Args:
        scores: (N, classes).
        truth: (N, classes) of 0 and 1; several classes may hold at once.
    """
    if scores.shape != truth.shape or not len(scores):
        raise ConfigError(f"scores {scores.shape} and truth {truth.shape} do not belong together")
    parts = [average_precision(scores[:, c], truth[:, c]) for c in range(scores.shape[1])]
    return lambda weights: nanmean(np.stack([part(weights) for part in parts], 1))


def confusion_matrix(
    labels: NDArray[Any], predicted: NDArray[Any], classes: int
) -> NDArray[np.int64]:
    """Counts (classes, classes): row is the right class, column the predicted one."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def calibration_error(confidence: NDArray[Any], correct: NDArray[Any], bins: int = 15) -> Statistic:
    """Expected calibration error with bins of equal width.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        confidence: (N,) probability of the predicted class.
        correct: (N,) of 0 and 1.
        bins: How many; bin b holds (b / bins, (b + 1) / bins].
    """
    member = _bin_of(confidence, bins)[:, None] == np.arange(bins)
    surplus = member * (correct - confidence)[:, None]
    return lambda weights: ratio(np.abs(weights @ surplus).sum(1), weights.sum(1))


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability plot: its borders, samples, mean confidence and accuracy."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def reliability(confidence: NDArray[Any], correct: NDArray[Any], bins: int = 15) -> list[Bin]:
    """The bins behind `calibration_error`, the empty ones too."""
    member = _bin_of(confidence, bins)
    found = []
    for b in range(bins):
        inside = member == b
        n = int(inside.sum())
        means = (
            (float(confidence[inside].mean()), float(correct[inside].mean())) if n else (None,) * 2
        )
        found.append(Bin(b / bins, (b + 1) / bins, n, *means))
    return found


Stretch = tuple[float, float, str]
"""Start and end in seconds, and a label."""


def match_segments(
    truth: Sequence[Stretch], predicted: Sequence[Stretch], tiou: float
) -> tuple[int, int, int]:
    """True positives, false positives and misses of one video's timeline.

    Predictions are taken in order of time; each takes the right segment of its label that it
    overlaps best, if it overlaps it by `tiou` and it is not yet matched.

    Source: Lea et al., "Temporal Convolutional Networks for Action Segmentation and Detection",
    CVPR 2017, section 4.
    """
    taken: set[int] = set()
    false = 0
    for start, end, label in sorted(predicted):
        overlaps = [
            (tiou_of((start, end), (s, e)), -i)
            for i, (s, e, name) in enumerate(truth)
            if name == label
        ]
        best, index = max(overlaps, default=(0.0, 0))
        if best >= tiou and -index not in taken and best > 0:
            taken.add(-index)
        else:
            false += 1
    return len(taken), false, len(truth) - len(taken)


def segment_f1(counts: NDArray[Any]) -> Statistic:
    """F1 over videos from their (N, 3) counts of `match_segments`, summed before dividing."""

    def statistic(weights: Floats) -> Floats:
        right, false, missed = (weights @ counts).T
        return ratio(2 * right, 2 * right + false + missed)

    return statistic


def tiou_of(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Temporal intersection over union of two segments, (start, end) each."""
    inside = min(a[1], b[1]) - max(a[0], b[0])
    union = max(a[1], b[1]) - min(a[0], b[0])
    return max(0.0, inside) / union if union > 0 else 0.0


def _bin_of(confidence: NDArray[Any], bins: int) -> NDArray[np.int64]:
    member: NDArray[np.int64] = np.clip(
        np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1
    )
    return member


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Quotients; NaN where the divisor is zero."""
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    quotient: Floats = np.divide(part, whole, out=out, where=whole > 0)
    return quotient


def nanmean(values: Floats) -> Floats:
    """Mean of each row over the values that are not NaN; NaN for a row without any."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(1), known.sum(1))


def _check(scores: NDArray[Any], labels: NDArray[Any]) -> None:
    if scores.ndim != 2 or len(scores) != len(labels) or not len(labels):
        raise ConfigError(f"scores {scores.shape} and labels {labels.shape} do not belong together")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ConfigError(f"a label is outside the {scores.shape[1]} classes that have scores")
