"""Whether footage is like what a model was trained on: a score of its logits, and its threshold.

A softmax always names one of the classes, even for footage that shows none of them. The energy of
the logits (Liu et al., NeurIPS 2020, arXiv 2010.03759) is low where none of them fits; below a
threshold a window is `unknown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ALARMS = 0.05  # share of clips of the classes that may be called unknown
_USELESS = 0.7  # area under the ROC curve below which the energy does not tell clips apart


def energy(logits: Any) -> Any:
    """Negative free energy of logits (..., classes): the logarithm of the sum of exponentials."""
    wide = np.asarray(logits, np.float64)
    most = wide.max(-1, keepdims=True)
    return (np.log(np.exp(wide - most).sum(-1)) + most[..., 0])[()]


def fit_threshold(known: Sequence[float], others: Sequence[float]) -> float | None:
    """The energy below which a clip is called unknown.

    It is at most the quantile of `ALARMS` of the known clips, with a margin for their number: the
    order statistic of conformal prediction, which of fewer than 19 clips is their minimum or what a
    normal distribution expects below it. Where all other clips are far below, it is halfway to
    them, so that clips of the classes from other cameras are not called unknown.

    Args:
        known: Energies of validation clips.
        others: Energies of generated clips that show none of the classes.

    Returns:
        None with fewer than two known clips, or if the energies do not tell the two apart.
    """
    x, y = np.sort(np.asarray(known, np.float64)), np.asarray(others, np.float64)
    if len(x) < 2 or (len(y) and roc_area(x, y) < _USELESS):
        return None
    rank = int(ALARMS * (len(x) + 1))
    low = float(x[rank - 1]) if rank else min(float(x[0]), _normal_quantile(x))
    nearest = float(np.quantile(y, 1 - ALARMS)) if len(y) else low
    return (low + nearest) / 2 if nearest < low else low


def roc_area(known: Any, others: Any) -> float:
    """Area under the ROC curve: how often a known clip has the higher score, ties count half."""
    x, y = np.asarray(known)[:, None], np.asarray(others)[None, :]
    return float((x > y).mean() + 0.5 * (x == y).mean())


def _normal_quantile(x: Any) -> float:
    """The quantile of `ALARMS` that a normal distribution fitted to a few values predicts."""
    return float(x.mean() - 1.645 * x.std(ddof=1) * np.sqrt(1 + 1 / len(x)))
