"""MoViNets: mobile video networks with a clip form and, if causal, a functional step form.

A0 to A5 and T0 as networks of whole clips (``movinet-a0``) and as causal networks that stream
(``movinet-a0-stream``), and the A0-stream network that Google published as a quantised file
(``movinet-a0-stream-lite``), which is not the A0 of the paper: ReLU6 instead of hard-swish, no
squeeze-excite, and batch normalisation folded. All are one family over `movinet_config`.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511); the lite graph is read from the published file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import check_clip
from foveate.models.layers.memory import CUMULATIVE, Memory, memory
from foveate.models.layers.same import avg_pool_same, conv2d_same, pad_same
from foveate.models.movinet_config import (
    ACTIVATIONS,
    TABLES,
    TINY,
    LayerConfig,
    MoViNetConfig,
    base,
    empty_state,
    layer_name,
    lite,
    map_sizes,
    pool_name,
    slot_name,
    stream,
)
from foveate.models.movinet_inference import MoViNetInference
from foveate.models.registry import register
from foveate.models.streaming import State, add_to_mean, empty_mean, mean_features

A0 = lite(TABLES["a0"])
NORM_EPS = 1e-3

GATES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard-sigmoid": lambda x: F.relu6(x + 3) * 0.16667,
    "hard-sigmoid-0.2": lambda x: (0.2 * x + 0.5).clamp(0, 1),
}


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
        self, means: torch.Tensor, held: torch.Tensor | None, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the gates of n frames.

        Args:
            means: Means over space (B, n, E).
            held: What the memory holds; None where the network is not causal.
            seen: Frames before these (B,).

        Returns:
            Gates (B, n, E), or (B, 1, E) where the network is not causal; and what is held now.
        """
        if held is None:
            pooled = means.mean(1, keepdim=True)
        else:
            pooled, held = self.memory.advance(means, held, seen)
        pooled = pooled.to(means.dtype)
        if self.and_frame:
            pooled = torch.cat([pooled, means.expand(-1, pooled.shape[1], -1)], 2)
        if self.position_scale is not None:
            at = seen.unsqueeze(1) + torch.arange(pooled.shape[1], device=seen.device)
            encoded = positions(at, pooled.shape[2]).to(pooled.dtype)
            pooled = pooled + self.position_scale * encoded
        return self.gate(self.expand(self.activation(self.reduce(pooled)))), held


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

        def norm(channels: int) -> nn.Module:
            return nn.BatchNorm2d(channels, NORM_EPS, 0.01) if config.norm else nn.Identity()

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
            gates, held = self.squeeze(means, state.get(key), seen)
            if held is not None:
                new[key] = held
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
        spatial = self.feature
        if self.symmetric:
            pad = spatial.kernel_size[0] // 2 - self.shrink
            y = F.conv2d(x, spatial.weight, spatial.bias, self.stride, pad, 1, spatial.groups)
        else:
            y = conv2d_same(x, spatial.weight, spatial.bias, self.stride, spatial.groups)
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


class MoViNet(nn.Module):
    """A MoViNet of whole clips; causal ones are of the class ``MoViNetStream``.

    Args:
        config: Block table and kind.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a hidden unit before the classifier, in training.
        stochastic_depth: Probability that the branch of the last layer is left out, in training;
            it rises linearly from the first (paper: .2).
        remembers: What means over time remember, of causal networks; see `layers.memory`.
    """

    def __init__(
        self,
        config: MoViNetConfig = A0,
        num_classes: int = 600,
        dropout: float = 0.2,
        stochastic_depth: float = 0.0,
        remembers: str = "cumulative",
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ModelError(f"a classifier needs at least one class, not {num_classes}")
        self.memory = memory(remembers)
        if config.causal != isinstance(self, MoViNetStream):
            raise ModelError("a causal configuration is for MoViNetStream, another for MoViNet")
        if not config.causal and self.memory != CUMULATIVE:
            raise ModelError("a network of whole clips has no memory", "take a stream network")
        self.config = config
        self.activation = ACTIVATIONS[config.activation]
        self.head_activation = ACTIVATIONS[config.head_activation]

        def norm(channels: int) -> nn.Module:
            return nn.BatchNorm2d(channels, NORM_EPS, 0.01) if config.norm else nn.Identity()

        self.stem = nn.Conv2d(3, config.stem, 3, 2, bias=not config.norm)
        self.stem_norm = norm(config.stem)
        self.blocks = nn.ModuleDict()
        inputs, count = config.stem, sum(len(stage.layers) for stage in config.blocks)
        for b, stage in enumerate(config.blocks):
            for i, layer in enumerate(stage.layers):
                name, stride = layer_name(b, i), stage.stride if i == 0 else 1
                rate = stochastic_depth * (len(self.blocks) + 1) / count
                self.blocks[name] = Bottleneck(
                    name, inputs, stage.width, stride, layer, config, stage.shrink, self.memory,
                    rate,
                )  # fmt: skip
                inputs = stage.width
        self.head_project = nn.Conv2d(inputs, config.project, 1, bias=not config.norm)
        self.head_project_norm = norm(config.project)
        self.classifier_head = nn.Linear(config.project, config.hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden, num_classes)
        self._initialise()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)

    def _initialise(self) -> None:
        """He-normal kernels, zero biases, a narrow classifier, as the recipe asks."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_in))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def layers(self) -> Iterator[tuple[str, Bottleneck]]:
        """Yield every bottleneck with its name, in order."""
        for name, layer in self.blocks.items():
            assert isinstance(layer, Bottleneck)
            yield name, layer

    def maps(self, x: torch.Tensor, state: State, new: State) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the maps (B * n, C, H, W) of the stem, of every layer and of the head, by name.

        Args:
            x: Frames (B, 3, n, H, W), RGB in 0..1.
            state: Before them; it is not changed.
            new: Filled with the entries of the layers after them.
        """
        y = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        if self.config.padding == "symmetric":
            y = F.conv2d(y, self.stem.weight, self.stem.bias, 2, 1)
        else:
            y = conv2d_same(y, self.stem.weight, self.stem.bias, 2)
        y = self.activation(self.stem_norm(y))
        yield "stem", y
        for name, layer in self.layers():
            y = layer(y, state, new)
            yield name, y
        yield "head", self.activation(self.head_project_norm(self.head_project(y)))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of every frame of a clip (B, 3, T, H, W) as (B, T, project)."""
        check_clip(x)
        frames = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self._features(x, {"head/frames": frames}, {})

    def _features(self, x: torch.Tensor, state: State, new: State) -> torch.Tensor:
        """The last maps' means over space (B, n, project); earlier maps are not kept."""
        for _, y in self.maps(x, state, new):
            last = y
        features: torch.Tensor = last.mean((2, 3)).unflatten(0, (len(x), -1))
        return features

    def classify(self, pooled_features: torch.Tensor) -> torch.Tensor:
        """Return logits (..., classes) for pooled features (..., project)."""
        pooled_features = pooled_features.to(self.classifier_head.weight.dtype)
        hidden = self.head_activation(self.classifier_head(pooled_features))
        logits: torch.Tensor = self.classifier(self.dropout(hidden))
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify whole clips.

        Args:
            x: Clips (B, 3, T, H, W), RGB in 0..1.

        Returns:
            Logits (B, classes) after the last frame.
        """
        return self.classify(self.features(x).mean(1))

    def macs(self, shape: tuple[int, ...], method: str = "forward") -> int:
        """Multiply-adds of one call, computed from the layers; equal to ``count_macs``.

        Args:
            shape: Input shape (B, C, T, H, W).
            method: ``"forward"``, or ``"features"`` (also ``step_features``) without the head.
        """
        batch, _, frames, *size = shape
        after = map_sizes(self.config, *size)
        total, once = self.stem.weight.numel() * math.prod(next(after)), 0
        inside = math.prod(next(map_sizes(self.config, *size)))
        for _, layer in self.layers():
            total += layer.expansion.weight.numel() * inside
            inside = math.prod(next(after))
            convs = (layer.feature, layer.feature_temporal, layer.projection, layer.skip_project)
            total += sum(conv.weight.numel() for conv in convs if conv is not None) * inside
            if layer.squeeze is not None:
                gate = layer.squeeze.reduce.weight.numel() + layer.squeeze.expand.weight.numel()
                total, once = (total + gate, once) if self.config.causal else (total, once + gate)
        total += self.head_project.weight.numel() * inside
        head = self.classifier_head.weight.numel() + self.classifier.weight.numel()
        return batch * (frames * total + once + (head if method in ("forward", "step") else 0))

    def folded(self) -> MoViNet:
        """Return a frozen copy whose normalisations are folded into biases; the same numbers."""
        copy = deepcopy(self).eval().requires_grad_(False)
        copy.config = replace(self.config, norm=False)
        for module in copy.modules():
            for name, norm in list(module.named_children()):
                if isinstance(norm, nn.BatchNorm2d):
                    conv = module.get_submodule(name.removesuffix("_norm"))
                    _fold(conv, norm)
                    setattr(module, name, nn.Identity())
        return copy

    def for_inference(self) -> MoViNetInference | MoViNet:
        """Return a fast frozen copy for a CPU with the same numbers (see ``movinet_inference``).

        What has kernels over time and space at once is only folded.
        """
        copy = self.folded()
        fits = self.config.conv == "2plus1d" and self.config.padding == "same"
        return MoViNetInference(copy) if isinstance(copy, MoViNetStream) and fits else copy


class MoViNetStream(MoViNet):
    """A causal MoViNet: clip form and step form over one set of weights.

    Both forms give the same numbers for any split of the frames. The classifier sees the mean of
    the features of the frames so far, as far back as the memory reaches.
    """

    def initial_state(
        self,
        batch: int,
        height: int,
        width: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> State:
        """Return the state of streams before their first frame.

        Args:
            batch: Number of streams.
            height: Height of the frames in pixels.
            width: Width of the frames in pixels.
            dtype: Of the stream buffers; None means that of the weights. Sums are float32.
            device: None means that of the weights.

        Returns:
            ``{layer}/slot{i}`` (B, H', W', E): the last inputs of each temporal kernel, oldest
            first; ``{layer}/pool`` (B, ..., E): what squeeze-excitation remembers; ``head/sum``
            (B, ..., project): what the mean of the features remembers; ``head/frames`` (B,): how
            many frames each stream has seen.
        """
        like = self.classifier.weight
        dtype, device = dtype or like.dtype, device or like.device
        return empty_state(self.config, self.memory, batch, height, width, dtype, device)

    def step_features(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames of every stream, without the classifier head.

        Args:
            x: Frames (B, 3, n, H, W), RGB in 0..1.
            state: From ``initial_state`` or the previous step; it is not changed.

        Returns:
            Features of these frames (B, n, project) and the new state.

        Raises:
            ModelError: The frames or the state have the wrong shape.
        """
        check_clip(x)
        new: State = {}
        features = self._features(x, state, new)
        return features, new | add_to_mean(state, features, self.memory)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames and classify all frames so far.

        Args:
            x: Frames (B, 3, n, H, W), RGB in 0..1.
            state: From ``initial_state`` or the previous step; it is not changed.

        Returns:
            Logits (B, classes) after the last of these frames, and the new state.
        """
        _, state = self.step_features(x, state)
        return self.classify(self.pooled(state)), state

    def pooled(self, state: State) -> torch.Tensor:
        """Return the mean of the features remembered, (B, project), zeros before any frame."""
        return mean_features(state, self.memory)

    def running_means(self, features: torch.Tensor, before: State) -> torch.Tensor:
        """Return what the classifier would have seen after each frame of a step.

        Args:
            features: (B, n, project), from ``step_features``.
            before: The state that was given to that call.

        Returns:
            (B, n, project) float32; ``classify`` of it gives a prediction per frame.
        """
        return self.memory.advance(features, before["head/sum"], before["head/frames"])[0]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of every frame of a clip (B, 3, T, H, W) as (B, T, project)."""
        check_clip(x)
        batch, _, _, height, width = x.shape
        empty = self.initial_state(batch, height, width, x.dtype, x.device)
        return self.step_features(x, empty)[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify whole clips (B, 3, T, H, W): logits (B, classes) after the last frame."""
        features = self.features(x)
        if self.memory == CUMULATIVE:
            return self.classify(features.mean(1))
        empty = empty_mean(len(x), features.shape[2], x.device, self.memory)
        return self.classify(self.pooled(add_to_mean(empty, features, self.memory)))


def movinet(
    config: MoViNetConfig,
    num_classes: int = 600,
    dropout: float = 0.2,
    stochastic_depth: float = 0.0,
    remembers: str = "cumulative",
) -> MoViNet:
    """Build the network of a configuration: a ``MoViNetStream`` if it is causal."""
    kind = MoViNetStream if config.causal else MoViNet
    return kind(config, num_classes, dropout, stochastic_depth, remembers)


def _fold(conv: Any, norm: nn.BatchNorm2d) -> None:
    """Put a normalisation into the convolution before it, in double precision."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shape = (-1,) + (1,) * (conv.weight.ndim - 1)
    bias = norm.bias.double() - norm.running_mean.double() * scale
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.double() * scale.view(shape)).to(dtype), False)
    conv.bias = nn.Parameter(bias.to(dtype), False)


def stream_from_base(network: MoViNet, causal: MoViNet) -> MoViNet:
    """Start a causal network from the weights of one of whole clips over the same block table.

    Kernels over one frame, normalisations behind them and the head are copied. A kernel over time
    and space becomes the product of two that is nearest to it in every channel, its taps at the
    last frames (what looked into the future looks at the present: features are late by half a
    kernel). Squeeze-excitation looks at frames so far and the frame alike, half each, and its
    additional hidden units begin silent. The numbers are not the same: fine-tune the result.

    Args:
        network: Not causal, one kernel over time and space (``movinet-a0``).
        causal: Filled in place: causal, factored kernels (``movinet-a0-stream``); its classifier
            may have other classes and is then left as it is.

    Returns:
        `causal`.

    Raises:
        ModelError: The networks do not fit each other.
    """
    ours, theirs = causal.config, network.config
    if ours.blocks != theirs.blocks or theirs.conv != "3d" or ours.conv != "2plus1d":
        raise ModelError("the weights of a base network fit the -stream form of the same name")
    given, wanted = network.state_dict(), causal.state_dict()
    for name, value in wanted.items():
        source = given.get(name)
        if name.startswith("classifier.") and source is not None and source.shape != value.shape:
            continue
        if name.endswith(".feature_temporal.weight"):
            joint = given[name.replace("feature_temporal", "feature")]
            space, time = _factored(joint)
            value.copy_(time)
            wanted[name.replace("feature_temporal", "feature")].copy_(space)
        elif ".squeeze." in name and source is not None:
            value.zero_()
            if name.endswith("reduce.weight"):
                value[: len(source)] = source.repeat(1, value.shape[1] // source.shape[1]) / (
                    value.shape[1] / source.shape[1]
                )
            else:
                value[tuple(slice(size) for size in source.shape)] = source
        elif source is not None and source.shape == value.shape:
            value.copy_(source)
    causal.load_state_dict(wanted)
    return causal


def _factored(joint: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Depthwise kernels (C, 1, kt, k, k) as the nearest products: (C, 1, k, k), (C, 1, kt, 1).

    The taps over time sum to one, or have norm one where their sum is near zero, so that the
    activation between the two sees the range that the normalisation in front of it was fitted to.
    """
    left, values, right = torch.linalg.svd(joint.flatten(3).squeeze(1), full_matrices=False)
    time, space = left[:, :, 0], right[:, 0] * values[:, :1]
    total = time.sum(1, keepdim=True)
    scale = torch.where(total.abs() < 0.3, torch.ones_like(total), total)
    kernel = joint.shape[-2:]
    return (space * scale).unflatten(1, kernel).unsqueeze(1), (time / scale)[:, None, :, None]


@register(
    "movinet-a0-stream-lite",
    tiny={"config": lite(TINY), "num_classes": 7},
    tiny_input=(2, 3, 6, 37, 44),
    streaming=True,
)
def movinet_a0_stream_lite(
    num_classes: int = 600,
    dropout: float = 0.2,
    config: MoViNetConfig = A0,
    remembers: str = "cumulative",
) -> MoViNet:
    """Build the SE-free ReLU6 A0-stream network (2,723,407 parameters with 600 classes)."""
    return movinet(config, num_classes, dropout, remembers=remembers)


def _build(
    name: str,
    kind: str,
    num_classes: int = 600,
    dropout: float | None = None,
    stochastic_depth: float = 0.2,
    gate: str | None = None,
    conv: str | None = None,
    remembers: str = "cumulative",
    tiny: bool = False,
) -> MoViNet:
    """Build a network of the paper.

    Args:
        name: A key of `TABLES`.
        kind: ``"base"`` or ``"stream"``.
        num_classes: Outputs of the classifier.
        dropout: Before the classifier; as published when None (.2 for A0 and T0, else .5).
        stochastic_depth: See ``MoViNet``.
        gate: Another gate of squeeze-excitation; see ``MoViNetConfig``.
        conv: Another kind of depthwise kernel; see ``MoViNetConfig``.
        remembers: See ``MoViNet``.
        tiny: A small table in its place, for tests.
    """
    table = TINY if tiny else TABLES[name]
    config = base(table) if kind == "base" else stream(table, name)
    if gate is not None:
        if gate not in GATES:
            raise ModelError(f"gate={gate!r} is not known", f"one of: {', '.join(GATES)}")
        config = replace(config, gate=gate)
    if conv is not None:
        if conv not in ("3d", "2plus1d"):
            raise ModelError(f"conv={conv!r} is not known", "3d or 2plus1d")
        config = replace(config, conv=conv)
    if dropout is None:
        dropout = 0.2 if name in ("a0", "t0") else 0.5
    return movinet(config, num_classes, dropout, stochastic_depth, remembers)


for _name in TABLES:
    for _kind, _ending in (("base", ""), ("stream", "-stream")):
        _builder: Any = partial(_build, _name, _kind)
        _builder.__qualname__ = f"movinet_{_name}_{_kind}"
        register(
            f"movinet-{_name}{_ending}",
            tiny={"num_classes": 7, "tiny": True},
            tiny_input=(2, 3, 6, 37, 44),
            streaming=_kind == "stream",
        )(_builder)
