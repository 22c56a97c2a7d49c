"""Optimisers against their formulas, and who decays at which rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.train.kit.optim import RMSPropTF, decay_groups, make_optimizer


def test_rmsprop_is_that_of_tensorflow() -> None:
    """Five steps on one number, computed by hand."""
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = RMSPropTF([p], lr=0.1, rho=0.9, momentum=0.8, eps=1.0, weight_decay=0.01)
    value, mean, moved = 1.0, 0.0, 0.0
    for _ in range(5):
        optimizer.zero_grad()
        (p**3).sum().backward()
        optimizer.step()
        grad = 3 * value**2 + 0.01 * value
        mean = 0.9 * mean + 0.1 * grad**2
        moved = 0.8 * moved + 0.1 * grad / (mean + 1.0) ** 0.5
        value -= moved
        assert p.item() == pytest.approx(value, rel=1e-12)


def test_vectors_do_not_decay_and_the_backbone_may_learn_slowly() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[1].requires_grad_(False)
    groups = decay_groups(model, 0.1, 0.05, {"0.weight": 0.5, "0.bias": 0.5})
    found = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    named = {name: found.get(id(p)) for name, p in model.named_parameters()}
    assert named == {
        "0.weight": (0.05, 0.05), "0.bias": (0.05, 0.0), "1.weight": None, "1.bias": None,
        "2.weight": (0.1, 0.05), "2.bias": (0.1, 0.0),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_every_optimiser_goes_downhill_at_the_rates_of_its_groups(name: str) -> None:
    quick, fixed = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    groups = [
        {"params": [quick], "lr": 0.05, "weight_decay": 0.0},
        {"params": [fixed], "lr": 0.0, "weight_decay": 0.0},
    ]
    optimizer = make_optimizer(name, groups)  # type: ignore[arg-type]
    for _ in range(20):
        optimizer.zero_grad()
        (quick.square().sum() + fixed.square().sum()).backward()
        optimizer.step()
    assert float(quick.detach().square().sum()) < 1.0
    assert torch.equal(fixed.detach(), torch.ones(2, 2))
