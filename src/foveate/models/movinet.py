"""MoViNets: mobile video networks with a causal clip form and a functional step form.

Now the SE-free ReLU6 A0-stream network that Google published as a quantised file
(``movinet-a0-stream-lite``). It is not the A0 of the paper: ReLU6 stands for hard-swish, there
is no squeeze-excite, batch normalisation is folded, and a learned scalar scales every branch.

Source: Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition",
CVPR 2021 (arXiv 2103.11511); the lite graph is read from the published file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.layers.same import avg_pool_same, conv2d_same
from foveate.models.registry import register
from foveate.models.streaming import State

if TYPE_CHECKING:
    from foveate.models.movinet_inference import MoViNetInference


@dataclass(frozen=True)
class LayerConfig:
    """One bottleneck: expanded channels, temporal kernel (1: none), spatial kernel."""

    expanded: int
    temporal: int
    kernel: int


@dataclass(frozen=True)
class BlockConfig:
    """Layers of one width; the first has the spatial stride, the others stride 1."""

    width: int
    stride: int
    layers: tuple[LayerConfig, ...]


@dataclass(frozen=True)
class MoViNetConfig:
    """The block table of one network (paper, table 1).

    Attributes:
        stem: Channels of the 3x3 stride-2 stem.
        blocks: The stages.
        project: Channels of the per-frame features.
        hidden: Width of the dense layer before the classifier.
    """

    stem: int
    blocks: tuple[BlockConfig, ...]
    project: int
    hidden: int


def block(width: int, stride: int, layers: str) -> BlockConfig:
    """Read a stage from the table's notation: ``"184/533"`` is 184 channels, kernel (5,3,3)."""
    parsed = []
    for word in layers.split():
        expanded, kernel = word.split("/")
        parsed.append(LayerConfig(int(expanded), int(kernel[0]), int(kernel[1])))
    return BlockConfig(width, stride, tuple(parsed))


A0 = MoViNetConfig(
    stem=8,
    blocks=(
        block(8, 2, "24/155"),
        block(32, 2, "80/333 80/333 80/333"),
        block(56, 2, "184/533 112/333 184/333"),
        block(56, 1, "184/533 184/333 184/333 184/333"),
        block(104, 2, "384/533 280/155 280/155 344/155"),
    ),
    project=480,
    hidden=2048,
)

# Small, yet with every kind of layer: no temporal kernel, 3 and 5, each kind of skip.
TINY = MoViNetConfig(
    stem=4,
    blocks=(block(4, 2, "8/155"), block(8, 2, "12/533 12/333"), block(12, 1, "16/333 16/155")),
    project=24,
    hidden=32,
)


def layer_name(block_index: int, layer_index: int) -> str:
    """Name of a layer in states and weight files."""
    return f"block{block_index}_layer{layer_index}"


def slot_name(layer: str, slot: int) -> str:
    """Name of one past frame of a layer's stream buffer; slot 0 is the oldest."""
    return f"{layer}/slot{slot}"


class Bottleneck(nn.Module):
    """Expand, spatial depthwise, temporal depthwise, project, scale, add (paper, section 3).

    y = rezero * project(relu6(temporal(relu6(spatial(relu6(expand(x))))))) + skip(x)
    """

    def __init__(self, inputs: int, outputs: int, stride: int, config: LayerConfig) -> None:
        super().__init__()
        wide = config.expanded
        self.stride = stride
        self.kernel_t = config.temporal
        self.expansion = nn.Conv2d(inputs, wide, 1)
        self.feature = nn.Conv2d(wide, wide, config.kernel, stride, groups=wide)
        self.feature_temporal = (
            nn.Conv2d(wide, wide, (config.temporal, 1), groups=wide)
            if config.temporal > 1
            else None
        )
        self.projection = nn.Conv2d(wide, outputs, 1)
        self.rezero = nn.Parameter(torch.zeros(()))
        changed = stride > 1 or inputs != outputs
        self.skip_project = nn.Conv2d(inputs, outputs, 1) if changed else None

    def forward(
        self, x: torch.Tensor, batch: int, past: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run n frames of every stream.

        Args:
            x: Frames of all streams (B * n, C, H, W), streams outermost.
            batch: B.
            past: The kt - 1 last inputs of the temporal kernel, each (B, H', W', E).

        Returns:
            Output (B * n, C', H', W') and the new past, oldest first.
        """
        wide = F.relu6(self.expansion(x))
        spatial = self.feature
        wide = F.relu6(conv2d_same(wide, spatial.weight, spatial.bias, self.stride, spatial.groups))
        if self.feature_temporal is not None:
            wide, past = self._temporal(self.feature_temporal, wide, batch, past)
        branch = self.rezero * self.projection(wide)
        return branch + self._skip(x), past

    def _skip(self, x: torch.Tensor) -> torch.Tensor:
        """The other way round the branch: identity, or pooled and projected."""
        if self.skip_project is None:
            return x
        y: torch.Tensor = self.skip_project(avg_pool_same(x) if self.stride > 1 else x)
        return y

    def _temporal(
        self, conv: nn.Conv2d, x: torch.Tensor, batch: int, past: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Depthwise convolution over time behind the stream buffer, VALID, then ReLU6."""
        wide, height, width = x.shape[1:]
        if tuple(past[0].shape) != (batch, height, width, wide):
            raise ModelError(
                f"the state holds maps of {tuple(past[0].shape)}, the frames give "
                f"{(batch, height, width, wide)}",
                "make the state with initial_state for this batch and resolution",
            )
        frames = x.permute(0, 2, 3, 1).reshape(batch, -1, height, width, wide)
        full = torch.cat([torch.stack(past, 1).to(x.dtype), frames], 1)
        keep = self.kernel_t - 1
        past = [full[:, i - keep].clone() for i in range(keep)]
        # (B, E, time, H'W') in channels-last memory: one 2D convolution does all positions.
        out = conv(full.flatten(2, 3).permute(0, 3, 1, 2))
        out = out.permute(0, 2, 3, 1).reshape(-1, height, width, wide)
        return F.relu6(out.permute(0, 3, 1, 2)), past


class MoViNetLite(nn.Module):
    """The SE-free ReLU6 stream network: clip form and step form over one set of weights.

    Both forms are causal and give the same numbers for any split of the frames. The classifier
    sees the mean of the features of all frames so far (the cumulative policy); this never
    forgets, so an endless stream must begin a new state now and then.

    Args:
        config: Block table.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a hidden unit before the classifier, in training.
    """

    pooling = "cumulative"

    def __init__(
        self, config: MoViNetConfig = A0, num_classes: int = 600, dropout: float = 0.2
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ModelError(f"a classifier needs at least one class, not {num_classes}")
        self.config = config
        self.stem = nn.Conv2d(3, config.stem, 3, 2)
        self.blocks = nn.ModuleDict()
        inputs = config.stem
        for b, stage in enumerate(config.blocks):
            for i, layer in enumerate(stage.layers):
                stride = stage.stride if i == 0 else 1
                self.blocks[layer_name(b, i)] = Bottleneck(inputs, stage.width, stride, layer)
                inputs = stage.width
        self.head_project = nn.Conv2d(inputs, config.project, 1)
        self.classifier_head = nn.Linear(config.project, config.hidden)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden, num_classes)
        self._initialise()
        self.to(memory_format=torch.channels_last)

    def _initialise(self) -> None:
        """He-normal kernels, zero biases, a narrow classifier, as the recipe asks."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
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

    def initial_state(
        self,
        batch: int,
        height: int,
        width: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> State:
        """Return the state of streams that have seen nothing.

        Args:
            batch: Number of streams.
            height: Height of the frames in pixels.
            width: Width of the frames in pixels.
            dtype: Of the stream buffers; the weights' when None. Sums stay float32.
            device: The weights' when None.

        Returns:
            ``{layer}/slot{i}`` (B, H', W', E): the last inputs of each temporal kernel, oldest
            first; ``head/sum`` (B, project): sum of the frames' features; ``head/frames`` (B,):
            how many frames each stream has seen.
        """
        like = self.classifier.weight
        return empty_state(
            self.config, batch, height, width, dtype or like.dtype, device or like.device
        )

    def step_features(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames of every stream, without the dense head.

        Args:
            x: Frames (B, 3, n, H, W), RGB in 0..1.
            state: From ``initial_state`` or the previous step; it is not changed.

        Returns:
            Features of these frames (B, n, project) and the new state.

        Raises:
            ModelError: The frames or the state have the wrong shape.
        """
        check_clip(x)
        batch, frames = x.shape[0], x.shape[2]
        new: State = {}
        y = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        y = F.relu6(conv2d_same(y, self.stem.weight, self.stem.bias, 2))
        for name, layer in self.layers():
            keys = [slot_name(name, i) for i in range(layer.kernel_t - 1)]
            y, past = layer(y, batch, [state[key] for key in keys])
            new.update(zip(keys, past, strict=True))
        y = F.relu6(self.head_project(y))
        features = y.mean((2, 3)).view(batch, frames, -1)
        new["head/sum"] = state["head/sum"] + features.sum(1, dtype=torch.float32)
        new["head/frames"] = state["head/frames"] + frames
        return features, new

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames and classify all that was seen.

        Args:
            x: Frames (B, 3, n, H, W), RGB in 0..1.
            state: From ``initial_state`` or the previous step; it is not changed.

        Returns:
            Logits (B, classes) after the last of these frames, and the new state.
        """
        _, state = self.step_features(x, state)
        return self.classify(pooled(state)), state

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features of every frame of a clip (B, 3, T, H, W) as (B, T, project)."""
        check_clip(x)
        batch, _, _, height, width = x.shape
        start = self.initial_state(batch, height, width, x.dtype, x.device)
        return self.step_features(x, start)[0]

    def classify(self, pooled_features: torch.Tensor) -> torch.Tensor:
        """Return logits (..., classes) for pooled features (..., project)."""
        pooled_features = pooled_features.to(self.classifier_head.weight.dtype)
        hidden = F.relu6(self.classifier_head(pooled_features))
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
        """Multiply-adds of one call, from the block table: what ``count_macs`` counts, at once.

        Args:
            shape: Input shape (B, 3, T, H, W).
            method: ``"forward"``, or ``"features"`` (also ``step_features``) without the head.
        """
        batch, _, frames, height, width = shape
        height, width = -(-height // 2), -(-width // 2)
        total = self.stem.weight.numel() * height * width
        for _, layer in self.layers():
            total += layer.expansion.weight.numel() * height * width
            height, width = -(-height // layer.stride), -(-width // layer.stride)
            after = (layer.feature, layer.feature_temporal, layer.projection, layer.skip_project)
            total += sum(m.weight.numel() for m in after if m is not None) * height * width
        total += self.head_project.weight.numel() * height * width
        head = self.classifier_head.weight.numel() + self.classifier.weight.numel()
        return batch * (frames * total + (head if method in ("forward", "step") else 0))

    def for_inference(self) -> MoViNetInference:
        """Return a fast frozen copy with the same step form (see ``movinet_inference``)."""
        from foveate.models.movinet_inference import MoViNetInference

        return MoViNetInference(self)


def empty_state(
    config: MoViNetConfig,
    batch: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> State:
    """Return zeros in the shape of a state; see ``MoViNetLite.initial_state``."""
    state: State = {}
    height, width = -(-height // 2), -(-width // 2)
    for b, stage in enumerate(config.blocks):
        height, width = -(-height // stage.stride), -(-width // stage.stride)
        for i, layer in enumerate(stage.layers):
            for slot in range(layer.temporal - 1):
                shape = (batch, height, width, layer.expanded)
                key = slot_name(layer_name(b, i), slot)
                state[key] = torch.zeros(shape, dtype=dtype, device=device)
    state["head/sum"] = torch.zeros(batch, config.project, device=device)
    state["head/frames"] = torch.zeros(batch, dtype=torch.int64, device=device)
    return state


def pooled(state: State) -> torch.Tensor:
    """Return the mean of the features of all frames seen, (B, project), zeros before any."""
    frames = state["head/frames"].clamp(min=1).unsqueeze(1)
    return state["head/sum"] / frames


def running_means(features: torch.Tensor, before: State) -> torch.Tensor:
    """Return what the classifier would have seen after each frame of a step.

    Args:
        features: (B, n, project), from ``step_features``.
        before: The state that was given to that call.

    Returns:
        (B, n, project) float32; ``classify`` of it gives a prediction per frame.
    """
    sums = before["head/sum"].unsqueeze(1) + features.float().cumsum(1)
    ages = torch.arange(1, features.shape[1] + 1, device=features.device)
    return sums / (before["head/frames"].unsqueeze(1) + ages).unsqueeze(2)


def check_clip(x: torch.Tensor) -> None:
    """Refuse what is not a clip (B, 3, T >= 1, H, W)."""
    if x.ndim != 5 or x.shape[1] != 3 or 0 in x.shape:
        raise ModelError(f"a clip has the shape (B, 3, T, H, W), not {tuple(x.shape)}")


@register(
    "movinet-a0-stream-lite",
    tiny={"config": TINY, "num_classes": 7},
    tiny_input=(2, 3, 6, 37, 44),
    streaming=True,
)
def movinet_a0_stream_lite(
    num_classes: int = 600, dropout: float = 0.2, config: MoViNetConfig = A0
) -> MoViNetLite:
    """Build the SE-free ReLU6 A0-stream network (2,723,407 parameters with 600 classes)."""
    return MoViNetLite(config, num_classes, dropout)
