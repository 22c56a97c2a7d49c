"""2D networks inflated to (2+1)D: image weights, with depthwise temporal convolutions added.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017 (arXiv 1705.07750), section 2.4,
inflate image kernels so that the initial network gives a clip of equal frames the output of the
image. Here the temporal kernel is separate from the spatial one (Tran et al., "A Closer Look at
Spatiotemporal Convolutions", CVPR 2018, arXiv 1711.11248) and depthwise (Tran et al., "Video
Classification with Channel-Separated Convolutional Networks", ICCV 2019, arXiv 1904.02811): three
weights per channel, before the first layer of every residual branch, where TSM has its shifts; they
are initialised to 0, 1, 0. ``inflated:BACKBONE`` over any timm backbone that TSM supports.
"""

from __future__ import annotations

import torch
from torch import nn

from foveate.models.registry import register
from foveate.models.tsm import TSM, TemporalShift


class TemporalConvolution(TemporalShift):
    """A depthwise convolution over three frames, initialised to the identity, and then a layer.

    Args:
        layer: A convolution (N, C, H, W), a linear layer or an attention (N, ..., C).
        name: As for a shift.
    """

    def __init__(self, layer: nn.Module, name: str) -> None:
        super().__init__(layer, name)
        wide = _channels(layer)
        # A 2D convolution over frames and positions, which all backends compute fast.
        self.time = nn.Conv2d(wide, wide, (3, 1), padding=(1, 0), groups=wide, bias=False)
        nn.init.zeros_(self.time.weight)
        nn.init.ones_(self.time.weight[:, :, 1])

    def _clip(self, full: torch.Tensor) -> torch.Tensor:
        """Convolve (B, T, ..., C) over T; returns (B * T, ..., C)."""
        rows = full.flatten(2, -2).movedim(-1, 1)  # (B, C, T, positions), channels last
        convolved: torch.Tensor = self.time(rows)
        return convolved.movedim(1, -1).reshape(full.shape).flatten(0, 2)


def _channels(layer: nn.Module) -> int:
    """Input channels of a layer or an attention."""
    for part in layer.modules():
        if isinstance(part, nn.Conv2d):
            return part.in_channels
        if isinstance(part, nn.Linear):
            return part.in_features
    raise AssertionError("a shifted layer contains a convolution or a linear layer")


class Inflated(TSM):
    """A 2D network with depthwise temporal convolutions."""

    shift = TemporalConvolution


@register(
    "inflated",
    tiny={"num_classes": 7, "backbone": "test_efficientnet"},
    tiny_input=(2, 3, 3, 32, 40),
)
def inflated(
    num_classes: int = 400,
    dropout: float = 0.5,
    backbone: str = "resnet50",
    pretrained: bool = False,
) -> Inflated:
    """Build a (2+1)D network over a 2D backbone."""
    return Inflated(backbone, num_classes, dropout, pretrained)
