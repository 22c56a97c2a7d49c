"""Curvature and noise: equal to what can be worked out, and sharper where it is sharper."""

from __future__ import annotations

import pytest
import torch
from benchmarks.flatness import hessian_trace, noise_rise
from torch import nn

from foveate.core import ConfigError
from foveate.models.coviar import CompressedNet


def batches(count: int = 3, size: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 5, generator=random), torch.randint(3, (size,), generator=random))
        for _ in range(count)
    ]


def linear() -> nn.Module:
    torch.manual_seed(1)
    return nn.Linear(5, 3)


def exact_trace(net: nn.Module, x: torch.Tensor) -> float:
    """Of cross-entropy over a linear layer: sum of p (1 - p) times |x|^2 + 1, over parameters."""
    p = net(x).detach().softmax(-1)
    return float(((p * (1 - p)).sum(1) * (x.square().sum(1) + 1)).mean() / 18)


def test_the_trace_is_the_exact_one() -> None:
    net, data = linear(), batches()
    found = hessian_trace(net, data, probes=400)
    want = sum(exact_trace(net, x) for x, _ in data) / len(data)
    assert found.value == pytest.approx(want, rel=0.08)
    assert found.low <= found.value <= found.high
    assert len(found.batches) == 3


def test_noise_hurts_more_the_larger_it_is() -> None:
    net, data = linear(), batches()
    with torch.no_grad():  # a minimum, or noise could help
        for _ in range(300):
            with torch.enable_grad():
                loss = sum(nn.functional.cross_entropy(net(x), y) for x, y in data)
                slopes = torch.autograd.grad(loss, list(net.parameters()))
            for weight, slope in zip(net.parameters(), slopes, strict=True):
                weight -= 0.3 * slope
    rises = noise_rise(net, data, (0.05, 0.2, 0.8), draws=30)
    values = [measured.value for measured in rises.values()]
    assert 0 < values[0] < values[1] < values[2]
    # Near a minimum the rise is a parabola.
    assert values[1] / values[0] == pytest.approx(16, rel=0.35)


def test_a_network_is_left_as_it_is_and_frozen_ones_are_measured() -> None:
    torch.manual_seed(0)
    net = CompressedNet("mv", "test_resnet", 3).train().requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    data = [(torch.randn(2, 2, 1, 32, 32), torch.tensor([0, 1])) for _ in range(2)]
    assert hessian_trace(net, data, probes=2).value != 0
    assert noise_rise(net, data, (0.05,), draws=2)[0.05].value != 0
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(p.requires_grad for p in net.parameters())


def test_the_same_seed_gives_the_same_answer() -> None:
    assert hessian_trace(linear(), batches(), 3) == hessian_trace(linear(), batches(), 3)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs batches"):
        hessian_trace(linear(), [])
    with pytest.raises(ConfigError, match="different size"):
        noise_rise(linear(), [*batches(1, 4), *batches(1, 5)])
