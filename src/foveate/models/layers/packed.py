"""A frozen convolution with SAME padding and activation, packed for the CPU where torch can.

Torch's oneDNN operators take weights in the library's own layout and fuse the activation, which
saves reordering the weights at every call. They are internal to torch and may change, so they
are tried once when a layer is built, compared with the plain operators, and left alone if
anything is amiss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

from foveate.models.layers.same import same_padding

Convolution = Callable[[torch.Tensor], torch.Tensor]

IN_PLACE: dict[str, Convolution] = {
    "relu6": lambda x: F.hardtanh_(x, 0.0, 6.0),
    "swish": lambda x: F.silu(x, inplace=True),
    "hard-swish": lambda x: F.hardswish(x, inplace=True),
}
# Names and bounds of the same activations in oneDNN.
_FUSED: dict[str, tuple[str, list[float]]] = {
    "relu6": ("hardtanh", [0.0, 6.0]),
    "swish": ("swish", []),
    "hard-swish": ("hardswish", []),
}


class _Kernel(NamedTuple):
    """A frozen convolution: weight (out, C / groups, kh, kw), bias (out,) and settings."""

    weight: torch.Tensor
    bias: torch.Tensor
    pads: tuple[int, int]
    stride: int
    groups: int
    activation: str


class PackedConv:
    """activation(conv2d(x) + bias) with SAME padding on channels-last maps, weights frozen.

    Args:
        weight: (out, C / groups, kh, kw).
        bias: (out,).
        stride: The same along both axes.
        groups: Channel groups.
        activation: ``relu6``, ``swish`` or ``hard-swish``.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        stride: int,
        groups: int,
        activation: str = "relu6",
    ) -> None:
        self.activation = activation
        self.weight = weight.detach().clone()
        self.bias = bias.detach().clone()
        self.stride = stride
        self.groups = groups
        self._by_size: dict[tuple[int, int], Convolution] = {}
        self._by_padding: dict[tuple[int, ...], Convolution] = {}

    def __call__(self, x_bchw: torch.Tensor) -> torch.Tensor:
        """Return the convolved maps, (B, out, ceil(H / stride), ceil(W / stride))."""
        size = (x_bchw.shape[2], x_bchw.shape[3])
        run = self._by_size.get(size)
        if run is None:
            # If two threads build it at once, the results are equal and the last one is kept.
            run = self._by_size[size] = self._prepare(size)
        return run(x_bchw)

    def _prepare(self, size: tuple[int, int]) -> Convolution:
        """Prepare padding and kernel for an input size."""
        pads = [0, 0]
        lead = [0, 0]
        for axis, n in enumerate(size):
            before, after = same_padding(n, self.weight.shape[2 + axis], self.stride)
            # A leading zero in the kernel turns padding (p, p + 1) into (p + 1, p + 1).
            pads[axis] = max(before, after)
            lead[axis] = int(after > before)
        # There are many sizes but few paddings: the weights are packed once per padding.
        run = self._by_padding.get((*pads, *lead))
        if run is None:
            weight = F.pad(self.weight, (lead[1], 0, lead[0], 0))
            padding = (pads[0], pads[1])
            run = _convolution(
                _Kernel(weight, self.bias, padding, self.stride, self.groups, self.activation)
            )
            self._by_padding[*pads, *lead] = run
        return run


def _convolution(kernel: _Kernel) -> Convolution:
    """Return the packed form if it works here, else the plain one."""
    weight = kernel.weight
    if weight.dtype == torch.float32 and weight.device.type == "cpu" and _packs(kernel.activation):
        return _packed(kernel)
    return _plain(kernel)


def _plain(kernel: _Kernel) -> Convolution:
    """The convolution with public operators only."""
    weight = kernel.weight.contiguous(memory_format=torch.channels_last)
    activate = IN_PLACE[kernel.activation]

    def run(x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(x, weight, kernel.bias, kernel.stride, kernel.pads, 1, kernel.groups)
        y = y.contiguous(memory_format=torch.channels_last)
        return activate(y)

    return run


def _packed(kernel: _Kernel) -> Convolution:
    """The convolution with packed weights and fused activation."""
    bias, groups = kernel.bias, kernel.groups
    padding, strides, dilation = list(kernel.pads), [kernel.stride] * 2, [1, 1]
    reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
    packed = reorder(kernel.weight.to_mkldnn(), padding, strides, dilation, groups)
    conv = torch.ops.mkldnn._convolution_pointwise.default
    fused, bounds = _FUSED[kernel.activation]

    def run(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = conv(
            x, packed, bias, padding, strides, dilation, groups, fused, bounds, ""
        )
        return y

    return run


@cache
def _packs(activation: str) -> bool:
    """Whether the packed operators exist here and agree with the plain ones."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 7, 7, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(16, 1, 3, 3, generator=generator)
    bias = torch.randn(16, generator=generator)
    kernel = _Kernel(weight, bias, (1, 1), 1, 16, activation)
    plain = _plain(kernel)(x)
    try:
        packed = _packed(kernel)(x)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return packed.stride() == plain.stride() and torch.allclose(packed, plain, atol=1e-4)
