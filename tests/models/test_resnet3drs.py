"""3D ResNet-RS: sizes, blocks, and activation checkpointing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.core.errors import ModelError
from foveate.models import count_macs, registry
from foveate.models.resnet3drs import (
    DEPTHS,
    Block,
    SelfGating,
    Shape,
    StochasticDepth,
    scale,
)

# Depth: trainable parameters with 400 classes.
PARAMETERS = {
    50: 48_129_840,
    101: 84_969_520,
    152: 114_788_144,
    200: 121_376_560,
    270: 169_038_064,
    300: 174_087_536,
    350: 213_094_256,
}
# Depth, frames, side: thousand million multiply-adds of a view.
MACS = [(50, 32, 256, 115.0), (50, 32, 224, 88.0), (101, 32, 256, 229.1), (200, 48, 256, 611.4)]
SLOW_MACS = [(152, 32, 256, 334.6), (200, 32, 256, 407.6), (270, 48, 256, 833.6),
             (350, 48, 256, 1072.8)]  # fmt: skip


def small(depth: int = 50, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    given = {"num_classes": 5, "width": 8, "blocks_per_group": 2, **settings}
    return registry.create(f"resnet3d-rs-{depth}", **given)


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameters(depth: int) -> None:
    with torch.device("meta"):
        model = registry.create(f"resnet3d-rs-{depth}")
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[depth]
    assert sum(isinstance(part, SelfGating) for part in model.modules()) == 4


@pytest.mark.parametrize(
    ("depth", "frames", "side", "giga"),
    MACS[:2] + [pytest.param(*row, marks=pytest.mark.slow) for row in MACS[2:] + SLOW_MACS],
)
def test_the_scaling_rule(depth: int, frames: int, side: int, giga: float) -> None:
    scaled = scale(depth, frames, side)
    assert scaled.macs / 1e9 == pytest.approx(giga, rel=1e-3)
    assert scaled.parameters == PARAMETERS[depth]
    assert scaled.arch == f"resnet3d-rs-{depth}"
    assert (scaled.input.clip_frames, scaled.input.size) == (frames, side)


def test_the_scaling_rule_rejects_unknown_depths() -> None:
    with pytest.raises(ModelError, match="no depth 51"):
        scale(51)


def test_the_baseline() -> None:
    with torch.device("meta"):
        model = registry.create("resnet3d-50")
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(33.62e6, rel=1e-3)
    assert count_macs(model, (1, 3, 32, 256, 256)) / 1e9 == pytest.approx(117.3, rel=1e-3)
    kernels = [[b.temporal_conv.kernel_size[0] for b in getattr(model, f"group{g}")]
               for g in (1, 2, 3, 4)]  # fmt: skip
    assert kernels == [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]


def test_shapes_of_odd_clips_and_temporal_kernels() -> None:
    model = small().eval()
    with torch.no_grad():
        maps = model.maps(torch.rand(1, 3, 7, 33, 50))
    assert {n: tuple(m.shape[2:]) for n, m in maps.items()} == {
        "group1": (4, 9, 13), "group2": (4, 5, 7), "group3": (4, 3, 4), "group4": (4, 2, 2)
    }  # fmt: skip
    kernels = [{b.temporal_conv.kernel_size[0] for b in getattr(model, n)} for n in maps]
    assert kernels == [{1}, {1}, {3}, {3}]
    rates = [getattr(model, n)[0].drop.rate for n in maps]
    assert rates == pytest.approx([0.04, 0.06, 0.08, 0.1])


def test_with_open_gates_a_block_is_a_residual_block() -> None:
    torch.manual_seed(0)
    block = Block(16, 4, 3, 1, True, 0.5, Shape()).eval()
    with torch.no_grad():
        for layer in (block.gate.dense, block.se.expand):
            layer.weight.zero_()
            layer.bias.fill_(100.0)  # a sigmoid of one
    x = torch.rand(2, 16, 5, 6, 7)
    with torch.no_grad():
        y = block.norm1(nn.functional.conv3d(x, block.temporal_conv.weight, padding=(1, 0, 0)))
        y = nn.functional.conv3d(y.relu(), block.spatial_conv.weight, padding=(0, 1, 1))
        y = nn.functional.conv3d(block.norm2(y).relu(), block.expand_conv.weight)
        want = (block.norm3(y) + x).relu()
        torch.testing.assert_close(block(x), want)
        other = Block(16, 4, 3, 1, True, 0.5, Shape(gate_first=False)).eval()
        other.load_state_dict(block.state_dict())
        nn.init.normal_(other.gate.dense.weight)
        block.load_state_dict(other.state_dict())
        assert not torch.allclose(block(x), x.relu())


def test_stochastic_depth_drops_in_training_only() -> None:
    drop = StochasticDepth(0.25)
    x = torch.ones(4000, 1)
    torch.manual_seed(0)
    got = drop(x)
    assert got.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(got.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(x), x)


def test_checkpointing_changes_memory_only() -> None:
    """Gradients and running statistics are bit-identical, though blocks run twice."""
    x = torch.rand(2, 3, 4, 32, 32)
    found = []
    for again in (False, True):
        model = small(checkpointing=again).train()
        calls: list[int] = []
        model.group2[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(1)
        model(x).square().sum().backward()
        assert len(calls) == (2 if again else 1)
        found.append(
            ({n: p.grad for n, p in model.named_parameters()}, dict(model.named_buffers()))
        )
    for one, two in zip(*found, strict=True):
        for name, value in one.items():
            assert torch.equal(value, two[name]), name


def test_a_batch_can_be_overfitted() -> None:
    torch.manual_seed(0)
    model = small(blocks_per_group=1, dropout=0.0, stochastic_depth=0.0).train()
    x, y = torch.rand(5, 3, 4, 32, 32), torch.arange(5)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    for _ in range(25):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
