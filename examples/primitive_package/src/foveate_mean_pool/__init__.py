"""Primitives of another package: a recogniser with its network, a sampler, and a transform."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from foveate.data import samplers
from foveate.models.registry import register
from foveate.primitives import Network, Sampler, Search, Transform


@register("mean-pool", tiny={"num_classes": 7}, mixes_frames=False)
class MeanPoolNetwork(nn.Module):
    """Convolutions on frames, and a linear layer on the mean of their features.

    Args:
        num_classes: Outputs.
        width: Channels.
    """

    def __init__(self, num_classes: int = 2, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (1, 5, 5), (1, 4, 4)), nn.ReLU(), nn.AdaptiveAvgPool3d(1)
        )
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) of clips (B, 3, T, H, W)."""
        logits: torch.Tensor = self.classifier(self.stem(x).flatten(1))
        return logits


class MeanPool(Network):
    """The network as a part of pipelines; its fields are arguments of the builder."""

    default_input: ClassVar[tuple[int, int, float] | None] = (64, 4, 5.0)

    kind: Literal["mean-pool"] = "mean-pool"
    width: Annotated[int, Field(ge=4, le=256), Search.choice(8, 16, 32)] = 16


class Every(Sampler):
    """All frames at a rate from the start of the clip."""

    kind: Literal["every"] = "every"
    rate: Annotated[float, Field(gt=0, le=240), Search.float(1, 10)] = 5.0

    def build(self, spec: Any) -> samplers.Sampling:
        """Times at the rate; as many as the network takes."""
        return partial(samplers.whole, rate=self.rate, most=spec.clip_frames)


class ScanLines(Transform):
    """Every other row black, as of an old screen."""

    kind: Literal["scan-lines"] = "scan-lines"

    def apply(self, x_tchw: torch.Tensor, random: Any) -> torch.Tensor:
        """Frames (T, 3, H, W) uint8 with black rows."""
        lined = x_tchw.clone()
        lined[..., 1::2, :] = 0
        return lined
