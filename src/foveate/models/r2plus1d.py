"""R(2+1)D: residual networks whose 3D kernels are taken apart into space, then time.

Source: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition",
CVPR 2018 (arXiv 1711.11248), section 3.5: each pair has as many parameters as the 3D kernel it
replaces. This is the form with the 7x7x7 stem and pooling of the 3D ResNets (``r3d``), where the
middle width is computed for every kernel by itself; torchvision's form is ``r2plus1d-18``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from foveate.models.clip import ClipModel, check_clip, he_normal, over_space
from foveate.models.r3d import depth_of, shortcut, stages
from foveate.models.registry import register


def middle(inputs: int, outputs: int, frames: int, side: int) -> int:
    """Channels between the two kernels for equal parameters (section 3.5)."""
    return inputs * outputs * frames * side**2 // (inputs * side**2 + frames * outputs)


class Pair(nn.Module):
    """A spatial convolution, BatchNorm, ReLU and a temporal convolution.

    The strides are taken apart as well, so that the spatial kernel sees every frame.
    """

    def __init__(
        self, inputs: int, outputs: int, frames: int, side: int, strides: tuple[int, int]
    ) -> None:
        super().__init__()
        between = middle(inputs, outputs, frames, side)
        in_time, in_space = strides
        self.spatial = nn.Conv3d(
            inputs, between, (1, side, side), (1, in_space, in_space),
            (0, side // 2, side // 2), bias=False,
        )  # fmt: skip
        self.bn = nn.BatchNorm3d(between)
        self.temporal = nn.Conv3d(
            between, outputs, (frames, 1, 1), (in_time, 1, 1), (frames // 2, 0, 0), bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T/s, H/s, W/s)."""
        y: torch.Tensor = self.temporal(F.relu(self.bn(self.spatial(x))))
        return y


class Basic(nn.Module):
    """Two pairs beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Pair(inputs, planes, 3, 3, (stride, stride))
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = Pair(planes, planes, 3, 3, (1, 1))
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = shortcut(inputs, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, planes, T/s, H/s, W/s)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Narrow, a pair, widen by four, beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv3d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = Pair(planes, planes, 3, 3, (stride, stride))
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = nn.Conv3d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, 4 * planes, T/s, H/s, W/s)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class R2Plus1D(ClipModel):
    """An R(2+1)D network.

    Args:
        num_classes: Outputs of the classifier.
        depth: A key of ``r3d.DEPTHS``.
        dropout: Probability of dropping a feature before the classifier, in training.
        width: Channels of the stem (64 in the paper).
        stem_frames: Temporal size of the stem's kernel.
        stem_stride: Its step in time.
        max_pool: Whether a 3x3x3 pooling of stride 2 follows the stem.
    """

    def __init__(
        self,
        num_classes: int = 400,
        depth: int = 34,
        dropout: float = 0.0,
        width: int = 64,
        stem_frames: int = 7,
        stem_stride: int = 1,
        max_pool: bool = True,
    ) -> None:
        blocks, wide = depth_of(depth)
        block = Bottleneck if wide else Basic
        super().__init__(8 * width * block.expansion, num_classes, dropout)
        self.max_pool = max_pool
        self.conv1 = Pair(3, width, stem_frames, 7, (stem_stride, 2))
        self.bn1 = nn.BatchNorm3d(width)
        built = stages(block, block.expansion, blocks, width)
        self.layer1, self.layer2, self.layer3, self.layer4 = built
        he_normal(self)

    def maps(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the output of every stage for clips (B, 3, T, H, W), by name and in order."""
        check_clip(x)
        x = F.relu(self.bn1(self.conv1(x)))
        if self.max_pool:
            x = F.max_pool3d(x, 3, 2, 1)
        found = {}
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = found[name] = getattr(self, name)(x)
        return found

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, steps, channels) of clips (B, 3, T, H, W)."""
        return over_space(self.maps(x)["layer4"])


@register(
    "r2plus1d", tiny={"num_classes": 7, "depth": 10, "width": 8}, tiny_input=(2, 3, 8, 32, 40)
)
def r2plus1d(
    num_classes: int = 400,
    depth: int = 34,
    dropout: float = 0.0,
    width: int = 64,
    stem_frames: int = 7,
    stem_stride: int = 1,
    max_pool: bool = True,
) -> R2Plus1D:
    """Build an R(2+1)D network of 10 to 200 layers (34 by default)."""
    return R2Plus1D(num_classes, depth, dropout, width, stem_frames, stem_stride, max_pool)
