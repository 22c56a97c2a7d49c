"""Weighted fusion of exits, their calibration, and when to stop.

Source: WISE of Soufleri et al. (arXiv 2407.02713): for every number of exits taken so far a vector
of weights over their logits, fitted for cross-entropy with an L1 penalty. The release fits them on
the training set, on which the last exits are always right; here they are fitted on a calibration
split that no network was trained on. The problem is convex, so it is solved instead of trained.

A few clips are separated by almost any weights, and then nothing bounds their scale. Weights and
temperatures therefore have a normal prior, which counts as much as a clip or two and which many
clips outweigh.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from foveate.core import ConfigError

SPREAD = math.log(2)  # a temperature is a priori half or twice the one of the networks' loss
_STEPS = 2000
_TOLERANCE = 1e-9


def fit_weights(
    logits: Tensor,
    labels: Tensor,
    *,
    l1: float = 0.0,
    nonnegative: bool = True,
    spread: float = math.inf,
) -> Tensor:
    """Weights over exits that minimise cross-entropy of the weighted sum plus ``l1 * |w|``.

    Proximal gradient descent with backtracking, from the best single exit on: the objective only
    falls, so without a prior the result is never worse than any exit alone. One exit is left as it
    is.

    Args:
        logits: (N, exits, classes) on a calibration split.
        labels: (N,) class indices.
        l1: Of the penalty.
        nonnegative: No weight below zero.
        spread: Standard deviation of the normal prior on each weight, around equal weights.

    Returns:
        (exits,) float64.

    Raises:
        ConfigError: Nothing to fit on, or shapes that do not belong together.
    """
    _check(logits, labels)
    exits = logits.shape[1]
    if exits == 1:
        return torch.ones(1, dtype=torch.float64)
    z = logits.double()

    def loss(w: Tensor) -> Tensor:
        fitted = functional.cross_entropy(torch.einsum("nec,e->nc", z, w), labels)
        return fitted + ((w - 1 / exits) ** 2).sum() / (2 * spread**2 * len(labels))

    singles = torch.eye(exits, dtype=torch.float64)
    w = min(singles, key=lambda one: float(loss(one))).clone()
    value, step = float(loss(w)), 1.0
    for _ in range(_STEPS):
        w.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(w), w)
        w = w.detach()
        while True:
            new = _shrink(w - step * slope, step * l1, nonnegative)
            moved = new - w
            bound = value + float(slope @ moved) + float(moved @ moved) / (2 * step)
            reached = float(loss(new))
            if reached <= bound + 1e-12 or step < 1e-12:
                break
            step /= 2
        gain = value + l1 * float(w.abs().sum()) - reached - l1 * float(new.abs().sum())
        if gain <= _TOLERANCE:
            break
        w, value, step = new, reached, step * 2
    fitted: Tensor = w.detach()
    return fitted


def _shrink(w: Tensor, by: float, nonnegative: bool) -> Tensor:
    """The proximal operator of the penalty (soft thresholding)."""
    if nonnegative:
        return (w - by).clamp(min=0)
    return w.sign() * (w.abs() - by).clamp(min=0)


def fit_temperature(logits: Tensor, labels: Tensor, spread: float = math.inf) -> float:
    """The temperature that minimises cross-entropy (Guo et al., arXiv 1706.04599).

    Args:
        logits: (N, classes).
        labels: (N,).
        spread: Standard deviation of the normal prior on its logarithm, around 0 (temperature 1).
    """
    _check(logits.unsqueeze(1), labels)
    z = logits.double()

    def loss(log_scale: float) -> float:
        fitted = float(functional.cross_entropy(z * 10**log_scale, labels))
        return fitted + (log_scale * math.log(10) / spread) ** 2 / (2 * len(labels))

    # Convex in the scale, so it has one minimum in its logarithm too.
    low, high = -4.0, 2.0
    for _ in range(80):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if loss(first) <= loss(second):
            high = second
        else:
            low = first
    return float(10 ** -((low + high) / 2))


@dataclass(frozen=True)
class Wise:
    """How the exits taken so far are joined.

    Attributes:
        exits: Names, in the order in which they are taken.
        weights: For one exit, two, and so on: as many weights as exits.
        temperatures: One per number of exits.
    """

    exits: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    temperatures: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        exits: Sequence[str],
        logits: Tensor,
        labels: Tensor,
        *,
        l1: float = 0.0,
        nonnegative: bool = True,
        spread: float = SPREAD,
    ) -> Wise:
        """Fit weights and temperature of every prefix.

        Args:
            exits: Names, in the order in which they are taken.
            logits: (N, exits, classes) on a calibration split.
            labels: (N,).
            l1: Of the penalty.
            nonnegative: No weight below zero.
            spread: Of the priors on weights and on the logarithm of the temperature.

        Raises:
            ConfigError: Shapes that do not belong together.
        """
        if logits.ndim != 3 or logits.shape[1] != len(exits):
            raise ConfigError(f"{len(exits)} exits, but logits of shape {tuple(logits.shape)}")
        weights, temperatures = [], []
        for count in range(1, len(exits) + 1):
            part = logits[:, :count]
            w = fit_weights(part, labels, l1=l1, nonnegative=nonnegative, spread=spread)
            weights.append(tuple(w.tolist()))
            fused = torch.einsum("nec,e->nc", part.double(), w)
            temperatures.append(fit_temperature(fused, labels, spread))
        return cls(tuple(exits), tuple(weights), tuple(temperatures))

    def fused(self, logits: Tensor) -> Tensor:
        """Logits (N, classes) out of those of the exits taken so far, (N, count, classes)."""
        weights = logits.new_tensor(self.weights[logits.shape[1] - 1])
        return torch.einsum("nec,e->nc", logits, weights)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated (N, classes) out of those of the exits taken so far, (N, count, classes)."""
        return (self.fused(logits) / self.temperatures[logits.shape[1] - 1]).softmax(-1)

    def confidences(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Highest probability and its class after each exit, each (N, exits)."""
        counts = range(1, len(self.exits) + 1)
        best = [self.probabilities(logits[:, :count]).max(-1) for count in counts]
        return torch.stack([b.values for b in best], 1), torch.stack([b.indices for b in best], 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in `run.json`."""
        return {
            "exits": list(self.exits),
            "weights": [list(row) for row in self.weights],
            "temperatures": list(self.temperatures),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Wise:
        """Read back what `to_json` returned.

        Raises:
            ConfigError: It is something else.
        """
        try:
            weights = tuple(tuple(map(float, row)) for row in saved["weights"])
            found = cls(tuple(saved["exits"]), weights, tuple(map(float, saved["temperatures"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not fusion weights ({error})") from None
        counts = list(range(1, len(found.exits) + 1))
        if [len(row) for row in weights] != counts or len(found.temperatures) != len(counts):
            raise ConfigError("fusion weights of the wrong length")
        return found


def cross_fitted(
    exits: Sequence[str],
    logits: Tensor,
    labels: Tensor,
    groups: Sequence[Hashable],
    *,
    folds: int = 5,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """Confidences and classes (N, exits) of clips by a fusion that was fitted without them.

    Args:
        exits: Names, in the order in which they are taken.
        logits: (N, exits, classes) on a calibration split.
        labels: (N,).
        groups: One per clip; clips of a group are in the same fold. With a single group there is
            nothing to fit on without it, so the fusion is fitted on all clips.
        folds: At most so many.
        **settings: Of `Wise.fit`.
    """
    number = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    count = min(folds, len(number))
    fold = torch.tensor([number[group] % count for group in groups])
    confidences = torch.empty(logits.shape[:2], dtype=logits.dtype)
    classes = torch.empty(logits.shape[:2], dtype=torch.int64)
    for turn in range(count):
        held_out = fold == turn
        fitted = ~held_out if count > 1 else held_out
        wise = Wise.fit(exits, logits[fitted], labels[fitted], **settings)
        confidences[held_out], classes[held_out] = wise.confidences(logits[held_out])
    return confidences, classes


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 3 or labels.shape != logits.shape[:1] or 0 in logits.shape:
        raise ConfigError(
            f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)}",
            "give (N, exits, classes) and (N,)",
        )
    if not logits.isfinite().all():
        raise ConfigError("logits that are not finite cannot be fused")
