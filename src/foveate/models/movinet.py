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

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import check_clip
from foveate.models.layers.same import avg_pool_same, conv2d_same
from foveate.models.movinet_config import (
    A0,
    TINY,
    LayerConfig,
    MoViNetConfig,
    empty_state,
    layer_name,
    slot_name,
)
from foveate.models.movinet_inference import MoViNetInference
from foveate.models.registry import register
from foveate.models.streaming import State, add_to_mean, mean_features


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


@register(
    "movinet-a0-stream-lite",
    tiny={"config": TINY, "num_classes": 7},
    tiny_input=(2, 3, 6, 37, 44),
    streaming=True,
)
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
        """Return the state of streams before their first frame.

        Args:
            batch: Number of streams.
            height: Height of the frames in pixels.
            width: Width of the frames in pixels.
            dtype: Of the stream buffers; None means that of the weights. Sums are float32.
            device: None means that of the weights.

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
        return features, new | add_to_mean(state, features)

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Run the next n >= 1 frames and classify all frames so far.

        Args:
            x: Frames (B, 3, n, H, W), RGB in 0..1.
            state: From ``initial_state`` or the previous step; it is not changed.

        Returns:
            Logits (B, classes) after the last of these frames, and the new state.
        """
        _, state = self.step_features(x, state)
        return self.classify(mean_features(state)), state

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
        """Multiply-adds of one call, computed from the layers; equal to ``count_macs``.

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
        return MoViNetInference(self)
