"""FastestDet: a detector of a quarter of a million parameters for CPUs.

Source: https://github.com/dog-qiuqiu/FastestDet (BSD-3-Clause). A ShuffleNetV2 (arXiv 1807.11164),
its last three stages on one map at stride 16, and one prediction per position without anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError
from foveate.core.spec import InputSpec
from foveate.models.boxes import selected
from foveate.models.detectors import Detector, Found, Maps, Target
from foveate.models.registry import register

INPUT = InputSpec(352, 25.0, 1, resize="squash", crop="none")
MINIMUM_SCORE, OVERLAP = 0.05, 0.45  # of detections, and of two that are one object


def _convolution(
    inside: int, out: int, kernel: int, stride: int = 1, depthwise: bool = False, relu: bool = True
) -> list[nn.Module]:
    groups = inside if depthwise else 1
    layers: list[nn.Module] = [
        nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
    return [*layers, nn.ReLU()] if relu else layers


class ShuffleBlock(nn.Module):
    """A block of ShuffleNetV2: half of the channels pass by, or a strided branch replaces them."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        kept = inside if stride == 2 else half
        self.main = nn.Sequential(
            *_convolution(kept, half, 1),
            *_convolution(half, half, 3, stride, depthwise=True, relu=False),
            *_convolution(half, half, 1),
        )
        self.projection = None
        if stride == 2:
            self.projection = nn.Sequential(
                *_convolution(inside, inside, 3, 2, depthwise=True, relu=False),
                *_convolution(inside, half, 1),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, out, H / stride, W / stride)."""
        if self.projection is not None:
            return torch.cat([self.projection(x), self.main(x)], 1)
        return torch.cat([x[:, ::2], self.main(x[:, 1::2])], 1)


class FastestDet(Detector):
    """The network; its frames are RGB in 0..1, of sides divisible by 32.

    Args:
        num_classes: Outputs of the classifier.
        channels: Of the three stages.
        repeats: Blocks of the three stages.
    """

    def __init__(
        self, num_classes: int = 80, channels: Sequence[int] = (48, 96, 192),
        repeats: Sequence[int] = (4, 8, 4),
    ) -> None:  # fmt: skip
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList()
        inside = 24
        for out, count in zip(channels, repeats, strict=True):
            blocks = [ShuffleBlock(inside, out, 2)]
            blocks += [ShuffleBlock(out, out, 1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inside = out
        wide = channels[1]
        self.reduce = nn.Sequential(*_convolution(sum(channels), wide, 1))
        # Convolutions in place of the pooling of different sizes that gave the module its name.
        self.pyramid = nn.ModuleList(
            nn.Sequential(*(layer for _ in range(count) for layer in self._deep(wide)))
            for count in (1, 2, 3)
        )
        self.join = nn.Sequential(*_convolution(3 * wide, wide, 1, relu=False))
        self.shared = nn.Sequential(*_convolution(wide, wide, 1))
        self.objectness, self.box, self.classes = (
            nn.Sequential(*self._deep(wide), *_convolution(wide, out, 1, relu=False))
            for out in (1, 4, num_classes)
        )

    @staticmethod
    def _deep(channels: int) -> list[nn.Module]:
        return _convolution(channels, channels, 5, depthwise=True)

    def low(self, x: Tensor) -> Maps:
        """Up to the first block at stride 16; see `Detector`.

        Raises:
            ModelError: A side of the frames is not divisible by 32.
        """
        if x.shape[2] % 32 or x.shape[3] % 32:
            raise ModelError(f"frames of {x.shape[3]}x{x.shape[2]}: sides must be divisible by 32")
        first = self.stages[0](self.stem(x.flip(1)))  # the weights expect BGR
        second: Any = self.stages[1]
        return {"first": first, "x": second[0](first)}

    def high(self, low: Maps) -> Maps:
        """The features of three stages on one map; see `Detector`."""
        second: Any = self.stages[1]
        middle = second[1:](low["x"])
        deep = F.interpolate(self.stages[2](middle), scale_factor=2.0)
        fine = F.avg_pool2d(low["first"], 3, 2, 1)
        x = self.reduce(torch.cat([fine, middle, deep], 1))
        joined = self.join(torch.cat([branch(x) for branch in self.pyramid], 1))
        return {"0": F.relu(x + joined)}

    def head(self, features: Maps) -> Tensor:
        """(N, 5 + classes, h, w): objectness, box and class probabilities, as published."""
        x = self.shared(features["0"])
        return torch.cat([self.objectness(x).sigmoid(), self.box(x), self.classes(x).softmax(1)], 1)

    def detect(self, features: Maps, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Boxes of each image after non-maximum suppression; see `Detector`."""
        boxes, scores, labels = (one.cpu().numpy() for one in self.decoded(features))
        device = features["0"].device
        return [
            {
                name: torch.from_numpy(value).to(device)
                for name, value in selected(
                    boxes[at], scores[at], labels[at], size, MINIMUM_SCORE, OVERLAP
                ).items()
            }
            for at, size in enumerate(sizes)
        ]

    def decoded(self, features: Maps) -> tuple[Tensor, Tensor, Tensor]:
        """The box of each position, before non-maximum suppression.

        Args:
            features: Of `high`.

        Returns:
            Boxes (N, n, 4) xyxy as shares of the image, scores (N, n) and labels (N, n).
        """
        out = self.head(features).float()
        height, width = out.shape[2:]
        y, x = torch.meshgrid(
            torch.arange(height, device=out.device), torch.arange(width, device=out.device),
            indexing="ij",
        )  # fmt: skip
        middle = torch.stack([(out[:, 1].tanh() + x) / width, (out[:, 2].tanh() + y) / height], 1)
        half = out[:, 3:5].sigmoid() / 2
        boxes = torch.cat([middle - half, middle + half], 1).flatten(2).transpose(1, 2)
        best, labels = out[:, 5:].flatten(2).max(1)
        # The weights of the two are those of the published program.
        return boxes, out[:, 0].flatten(1) ** 0.6 * best**0.4, labels

    def loss(
        self, features: Maps, targets: Sequence[Target], sizes: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """Not supported: the published training is not part of this package.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            "fastestdet cannot be trained here", "train another detector, such as rfcn:resnet18"
        )


@register(
    "fastestdet",
    classifier=False,
    tiny={"num_classes": 3, "channels": (16, 32, 64), "repeats": (2, 2, 2)},
    tiny_input=(2, 3, 1, 64, 64),
    input=INPUT,
)
def fastestdet(
    num_classes: int = 80, channels: Sequence[int] = (48, 96, 192),
    repeats: Sequence[int] = (4, 8, 4),
) -> FastestDet:  # fmt: skip
    """FastestDet of the published size."""
    return FastestDet(num_classes, channels, repeats)
