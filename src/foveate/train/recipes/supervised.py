"""Supervised training on labelled clips.

`freeze=backbone` trains a new head on features that are computed once, in about a minute for a few
hundred clips on a CPU. `freeze=none` trains every layer. `freeze=head-first` does one after the
other: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022 (arXiv 2202.10054).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from foveate.core import ConfigError
from foveate.data import Dataset
from foveate.data.mixing import cutmix, mixup
from foveate.evaluate import metrics
from foveate.models.spec import InputSpec
from foveate.models.weights.run import declared
from foveate.policy.build import TrainedLook
from foveate.policy.looks.tokens import MotionTokensSpec
from foveate.primitives.augment import Flip
from foveate.primitives.augment.compose import mirrors
from foveate.primitives.augment.geometry import SizeTransform
from foveate.primitives.unions import AnySampler, AnyTransform
from foveate.train.config import TrainingConfig
from foveate.train.features import (
    FeatureSet,
    Head,
    computed_once,
    draw_view,
    kept_features,
    key_of,
    several,
)
from foveate.train.initial_model import InitialModel, frozen_part, is_pretrained
from foveate.train.kit.batches import Batch, Batches, Prepare, TensorBatches, outputs_of
from foveate.train.kit.loop import Objective, Validate
from foveate.train.kit.losses import loss_for
from foveate.train.policy_clips import PolicyClips
from foveate.train.recipe import Job, Recipe, RecipeContext, initial_model, train_network
from foveate.train.run_state import RunSummary
from foveate.train.videos import (
    Source,
    Strength,
    VideoClips,
    median_seconds,
    mirror_of,
    prepare_of,
)

HEAD_EPOCHS = 100  # at most, on features; an epoch takes less than a second


class SupervisedConfig(TrainingConfig):
    """Settings of the recipe `supervised`."""

    freeze: Literal["none", "backbone", "head-first"] = Field(
        "head-first",
        description="what is not trained; head-first: the backbone until the head is trained, "
        "then nothing, if there are pretrained weights and validation clips",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, description="alpha; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha; 0: none; with mixup, one of the two")
    augment: Strength | tuple[AnyTransform, ...] = Field(
        "light", description="a strength, or transforms in their order; then `flip` is one of them"
    )
    sampler: AnySampler | None = Field(
        None, description="which frames of a clip; None: a window at an even rate"
    )
    look: TrainedLook | None = Field(
        None, description="train on what this look shows; the run then predicts with it"
    )

    @field_validator("look", mode="before")
    @classmethod
    def _by_name(cls, look: Any) -> Any:
        return {"name": look} if isinstance(look, str) else look

    @property
    def mirrors(self) -> bool:
        """Whether clips are mirrored in training."""
        if isinstance(self.augment, tuple):
            return mirrors(self.augment)
        return self.flip and self.augment != "none"


def prepare(config: SupervisedConfig, dataset: Dataset) -> SupervisedConfig:
    """Set the rate of a sampler that spreads frames over whole clips, by the median clip.

    Raises:
        ConfigError: Transforms or a sampler that would do nothing, or clips with tokens that would
            be mixed.
    """
    if _tokens(config) and mixes_of(config):
        raise ConfigError(
            "mixup, cutmix: clips of which different tokens are computed cannot be mixed",
            "leave them at 0",
        )
    if config.freeze == "backbone" and isinstance(config.augment, tuple):
        for one in config.augment:
            if not isinstance(one, SizeTransform | Flip):
                raise ConfigError(
                    f"transforms: {one.kind} needs frames: features are computed once",
                    "set freeze=none, or leave it out",
                )
    sampler = config.sampler
    if sampler is None:
        return config
    if config.look is not None:
        raise ConfigError(
            f"sampler: the look {config.look.name} chooses the times of frames",
            "leave one of them out",
        )
    frames = config.frames or sampler.frames
    update: dict[str, Any] = {"frames": frames}
    if sampler.spans and config.rate is None and frames is not None:
        seconds = median_seconds(dataset, config.train_split)
        update["rate"] = None if seconds is None else frames / seconds
    return config.model_copy(update=update)


def source_of(context: RecipeContext) -> VideoClips:
    """Augmented clips of the data set's files, seen through the look of the settings if any.

    Selections of the look are stored in the run folder.
    """
    config = context.config
    names = ("batch", "seed", "workers", "augment", "flip", "sampler")
    shared = {name: getattr(config, name) for name in names}
    if config.look is None:
        return VideoClips(context.dataset, **shared)
    return PolicyClips(
        context.dataset, **shared, look=config.look, entry=declared(config.model),
        kept=context.folder / "looks",
        # The network alone knows the size of its patches.
        patch=getattr(initial_model(context).model, "patch", None) if _tokens(config) else None,
    )  # fmt: skip


def _tokens(config: SupervisedConfig) -> bool:
    """Whether the look chooses patch tokens."""
    return isinstance(config.look, MotionTokensSpec)


def protocol_of(config: SupervisedConfig, split: str | None, spec: InputSpec) -> str:
    """One clip from the middle of each video, or frames that are spread over it."""
    where = "no validation" if split is None else f"split {split}"
    seen = "" if config.look is None else f", of which the look {config.look.name} shows its part"
    at = f"at {spec.frames_per_second:g}/s from the middle"
    if config.sampler is not None:
        at = f"by the sampler {config.sampler.kind}"
    return (
        f"{where}; one clip of {spec.clip_frames} frames {at}, centre crop of {spec.size} "
        f"pixels{seen}"
    )


def job_of(context: RecipeContext, start: InitialModel, source: Source) -> Job:
    """The network on clips or, with `freeze=backbone`, its head on features computed here.

    Raises:
        ConfigError: No training clips, a network without a separate head, or cutmix on features.
        FoveateError: No clip could be read, or the features cannot be written.
    """
    config, dataset, group = context.config, context.dataset, context.group
    prepare = prepare_of(start.input, group.device)
    model, sets = start.model, []
    batches: Batches | None
    held_out: Batches | None = None
    if config.freeze == "backbone":
        if config.cutmix:
            raise ConfigError("cutmix needs frames: it cannot be used with freeze=backbone")
        model = Head(start.model)
        train, val = (
            _features(context, start, source, split)
            for split in (config.train_split, config.val_split)
        )
        sets = [one for one in (train, val) if one is not None]
        batches = None if train is None else TensorBatches(
            train.x, train.y, config.batch, config.seed, group.rank, group.world, draw_view
        )  # fmt: skip
        held_out = None if val is None else TensorBatches(val.x[:, 0], val.y, 256)
    else:
        batches = source(config.train_split, True, start.input, group)
        if group.is_main:
            held_out = source(config.val_split, False, start.input, group)
    if batches is None:
        raise ConfigError(f"the split {config.train_split!r} has no clips")
    return Job(
        model,
        batches,
        held_out,
        objective_of(config, len(dataset.classes), dataset.multilabel, prepare),
        validation_of(held_out, prepare, dataset.multilabel),
        [line for one in sets for line in one.failures],
        [line for one in sets for line in one.warnings],
        features_saved=sum(one.saved for one in sets),
    )


def _features(
    context: RecipeContext, start: InitialModel, source: Source, split: str
) -> FeatureSet | None:
    """Features of a split, None if it has no clips."""
    config, dataset, group, spec = context.config, context.dataset, context.group, start.input
    batches = source(split, False, spec, group)
    if batches is None:
        return None
    context.begin()
    # Mirror images are further views, unless they belong to another class.
    mirror = mirror_of(dataset.classes)
    views = config.mirrors and mirror == tuple(range(len(mirror)))
    sources: list[Source] = [source]
    if isinstance(source, PolicyClips) and split == config.train_split:
        # Several random patches, so that the head does not overfit to one.
        sources = [*source.draws()]
    inputs: dict[str, Any] = {"data": dataset.digest(split), "split": split, "views": views}
    inputs["input"] = asdict(spec)

    def kept(draw: int) -> FeatureSet:
        clips = sources[draw](split, False, spec, group) if draw else batches
        assert clips is not None
        if config.look is not None:
            inputs.update(look=config.look.model_dump(mode="json"), draw=draw)
        return kept_features(
            context.features or context.folder / "features", split,
            key_of(start.model, **inputs), start.model, clips,
            prepare_of(spec, group.device), views, partial(context.report, f"features of {split}"),
        )  # fmt: skip

    return several(
        computed_once(group, batches, lambda: [kept(draw) for draw in range(len(sources))])
    )


def mixes_of(config: SupervisedConfig) -> list[tuple[Any, float]]:
    """What mixes the clips of a batch, with its alpha; with several, each batch draws one."""
    return [
        (mix, alpha) for mix, alpha in ((mixup, config.mixup), (cutmix, config.cutmix)) if alpha
    ]


def objective_of(
    config: SupervisedConfig, classes: int, multilabel: bool, prepare: Prepare
) -> Objective:
    """Cross-entropy with the labels, of mixed clips if the settings say so."""
    loss, mixes = loss_for(multilabel), mixes_of(config)

    def objective(model: nn.Module, batch: Batch, stream: torch.Generator) -> torch.Tensor:
        x = prepare(batch["x"])
        y = batch["y"].to(x.device)
        if mixes:
            random = np.random.default_rng(stream.initial_seed())
            mix, alpha = mixes[int(random.integers(len(mixes)))]
            x, y = mix(x, y, random, classes=classes, alpha=alpha)
        return loss(model(x), y, config.label_smoothing)

    return objective


def validation_of(held_out: Batches | None, prepare: Prepare, multilabel: bool) -> Validate:
    """Accuracy, or mean average precision with several labels per clip; then the loss."""
    named = metrics.Protocol("clip", 1).name

    def validate(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        if held_out is None:
            return (), {}
        scores, labels = outputs_of(model, held_out, prepare)
        loss = float(loss_for(multilabel)(scores, labels, 0.0).mean())
        values, truth, n = scores.numpy(), labels.numpy(), len(labels)
        if multilabel:
            value = metrics.value_of(metrics.mean_average_precision(values, truth), n)
            figures = {named("map"): 0.0 if np.isnan(value) else value}
        else:
            right = metrics.hits(values, truth)
            accuracy = metrics.value_of(metrics.mean_class_accuracy(right, truth), n)
            figures = {named("top1"): float(right.mean()), named("mean-class-accuracy"): accuracy}
        # Of two epochs with equal accuracy, the one with the smaller loss is better.
        return (next(iter(figures.values())), -loss), {**figures, named("loss"): loss}

    return validate


def _train(context: RecipeContext) -> RunSummary:
    config = context.config
    if config.freeze != "head-first":
        return train_network(context, source_of(context), job_of, protocol_of)
    freeze = _possible(context)
    if freeze != "head-first":
        update = {"freeze": freeze}
        return _train(replace(context, config=config.model_copy(update=update)))
    # Features cannot be cut out of and pasted into each other as frames can.
    head: dict[str, Any] = {"freeze": "backbone", "epochs": HEAD_EPOCHS, "cutmix": 0.0}
    if isinstance(config.augment, tuple):
        kept = (one for one in config.augment if isinstance(one, SizeTransform | Flip))
        head["augment"] = tuple(kept)
    frozen = context.train_stage("frozen", RECIPE, config.model_copy(update=head))
    context.say("the head is trained; now all layers, as long as validation improves")
    summary = train_network(context, source_of(context), job_of, protocol_of, frozen)
    done = context.summaries
    return replace(
        summary,
        features_seconds=sum(stage.features_seconds for stage in done),
        features_saved=sum(stage.features_saved for stage in done),
        warnings=list(dict.fromkeys(w for s in (*done, summary) for w in s.warnings)),
        failures=list(dict.fromkeys(f for s in (*done, summary) for f in s.failures)),
    )


def _possible(context: RecipeContext) -> str:
    """`head-first`, or what remains of it: its two steps need weights, validation and features."""
    config = context.config
    if not is_pretrained(config.model) or not len(context.dataset.subset(config.val_split)):
        return "none"
    network = initial_model(context).model
    if not (hasattr(network, "features") and hasattr(network, "classify")):
        return "none"
    return "backbone" if frozen_part(network) else "head-first"


RECIPE = Recipe("supervised", SupervisedConfig, _train, prepare)
