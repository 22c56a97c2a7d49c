"""Fusion of exits: convex, never worse than one exit, and calibrated."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional

from foveate.core import ConfigError
from foveate.policy.fuse import Wise, fit_temperature, fit_weights

EXITS = ("r1", "r2", "i1")


def exits(count: int = 400, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, 3, classes) of exits that are better and better, and labels."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (count,), generator=random)
    truth = functional.one_hot(labels, classes).float()
    noise = torch.randn(count, 3, classes, generator=random)
    strength = torch.tensor([0.5, 1.0, 2.0])[None, :, None]
    return strength * truth[:, None] + noise, labels


def loss(logits: torch.Tensor, weights: torch.Tensor, labels: torch.Tensor) -> float:
    fused = torch.einsum("nec,e->nc", logits.double(), weights.double())
    return float(functional.cross_entropy(fused, labels))


@pytest.mark.parametrize("nonnegative", [True, False])
def test_the_fit_is_the_minimum_and_beats_every_single_exit(nonnegative) -> None:
    logits, labels = exits()
    w = fit_weights(logits, labels, nonnegative=nonnegative)
    best = loss(logits, w, labels)
    assert all(best < loss(logits, one, labels) for one in torch.eye(3))
    for at in range(3):
        for step in (-0.02, 0.02):
            near = w.clone()
            near[at] += step
            if not nonnegative or near[at] >= 0:
                assert loss(logits, near, labels) >= best - 1e-9


def test_an_exit_that_misleads_is_left_out_or_turned_round() -> None:
    logits, labels = exits()
    logits[:, 0] -= functional.one_hot(labels, 5)  # it now speaks against the right class
    assert fit_weights(logits, labels)[0] == 0
    assert fit_weights(logits, labels, nonnegative=False)[0] < 0


def test_the_penalty_takes_weights_away() -> None:
    logits, labels = exits()
    sums = [float(fit_weights(logits, labels, l1=l1).sum()) for l1 in (0.0, 0.05, 0.5, 10.0)]
    assert sums == sorted(sums, reverse=True)
    assert sums[0] > sums[1] > 0
    assert sums[-1] == 0


def test_one_exit_is_the_identity() -> None:
    logits, labels = exits()
    wise = Wise.fit(EXITS, logits, labels)
    assert wise.weights[0] == (1.0,)
    assert torch.equal(wise.fused(logits[:, :1]), logits[:, 0])


def test_temperature_comes_back() -> None:
    random = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(4000, 4, generator=random)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=random)[:, 0]
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.08)


def test_it_survives_json() -> None:
    wise = Wise.fit(EXITS, *exits())
    assert Wise.from_json(json.loads(json.dumps(wise.to_json()))) == wise
    with pytest.raises(ConfigError, match="wrong length"):
        Wise.from_json({**wise.to_json(), "temperatures": [1.0]})
    with pytest.raises(ConfigError, match="not fusion weights"):
        Wise.from_json({"exits": []})


def test_what_cannot_be_fitted_is_refused() -> None:
    logits, labels = exits(4)
    with pytest.raises(ConfigError, match="not finite"):
        fit_weights(logits / 0, labels)
    with pytest.raises(ConfigError, match="shape"):
        fit_weights(logits, labels[:2])
    with pytest.raises(ConfigError, match="2 exits"):
        Wise.fit(("a", "b"), logits, labels)
