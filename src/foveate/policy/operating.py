"""Operating points of a cascade: what each threshold costs and achieves on a calibration split.

Thresholds are looked up in a table of measured costs. Every
sample is charged for all that ran until its exit, whether its answer was right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foveate.core import ConfigError
from foveate.policy.calibration import Operating

NEVER = 1.1  # a threshold that no probability reaches: every exit runs
NEAR = 0.01  # of accuracy that the default threshold may give up for a lower cost
_POINTS = 40


def operating_points(
    confidences: Tensor,
    classes: Tensor,
    labels: Tensor,
    macs: Sequence[float],
    seconds: Sequence[float],
) -> list[Operating]:
    """Cost and accuracy of thresholds between "always the first exit" and "never early".

    Args:
        confidences: (N, exits) highest probability after each exit.
        classes: (N, exits) class of that probability.
        labels: (N,) right classes.
        macs: Of stopping at each exit, all before included.
        seconds: Likewise.

    Returns:
        By ascending threshold, and so by ascending cost; thresholds of equal effect once.

    Raises:
        ConfigError: Shapes that do not belong together.
    """
    if confidences.shape != classes.shape or len(labels) != len(confidences) or not len(labels):
        raise ConfigError("confidences, classes and labels of different shape, or none")
    if not len(macs) == len(seconds) == confidences.shape[1]:
        raise ConfigError("one cost per exit")
    levels = torch.linspace(0, 1, _POINTS, dtype=torch.float64)
    early = confidences[:, :-1].double().flatten()
    inner = torch.quantile(early, levels).tolist() if len(early) else []
    points: list[Operating] = []
    for threshold in [0.0, *sorted(set(inner)), NEVER]:
        taken = decided(confidences, threshold)
        exits = tuple(torch.bincount(taken, minlength=confidences.shape[1]).tolist())
        if points and points[-1].exits == exits:
            continue
        answers = classes.gather(1, taken[:, None])[:, 0]
        points.append(
            Operating(
                threshold,
                float((answers == labels).double().mean()),
                float(torch.tensor(macs, dtype=torch.float64)[taken].mean()),
                float(torch.tensor(seconds, dtype=torch.float64)[taken].mean()),
                exits,
            )
        )
    return points


def decided(confidences: Tensor, threshold: float) -> Tensor:
    """(N,) number of the first exit whose confidence (N, exits) reaches it, else the last."""
    sure = confidences >= threshold
    sure[:, -1] = True
    return sure.int().argmax(1)


def default_point(points: Sequence[Operating]) -> Operating:
    """The cheapest point whose accuracy is within `NEAR` of the best."""
    best = max(point.accuracy for point in points)
    return min((p for p in points if p.accuracy >= best - NEAR), key=lambda p: p.macs)
