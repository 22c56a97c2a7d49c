"""Fusion of exits: convex, never worse than one exit, and calibrated."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.nn import functional

from foveate.core import ConfigError
from foveate.policy.fuse import Wise, cross_fitted, fit_temperature, fit_weights

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


def test_a_few_clips_give_no_extreme_temperature_and_many_outweigh_the_prior() -> None:
    logits, labels = exits(11)
    logits += 9 * functional.one_hot(labels, 5)[:, None]  # all exits are right on all clips
    free = Wise.fit(EXITS, logits, labels, spread=math.inf)
    wise = Wise.fit(EXITS, logits, labels)
    assert min(free.temperatures) < 0.15
    assert min(wise.temperatures) > 0.25
    assert sum(wise.weights[-1]) < 0.7 * sum(free.weights[-1])
    logits, labels = exits(4000)
    for few, many in zip(
        Wise.fit(EXITS, logits, labels).temperatures,
        Wise.fit(EXITS, logits, labels, spread=math.inf).temperatures,
        strict=True,
    ):
        assert few == pytest.approx(many, rel=0.01)


def test_clips_are_judged_by_a_fusion_that_has_not_seen_their_group() -> None:
    logits, labels = exits(40)
    groups = [at // 4 for at in range(40)]
    confidences, classes = cross_fitted(EXITS, logits, labels, groups)
    fold = torch.tensor(groups) % 5 == 3
    wise = Wise.fit(EXITS, logits[~fold], labels[~fold])
    for found, expected in zip((confidences, classes), wise.confidences(logits[fold]), strict=True):
        torch.testing.assert_close(found[fold], expected)
    whole = Wise.fit(EXITS, logits, labels).confidences(logits)
    alone = cross_fitted(EXITS, logits, labels, ["the same"] * 40)
    assert torch.equal(alone[0], whole[0])


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
