"""Shared weights: every network of the space runs on its part of them, as if it were alone."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from foveate.models.movinet import movinet
from foveate.models.movinet_config import MoViNetConfig
from foveate.search.space import SearchSpace
from foveate.search.supernet import SuperNet

SPACES = {
    causal: SearchSpace(
        stem=8, widths=(8, 16, 16), strides=(2, 2, 1), project=16, hidden=24, layers=2,
        causal=causal,
    )
    for causal in (True, False)
}  # fmt: skip


def supernet(causal: bool) -> SuperNet:
    """Shared weights with nothing left at zero."""
    torch.manual_seed(0)
    found = SuperNet(SPACES[causal], 5, dropout=0.0)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.ndim < 2:
                parameter.uniform_(0.5, 1.0)
    return found


def networks(causal: bool, count: int = 12) -> list[MoViNetConfig]:
    draws = random.Random(1)
    return [SPACES[causal].config(SPACES[causal].draw(draws)) for _ in range(count)]


@pytest.mark.parametrize("causal", [True, False])
def test_a_network_alone_gives_the_same_numbers(causal: bool) -> None:
    shared, x = supernet(causal), torch.rand(3, 3, 6, 32, 32)
    for config in networks(causal):
        alone = movinet(config, 5, dropout=0.0)
        missing = alone.load_state_dict(shared.weights(config), strict=False).missing_keys
        assert all(".running_" in name or "num_batches" in name for name in missing)
        alone.train()  # statistics of the batch
        assert torch.allclose(shared.eval()(x, config), alone(x), atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_only_the_parts_of_a_network_are_trained(causal: bool) -> None:
    shared, x = supernet(causal), torch.rand(3, 3, 6, 32, 32)
    config = min(networks(causal), key=lambda one: sum(len(b.layers) for b in one.blocks))
    shared(x, config).square().sum().backward()
    used = {f"shared.{name}" for name in shared.weights(config)}
    for name, parameter in shared.named_parameters():
        assert (parameter.grad is not None) == (name in used), name
    wide = shared.shared.get_submodule("blocks.block0_layer0.expansion")
    assert isinstance(wide, nn.Conv2d)
    assert wide.weight.grad is not None
    kept = config.blocks[0].layers[0].expanded
    assert wide.weight.grad[:kept].abs().sum() > 0
    assert wide.weight.grad[kept:].abs().sum() == 0


@pytest.mark.parametrize(("causal", "tap"), [(True, 6), (False, 3)])
def test_kernels_keep_the_present_frame(causal: bool, tap: int) -> None:
    """Of seven taps, the one at the present frame is in the kernel of every length."""
    shared = supernet(causal)
    name = "blocks.block0_layer0." + ("feature_temporal" if causal else "feature") + ".weight"
    kernel = dict(shared.shared.named_parameters())[name]
    with torch.no_grad():
        kernel.zero_()
        kernel[:, :, tap] = 1.0
    space = SPACES[causal]
    for number, kind in enumerate(space.kernels):
        choice = [0] * len(space.options)
        choice[3] = number
        config = space.config(choice)
        assert config.blocks[0].layers[0].temporal == int(kind[0])
        part = shared.weights(config).get(name)
        if part is None:
            assert kind[0] == "1"  # no kernel in time
        else:
            assert part[0].max() == 1, kind


def test_equal_largest_widths_still_have_a_projection_for_unequal_ones() -> None:
    shared = supernet(True)
    space = SPACES[True]
    assert space.largest().blocks[1].width == space.largest().blocks[2].width
    per_stage = 2 + 2 * space.layers
    choice = [0] * len(space.options)
    choice[1 + 2 * per_stage] = 2  # another width of the last stage, which has no stride
    config = space.config(choice)
    assert config.blocks[1].width != config.blocks[2].width
    assert "blocks.block2_layer0.skip_project.weight" in shared.weights(config)
    assert shared(torch.rand(2, 3, 3, 24, 24), config).shape == (2, 5)
