"""3D ResNet-RS: bottleneck networks with squeeze-excitation, self-gating and a scaling rule.

Source: Du et al., "Revisiting 3D ResNets for Video Recognition", 2021 (arXiv 2109.01696); stem,
temporal kernels, gates and the rates of stochastic depth are those of its released configurations.
Self-gating is that of S3D-G (Xie et al., ECCV 2018, section 4.5). An accurate network for whole
clips, and a teacher for smaller ones; it cannot stream, since its temporal kernels are strided and
not causal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import ClipModel, check_clip, he_normal, over_space
from foveate.models.layers.again import again
from foveate.models.layers.same import pad_same, same_padding
from foveate.models.macs import count_macs
from foveate.models.registry import register
from foveate.models.spec import InputSpec

Triple = tuple[int, int, int]

# Depth: blocks per group.
DEPTHS: dict[int, tuple[int, int, int, int]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    300: (4, 36, 54, 4),
    350: (4, 36, 72, 4),
}
GROUPS = ("group1", "group2", "group3", "group4")
# Temporal kernel sizes of the blocks: one per group, or one per block in the baseline.
KERNELS = ((1,), (1,), (3,), (3,))
BASELINE_KERNELS = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))
RATE = 12.5  # frames per second: every second frame of 25-fps videos


class SameConv3d(nn.Conv3d):
    """A convolution without bias, with TensorFlow's SAME padding."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)
        self._kernel, self._stride = kernel, stride

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, ceil(T/s), ceil(H/s), ceil(W/s))."""
        pads = [
            same_padding(size, k, s)
            for size, k, s in zip(input.shape[-3:], self._kernel, self._stride, strict=True)
        ]
        if all(before == after for before, after in pads):
            # Symmetric padding needs no copy of the input.
            even = tuple(before for before, _ in pads)
            return F.conv3d(input, self.weight, None, self._stride, even)
        return F.conv3d(
            pad_same(input, self._kernel, self._stride), self.weight, None, self._stride
        )


class SelfGating(nn.Module):
    """Scale every channel by a gate computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, T, H, W) to the same shape."""
        gate: torch.Tensor = self.dense(x.mean((2, 3, 4))).sigmoid()
        return x * gate[:, :, None, None, None]


class SqueezeExcitation(nn.Module):
    """Self-gating with a bottleneck (Hu et al., CVPR 2018), pooled over time and space."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, T, H, W) to the same shape."""
        gate: torch.Tensor = self.expand(F.relu(self.reduce(x.mean((2, 3, 4))))).sigmoid()
        return x * gate[:, :, None, None, None]


class StochasticDepth(nn.Module):
    """Drop a block's branch for some clips in training (Huang et al., ECCV 2016).

    Args:
        rate: Probability of dropping the branch of a clip; other clips are scaled up.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, ...) to the same shape; the identity in evaluation."""
        if not self.training or not self.rate:
            return x
        keep = 1 - self.rate
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) < keep
        return x * kept.to(x.dtype) / keep


@dataclass(frozen=True)
class Shape:
    """Hyperparameters of a network of the family, besides its depth.

    Attributes:
        width: Channels of the stem and of the first group's bottlenecks.
        kernels: Temporal kernel sizes of the blocks: per group one for all blocks or one each.
        deep_stem: Three convolutions (5x3x3, 1x3x3, 1x3x3) instead of one of 5x7x7.
        pool_stride: Temporal stride of the stem's pooling.
        se_ratio: Ratio of hidden channels of squeeze-excitation, 0 for none.
        stochastic_depth: Largest drop rate; the groups have 2/5, 3/5, 4/5 and 5/5 of it.
        gate_first: Self-gating before squeeze-excitation, as in the released code.
        norm_momentum: Momentum of the running statistics as torch defines it (weight of the new
            batch).
    """

    width: int = 64
    kernels: tuple[tuple[int, ...], ...] = KERNELS
    deep_stem: bool = True
    pool_stride: int = 1
    se_ratio: float = 0.25
    stochastic_depth: float = 0.1
    gate_first: bool = True
    norm_momentum: float = 0.1

    def norm(self, channels: int) -> nn.BatchNorm3d:
        """Build a batch norm with the family's epsilon (1e-5, torch's own)."""
        return nn.BatchNorm3d(channels, eps=1e-5, momentum=self.norm_momentum)


class Block(nn.Module):
    """A bottleneck (temporal, spatial, 1x1x1 convolution) with gates and a shortcut.

    The first block of a group changes the channels, so a strided shortcut has a projection.

    Args:
        inputs: Input channels.
        planes: Channels of the bottleneck; the output has four times as many.
        kernel: Temporal kernel size of the first convolution.
        stride: Spatial stride.
        gated: Whether it has self-gating, as the last block of a group.
        drop: Rate of stochastic depth.
        shape: See ``Shape``.
    """

    def __init__(
        self,
        inputs: int,
        planes: int,
        kernel: int,
        stride: int,
        gated: bool,
        drop: float,
        shape: Shape,
    ) -> None:
        super().__init__()
        outputs = 4 * planes
        if inputs != outputs:
            self.shortcut_conv: nn.Module | None = SameConv3d(
                inputs, outputs, (1, 1, 1), (1, stride, stride)
            )
            self.norm0: nn.Module | None = shape.norm(outputs)
        else:
            self.shortcut_conv = self.norm0 = None
        self.temporal_conv = SameConv3d(inputs, planes, (kernel, 1, 1), (1, 1, 1))
        self.norm1 = shape.norm(planes)
        self.spatial_conv = SameConv3d(planes, planes, (1, 3, 3), (1, stride, stride))
        self.norm2 = shape.norm(planes)
        self.expand_conv = SameConv3d(planes, outputs, (1, 1, 1), (1, 1, 1))
        self.norm3 = shape.norm(outputs)
        self.gate = SelfGating(outputs) if gated else None
        hidden = max(1, int(outputs * shape.se_ratio))
        self.se = SqueezeExcitation(outputs, hidden) if shape.se_ratio else None
        self.drop = StochasticDepth(drop)
        self._gate_first = shape.gate_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, 4 * planes, T, ceil(H/s), ceil(W/s))."""
        y = F.relu(self.norm1(self.temporal_conv(x)))
        y = F.relu(self.norm2(self.spatial_conv(y)))
        y = self.norm3(self.expand_conv(y))
        gates = (self.gate, self.se) if self._gate_first else (self.se, self.gate)
        for gate in gates:
            if gate is not None:
                y = gate(y)
        if self.shortcut_conv is not None and self.norm0 is not None:
            x = self.norm0(self.shortcut_conv(x))
        return F.relu(self.drop(y) + x)


class Stem(nn.Module):
    """The stem: temporal stride 2, spatial stride 4."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, half = shape.width, shape.width // 2
        if shape.deep_stem:
            self.conv0 = SameConv3d(3, half, (5, 3, 3), (2, 2, 2))
            self.bn0 = shape.norm(half)
            self.conv1 = SameConv3d(half, half, (1, 3, 3), (1, 1, 1))
            self.bn1 = shape.norm(half)
            self.conv2 = SameConv3d(half, width, (1, 3, 3), (1, 1, 1))
            self.bn2 = shape.norm(width)
        else:
            self.conv0 = SameConv3d(3, width, (5, 7, 7), (2, 2, 2))
            self.bn0 = shape.norm(width)
        self._convs = 3 if shape.deep_stem else 1
        # A temporal stride of 2 comes with a kernel of 3.
        steps = shape.pool_stride
        self._kernel: Triple = (1 if steps == 1 else 3, 3, 3)
        self._stride: Triple = (steps, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, T, H, W) to (B, width, ceil(T/2), ceil(H/4), ceil(W/4))."""
        for i in range(self._convs):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        # Values are not negative here, so padding with zeros is correct.
        return F.max_pool3d(pad_same(x, self._kernel, self._stride), self._kernel, self._stride)


class ResNet3DRS(ClipModel):
    """A network of the family.

    Args:
        num_classes: Outputs of the classifier.
        blocks: Number of blocks of each group.
        dropout: Probability of dropping a feature before the classifier, in training.
        shape: See ``Shape``.
        checkpointing: Activation checkpointing of the blocks in training: the same gradients and
            statistics with less memory and a third more computation.
    """

    def __init__(
        self,
        num_classes: int,
        blocks: tuple[int, ...],
        dropout: float,
        shape: Shape,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(32 * shape.width, num_classes, dropout)
        self.checkpointing = checkpointing
        self.stem = Stem(shape)
        inputs = shape.width
        for index, (name, count, kernels) in enumerate(
            zip(GROUPS, blocks, shape.kernels, strict=True)
        ):
            planes = shape.width << index
            drop = shape.stochastic_depth * (index + 2) / 5
            layers = []
            for i in range(count):
                kernel = kernels[i] if len(kernels) > 1 else kernels[0]
                stride = 2 if i == 0 and index else 1
                layers.append(Block(inputs, planes, kernel, stride, i == count - 1, drop, shape))
                inputs = 4 * planes
            setattr(self, name, nn.Sequential(*layers))
        _initialise(self)

    def maps(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the output of every group for clips (B, 3, T, H, W), by name and in order."""
        check_clip(x)
        x = self.stem(x)
        less = self.checkpointing and self.training and torch.is_grad_enabled()
        found = {}
        for name in GROUPS:
            for block in getattr(self, name):
                x = again(block, x) if less else block(x)
            found[name] = x
        return found

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, ceil(T/2), channels) of clips (B, 3, T, H, W)."""
        return over_space(self.maps(x)["group4"])


def _initialise(model: nn.Module) -> None:
    """He-normal kernels; self-gates start near 0.5."""
    he_normal(model)
    for module in model.modules():
        if isinstance(module, SelfGating):
            nn.init.trunc_normal_(module.dense.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.zeros_(module.dense.bias)
        elif isinstance(module, SqueezeExcitation):
            for layer in (module.reduce, module.expand):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                nn.init.zeros_(layer.bias)


# --- scaling rule ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled:
    """A network of the family with the clips that it is meant for, and its cost.

    Attributes:
        arch: Name in the registry.
        input: Size, frame rate and length of its clips.
        parameters: Number of trainable parameters.
        macs: Multiply-adds of one view, without norms and poolings.
        settings: Arguments of the builder.
    """

    arch: str
    input: InputSpec
    parameters: int
    macs: int
    settings: dict[str, Any] = field(default_factory=dict)


def scale(depth: int, frames: int = 32, size: int = 256, num_classes: int = 400) -> Scaled:
    """Scale the family: deeper networks with longer clips, at a constant frame size.

    The published networks have 50, 101, 152 and 200 layers with 32 frames, then 200 and more with
    48: more frames help more than more pixels. The cost is counted on the ``meta`` device.

    Args:
        depth: A key of ``DEPTHS``.
        frames: Frames of a clip, every second one of 25 per second.
        size: Side of the square view in pixels (256 in the published evaluation).
        num_classes: Outputs of the classifier.

    Raises:
        ModelError: No network of that depth, or an empty clip.
    """
    if depth not in DEPTHS:
        raise ModelError(f"there is no depth {depth}", f"known: {', '.join(map(str, DEPTHS))}")
    if frames < 1 or size < 1:
        raise ModelError(f"frames={frames}, size={size}: must be positive")
    with torch.device("meta"):
        model = rs(depth, num_classes=num_classes)
    return Scaled(
        arch=f"resnet3d-rs-{depth}",
        input=InputSpec(size, RATE, frames),
        parameters=sum(p.numel() for p in model.parameters()),
        macs=count_macs(model, (1, 3, frames, size, size)),
        settings={"num_classes": num_classes},
    )


# --- builders -----------------------------------------------------------------------------------

_TINY = {"num_classes": 7, "width": 8, "blocks_per_group": 1}
_TINY_CLIP = (2, 3, 5, 33, 40)


def _blocks(depth: int, per_group: int) -> tuple[int, ...]:
    return (per_group,) * 4 if per_group else DEPTHS[depth]


def rs(
    depth: int,
    num_classes: int = 400,
    dropout: float = 0.5,
    width: int = 64,
    blocks_per_group: int = 0,
    se_ratio: float = 0.25,
    stochastic_depth: float = 0.1,
    norm_momentum: float = 0.1,
    pool_stride: int = 1,
    gate_first: bool = True,
    checkpointing: bool = False,
) -> ResNet3DRS:
    """Build a 3D ResNet-RS; see ``Shape`` and ``ResNet3DRS`` for the arguments.

    Args:
        depth: A key of ``DEPTHS``.
        num_classes: Outputs of the classifier.
        dropout: Dropout before the classifier.
        width: Channels of the stem.
        blocks_per_group: Overrides those of the depth, for small networks; 0 keeps them.
        se_ratio: Ratio of squeeze-excitation.
        stochastic_depth: Largest drop rate.
        norm_momentum: The published recipe uses 1, which needs averaged statistics (``ema``).
        pool_stride: Temporal stride of the stem's pooling; 1 in the released networks.
        gate_first: Self-gating before squeeze-excitation.
        checkpointing: Activation checkpointing, for less memory in training.
    """
    shape = Shape(
        width=width, pool_stride=pool_stride, se_ratio=se_ratio,
        stochastic_depth=stochastic_depth, gate_first=gate_first, norm_momentum=norm_momentum,
    )  # fmt: skip
    return ResNet3DRS(num_classes, _blocks(depth, blocks_per_group), dropout, shape, checkpointing)


for _depth in DEPTHS:
    register(f"resnet3d-rs-{_depth}", tiny=_TINY, tiny_input=_TINY_CLIP)(partial(rs, _depth))


@register("resnet3d-50", tiny=_TINY, tiny_input=_TINY_CLIP)
def r3d_50(
    num_classes: int = 400,
    dropout: float = 0.5,
    width: int = 64,
    blocks_per_group: int = 0,
    norm_momentum: float = 0.1,
    pool_stride: int = 1,
    checkpointing: bool = False,
) -> ResNet3DRS:
    """Build the family's baseline R3D-50: one wide stem, self-gating, no squeeze-excitation."""
    shape = Shape(
        width=width, kernels=BASELINE_KERNELS, deep_stem=False, pool_stride=pool_stride,
        se_ratio=0.0, stochastic_depth=0.0, norm_momentum=norm_momentum,
    )  # fmt: skip
    return ResNet3DRS(num_classes, _blocks(50, blocks_per_group), dropout, shape, checkpointing)
