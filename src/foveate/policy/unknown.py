"""Whether footage is like what a model was trained on: distances of its features, and a limit.

A softmax always names one of the classes, even for footage that shows none of them. The features
before the classifier tell more than the logits: with the mean and the standard deviation of each
channel over the training clips, the mean squared deviation (a Mahalanobis distance with a diagonal
covariance, after Lee et al., NeurIPS 2018, arXiv 1807.03888) is large for other footage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_QUANTILE = 2.33  # of the normal distribution: 1 % of clips of the classes
_LEAST = 1e-3  # of the mean standard deviation, for channels that hardly vary


@dataclass(frozen=True)
class Familiar:
    """What features of the training clips are like.

    Attributes:
        mean: (channels,) of the pooled features.
        spread: (channels,) standard deviations, positive.
        limit: Distance beyond which footage is unknown.
    """

    mean: Array
    spread: Array
    limit: float

    def distance(self, features: Array) -> Array:
        """Mean squared deviation, in standard deviations, of features (..., channels)."""
        deviation = (np.asarray(features, np.float64) - self.mean) / self.spread
        found: Array = (deviation**2).mean(-1)
        return found

    def unknown(self, features: Array) -> bool:
        """Whether one window's features (channels,) are beyond the limit."""
        return bool(self.distance(features) > self.limit)


def fit_familiar(training: Array, known: Array, others: Array) -> Familiar | None:
    """Fit the distance on training clips, and its limit on validation clips and others.

    The limit is what a normal distribution of the logarithm of the distance, fitted to the
    validation clips, exceeds for one clip in a hundred, with the margin that their number asks for.
    Where the other clips are further away than that it is halfway to them, so that clips of the
    classes from other cameras are not called unknown.

    Args:
        training: (N, channels) pooled features of training clips.
        known: (M, channels) of validation clips.
        others: (K, channels) of clips that show none of the classes; may be empty.

    Returns:
        None with fewer than two clips, or if known clips are further away than the others.
    """
    if len(training) < 2 or len(known) < 2:
        return None
    wide = np.asarray(training, np.float64)
    spread = wide.std(0)
    spread = np.maximum(spread, max(_LEAST * float(spread.mean()), 1e-12))
    found = Familiar(wide.mean(0), spread, np.inf)
    inside = np.log(np.maximum(found.distance(known), 1e-12))
    limit = inside.mean() + _QUANTILE * inside.std(ddof=1) * np.sqrt(1 + 1 / len(inside))
    if len(others):
        outside = np.log(np.maximum(found.distance(others), 1e-12))
        if roc_area(outside, inside) < 0.5:
            return None
        limit = max(limit, (limit + np.quantile(outside, 0.05)) / 2)
    return Familiar(found.mean, spread, float(np.exp(limit)))


def roc_area(high: Any, low: Any) -> float:
    """Area under the ROC curve: how often a value of the first is higher, ties count half."""
    x, y = np.asarray(high)[:, None], np.asarray(low)[None, :]
    return float((x > y).mean() + 0.5 * (x == y).mean())
