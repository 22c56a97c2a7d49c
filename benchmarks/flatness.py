"""How flat the minimum is in which a network sits: curvature and what noise on its weights does.

Two measures over the same clips, with BatchNorm in evaluation mode. The trace of the Hessian of
the loss by Hutchinson's estimate, the mean of v'Hv over random signs v, a parameter's share of it;
and the rise of the loss under Gaussian noise that is normalised filter by filter (Li et al.,
arXiv 1712.09913, section 4). Networks of different size sit in different spaces: compare networks
of one architecture too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from foveate.core import ConfigError
from foveate.evaluate.bootstrap import interval

RADII = (0.005, 0.01, 0.02, 0.05)  # of a filter's norm
_RESAMPLES = 2000

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Measured:
    """A mean over batches of clips with a bootstrap interval that resamples batches.

    Attributes:
        value: The mean.
        low: 2.5 % of the resampled means.
        high: 97.5 %.
        batches: (N,) the batches' own values.
    """

    value: float
    low: float
    high: float
    batches: tuple[float, ...]


def hessian_trace(
    network: nn.Module, batches: Sequence[Batch], probes: int = 30, seed: int = 0
) -> Measured:
    """Trace of the Hessian of the cross-entropy, divided by the number of parameters.

    Args:
        network: Clips to logits (B, classes); it is left as it is, frozen parameters included.
        batches: Of equal size: clips and (B,) labels.
        probes: Random sign vectors; the same ones for every batch.
        seed: Of the vectors and the resampling.

    Raises:
        ConfigError: No batches or probes.
    """
    _check(batches, probes)
    training = network.training
    network.eval()
    try:
        weights = _weights(network)
        count = sum(w.numel() for w in weights.values())
        random = torch.Generator().manual_seed(seed)
        totals = np.zeros(len(batches))
        for _ in range(probes):
            signs = [
                torch.randint(0, 2, w.shape, generator=random).to(w) * 2 - 1
                for w in weights.values()
            ]
            totals += [_curvature(network, weights, signs, batch) for batch in batches]
    finally:
        network.train(training)
    return _measured(totals / probes / count, seed)


def noise_rise(
    network: nn.Module,
    batches: Sequence[Batch],
    radii: Sequence[float] = RADII,
    draws: int = 10,
    seed: int = 0,
) -> dict[float, Measured]:
    """Mean rise of the cross-entropy under filter-normalised Gaussian noise, by relative radius.

    Of every kernel and matrix each output filter gets noise whose norm is the radius times its
    own; biases and norms stay as they are.

    Args:
        network: Clips to logits (B, classes); it is left as it is.
        batches: Of equal size: clips and (B,) labels.
        radii: Relative to each filter's norm.
        draws: Noises a radius; the same directions for every radius and batch.
        seed: Of the noise and the resampling.

    Raises:
        ConfigError: No batches or draws.
    """
    _check(batches, draws)
    training = network.training
    network.eval()
    try:
        weights = {name: w.detach() for name, w in network.named_parameters()}
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            still = np.array([float(_loss(network, weights, batch)) for batch in batches])
            rises = {radius: np.zeros(len(batches)) for radius in radii}
            for _ in range(draws):
                noise = {n: _like(w, random) for n, w in weights.items() if w.ndim > 1}
                for radius in radii:
                    moved = {n: w + radius * noise[n] if n in noise else w
                             for n, w in weights.items()}  # fmt: skip
                    losses = [float(_loss(network, moved, batch)) for batch in batches]
                    rises[radius] += (np.array(losses) - still) / draws
    finally:
        network.train(training)
    return {radius: _measured(values, seed) for radius, values in rises.items()}


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Copies that carry gradients, whether or not the network's own parameters do."""
    return {n: p.detach().clone().requires_grad_(True) for n, p in network.named_parameters()}


def _loss(network: nn.Module, weights: dict[str, Tensor], batch: Batch) -> Tensor:
    return functional.cross_entropy(functional_call(network, weights, (batch[0],)), batch[1])


def _curvature(
    network: nn.Module, weights: dict[str, Tensor], signs: list[Tensor], batch: Batch
) -> float:
    """v'Hv of one batch by differentiating twice."""
    own = list(weights.values())
    slopes = torch.autograd.grad(
        _loss(network, weights, batch), own, create_graph=True, materialize_grads=True
    )
    along = torch.stack([(g * v).sum() for g, v in zip(slopes, signs, strict=True)]).sum()
    if not along.requires_grad:
        return 0.0  # the loss is linear in all of them
    bends = torch.autograd.grad(along, own, materialize_grads=True)
    return float(sum((h * v).sum() for h, v in zip(bends, signs, strict=True)))


def _like(weight: Tensor, random: torch.Generator) -> Tensor:
    """Gaussian noise, each filter of it with the norm of the weight's own."""
    noise = torch.randn(weight.shape, generator=random).to(weight)
    rows, own = noise.flatten(1), weight.flatten(1)
    scale = own.norm(dim=1) / rows.norm(dim=1).clamp(min=1e-12)
    scaled: Tensor = noise * scale.view(-1, *[1] * (weight.ndim - 1))
    return scaled


def _measured(values: npt.NDArray[np.float64], seed: int) -> Measured:
    found = interval(
        lambda weights: weights @ values / weights.sum(-1),
        len(values),
        repeats=_RESAMPLES,
        seed=seed,
    )
    return Measured(found.value, found.low, found.high, tuple(values.tolist()))


def _check(batches: Sequence[Batch], count: int) -> None:
    if not batches or count < 1:
        raise ConfigError("flatness needs batches of clips and at least one random direction")
    if len({len(labels) for _, labels in batches}) > 1:
        raise ConfigError("batches of different size would count differently", "drop the last one")
