"""TensorFlow's SAME padding for convolutions and average pooling of any input size.

With SAME padding the output has ceil(n / stride) positions; the smaller half of the zeros comes
first, so the padding depends on the input size and is often asymmetric.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """SAME padding (before, after) of an axis of ``size`` positions."""
    rest = size % stride
    total = max(kernel - (rest if rest else stride), 0)
    return total // 2, total - total // 2


def conv2d_same(
    x_bchw: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Convolve with SAME padding.

    Args:
        x_bchw: Input (B, C, H, W).
        weight: Kernel (out, C / groups, kh, kw).
        bias: One value per output channel, or None.
        stride: Stride of both axes.
        groups: Channel groups; C for a depthwise convolution.

    Returns:
        (B, out, ceil(H / stride), ceil(W / stride)).
    """
    top, bottom = same_padding(x_bchw.shape[-2], weight.shape[-2], stride)
    left, right = same_padding(x_bchw.shape[-1], weight.shape[-1], stride)
    if top == bottom and left == right:
        # Symmetric padding needs no copy of the input.
        return F.conv2d(x_bchw, weight, bias, stride, (top, left), 1, groups)
    padded = F.pad(x_bchw, (left, right, top, bottom))
    return F.conv2d(padded, weight, bias, stride, 0, 1, groups)


def avg_pool_same(x_bchw: torch.Tensor) -> torch.Tensor:
    """Average-pool 3x3 windows at stride 2 with SAME padding that is not counted.

    An even size is padded by (0, 1) and an odd one by (1, 1). The former equals ``ceil_mode``, so
    neither needs a copy.

    Args:
        x_bchw: Input (B, C, H, W).

    Returns:
        (B, C, ceil(H / 2), ceil(W / 2)).
    """
    pads = (x_bchw.shape[-2] % 2, x_bchw.shape[-1] % 2)
    return F.avg_pool2d(x_bchw, 3, 2, pads, ceil_mode=True, count_include_pad=False)


def pad_same(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """Apply SAME padding to the last axes of a map, for any number of axes.

    Args:
        x: (..., one axis per entry of ``kernel``).
        kernel: Kernel size of each axis.
        stride: Stride of each axis.

    Returns:
        The padded map; the same tensor if no padding is needed.
    """
    axes = len(kernel)
    pads: list[int] = []
    for size, k, s in zip(x.shape[-axes:], kernel, stride, strict=True):
        pads = [*same_padding(size, k, s), *pads]  # torch expects the last axis first
    return F.pad(x, pads) if any(pads) else x
