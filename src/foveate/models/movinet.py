"""MoViNets: mobile video networks with a clip form and, if causal, a functional step form.

A0 to A5 and T0 as networks of whole clips (``movinet-a0``) and as causal networks that stream
(``movinet-a0-stream``), and the stream networks that Google published as quantised files
(``movinet-a0-stream-lite``, also A1 and A2), which are not those of the paper: ReLU6 instead of
hard-swish, no squeeze-excite, and batch normalisation folded. All are one family over
`movinet_config`.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511); the lite graph is read from the published file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import check_clip
from foveate.models.layers.memory import CUMULATIVE, memory
from foveate.models.movinet_config import (
    ACTIVATIONS,
    TABLES,
    TINY,
    MoViNetConfig,
    base,
    empty_state,
    layer_name,
    lite,
    map_sizes,
    parse_table,
    released,
    stream,
    table_text,
    with_options,
)
from foveate.models.movinet_inference import MoViNetInference
from foveate.models.movinet_layers import Bottleneck, convolve, norm_of
from foveate.models.registry import register
from foveate.models.spec import InputSpec
from foveate.models.streaming import State, add_to_mean, empty_mean, mean_features

A0 = lite(TABLES["a0"])
LITE = ("a0", "a1", "a2")  # block tables of the published quantised files
# Frames, rate, size and shorter side of the published evaluation on ten seconds (T0: as A0).
INPUTS = {
    "a0": InputSpec(172, 5.0, 50, resize_to=192),
    "a1": InputSpec(172, 5.0, 50, resize_to=192),
    "a2": InputSpec(224, 5.0, 50, resize_to=256),
    "a3": InputSpec(256, 12.0, 120, resize_to=288),
    "a4": InputSpec(290, 8.0, 80, resize_to=320),
    "a5": InputSpec(320, 12.0, 120, resize_to=368),
    "t0": InputSpec(172, 5.0, 50, resize_to=192),
}


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

        self.stem = nn.Conv2d(3, config.stem, 3, 2, bias=not config.norm)
        self.stem_norm = norm_of(config, config.stem)
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
        self.head_project_norm = norm_of(config, config.project)
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
        y = convolve(y, self.stem, 0 if self.config.padding == "symmetric" else None)
        y = self.activation(self.stem_norm(y))
        yield "stem", y
        for name, layer in self.layers():
            y = layer(y, state, new)
            yield name, y
        yield "head", self.activation(self.head_project_norm(self.head_project(y)))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of every frame of a clip (B, 3, T, H, W) as (B, T, project)."""
        check_clip(x)
        return self._features(x, self.state_before(x), {})

    def state_before(self, x: torch.Tensor) -> State:
        """The state before the first frame of clips (B, 3, T, H, W), for ``maps``."""
        return {"head/frames": torch.zeros(len(x), dtype=torch.int64, device=x.device)}

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

    def set_memory(self, remembers: str) -> None:
        """Change what means over time remember; states made before no longer fit.

        Args:
            remembers: See `layers.memory`.
        """
        self.memory = memory(remembers)
        for _, layer in self.layers():
            if layer.squeeze is not None:
                layer.squeeze.memory = self.memory

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

    def state_before(self, x: torch.Tensor) -> State:
        """The state before the first frame of clips (B, 3, T, H, W), for ``maps``."""
        return self.initial_state(len(x), x.shape[3], x.shape[4], x.dtype, x.device)

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


def _lite(
    table: MoViNetConfig,
    num_classes: int = 600,
    dropout: float = 0.2,
    config: MoViNetConfig | None = None,
    remembers: str = "cumulative",
) -> MoViNet:
    """Build an SE-free ReLU6 stream network, over the published table unless `config` is given."""
    return movinet(config or lite(table), num_classes, dropout, remembers=remembers)


for _name in LITE:
    register(
        f"movinet-{_name}-stream-lite",
        tiny={"config": lite(TINY), "num_classes": 7},
        tiny_input=(2, 3, 6, 37, 44),
        streaming=True,
        input=replace(INPUTS[_name], resize_to=None),
    )(partial(_lite, TABLES[_name]))


def _build(
    name: str,
    kind: str,
    num_classes: int = 600,
    dropout: float | None = None,
    stochastic_depth: float = 0.2,
    remembers: str = "cumulative",
    tiny: bool = False,
    conv: str | None = None,
    squeeze: str | None = None,
    gate: str | None = None,
    activation: str | None = None,
    head_activation: str | None = None,
    positions: bool | None = None,
    padding: str | None = None,
) -> MoViNet:
    """Build a network of the paper.

    Args:
        name: A key of `TABLES`.
        kind: ``"base"`` or ``"stream"``.
        num_classes: Outputs of the classifier.
        dropout: Before the classifier; as published when None (.2 for A0 and T0, else .5).
        stochastic_depth: See ``MoViNet``.
        remembers: See ``MoViNet``.
        tiny: A small table in its place, for tests.
        conv: This and what follows: as released when None; see ``MoViNetConfig``.
        squeeze: See ``conv``.
        gate: See ``conv``.
        activation: See ``conv``.
        head_activation: See ``conv``.
        positions: See ``conv``.
        padding: See ``conv``.
    """
    options = {
        "conv": conv, "squeeze": squeeze, "gate": gate, "activation": activation,
        "head_activation": head_activation, "positions": positions, "padding": padding,
    }  # fmt: skip
    config = with_options(released(name, kind, tiny=tiny), options)
    if dropout is None:
        dropout = 0.2 if name in ("a0", "t0") else 0.5
    return movinet(config, num_classes, dropout, stochastic_depth, remembers)


for _name in TABLES:
    for _kind, _ending in (("base", ""), ("stream", "-stream")):
        register(
            f"movinet-{_name}{_ending}",
            tiny={"num_classes": 7, "tiny": True},
            tiny_input=(2, 3, 6, 37, 44),
            streaming=_kind == "stream",
            input=INPUTS[_name],
        )(partial(_build, _name, _kind))


def _from_table(
    kind: str,
    table: str = table_text(TABLES["a0"]),
    num_classes: int = 600,
    dropout: float = 0.2,
    stochastic_depth: float = 0.0,
    remembers: str = "cumulative",
    rezero: float = 0.0,
    norm_momentum: float = 0.01,
) -> MoViNet:
    """Build a network over any block table, as `foveate search architecture` finds them.

    Args:
        kind: ``"base"`` or ``"stream"``.
        table: See ``movinet_config.table_text``.
        num_classes: Outputs of the classifier.
        dropout: Before the classifier.
        stochastic_depth: See ``MoViNet``.
        remembers: See ``MoViNet``.
        rezero: First value of the scalars of branches. The published 0 needs thousands of steps.
        norm_momentum: Of the running statistics of normalisation; 0.01 as published.
    """
    config = parse_table(table)
    config = base(config) if kind == "base" else stream(config)
    network = movinet(config, num_classes, dropout, stochastic_depth, remembers)
    for module in network.modules():
        if isinstance(module, Bottleneck):
            nn.init.constant_(module.rezero, rezero)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = norm_momentum
    return network


for _kind, _ending in (("base", ""), ("stream", "-stream")):
    register(
        f"movinet-table{_ending}",
        tiny={"num_classes": 7, "table": table_text(TINY)},
        tiny_input=(2, 3, 6, 37, 44),
        streaming=_kind == "stream",
    )(partial(_from_table, _kind))
