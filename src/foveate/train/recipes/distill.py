"""Distillation: a small network learns the answers of a large one besides the labels.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), section 2:
cross-entropy with the teacher's softened probabilities, times the square of the temperature, beside
the usual one. The teacher sees every training clip once, from its middle and as in prediction; its
logits are kept in the run folder, so an epoch costs what it costs without a teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from foveate.core import ConfigError
from foveate.data import Dataset
from foveate.data.mixing import soft
from foveate.models.weights.load import load
from foveate.train.features import FeatureSet, kept_features, key_of
from foveate.train.job import Job, Progress, explained, job_of, mixes_of, prepare_of
from foveate.train.kit.batches import Batch
from foveate.train.kit.loop import Objective
from foveate.train.kit.losses import multilabel_loss, soft_cross_entropy
from foveate.train.kit.state import Moment
from foveate.train.recipe import Bench, Recipe, carry_out
from foveate.train.recipes.supervised import SupervisedConfig, protocol_of, source_of, through
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, mirror_of


class DistillConfig(SupervisedConfig):
    """Everything that can be set."""

    teacher: str = Field("", description="a run folder or weights, of the same classes")
    temperature: float = Field(2.0, gt=0, le=100, description="softens both sides' probabilities")
    share: float = Field(0.9, ge=0, le=1, description="of the loss that is the teacher's")
    freeze: Literal["none"] = "none"


class Teacher(nn.Module):
    """A network whose features are its logits, so that they are kept as features are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, 1, classes) of clips (B, 3, T, H, W)."""
        logits: torch.Tensor = self.network(x)
        return logits[:, None]


def fit(
    config: DistillConfig,
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
    """Train a student; arguments and errors are those of `recipe.carry_out`.

    Raises:
        ConfigError: No teacher, one of other classes, or clips whose mirror image has another
            class and `flip` (what the teacher said of them would be wrong).
    """
    return carry_out(
        through(RECIPE, config, out), config, dataset, out, resume, progress,
        source=source, origin=origin, device=device, offline=offline,
    )  # fmt: skip


def _job(bench: Bench) -> Job:
    config: DistillConfig = bench.config
    mirror = mirror_of(bench.dataset.classes)
    if config.flip and config.augment != "none" and mirror != tuple(range(len(mirror))):
        raise ConfigError(
            "mirror images of these classes belong to others, and the teacher sees none",
            "set flip=false",
        )
    job = job_of(
        config, bench.dataset, bench.start, bench.source, bench.us, bench.folder, bench.show
    )
    answers = teacher_logits(bench)
    return replace(
        job,
        objective=_objective(config, bench, answers),
        failures=job.failures + [f"teacher: {line}" for line in answers.failures],
    )


def teacher_logits(bench: Bench) -> FeatureSet:
    """What the teacher says of every training clip, from the run folder or computed now.

    Returns:
        `x` (N, 1, classes), in the order of the data set's classes; `index` (N,) says whose.

    Raises:
        ConfigError: No teacher is named, or it knows other classes.
        FoveateError: Its weights or not one clip can be read, or its logits cannot be written.
    """
    config: DistillConfig = bench.config
    if not config.teacher:
        raise ConfigError("distill needs a teacher", "set teacher=RUN or teacher=ARCH.TAG")
    loaded = load(config.teacher, offline=bench.offline)
    network, labels = loaded.network, loaded.labels
    if set(labels) != set(bench.dataset.classes):
        raise ConfigError(
            f"the teacher {config.teacher} knows other classes than the data has",
            "train it on this data first (its run folder is then the teacher)",
        )
    if (loaded.output == "sigmoid") != bench.dataset.multilabel:
        raise ConfigError(f"the teacher {config.teacher} and the data differ in labels per clip")
    teacher = Teacher(network).to(bench.us.device)
    split, spec = config.train_split, loaded.input
    # A student of patches learns from a teacher that sees the whole view.
    source = bench.source if config.look is None else source_of(config, bench.dataset)
    batches = source(split, False, spec, bench.us)
    if batches is None:
        raise ConfigError(f"the split {split!r} has no clips")
    key = key_of(
        teacher, data=bench.dataset.digest(split), split=split, input=asdict(spec), of="logits"
    )

    def told(done: int, total: int) -> None:
        if bench.show is not None:
            bench.show(Moment(0, 1, done, total, stage="the teacher's answers"))

    def kept() -> FeatureSet:
        return kept_features(
            bench.folder / "teacher", split, key, teacher, lambda: batches,
            prepare_of(spec, bench.us), False, told,
        )  # fmt: skip

    with explained(batches):
        found = kept() if bench.us.leads else None
    bench.us.wait()
    found = found or kept()
    order = [labels.index(name) for name in bench.dataset.classes]
    return replace(found, x=found.x[..., order])


def _objective(config: DistillConfig, bench: Bench, answers: FeatureSet) -> Objective:
    """Losses of labels and teacher; a clip of which the teacher said nothing has labels only."""
    dataset, prepare = bench.dataset, prepare_of(bench.start.input, bench.us)
    classes, heat = len(dataset.classes), config.temperature
    softened = answers.x[:, 0].float() / heat
    said = softened.sigmoid() if dataset.multilabel else softened.softmax(1)
    places = {int(index): row for row, index in enumerate(answers.index)}
    mixes = mixes_of(config)
    loss = multilabel_loss if dataset.multilabel else soft_cross_entropy

    def objective(model: nn.Module, batch: Batch, stream: torch.Generator) -> torch.Tensor:
        x = prepare(batch["x"])
        rows = [places.get(int(index), -1) for index in batch["index"]]
        heard = torch.tensor([row >= 0 for row in rows], device=x.device).float()
        taught = said[[max(row, 0) for row in rows]].to(x.device)
        # Labels, teacher and who has one side by side: they are mixed as the pictures are.
        y = torch.cat([soft(batch["y"].to(x.device), classes), taught * heard[:, None]], 1)
        y = torch.cat([y, heard[:, None]], 1)
        if mixes:
            random = np.random.default_rng(stream.initial_seed())
            mix, alpha = mixes[int(random.integers(len(mixes)))]
            x, y = mix(x, y, random, classes=y.shape[1], alpha=alpha)
        logits = model(x)
        own = loss(logits, y[:, :classes], config.label_smoothing)
        part = y[:, -1]
        taught = y[:, classes:-1] / part.clamp(min=1e-6)[:, None]
        theirs = loss(logits / heat, taught) * heat**2
        share = config.share * part
        return (1 - share) * own + share * theirs

    return objective


RECIPE = Recipe("distill", source_of, _job, protocol_of)
