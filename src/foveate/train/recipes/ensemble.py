"""A temporal ensemble: two networks at half the frame rate that take turns at the frames.

Kondratyuk et al., "MoViNets", CVPR 2021 (arXiv 2103.11511), section 3.3: the networks are trained
apart, on clips of the same duration at half the rate; see `pipeline.ensemble` for what they answer.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from foveate.core import ConfigError
from foveate.evaluate.results import commit, now
from foveate.evaluate.run import evaluate
from foveate.models.spec import InputSpec
from foveate.models.weights.run import (
    InputCard,
    declared_input,
    load_run,
    read_run,
    write_run,
)
from foveate.pipeline.loading import load
from foveate.train.recipe import Recipe, RecipeContext
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.run_state import RunSummary
from foveate.train.videos import fitting_frames

NAMES = ("even", "odd")


class EnsembleConfig(SupervisedConfig):
    """Settings of the recipe `ensemble`; `frames` and `rate` are those of the whole."""

    members: tuple[str, str] | None = Field(
        None, description="two run folders trained at half the rate; None: both are trained"
    )
    look: None = None


def _train(context: RecipeContext) -> RunSummary:
    """Train both networks, join them in one run folder, and measure them together.

    Raises:
        ConfigError: The rate is not known, or the members do not belong together.
    """
    config: EnsembleConfig = context.config
    folders = config.members or tuple(
        str(context.train_stage(name, supervised.RECIPE, _half(context, place)))
        for place, name in enumerate(NAMES)
    )
    cards = [read_run(folder) for folder in folders]
    first = cards[0]
    for card, folder in zip(cards, folders, strict=True):
        if (card.classes, card.input, card.output) != (first.classes, first.input, first.output):
            raise ConfigError(f"{folder}: other classes or another input than {folders[0]}")
    half = first.input.spec()
    whole = replace(
        half, frames_per_second=2 * half.frames_per_second, clip_frames=2 * half.clip_frames
    )
    networks = {
        name: card.network.model_copy(update={"input": card.input})
        for name, card in zip(NAMES, cards, strict=True)
    }
    joined = first.model_copy(
        update={
            "method": "ensemble", "networks": networks, "input": InputCard.of(whole),
            "recipe": context.recipe.name, "configuration": config.model_dump(mode="json"),
            "protocol": "", "figures": {}, "commit": commit(), "date": now(),
        }
    )  # fmt: skip
    modules = {name: load_run(folder).network for name, folder in zip(NAMES, folders, strict=True)}
    if context.group.is_main:
        joined = write_run(context.folder, modules, joined)
        if len(context.dataset.subset(config.val_split)):
            found = evaluate(load(context.folder), context.dataset, config.val_split)
            best = found.figure("map" if context.dataset.multilabel else "top1")
            update = {"protocol": found.protocol, "figures": {best.name: best.value}}
            joined = write_run(context.folder, modules, joined.model_copy(update=update))
    return context.summarize(joined.figures, [])


def _half(context: RecipeContext, place: int) -> SupervisedConfig:
    """Settings of one of the networks: clips of the same duration with half the frames.

    Raises:
        ConfigError: Random weights without size, frames and rate.
    """
    config: EnsembleConfig = context.config
    spec = declared_input(config.initial or config.model)
    if spec is None and config.size and config.frames and config.rate:
        spec = InputSpec(config.size, config.rate, config.frames)
    if spec is None:
        raise ConfigError(
            f"{config.model}: random weights have no input settings", "set size, frames and rate"
        )
    spec = replace(spec, frames_per_second=config.rate or spec.frames_per_second)
    frames = config.frames or fitting_frames(context.dataset, config.train_split, spec)
    own = {key: getattr(config, key) for key in SupervisedConfig.model_fields}
    changed = {
        "seed": config.seed + place,
        "rate": spec.frames_per_second / 2,
        "frames": max(1, frames // 2),
    }
    return SupervisedConfig(**own | changed)


RECIPE = Recipe("ensemble", EnsembleConfig, _train, supervised.prepare)
