"""3D residual networks: R3D with 3x3x3 kernels, and R(2+1)D with kernels in space, then in time.

Sources: Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?",
CVPR 2018 (arXiv 1711.09577), table 1, with the 7x7x7 stem of stride 1 in time and shortcuts of type
B (1x1x1 convolutions); Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action
Recognition", CVPR 2018 (arXiv 1711.11248), section 3.5, in the form with the stem and max-pooling
of R3D, where the number of intermediate channels is computed for each kernel. torchvision's
networks, which have another stem, are ``r3d-18`` and ``r2plus1d-18``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import ClipModel, check_clip, he_normal, over_space
from foveate.models.registry import register

Pair = tuple[int, int]  # in time, in space
Convolution = Callable[[int, int, Pair, Pair], nn.Module]

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


def conv3d(inputs: int, outputs: int, kernel: Pair, stride: Pair) -> nn.Conv3d:
    """A 3D convolution without bias, padded so that stride 1 keeps the size."""
    frames, side = kernel
    padding = (frames // 2, side // 2, side // 2)
    size, step = (frames, side, side), (stride[0], stride[1], stride[1])
    return nn.Conv3d(inputs, outputs, size, step, padding, bias=False)


class Conv2Plus1d(nn.Module):
    """A spatial convolution, BatchNorm, ReLU and a temporal convolution.

    It has as many parameters as the 3D convolution that it replaces (section 3.5). The stride is
    split as well, so the spatial kernel sees every frame.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Sizes in time and in space.
        stride: In time and in space.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Pair, stride: Pair) -> None:
        super().__init__()
        frames, side = kernel
        between = inputs * outputs * frames * side**2 // (inputs * side**2 + frames * outputs)
        self.spatial = conv3d(inputs, between, (1, side), (1, stride[1]))
        self.bn = nn.BatchNorm3d(between)
        self.temporal = conv3d(between, outputs, (frames, 1), (stride[0], 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T/s, H/s, W/s)."""
        y: torch.Tensor = self.temporal(F.relu(self.bn(self.spatial(x))))
        return y


class Basic(nn.Module):
    """Two 3x3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, conv: Convolution) -> None:
        super().__init__()
        self.conv1 = conv(inputs, planes, (3, 3), (stride, stride))
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = conv(planes, planes, (3, 3), (1, 1))
        self.bn2 = nn.BatchNorm3d(planes)
        self.downsample = _shortcut(inputs, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, planes, T/s, H/s, W/s)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 and 1x1x1 convolutions and a shortcut; the last has four times the channels."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, conv: Convolution) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = conv3d(inputs, planes, (1, 1), (1, 1))
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = conv(planes, planes, (3, 3), (stride, stride))
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = conv3d(planes, outputs, (1, 1), (1, 1))
        self.bn3 = nn.BatchNorm3d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, T, H, W) to (B, 4 * planes, T/s, H/s, W/s)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The projection of a block's input to the shape of its output, None where they are equal."""
    if stride == 1 and inputs == outputs:
        return None
    conv = conv3d(inputs, outputs, (1, 1), (stride, stride))
    return nn.Sequential(conv, nn.BatchNorm3d(outputs))


class R3D(ClipModel):
    """A 3D ResNet.

    Args:
        num_classes: Outputs of the classifier.
        depth: A key of ``DEPTHS``.
        dropout: Probability of dropping a feature before the classifier, in training.
        width: Channels of the stem (64 in the papers).
        stem_frames: Temporal size of the stem's kernel.
        stem_stride: Temporal stride of the stem.
        max_pool: Whether a 3x3x3 max-pooling of stride 2 follows the stem.

    Raises:
        ModelError: No network of that depth.
    """

    conv: Convolution = staticmethod(conv3d)

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
        if depth not in DEPTHS:
            raise ModelError(f"there is no depth {depth}", f"known: {', '.join(map(str, DEPTHS))}")
        blocks, wide = DEPTHS[depth]
        block = Bottleneck if wide else Basic
        super().__init__(8 * width * block.expansion, num_classes, dropout)
        self.max_pool = max_pool
        self.conv1 = self.conv(3, width, (stem_frames, 7), (stem_stride, 2))
        self.bn1 = nn.BatchNorm3d(width)
        inputs = width
        for stage, count in enumerate(blocks):
            layers = []
            for i in range(count):
                stride = 2 if i == 0 and stage else 1
                layers.append(block(inputs, width << stage, stride, self.conv))
                inputs = (width << stage) * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
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


class R2Plus1D(R3D):
    """A 3D ResNet whose kernels are separated into space and time; arguments as for ``R3D``."""

    conv = Conv2Plus1d


register("r3d", tiny={"num_classes": 7, "depth": 50, "width": 4}, tiny_input=(2, 3, 8, 32, 40))(R3D)
register(
    "r2plus1d", tiny={"num_classes": 7, "depth": 10, "width": 8}, tiny_input=(2, 3, 8, 32, 40)
)(partial(R2Plus1D, depth=34))
