"""Operating points of exits: what each threshold costs and achieves on a calibration split.

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
from foveate.policy.calibration import ExitCard, ExitPoint, Operating

NEVER = 1.1  # a threshold that no probability reaches: every exit runs
NEAR = 0.05  # of answers that the default threshold may spoil for a lower cost, by an upper bound
LEVEL = 0.9  # of that bound, one-sided
_POINTS = 40
# Of the geometric rule: V2's code sweeps .5 to 3.9; below, nearly all clips take the first exit.
QS = (1e-6, 0.02, 0.05, *(k / 10 for k in range(1, 40)))


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


def decided(confidences: Tensor, threshold: float | Tensor) -> Tensor:
    """(N,) number of the first exit whose confidence (N, exits) reaches it, else the last.

    Args:
        confidences: (N, exits).
        threshold: One for all exits, or (exits,).
    """
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


def fit_exits(
    logits: Tensor,
    labels: Tensor,
    macs_by_step: Sequence[float],
    exits: Sequence[str],
    *,
    seconds_by_step: Sequence[float] = (),
    qs: Sequence[float] = QS,
) -> ExitCard:
    """Thresholds of exits by the geometric rule (AdaFocus V2, section 3.4): a card to be saved.

    For each q the thresholds are those with which a share proportional to q^k of the clips stops
    at exit k, always the most confident of the clips that are left.

    Args:
        logits: (N, exits, classes) of training or calibration clips, softmax not yet applied.
        labels: (N,) right classes.
        macs_by_step: Multiply-adds of stopping at each exit, all before included.
        exits: Names of the exits, as the executor gives them.
        seconds_by_step: Likewise in seconds, decoding included; empty if not measured.
        qs: Values of q that are tried.

    Raises:
        ConfigError: Shapes that do not belong together.
    """
    count = len(exits)
    if logits.ndim != 3 or len(logits) != len(labels) or not len(labels):
        raise ConfigError("logits (N, exits, classes) and labels of different length, or none")
    if not logits.shape[1] == len(macs_by_step) == count or len(seconds_by_step) not in (0, count):
        raise ConfigError("one name and one cost per exit")
    confidences, classes = logits.double().softmax(2).max(2)
    right = classes == labels[:, None]
    macs = torch.tensor(list(macs_by_step), dtype=torch.float64)
    seconds = torch.tensor(list(seconds_by_step), dtype=torch.float64)
    points: list[ExitPoint] = []
    never = [NEVER] * (count - 1) + [0.0]
    tried = [(q, geometric(confidences, q)) for q in sorted(qs)] if count > 1 else []
    for q, thresholds in (*tried, (None, never)):
        taken = decided(confidences, torch.tensor(thresholds, dtype=torch.float64))
        hit = right.gather(1, taken[:, None])[:, 0]
        spoiled = int((~hit & right[:, -1]).sum())
        numbers = torch.bincount(taken, minlength=count).tolist()
        points.append(
            ExitPoint(
                q=q,
                thresholds=thresholds,
                accuracy=float(hit.double().mean()),
                macs=float(macs[taken].mean()),
                seconds=float(seconds[taken].mean()) if len(seconds) else None,
                exits=numbers,
                spoiled=upper_bound(spoiled, len(labels)) if sum(numbers[:-1]) else 0.0,
            )
        )
    points = sorted({tuple(p.exits): p for p in points}.values(), key=lambda p: p.macs)
    sure = [number for number, point in enumerate(points) if point.spoiled <= NEAR]
    default = sure[0]  # the last exit alone spoils nothing
    chosen = points[default]
    told = Operating(0.0, chosen.accuracy, chosen.macs, 0.0, tuple(chosen.exits), chosen.spoiled)
    return ExitCard(
        exits=list(exits),
        macs=[round(value) for value in macs_by_step],
        seconds=list(seconds_by_step),
        points=points,
        default=default,
        calibrated_on=len(labels),
        trust=trust(told, len(labels)),
    )


def geometric(confidences: Tensor, q: float) -> list[float]:
    """Thresholds (exits,) with which shares proportional to q, q^2, ... stop at each exit.

    Args:
        confidences: (N, exits) probability of the best class.
        q: Below 1 most clips stop at the first exits, above 1 at the last ones.
    """
    total, count = confidences.shape
    powers = torch.tensor(q, dtype=torch.float64) ** torch.arange(1, count + 1)
    wanted = (powers / powers.sum()).cumsum(0) * total
    left = torch.ones(total, dtype=torch.bool)
    thresholds = []
    for step in range(count - 1):
        leaving = round(float(wanted[step])) - int((~left).sum())
        rest = confidences[left, step].sort(descending=True).values
        threshold = NEVER
        if leaving > 0 and len(rest):
            # Between the last clip that leaves and the next: rounding must not move either.
            edge = rest[min(leaving, len(rest)) - 1 :][:2]
            threshold = float(edge.mean()) if len(edge) > 1 else float(edge[0]) * (1 - 1e-6)
        thresholds.append(threshold)
        left &= confidences[:, step] < threshold
    return [*thresholds, 0.0]


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
