"""Contrastive pre-training on videos without labels: two clips of a video are a positive pair.

Qian et al., "Spatiotemporal Contrastive Video Representation Learning" (CVRL), CVPR 2021 (arXiv
2008.03800), sections 3.1 to 3.3: two clips per video whose distance in time is drawn with a
density that falls linearly, augmentation drawn once per clip for all its frames, and InfoNCE over
the batch after a projection that is discarded afterwards. The resulting network is fine-tuned with
`--model`, or evaluated by a linear probe (`freeze=backbone`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.core import ConfigError
from foveate.data import samplers
from foveate.data.prepare import Centre, Transform
from foveate.data.transforms import EachView
from foveate.evaluate import metrics
from foveate.models.layers.again import again
from foveate.models.spec import InputSpec
from foveate.primitives.augment import Augment, ColourJitter, Flip, Grey, RandomResizedCrop
from foveate.train.config import TrainingConfig
from foveate.train.features import is_head
from foveate.train.initial_model import InitialModel
from foveate.train.kit.batches import Batch, Prepare, outputs_of
from foveate.train.recipe import Job, Recipe, RecipeContext, train_network
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, VideoClips, prepare_of


class ContrastiveConfig(TrainingConfig):
    """Settings of the recipe `contrastive`."""

    freeze: Literal["none"] = "none"
    batch: int = Field(32, ge=2, description="videos in a step; each process contrasts its own")
    temperature: float = Field(0.1, gt=0, le=10)
    projection: int = Field(128, ge=2, le=8192, description="outputs of the projection")
    hidden: int = Field(2048, ge=2, le=65_536, description="hidden units of the projection")
    distance: float = Field(
        1.0, ge=0, le=100, description="power of the falling density of distances; 0: uniform"
    )
    crop: float = Field(0.3, gt=0, le=1, description="least share of a frame's area in a crop")
    colour: float = Field(0.4, ge=0, le=1, description="strength of the colour jitter")
    grey: float = Field(0.2, ge=0, le=1, description="share of clips without colour")


class Contrast(nn.Module):
    """A network with a projection after its pooled features.

    Args:
        network: Has `features` and `classifier`; the classifier is not trained.
        hidden: Units of the projection's hidden layer.
        outputs: Of the projection.
        prepare: Applied to each piece of a batch, so that frames of the others stay bytes.

    Attributes:
        pieces: In how many pieces the clips of a batch go through the network. With several, each
            is computed again in the backward pass, from the gradient of the loss over the whole
            batch (Gao et al., arXiv 2101.06983); batch norms of the network see a piece.

    Raises:
        ConfigError: The network has no `features` method or no classifier.
    """

    def __init__(
        self, network: nn.Module, hidden: int, outputs: int, prepare: Prepare = lambda x: x
    ) -> None:
        super().__init__()
        head = getattr(network, "classifier", None)
        if not hasattr(network, "features") or head is None:
            raise ConfigError(f"contrastive: {type(network).__name__} has no features()")
        for name, parameter in network.named_parameters():
            if is_head(name):
                parameter.requires_grad_(False)
        self.network = network
        self.pieces = 1
        self.prepare = prepare
        width = getattr(network, "num_features", None)
        first = nn.LazyLinear(hidden) if width is None else nn.Linear(width, hidden)
        # Without the norm, small networks often collapse to the same vector for every clip.
        norm = nn.BatchNorm1d(hidden)
        self.projection = nn.Sequential(first, norm, nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, x_bvcthw: torch.Tensor) -> torch.Tensor:
        """Map clips (B, views, 3, T, H, W) to unit vectors (B, views, outputs)."""
        clips = x_bvcthw.flatten(0, 1)
        whole = self.pieces == 1 or not torch.is_grad_enabled()
        pieces = clips.chunk(self.pieces)
        pooled = torch.cat(
            [self._pooled(p) if whole else again(self.network, p, self._pooled) for p in pieces]
        )
        projected = self.projection(pooled)
        z = F.normalize(projected.float(), dim=-1)
        return z.view(*x_bvcthw.shape[:2], -1)

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, C) of clips (B, 3, T, H, W)."""
        features: Any = self.network.features
        found: torch.Tensor = features(self.prepare(x)).mean(1)
        return found


def info_nce(z: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE of each pair, (B,): every other vector of the batch is a negative.

    -log(exp(z_i z_j / t) / sum_{k != i} exp(z_i z_k / t)), the mean of both directions (CVRL,
    equation 1).

    Args:
        z: Unit vectors (B, 2, outputs) of two clips each.
        temperature: Divides the cosines.
    """
    count = z.shape[0]
    flat = torch.cat([z[:, 0], z[:, 1]])
    cosines = flat @ flat.T / temperature
    cosines = cosines.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=z.device), -1e9)
    partner = torch.arange(2 * count, device=z.device).roll(count)
    return F.cross_entropy(cosines, partner, reduction="none").view(2, count).mean(0)


@dataclass(frozen=True)
class PairClips(VideoClips):
    """Pairs of clips of each video; a `videos.Source`. `x` is (B, 2, 3, T, H, W)."""

    config: ContrastiveConfig = field(kw_only=True)

    def sampling(self, spec: InputSpec) -> samplers.Sampling:
        """Two clips whose distance is drawn."""
        return partial(
            samplers.pair, count=spec.clip_frames, rate=spec.frames_per_second,
            power=self.config.distance,
        )  # fmt: skip

    def transform(self, spec: InputSpec, training: bool) -> Transform:
        """Augmentation drawn for each of the two clips."""
        one: Transform = Centre.of(spec)
        if training:
            config = self.config
            jitter = (ColourJitter(strength=config.colour),) if config.colour else ()
            flip = (Flip(),) if self.flip else ()
            crop = RandomResizedCrop(size=spec.size, scale=config.crop, ratio=2.0)
            one = Augment(spec.size, (crop, *flip, *jitter, Grey(p=config.grey)))
        return EachView(one, 2)


def job_of(context: RecipeContext, start: InitialModel, source: Source) -> Job:
    """The network with a projection, on pairs of clips.

    Raises:
        ConfigError: No training clips, or a network without features.
    """
    config, group, spec = context.config, context.group, start.input
    batches = source(config.train_split, True, spec, group)
    if batches is None:
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    held_out = source(config.val_split, False, spec, group) if group.is_main else None
    prepare = prepare_of(spec, group.device)
    model = Contrast(start.model, config.hidden, config.projection, prepare)
    model.to(group.device)
    if any(isinstance(part, nn.LazyLinear) for part in model.modules()):
        with torch.no_grad():
            size = (1, 2, 3, spec.clip_frames, spec.size, spec.size)
            model.eval()(torch.zeros(size, device=group.device))

    def objective(net: nn.Module, batch: Batch, stream: torch.Generator) -> torch.Tensor:
        return info_nce(net(batch["x"]), config.temperature)

    def validate(net: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        if held_out is None:
            return (), {}
        z, _ = outputs_of(net, held_out, lambda x: x)
        loss = float(info_nce(z, config.temperature).mean())
        named = metrics.Protocol("clip", 2).name
        return (-loss,), {named("infonce"): loss, named("partner-top1"): partners_found(z)}

    return Job(model, batches, held_out, objective, validate)


def partners_found(z: torch.Tensor) -> float:
    """Share of first clips (B, 2, outputs) whose nearest second clip is of the same video."""
    nearest = (z[:, 0] @ z[:, 1].T).argmax(1)
    return float((nearest == torch.arange(len(z), device=z.device)).float().mean())


def protocol_of(config: ContrastiveConfig, split: str | None, spec: InputSpec) -> str:
    """Two clips of each video."""
    where = "no validation" if split is None else f"split {split}"
    return (
        f"{where}; two clips of {spec.clip_frames} frames at {spec.frames_per_second:g}/s, a third "
        f"and two thirds into each video, centre crop of {spec.size} pixels, among all of the split"
    )


def _train(context: RecipeContext) -> RunSummary:
    config = context.config
    shared = config.model_dump(include={"batch", "seed", "workers", "flip"})
    source = PairClips(context.dataset, **shared, config=config)
    return train_network(context, source, job_of, protocol_of)


RECIPE = Recipe("contrastive", ContrastiveConfig, _train, unlabelled=True)
