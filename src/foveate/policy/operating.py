"""Operating points of a cascade: what each threshold costs and achieves on a calibration split.

Thresholds are looked up in a table of measured costs. Every sample is charged for all that ran
until its exit, whether its answer was right or wrong. The default threshold is chosen by an upper
bound of the answers that it spoils, not by their number on a few clips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from foveate.core import ConfigError
from foveate.policy.calibration import Operating

NEVER = 1.1  # a threshold that no probability reaches: every exit runs
NEAR = 0.05  # of answers that the default threshold may spoil for a lower cost, by an upper bound
LEVEL = 0.9  # of that bound, one-sided
_POINTS = 40


def operating_points(
    confidences: Tensor,
    classes: Tensor,
    labels: Tensor,
    macs: Sequence[float],
    seconds: Sequence[float],
    floor: float = 0.0,
) -> list[Operating]:
    """Cost and accuracy of thresholds between "always the first exit" and "never early".

    Args:
        confidences: (N, exits) highest probability after each exit.
        classes: (N, exits) class of that probability.
        labels: (N,) right classes.
        macs: Of stopping at each exit, all before included.
        seconds: Likewise.
        floor: A threshold that is among the points in any case.

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
    for threshold in sorted({0.0, floor, *inner, NEVER}):
        taken = decided(confidences, threshold)
        exits = tuple(torch.bincount(taken, minlength=confidences.shape[1]).tolist())
        if points and points[-1].exits == exits and threshold != floor:
            continue
        right = classes.gather(1, taken[:, None])[:, 0] == labels
        spoiled = int((~right & (classes[:, -1] == labels)).sum())
        points.append(
            Operating(
                threshold,
                float(right.double().mean()),
                float(torch.tensor(macs, dtype=torch.float64)[taken].mean()),
                float(torch.tensor(seconds, dtype=torch.float64)[taken].mean()),
                exits,
                upper_bound(spoiled, len(labels)) if sum(exits[:-1]) else 0.0,
            )
        )
    return points


def decided(confidences: Tensor, threshold: float) -> Tensor:
    """(N,) number of the first exit whose confidence (N, exits) reaches it, else the last."""
    sure = confidences >= threshold
    sure[:, -1] = True
    return sure.int().argmax(1)


def least_sure(classes: int) -> float:
    """The lowest default threshold: twice the odds of a guess among so many classes."""
    return 2 / (classes + 1)


def default_point(points: Sequence[Operating], floor: float) -> Operating:
    """The cheapest point that can be trusted; if there is none, all exits run.

    By the upper bound it spoils at most a share `NEAR` of the answers, which no threshold does
    that was tried on fewer than 45 clips.

    Args:
        points: From `operating_points`, on clips that the fusion was not fitted on.
        floor: The lowest threshold, from `least_sure`.
    """
    sure = [p for p in points if p.threshold >= floor and p.spoiled <= NEAR]
    chosen = min([*sure, points[-1]], key=lambda p: p.macs)
    return chosen if sum(chosen.exits[:-1]) else replace(chosen, threshold=NEVER)


def trust(point: Operating, count: int) -> str:
    """One sentence on how far a default point, found on so many clips, can be relied on."""
    said = f"calibrated on {count} clips"
    if not sum(point.exits[:-1]):
        needed = math.ceil(math.log(1 - LEVEL) / math.log(1 - NEAR))
        few = f", too few to decide early by default ({needed} or more are needed)"
        return f"{said}{few if count < needed else ': no early exit is reliable, all exits run'}"
    early = sum(point.exits[:-1]) / sum(point.exits)
    return (
        f"{said}: {early:.0%} are decided early, which spoils at most {point.spoiled:.1%} of the "
        f"answers ({LEVEL:.0%} confidence)"
    )


def upper_bound(errors: int, count: int, level: float = LEVEL) -> float:
    """The largest error rate that so many errors are compatible with (Clopper and Pearson).

    Args:
        errors: Found among `count` clips.
        count: How many clips.
        level: Of the one-sided bound.
    """

    def tail(rate: float) -> float:
        """Probability of at most `errors`."""
        return sum(
            math.exp(
                math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
                + k * math.log(rate) + (count - k) * math.log1p(-rate)
            )
            for k in range(errors + 1)
        )  # fmt: skip

    low, high = errors / count, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if 0 < middle < 1 and tail(middle) > 1 - level else (low, middle)
    return high
