"""The next frames of a causal MoViNet as a function of tensors, for graph engines.

Everything that the network remembers is an input and an output: the past frames of every temporal
kernel, what squeeze-excitation and the head remember, and the number of frames before. A temporal
kernel is a sum of products with the frames of its buffer, so that a step returns only the newest
frame of each buffer and copies none. Several frames are run in one call as rows of one batch, with
the sums over time written out frame by frame. Biases, normalisation and the scalars of branches are
folded, and uneven SAME padding becomes even padding of a kernel with a leading row and column of
zeros.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.models.layers.same import avg_pool_same, same_padding
from foveate.models.movinet_config import empty_state, pool_name, slot_name
from foveate.models.movinet_layers import Bottleneck


class MoViNetStep(nn.Module):
    """A frozen copy of a `MoViNetStream` that runs the next frames of every stream.

    Args:
        model: The folded network (see `MoViNet.folded`), with kernels factored in space and time
            and SAME padding; it is changed.
        side: Height and width of the frames.
        products: Write temporal kernels as products (fastest under OpenVINO) or as depthwise
            convolutions of 1x1 (fastest under ONNX Runtime).
        scale: What the channels of a frame are multiplied by, folded into the first convolution.

    Attributes:
        buffers_of: Layer → names of its past frames, oldest first.
        remembered: Names of the other state, in the order of `forward`.
    """

    def __init__(
        self, model: Any, side: int, *, products: bool, scale: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.net, self.side, self.products = model, side, products
        self.buffers_of = {
            name: [slot_name(name, i) for i in range(layer.kernel_t - 1)]
            for name, layer in model.layers()
            if layer.kernel_t > 1
        }
        gated = [name for name, layer in model.layers() if layer.squeeze is not None]
        self.remembered = [*map(pool_name, gated), "head/sum"]
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.contiguous_format)
        if scale is not None:
            model.stem.weight = nn.Parameter(model.stem.weight * scale.view(-1, 1, 1), False)
        self.pads = [_even_padding(model.stem, side)]
        size = -(-side // 2)
        for _, layer in model.layers():
            self.pads.append(_even_padding(layer.feature, size))
            size = -(-size // layer.stride)
            _fold_scalar(layer)

    def initial(self) -> dict[str, torch.Tensor]:
        """The state of one stream before its first frame, maps as (1, C, H, W)."""
        side = self.side
        state = empty_state(self.net.config, self.net.memory, 1, side, side, torch.float32, "cpu")
        return {
            key: value.permute(0, 3, 1, 2).contiguous() if "/slot" in key else value
            for key, value in state.items()
        }

    def forward(
        self, x: torch.Tensor, state: dict[str, torch.Tensor], count: int = 1
    ) -> dict[str, torch.Tensor]:
        """Run the next frames of every stream.

        Args:
            x: Frames (B * count, 3, S, S), those of a stream one after another, RGB in 0..1 or
                before `scale`.
            state: As `initial` returns it, with a batch of B.
            count: Frames of each stream, one or at least as many as any buffer has.

        Returns:
            The new values of `remembered`, and the buffers: after one frame only the newest of
            each, by its last name.
        """
        net, new = self.net, dict[str, torch.Tensor]()
        seen = state["head/frames"]
        y = net.activation(_convolve(x, net.stem, self.pads[0]))
        for (name, layer), pad in zip(net.layers(), self.pads[1:], strict=True):
            wide = layer.activation(layer.expansion(y))
            wide = layer.activation(_convolve(wide, layer.feature, pad))
            if name in self.buffers_of:
                keys = self.buffers_of[name]
                shown = [wide] if count == 1 else wide.unflatten(0, (-1, count)).unbind(1)
                frames = [*(state[key] for key in keys), *shown]
                new.update(zip(reversed(keys), reversed(frames[len(keys) :]), strict=False))
                sums = [
                    self._temporal(frames[i : i + len(keys) + 1], layer.feature_temporal)
                    for i in range(count)
                ]
                joined = sums[0] if count == 1 else torch.stack(sums, 1).flatten(0, 1)
                wide = layer.activation(joined)
            if layer.squeeze is not None:
                key = pool_name(name)
                means = wide.mean((2, 3)).unflatten(0, (-1, count))
                gates, new[key] = layer.squeeze(means, state[key], seen)
                wide = wide * gates.flatten(0, 1)[:, :, None, None]
            skip = y
            if layer.skip_project is not None:
                skip = layer.skip_project(avg_pool_same(y) if layer.stride > 1 else y)
            y = layer.projection(wide) + skip
        features = net.activation(net.head_project(y)).mean((2, 3))
        features = features.unflatten(0, (-1, count))
        new["head/sum"] = net.memory.advance(features, state["head/sum"], seen)[1]
        return new

    def _temporal(self, frames: list[torch.Tensor], conv: nn.Conv2d) -> torch.Tensor:
        """The kernel over time at the newest frame, from all frames that it covers."""
        weight, bias = conv.weight, conv.bias
        assert bias is not None
        total: torch.Tensor | None = None
        for i, frame in reversed(list(enumerate(frames))):
            tap = weight[:, :, i : i + 1]
            first = total is None
            if self.products:
                term = frame * tap[None, :, 0]
                term = term + bias[:, None, None] if first else term
            else:
                term = F.conv2d(frame, tap, bias if first else None, groups=len(tap))
            total = term if total is None else total + term
        assert total is not None
        return total


def _convolve(x: torch.Tensor, conv: nn.Conv2d, pad: int) -> torch.Tensor:
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, pad, 1, conv.groups)


def _even_padding(conv: nn.Conv2d, size: int) -> int:
    """SAME padding of a square map as one number; the kernel may get a leading row and column."""
    before, after = same_padding(size, conv.weight.shape[2], conv.stride[0])
    if after > before:
        conv.weight = nn.Parameter(F.pad(conv.weight, (1, 0, 1, 0)), False)
    return after


def _fold_scalar(layer: Bottleneck) -> None:
    """Put the scalar of the branch into its projection."""
    conv = layer.projection
    conv.weight = nn.Parameter(conv.weight * layer.rezero, False)
    assert conv.bias is not None
    conv.bias = nn.Parameter(conv.bias * layer.rezero, False)
