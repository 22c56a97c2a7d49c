"""R3D: residual networks with 3x3x3 kernels throughout.

Source: Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
CVPR 2018 (arXiv 1711.09577), table 1, with the 7x7x7 stem of unit stride in time and shortcuts
of type B (1x1x1 convolutions). torchvision's network of another stem is ``r3d-18``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import ClipModel, check_clip, he_normal, over_space
from foveate.models.registry import register

# Depth: blocks per stage, and whether they are bottlenecks.
DEPTHS: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
    200: ((3, 24, 36, 3), True),
}


class Basic(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = shortcut(inputs, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, planes, T/s, H/s, W/s)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Narrow, 3x3x3, widen by four, beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv3d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = nn.Conv3d(planes, planes, 3, stride, 1, bias=False)
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


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """Return the projection that brings a block's input to its output's shape, if any."""
    if stride == 1 and inputs == outputs:
        return None
    conv = nn.Conv3d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(outputs))


def stages(
    block: type[nn.Module], expansion: int, blocks: tuple[int, int, int, int], width: int
) -> list[nn.Sequential]:
    """Build four stages that double the channels; all but the first halve time and space."""
    built, inputs = [], width
    for index, count in enumerate(blocks):
        planes = width << index
        layers = []
        for i in range(count):
            layers.append(block(inputs, planes, 2 if i == 0 and index else 1))
            inputs = planes * expansion
        built.append(nn.Sequential(*layers))
    return built


def depth_of(depth: int) -> tuple[tuple[int, int, int, int], bool]:
    """Look a depth up in the table.

    Raises:
        ModelError: No network of that depth.
    """
    if depth not in DEPTHS:
        raise ModelError(f"there is no depth {depth}", f"known: {', '.join(map(str, DEPTHS))}")
    return DEPTHS[depth]


class R3D(ClipModel):
    """A 3D ResNet.

    Args:
        num_classes: Outputs of the classifier.
        depth: A key of ``DEPTHS``.
        dropout: Probability of dropping a feature before the classifier, in training.
        width: Channels of the stem (64 in the paper).
        stem_frames: Temporal size of the stem's kernel.
        stem_stride: Its step in time.
        max_pool: Whether a 3x3x3 pooling of stride 2 follows the stem.
    """

    def __init__(
        self,
        num_classes: int = 400,
        depth: int = 50,
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
        kernel, stride = (stem_frames, 7, 7), (stem_stride, 2, 2)
        self.conv1 = nn.Conv3d(3, width, kernel, stride, (stem_frames // 2, 3, 3), bias=False)
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


@register("r3d", tiny={"num_classes": 7, "depth": 50, "width": 4}, tiny_input=(2, 3, 8, 32, 40))
def r3d(
    num_classes: int = 400,
    depth: int = 50,
    dropout: float = 0.0,
    width: int = 64,
    stem_frames: int = 7,
    stem_stride: int = 1,
    max_pool: bool = True,
) -> R3D:
    """Build a 3D ResNet of 10 to 200 layers (50 by default)."""
    return R3D(num_classes, depth, dropout, width, stem_frames, stem_stride, max_pool)
