"""MobileNets with BatchNorm folded into the convolutions, as in published quantised files.

Frozen backbones: without norms they are not suitable for training all layers. Sources: Howard
et al., "MobileNets", arXiv 1704.04861, table 1; Sandler et al., "MobileNetV2", CVPR 2018 (arXiv
1801.04381), table 2. Padding is TensorFlow's SAME.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from foveate.models.layers.same import conv2d_same

# Output channels and stride of each depthwise-separable layer (table 1 of v1).
_V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
# Expansion, output channels, repetitions, stride (table 2 of v2).
_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class Conv(nn.Module):
    """A convolution with bias and SAME padding, and ReLU6 unless it is linear."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
        self.stride, self.groups, self.linear = stride, groups, linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H/s), ceil(W/s))."""
        if self.conv.kernel_size == (1, 1):
            y = self.conv(x)
        else:
            y = conv2d_same(x, self.conv.weight, self.conv.bias, self.stride, self.groups)
        return y if self.linear else F.relu6(y)


class SeparableBlock(nn.Module):
    """Depthwise, then pointwise; no shortcut."""

    has_skip = False

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = Conv(inputs, inputs, 3, stride, inputs)
        self.pointwise = Conv(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/s, W/s)."""
        y: torch.Tensor = self.pointwise(self.depthwise(x))
        return y


class InvertedBlock(nn.Module):
    """Expand, depthwise, project; a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.has_skip = stride == 1 and inputs == outputs
        self.expand = Conv(inputs, wide) if expansion > 1 else None
        self.depthwise = Conv(wide, wide, 3, stride, wide)
        self.project = Conv(wide, outputs, linear=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/s, W/s)."""
        wide = x if self.expand is None else self.expand(x)
        y: torch.Tensor = self.project(self.depthwise(wide))
        return x + y if self.has_skip else y


class FoldedMobileNet(nn.Module):
    """Images (N, 3, H, W) to pooled features (N, num_features).

    Args:
        version: 1 or 2.
        width: Multiplies all channels, for version 1.
        channels: Of an image.
    """

    frozen = True  # training code keeps such a backbone frozen

    def __init__(self, version: int, width: float = 1.0, channels: int = 3) -> None:
        super().__init__()
        inputs, channels = channels, max(8, int(32 * width))
        self.stem = Conv(inputs, channels, 3, 2)
        blocks: list[nn.Module] = []
        if version == 1:
            for outputs, stride in _V1:
                blocks.append(SeparableBlock(channels, int(outputs * width), stride))
                channels = int(outputs * width)
        else:
            for expansion, outputs, count, stride in _V2:
                for i in range(count):
                    step = stride if i == 0 else 1
                    blocks.append(InvertedBlock(channels, outputs, step, expansion))
                    channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.last = Conv(channels, 1280) if version == 2 else None
        self.num_features = 1280 if version == 2 else channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return pooled features of images."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        if self.last is not None:
            x = self.last(x)
        return x.mean((2, 3))

    def convolutions(self) -> Iterator[tuple[str, nn.Conv2d]]:
        """Yield every convolution with its name, in order of execution."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                yield name, module
