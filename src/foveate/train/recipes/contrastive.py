"""Contrastive pre-training on videos without labels: two clips of a video belong together.

Qian et al., "Spatiotemporal Contrastive Video Representation Learning" (CVRL), CVPR 2021 (arXiv
2008.03800), sections 3.1 to 3.3: two clips per video whose distance in time is drawn with a
density that falls linearly, augmentation drawn once per clip and alike for all its frames, and
InfoNCE over the batch behind a projection that is thrown away afterwards. What comes out is
trained on with `--model`, or judged by a linear probe (`freeze=backbone`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from foveate.core import ConfigError, FoveateError
from foveate.data import Dataset, make_loader, samplers
from foveate.data.prepare import Centre, Transform
from foveate.data.transforms import Augment, EachView
from foveate.evaluate import metrics
from foveate.models.layers.again import again
from foveate.models.spec import InputSpec
from foveate.train.features import is_head
from foveate.train.job import Job, Progress, explained, prepare_of
from foveate.train.kit.batches import Batch, Batches
from foveate.train.kit.distributed import Team
from foveate.train.kit.loop import Objective, Validate
from foveate.train.recipe import Bench, Recipe, TrainingConfig, carry_out
from foveate.train.run_state import RunSummary
from foveate.train.videos import LoaderBatches, Source

UNLABELLED = True  # labels are not used, so a plain folder of videos will do


class ContrastiveConfig(TrainingConfig):
    """Everything that can be set."""

    freeze: Literal["none"] = "none"
    accumulate: Literal[1] = Field(1, description="a batch in pieces would have fewer negatives")
    batch: int = Field(32, ge=2, description="videos in a step; each process contrasts its own")
    at_once: int = Field(
        16, ge=1, description="clips computed at a time; the others wait, so memory does not grow"
    )
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
    """A network with a projection behind its pooled features.

    Args:
        network: Has `features` and `classifier`; the classifier is not trained.
        hidden: Units of the projection's hidden layer.
        outputs: Of the projection.
        at_once: Clips that go through the network at a time in training. Where a batch has more,
            each piece is computed again in the backward pass; norms see a piece, not the batch.

    Raises:
        ConfigError: The network has no features of its own.
    """

    def __init__(self, network: nn.Module, hidden: int, outputs: int, at_once: int = 16) -> None:
        super().__init__()
        head = getattr(network, "classifier", None)
        if not hasattr(network, "features") or head is None:
            raise ConfigError(f"contrastive: {type(network).__name__} has no features()")
        for name, parameter in network.named_parameters():
            if is_head(name):
                parameter.requires_grad_(False)
        self.network = network
        self.at_once = at_once
        width = getattr(network, "num_features", None)
        first = nn.LazyLinear(hidden) if width is None else nn.Linear(width, hidden)
        # Without the norm, small networks often end with the same vector for every clip.
        norm = nn.BatchNorm1d(hidden)
        self.projection = nn.Sequential(first, norm, nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, x_bvcthw: torch.Tensor) -> torch.Tensor:
        """Map clips (B, views, 3, T, H, W) to unit vectors (B, views, outputs)."""
        clips = x_bvcthw.flatten(0, 1)
        whole = len(clips) <= self.at_once or not torch.is_grad_enabled()
        pieces = clips.split(self.at_once)
        pooled = torch.cat(
            [self._pooled(p) if whole else again(self.network, p, self._pooled) for p in pieces]
        )
        projected = self.projection(pooled)
        z = F.normalize(projected.float(), dim=-1)
        return z.view(*x_bvcthw.shape[:2], -1)

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, C) of clips (B, 3, T, H, W)."""
        features: Any = self.network.features
        found: torch.Tensor = features(x).mean(1)
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


def fit(
    config: ContrastiveConfig,
    dataset: Dataset,
    out: Path,
    resume: bool = False,
    progress: Progress | None = None,
    *,
    source: Source | None = None,
    origin: Mapping[str, Any] | None = None,
    device: str | None = None,
    offline: bool = False,
) -> RunSummary:
    """Pre-train; arguments and errors are those of `recipe.carry_out`. Labels are not looked at.

    With a source of one's own, `x` is (B, 2, 3, T, H, W).
    """
    return carry_out(
        RECIPE, config, dataset, out, resume, progress,
        source=source, origin=origin, device=device, offline=offline,
    )  # fmt: skip


def _source_of(config: ContrastiveConfig, dataset: Dataset) -> Source:
    """Pairs of clips of the data set's files."""

    def source(split: str, training: bool, spec: InputSpec, team: Team) -> Batches | None:
        if not len(dataset.subset(split)):
            return None
        one: Transform = Centre.of(spec)
        if training:
            one = Augment(
                spec.size, (config.crop, 1.0), ratio=(0.5, 2.0), flip=0.5 if config.flip else 0.0,
                colour=config.colour, grey=config.grey,
            )  # fmt: skip
        sampling = partial(
            samplers.pair, count=spec.clip_frames, rate=spec.frames_per_second,
            power=config.distance,
        )  # fmt: skip
        parts = (team.rank, team.world) if training else (0, 1)
        loader = make_loader(
            dataset, split, sampling, EachView(one, 2), batch=max(config.batch, team.world),
            train=training, seed=config.seed, workers=config.workers, rank=parts[0],
            world=parts[1],
        )  # fmt: skip
        return LoaderBatches(loader)

    return source


def _job(bench: Bench) -> Job:
    config: ContrastiveConfig = bench.config
    spec, us = bench.start.input, bench.us
    batches = bench.source(config.train_split, True, spec, us)
    if batches is None:
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    held_out = bench.source(config.val_split, False, spec, us) if us.leads else None
    model = Contrast(bench.start.model, config.hidden, config.projection, config.at_once).to(
        us.device
    )
    prepare = prepare_of(spec, us)
    if any(isinstance(part, nn.LazyLinear) for part in model.modules()):
        with torch.no_grad():
            size = (1, 2, 3, spec.clip_frames, spec.size, spec.size)
            model.eval()(torch.zeros(size, device=us.device))

    def objective(net: nn.Module, batch: Batch, stream: torch.Generator) -> torch.Tensor:
        return info_nce(net(prepare(batch["x"])), config.temperature)

    told: Objective = objective
    return Job(model, batches, held_out, told, _validation(held_out, prepare, config), [], [])


def _validation(held_out: Batches | None, prepare: Any, config: ContrastiveConfig) -> Validate:
    def validate(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        if held_out is None:
            return (), {}
        with explained(held_out):
            found = [model(prepare(b["x"])).cpu() for b in held_out.batches(0) if len(b["x"])]
        if not found:
            raise FoveateError("not one clip of the validation split could be read")
        z = torch.cat(found)
        loss = float(info_nce(z, config.temperature).mean())
        named = metrics.Protocol("clip", 2).name
        return (-loss,), {named("infonce"): loss, named("partner-top1"): partners_found(z)}

    return validate


def partners_found(z: torch.Tensor) -> float:
    """Share of first clips (B, 2, outputs) whose nearest second clip is of the same video."""
    nearest = (z[:, 0] @ z[:, 1].T).argmax(1)
    return float((nearest == torch.arange(len(z), device=z.device)).float().mean())


def _protocol(split: str | None, spec: InputSpec) -> str:
    where = "no validation" if split is None else f"split {split}"
    return (
        f"{where}; two clips of {spec.clip_frames} frames at {spec.frames_per_second:g}/s, a third "
        f"and two thirds into each video, centre crop of {spec.size} pixels, among all of the split"
    )


RECIPE = Recipe("contrastive", _source_of, _job, _protocol)
