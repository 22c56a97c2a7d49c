"""I3D: Inception-v1 inflated to 3D.

Source: Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics
Dataset", CVPR 2017 (arXiv 1705.07750), figure 3; the branch widths are those of Inception-v1.
Padding is TensorFlow's SAME and BatchNorm has epsilon 1e-3, as in the published network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import ClipModel, check_clip, he_normal, over_space
from foveate.models.layers.same import pad_same
from foveate.models.registry import register

Sizes = tuple[int, int, int]

# Channels of the branches: 1x1x1; reduction and 3x3x3; reduction and 3x3x3; pooling.
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Poolings before these modules: kernel and stride.
_POOLS: dict[str, tuple[Sizes, Sizes]] = {
    "conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def max_pool_same(x: torch.Tensor, kernel: Sizes, stride: Sizes) -> torch.Tensor:
    """Max-pool with SAME padding. Maps are not negative, so padding with zeros is correct."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


class Unit3d(nn.Module):
    """Convolution with SAME padding, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Sizes, stride: Sizes = (1, 1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, ceil(T/s), ceil(H/s), ceil(W/s))."""
        return F.relu(self.bn(self.conv(pad_same(x, self.kernel, self.stride))))


class Mixed(nn.Module):
    """An Inception module of four branches: 1x1x1, twice 3x3x3, and pooling."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        a, b0, b1, c0, c1, d = widths
        self.branch_0 = Unit3d(inputs, a, one)
        self.branch_1 = nn.Sequential(Unit3d(inputs, b0, one), Unit3d(b0, b1, three))
        self.branch_2 = nn.Sequential(Unit3d(inputs, c0, one), Unit3d(c0, c1, three))
        self.branch_3 = Unit3d(inputs, d, one)
        self.outputs = a + b1 + c1 + d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T, H, W)."""
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        branches = (self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(pooled))
        return torch.cat(branches, 1)


@register("i3d", tiny={"num_classes": 7, "divide": 8}, tiny_input=(2, 3, 9, 32, 40))
class I3D(ClipModel):
    """Inflated Inception-v1 (12,287,264 parameters before the classifier; 21,952 fewer for flow).

    The logits are the mean over windows of two temporal steps of the last maps (of one step for
    short clips); steps are eight frames apart.

    Args:
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
        divide: Divisor of all numbers of channels; 1 gives the published network.
        channels: Of the clips: 3 for RGB, 2 for optical flow.
    """

    def __init__(
        self, num_classes: int = 400, dropout: float = 0.5, divide: int = 1, channels: int = 3
    ) -> None:
        if channels < 1:
            raise ModelError(f"channels={channels}: must be at least 1")
        last = _MIXED["mixed_5c"]
        super().__init__(sum(last[i] // divide for i in (0, 2, 4, 5)), num_classes, dropout)
        self.channels = channels
        stem, wide = 64 // divide, 192 // divide
        self.layers = nn.ModuleDict(
            {
                "conv3d_1a_7x7": Unit3d(channels, stem, (7, 7, 7), (2, 2, 2)),
                "conv3d_2b_1x1": Unit3d(stem, stem, (1, 1, 1)),
                "conv3d_2c_3x3": Unit3d(stem, wide, (3, 3, 3)),
            }
        )
        for name, widths in _MIXED.items():
            a, b0, b1, c0, c1, d = (width // divide for width in widths)
            mixed = Mixed(wide, (a, b0, b1, c0, c1, d))
            self.layers[name] = mixed
            wide = mixed.outputs
        he_normal(self)

    def maps(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the output of every layer for clips (B, channels, T, H, W), by name."""
        check_clip(x, self.channels)
        found: dict[str, torch.Tensor] = {}
        for name, layer in self.layers.items():
            if name in _POOLS:
                x = max_pool_same(x, *_POOLS[name])
            x = found[name] = layer(x)
        return found

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, windows, 1024) of clips (B, channels, T, H, W)."""
        check_clip(x, self.channels)
        for name, layer in self.layers.items():
            x = layer(max_pool_same(x, *_POOLS[name]) if name in _POOLS else x)
        steps = over_space(x)
        return steps if steps.shape[1] == 1 else (steps[:, 1:] + steps[:, :-1]) / 2
