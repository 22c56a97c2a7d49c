"""Layers of the MoViNets: squeeze-excitation over time, and the bottleneck.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511), section 3.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.layers.memory import Memory
from foveate.models.layers.same import avg_pool_same, conv2d_same, pad_same
from foveate.models.movinet_config import (
    ACTIVATIONS,
    GATES,
    LayerConfig,
    MoViNetConfig,
    pool_name,
    slot_name,
)
from foveate.models.streaming import State


def norm_of(config: MoViNetConfig, channels: int) -> nn.Module:
    """Batch normalisation with the settings of the released networks, or none."""
    return nn.BatchNorm2d(channels, 1e-3, 0.01) if config.norm else nn.Identity()


def convolve(x: torch.Tensor, conv: Any, shrink: int | None) -> torch.Tensor:
    """Convolve maps (N, C, H, W) with TensorFlow's SAME padding, or with symmetric padding.

    Args:
        x: The maps.
        conv: A 2D convolution without padding of its own.
        shrink: None for SAME; else by how much the padding is smaller than half the kernel.
    """
    stride = conv.stride[0]
    if shrink is None:
        return conv2d_same(x, conv.weight, conv.bias, stride, conv.groups)
    padding = conv.kernel_size[0] // 2 - shrink
    return F.conv2d(x, conv.weight, conv.bias, stride, padding, 1, conv.groups)


class SqueezeExcite(nn.Module):
    """Scale channels by a gate over their means in space and time (paper, section 3).

    Args:
        channels: E.
        config: `squeeze`, `gate`, `activation`, `causal` and `positions`.
        memory: What the mean over frames so far remembers.
    """

    def __init__(self, channels: int, config: MoViNetConfig, memory: Memory) -> None:
        super().__init__()
        self.causal, self.memory = config.causal, memory
        self.and_frame = config.squeeze == "mean+frame"
        inputs = channels * (1 + self.and_frame)
        hidden = _divisible(0.25 * inputs)
        self.reduce = nn.Linear(inputs, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.position_scale = nn.Parameter(torch.zeros(())) if config.positions else None
        self.activation, self.gate = ACTIVATIONS[config.activation], GATES[config.gate]

    def forward(
        self, means: torch.Tensor, stored: torch.Tensor | None, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the gates of n frames.

        Args:
            means: Means over space (B, n, E).
            stored: What the memory stores; None where the network is not causal.
            seen: Frames before these (B,).

        Returns:
            Gates (B, n, E), or (B, 1, E) where the network is not causal; the values to store.
        """
        if stored is None:
            pooled = means.mean(1, keepdim=True)
        else:
            pooled, stored = self.memory.advance(means, stored, seen)
        pooled = pooled.to(means.dtype)
        if self.and_frame:
            pooled = torch.cat([pooled, means.expand(-1, pooled.shape[1], -1)], 2)
        if self.position_scale is not None:
            at = seen.unsqueeze(1) + torch.arange(pooled.shape[1], device=seen.device)
            encoded = positions(at, pooled.shape[2]).to(pooled.dtype)
            pooled = pooled + self.position_scale * encoded
        return self.gate(self.expand(self.activation(self.reduce(pooled)))), stored


def positions(at: torch.Tensor, channels: int) -> torch.Tensor:
    """Encode numbers of frames (B, n) as (B, n, channels): sines first, then cosines."""
    half = torch.arange(0, channels, 2, device=at.device, dtype=torch.float32)
    angles = at.unsqueeze(2).float() * 10000.0 ** (-half / channels)
    return torch.cat([angles.sin(), angles.cos()[..., : channels // 2]], 2)


def _divisible(value: float) -> int:
    """The nearest multiple of 8, at least 8, and no less than .9 of the value."""
    nearest = max(8, int(value + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * value else nearest


class Bottleneck(nn.Module):
    """Expand, depthwise over space and time, squeeze-excite, project, scale, add.

    y = rezero * norm(projection(gate * depthwise(act(norm(expansion(x)))))) + skip(x)

    Args:
        name: Of its entries in the state.
        inputs: Channels.
        outputs: Channels.
        stride: In space.
        layer: Widths and kernels.
        config: Of the network.
        shrink: See `BlockConfig`.
        memory: Of squeeze-excitation.
        drop_path: Probability that the branch of a clip is left out, in training.
    """

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        stride: int,
        layer: LayerConfig,
        config: MoViNetConfig,
        shrink: int,
        memory: Memory,
        drop_path: float,
    ) -> None:
        super().__init__()
        wide, kt = layer.expanded, layer.temporal
        self.name, self.stride, self.kernel_t, self.drop_path = name, stride, kt, drop_path
        self.causal = config.causal
        self.symmetric = config.padding == "symmetric"
        self.shrink = shrink if stride > 1 else 0
        self.activation = ACTIVATIONS[config.activation]
        bias = not config.norm
        self.joint = config.conv == "3d" and kt > 1  # one kernel over space and time
        self.keys = [slot_name(name, i) for i in range(kt - 1)] if config.causal else []

        norm = partial(norm_of, config)
        self.expansion = nn.Conv2d(inputs, wide, 1, bias=bias)
        self.expansion_norm = norm(wide)
        kernel = (layer.kernel,) * 2
        self.feature: nn.Conv2d | nn.Conv3d = (
            nn.Conv3d(wide, wide, (kt, *kernel), (1, stride, stride), groups=wide, bias=bias)
            if self.joint
            else nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=bias)
        )
        self.feature_norm = norm(wide)
        factored = kt > 1 and not self.joint
        self.feature_temporal = (
            nn.Conv2d(wide, wide, (kt, 1), groups=wide, bias=bias) if factored else None
        )
        self.feature_temporal_norm = norm(wide) if factored else nn.Identity()
        self.squeeze = None if config.squeeze == "none" else SqueezeExcite(wide, config, memory)
        self.projection = nn.Conv2d(wide, outputs, 1, bias=bias)
        self.projection_norm = norm(outputs)
        self.rezero = nn.Parameter(torch.zeros(()))
        changed = stride > 1 or inputs != outputs
        self.skip_project = nn.Conv2d(inputs, outputs, 1, bias=bias) if changed else None
        self.skip_project_norm = norm(outputs) if changed else nn.Identity()

    def forward(self, x: torch.Tensor, state: State, new: State) -> torch.Tensor:
        """Run n frames of every stream.

        Args:
            x: Frames of all streams (B * n, C, H, W), streams outermost.
            state: Of the network before these frames; it is not changed.
            new: Of the network after them; the layer adds its own entries.

        Returns:
            (B * n, C', H', W').
        """
        seen = state["head/frames"]
        batch = len(seen)
        wide = self.activation(self.expansion_norm(self.expansion(x)))
        wide = self._depthwise(wide, batch, state, new)
        if self.squeeze is not None:
            means = wide.mean((2, 3)).unflatten(0, (batch, -1))
            key = pool_name(self.name)
            gates, stored = self.squeeze(means, state.get(key), seen)
            if stored is not None:
                new[key] = stored
            wide = wide * gates.expand_as(means).flatten(0, 1)[..., None, None]
        branch: torch.Tensor = self.rezero * self.projection_norm(self.projection(wide))
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            kept = branch.new_empty(batch).bernoulli_(keep).div_(keep)
            branch = branch * kept.repeat_interleave(len(x) // batch)[:, None, None, None]
        return branch + self._skip(x)

    def _skip(self, x: torch.Tensor) -> torch.Tensor:
        """The path past the branch: identity, or pooled and projected."""
        if self.skip_project is None:
            return x
        if self.stride > 1 and self.symmetric:
            x = F.avg_pool2d(x, 3, 2, 1 - self.shrink)  # its zeros count
        elif self.stride > 1:
            x = avg_pool_same(x)
        y: torch.Tensor = self.skip_project_norm(self.skip_project(x))
        return y

    def _depthwise(self, x: torch.Tensor, batch: int, state: State, new: State) -> torch.Tensor:
        """The kernels over space and time, each normalised and activated."""
        if self.joint:
            frames = x.unflatten(0, (batch, -1)).permute(0, 1, 3, 4, 2)
            full = self._with_past(frames, state, new).permute(0, 4, 1, 2, 3)
            size = self.feature.kernel_size[1:]
            y = F.conv3d(
                self._padded(full, size), self.feature.weight, self.feature.bias,
                self.feature.stride, groups=x.shape[1],
            )  # fmt: skip
            y = y.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
            return self.activation(self.feature_norm(y))
        y = convolve(x, self.feature, self.shrink if self.symmetric else None)
        y = self.activation(self.feature_norm(y))
        conv = self.feature_temporal
        if conv is None:
            return y
        height, width = y.shape[2:]
        frames = y.permute(0, 2, 3, 1).unflatten(0, (batch, -1))
        full = self._with_past(frames, state, new)
        # (B, E, time, H'W') in channels-last memory: one 2D convolution does all positions.
        out = conv(full.flatten(2, 3).permute(0, 3, 1, 2))
        out = out.permute(0, 2, 3, 1).reshape(-1, height, width, out.shape[1])
        return self.activation(self.feature_temporal_norm(out.permute(0, 3, 1, 2)))

    def _padded(self, x: torch.Tensor, kernel: tuple[int, ...]) -> torch.Tensor:
        """Zeros around the last two axes."""
        if self.symmetric:
            return F.pad(x, (kernel[0] // 2 - self.shrink,) * 4)
        return pad_same(x, kernel, (self.stride, self.stride))

    def _with_past(self, frames: torch.Tensor, state: State, new: State) -> torch.Tensor:
        """Frames (B, n, H, W, E) behind those of the stream buffer, or between zeros."""
        if not self.causal:
            around = self.kernel_t // 2
            return F.pad(frames, (0, 0, 0, 0, 0, 0, around, around))
        past = [state[key] for key in self.keys]
        if past[0].shape != frames[:, 0].shape:
            raise ModelError(
                f"the state holds maps of {tuple(past[0].shape)}, the frames give "
                f"{tuple(frames[:, 0].shape)}",
                "make the state with initial_state for this batch and resolution",
            )
        full = torch.cat([torch.stack(past, 1).to(frames.dtype), frames], 1)
        keep = len(past)
        new.update({key: full[:, i - keep].clone() for i, key in enumerate(self.keys)})
        return full
