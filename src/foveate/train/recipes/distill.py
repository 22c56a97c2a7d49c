"""Distillation: a small network learns from a large one's outputs besides the labels.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), section 2:
cross-entropy with the teacher's softened probabilities, times the square of the temperature, added
to the usual one. The teacher sees the middle of every training clip once, preprocessed as for
prediction; its logits are stored in the run folder, so epochs cost no more than without a teacher.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from foveate.core import ConfigError
from foveate.data.mixing import soft
from foveate.models.weights.load import load
from foveate.train.features import FeatureSet, computed_once, kept_features, key_of
from foveate.train.initial_model import InitialModel
from foveate.train.kit.batches import Batch
from foveate.train.kit.loop import Objective
from foveate.train.kit.losses import loss_for
from foveate.train.recipe import Job, Recipe, RecipeContext, train_network
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig, mixes_of
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, VideoClips, mirror_of, prepare_of


class DistillConfig(SupervisedConfig):
    """Settings of the recipe `distill`."""

    teacher: str = Field("", description="a run folder or weights, of the same classes")
    temperature: float = Field(2.0, gt=0, le=100, description="softens the probabilities of both")
    share: float = Field(0.9, ge=0, le=1, description="weight of the teacher in the loss")
    freeze: Literal["none"] = "none"


class Teacher(nn.Module):
    """A network whose features are its logits, so that they can be stored as features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, 1, classes) of clips (B, 3, T, H, W)."""
        logits: torch.Tensor = self.network(x)
        return logits[:, None]


def job_of(context: RecipeContext, start: InitialModel, source: Source) -> Job:
    """The student on clips, with labels and the teacher's logits.

    Raises:
        ConfigError: No teacher, one of other classes, or `flip` with classes whose mirror image is
            another class (the teacher's logits would be wrong).
    """
    config: DistillConfig = context.config
    mirror = mirror_of(context.dataset.classes)
    if config.mirrors and mirror != tuple(range(len(mirror))):
        raise ConfigError(
            "mirror images belong to other classes, and the teacher does not see them",
            "set flip=false",
        )
    job = supervised.job_of(context, start, source)
    answers = teacher_logits(context, source)
    return replace(
        job,
        objective=_objective(context, start, answers),
        failures=job.failures + [f"teacher: {line}" for line in answers.failures],
    )


def teacher_logits(context: RecipeContext, source: Source) -> FeatureSet:
    """The teacher's logits for every training clip, read from the run folder or computed.

    Returns:
        `x` (N, 1, classes) in the order of the data set's classes; `index` (N,) of the clips.

    Raises:
        ConfigError: No teacher is named, or it has other classes.
        FoveateError: Its weights cannot be read, no clip can be read, or its logits cannot be
            written.
    """
    config, dataset, group = context.config, context.dataset, context.group
    if not config.teacher:
        raise ConfigError("distill needs a teacher", "set teacher=RUN or teacher=ARCH.TAG")
    loaded = load(config.teacher, offline=context.offline)
    labels, split, spec = loaded.labels, config.train_split, loaded.input
    if set(labels) != set(dataset.classes):
        raise ConfigError(
            f"the teacher {config.teacher} has other classes than the data",
            "train it on this data first (its run folder is then the teacher)",
        )
    if (loaded.output == "sigmoid") != dataset.multilabel:
        raise ConfigError(f"the teacher {config.teacher} and the data differ in labels per clip")
    teacher = Teacher(loaded.network).to(group.device)
    if config.look is not None:  # the teacher of a student of patches sees the full frame
        source = VideoClips(dataset, config.batch, config.seed, config.workers)
    batches = source(split, False, spec, group)
    if batches is None:
        raise ConfigError(f"the split {split!r} has no clips")
    key = key_of(
        teacher, data=dataset.digest(split), split=split, input=asdict(spec), of="logits"
    )  # fmt: skip

    context.begin()

    def kept() -> FeatureSet:
        return kept_features(
            context.folder / "teacher", split, key, teacher, batches,
            prepare_of(spec, group.device), False, partial(context.report, "teacher's logits"),
        )  # fmt: skip

    found = computed_once(group, batches, kept)
    return replace(found, x=found.x[..., [labels.index(name) for name in dataset.classes]])


def _objective(context: RecipeContext, start: InitialModel, answers: FeatureSet) -> Objective:
    """Losses of labels and teacher; a clip without the teacher's logits has its label only."""
    config, dataset = context.config, context.dataset
    prepare = prepare_of(start.input, context.group.device)
    classes, temperature = len(dataset.classes), config.temperature
    softened = answers.x[:, 0].float() / temperature
    probabilities = softened.sigmoid() if dataset.multilabel else softened.softmax(1)
    positions = {int(index): row for row, index in enumerate(answers.index)}
    mixes, loss = mixes_of(config), loss_for(dataset.multilabel)

    def objective(model: nn.Module, batch: Batch, stream: torch.Generator) -> torch.Tensor:
        x = prepare(batch["x"])
        rows = [positions.get(int(index), -1) for index in batch["index"]]
        known = torch.tensor([row >= 0 for row in rows], device=x.device).float()
        taught = probabilities[[max(row, 0) for row in rows]].to(x.device)
        # Labels, teacher and who has one side by side, so that they are mixed as the clips are.
        y = torch.cat([soft(batch["y"].to(x.device), classes), taught * known[:, None]], 1)
        y = torch.cat([y, known[:, None]], 1)
        if mixes:
            random = np.random.default_rng(stream.initial_seed())
            mix, alpha = mixes[int(random.integers(len(mixes)))]
            x, y = mix(x, y, random, classes=y.shape[1], alpha=alpha)
        logits = model(x)
        hard = loss(logits, y[:, :classes], config.label_smoothing)
        known = y[:, -1]
        taught = y[:, classes:-1] / known.clamp(min=1e-6)[:, None]
        distilled = loss(logits / temperature, taught, 0.0) * temperature**2
        share = config.share * known
        mixed: torch.Tensor = (1 - share) * hard + share * distilled
        return mixed

    return objective


def _train(context: RecipeContext) -> RunSummary:
    source = supervised.source_of(context)
    return train_network(context, source, job_of, supervised.protocol_of)


RECIPE = Recipe("distill", DistillConfig, _train, supervised.prepare)
