"""Supervised training: labelled clips in, a recogniser out.

`freeze=backbone` trains a new head on features that are computed once: a minute on a laptop for a
few hundred clips. `freeze=none` trains every layer. The steps are those of `recipe.carry_out`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from foveate.data import Dataset
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import declared
from foveate.policy.build import TrainedLook
from foveate.train.job import Job, Progress, job_of
from foveate.train.policy_clips import LookedClips
from foveate.train.recipe import Bench, Recipe, TrainingConfig, carry_out
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, Strength, clips_of


class SupervisedConfig(TrainingConfig):
    """Everything that can be set."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, description="alpha; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha; 0: none; with mixup, one of the two")
    augment: Strength = "light"
    look: TrainedLook | None = Field(
        None, description="train on what this look shows; the run is then used with it"
    )

    @field_validator("look", mode="before")
    @classmethod
    def _by_name(cls, look: Any) -> Any:
        return {"name": look} if isinstance(look, str) else look


def fit(
    config: SupervisedConfig,
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
    """Train on labelled clips; arguments and errors are those of `recipe.carry_out`."""
    return carry_out(
        through(RECIPE, config, out), config, dataset, out, resume, progress,
        source=source, origin=origin, device=device, offline=offline,
    )  # fmt: skip


def through(recipe: Recipe, config: SupervisedConfig, out: Path) -> Recipe:
    """The recipe with its clips seen through the look of its settings, if there is one.

    What the look chose is kept in the run folder, so that the epochs choose once.
    """
    look = config.look
    if look is None:
        return recipe

    def source(config: SupervisedConfig, dataset: Dataset) -> Source:
        assert config.look is not None
        return LookedClips(
            dataset, config.look, declared(config.model), Path(out) / "looks",
            batch=config.batch, seed=config.seed, workers=config.workers,
            augment=config.augment, flip=config.flip,
        )  # fmt: skip

    def protocol(split: str | None, spec: InputSpec) -> str:
        return f"{recipe.protocol(split, spec)}, of which the look {look.name} shows its part"

    return replace(recipe, source=source, protocol=protocol)


def source_of(config: SupervisedConfig, dataset: Dataset) -> Source:
    """Augmented clips of the data set's files."""
    return clips_of(
        dataset, batch=config.batch, seed=config.seed, workers=config.workers,
        augment=config.augment, flip=config.flip,
    )  # fmt: skip


def protocol_of(split: str | None, spec: InputSpec) -> str:
    """One clip from the middle of each video."""
    where = "no validation" if split is None else f"split {split}"
    return (
        f"{where}; one clip of {spec.clip_frames} frames at {spec.frames_per_second:g}/s from the "
        f"middle, centre crop of {spec.size} pixels"
    )


def _job(bench: Bench) -> Job:
    return job_of(
        bench.config, bench.dataset, bench.start, bench.source, bench.us, bench.folder, bench.show
    )


RECIPE = Recipe("supervised", source_of, _job, protocol_of)
