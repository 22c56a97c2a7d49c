"""The next frames of a causal MoViNet as a function of tensors, for graph engines.

Everything that the network remembers is an input and an output: the past frames of every temporal
kernel, what squeeze-excitation and the head remember, and the number of frames before. A temporal
kernel is applied to the frames of its buffer, so that a step returns only the newest frame of each
buffer. Several frames are run in one call as rows of one batch. Biases, normalisation and the
scalars of branches are folded. Uneven SAME padding becomes even padding of a kernel with a leading
row and column of zeros, except for LiteRT, which has uneven padding.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from foveate.models.layers.same import avg_pool_same, same_padding
from foveate.models.movinet_config import empty_state, pool_name, slot_name
from foveate.models.movinet_layers import Bottleneck

Temporal = Literal["convolutions", "products", "stacked"]


class MoViNetStep(nn.Module):
    """A frozen copy of a `MoViNetStream` that runs the next frames of every stream.

    Args:
        model: The folded network (see `MoViNet.folded`), with kernels factored in space and time
            and SAME padding; it is changed.
        side: Height and width of the frames.
        temporal: How temporal kernels are written: frame by frame, as sums of `products` (fastest
            under OpenVINO) or of depthwise `convolutions` of 1x1 (fastest under ONNX Runtime); or
            as one depthwise convolution over all frames, `stacked` with channels last, which is
            then the layout of the buffers, too (fastest under LiteRT).
        scale: What the channels of a frame are multiplied by, folded into the first convolution.

    Attributes:
        buffers_of: Layer → names of its past frames, oldest first.
        remembered: Names of the other state, in the order of `forward`.
    """

    def __init__(
        self, model: Any, side: int, *, temporal: Temporal, scale: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.net, self.side, self.temporal = model, side, temporal
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
        padding = _padding if temporal == "stacked" else _even_padding
        self.pads = [padding(model.stem, side)]
        size = -(-side // 2)
        for _, layer in model.layers():
            self.pads.append(padding(layer.feature, size))
            size = -(-size // layer.stride)
            _fold_scalar(layer)

    def initial(self) -> dict[str, torch.Tensor]:
        """The state of one stream before its first frame.

        Maps are (1, C, H, W), or (1, H, W, C) if they are `stacked`.
        """
        side = self.side
        state = empty_state(self.net.config, self.net.memory, 1, side, side, torch.float32, "cpu")
        if self.temporal == "stacked":
            return state
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
                over_time = self._stacked if self.temporal == "stacked" else self._summed
                past = {key: state[key] for key in self.buffers_of[name]}
                wide, kept = over_time(past, wide, layer, count)
                new.update(kept)
            if layer.squeeze is not None:
                key = pool_name(name)
                means = self._mean(wide).unflatten(0, (-1, count))
                gates, new[key] = layer.squeeze(means, state[key], seen)
                wide = self._scaled(wide, gates.flatten(0, 1))
            skip = y
            if layer.skip_project is not None:
                skip = layer.skip_project(avg_pool_same(y) if layer.stride > 1 else y)
            y = layer.projection(wide) + skip
        features = self._mean(net.activation(net.head_project(y)))
        features = features.unflatten(0, (-1, count))
        new["head/sum"] = net.memory.advance(features, state["head/sum"], seen)[1]
        return new

    def _mean(self, wide: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, C), with channels last without a change of layout."""
        if self.temporal == "stacked":
            return wide.movedim(1, -1).mean((1, 2))
        return wide.mean((2, 3))

    def _scaled(self, wide: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) times (B, C), in the layout of `_mean`."""
        if self.temporal == "stacked":
            return (wide.movedim(1, -1) * gates[:, None, None]).movedim(-1, 1)
        return wide * gates[:, :, None, None]

    def _stacked(
        self, past: dict[str, torch.Tensor], wide: torch.Tensor, layer: Bottleneck, count: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Kernel over time and activation of every new frame, and the new buffers."""
        conv = layer.feature_temporal
        assert conv is not None
        shown = wide.movedim(1, -1).unflatten(0, (-1, count))
        frames = torch.cat([*(one.unsqueeze(1) for one in past.values()), shown], 1)
        lines = frames.flatten(2, 3).movedim(-1, 1)
        made = F.conv2d(lines, conv.weight, conv.bias, groups=lines.shape[1])
        made = layer.activation(made).movedim(1, -1).flatten(0, 1)
        wide = made.unflatten(1, shown.shape[2:4]).movedim(-1, 1)
        if count == 1:
            return wide, {list(past)[-1]: shown[:, 0]}
        return wide, {key: frames[:, count + i] for i, key in enumerate(past)}

    def _summed(
        self, past: dict[str, torch.Tensor], wide: torch.Tensor, layer: Bottleneck, count: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Kernel over time and activation of every new frame, and the new buffers."""
        shown = [wide] if count == 1 else wide.unflatten(0, (-1, count)).unbind(1)
        frames, size = [*past.values(), *shown], len(past) + 1
        kept = dict(zip(reversed(past), reversed(shown), strict=False))
        conv = layer.feature_temporal
        assert conv is not None
        sums = [self._sum(frames[i : i + size], conv) for i in range(count)]
        made = sums[0] if count == 1 else torch.stack(sums, 1).flatten(0, 1)
        return layer.activation(made), kept

    def _sum(self, frames: list[torch.Tensor], conv: nn.Conv2d) -> torch.Tensor:
        """The kernel over time at the newest frame, from all frames that it covers."""
        weight, bias = conv.weight, conv.bias
        assert bias is not None
        total: torch.Tensor | None = None
        for i, frame in reversed(list(enumerate(frames))):
            tap = weight[:, :, i : i + 1]
            first = total is None
            if self.temporal == "products":
                term = frame * tap[None, :, 0]
                term = term + bias[:, None, None] if first else term
            else:
                term = F.conv2d(frame, tap, bias if first else None, groups=len(tap))
            total = term if total is None else total + term
        assert total is not None
        return total


def _convolve(x: torch.Tensor, conv: nn.Conv2d, padding: tuple[int, int]) -> torch.Tensor:
    before, after = padding
    if before != after:
        x, before = F.pad(x, (before, after, before, after)), 0
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, before, 1, conv.groups)


def _padding(conv: nn.Conv2d, size: int) -> tuple[int, int]:
    """SAME padding of a square map: pixels before and after it."""
    return same_padding(size, conv.weight.shape[2], conv.stride[0])


def _even_padding(conv: nn.Conv2d, size: int) -> tuple[int, int]:
    """The same with two equal numbers; the kernel may get a leading row and column."""
    before, after = _padding(conv, size)
    if after > before:
        conv.weight = nn.Parameter(F.pad(conv.weight, (1, 0, 1, 0)), False)
    return after, after


def _fold_scalar(layer: Bottleneck) -> None:
    """Put the scalar of the branch into its projection."""
    conv = layer.projection
    conv.weight = nn.Parameter(conv.weight * layer.rezero, False)
    assert conv.bias is not None
    conv.bias = nn.Parameter(conv.bias * layer.rezero, False)
