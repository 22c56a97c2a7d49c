"""What every recipe does: open the folder, build, train, keep the best, say what came of it.

A recipe is a module with a configuration and a `fit` that hands its `Recipe` to `carry_out`. What
is its own is what is trained on what (`Recipe.job`); all else is here, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from foveate.core.config import Config
from foveate.data import Dataset
from foveate.evaluate.results import commit, now
from foveate.models.loaded import NETWORK
from foveate.models.spec import InputSpec
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run
from foveate.train import run_state as session
from foveate.train.initial_model import Start, start_from, trainable
from foveate.train.job import Job, Progress, explained
from foveate.train.kit import randomness
from foveate.train.kit.checkpoint import Checkpoints
from foveate.train.kit.distributed import Team, team
from foveate.train.kit.ema import EMA, put
from foveate.train.kit.log import Log
from foveate.train.kit.loop import train
from foveate.train.kit.optim import decay_groups, make_optimizer
from foveate.train.kit.progress import TerminalProgress
from foveate.train.kit.schedule import make_schedule
from foveate.train.kit.state import Run, Settings, part, resume_from
from foveate.train.run_state import RunSummary
from foveate.train.videos import Source, fitting_frames


class TrainingConfig(Config):
    """What can be set in every recipe."""

    model: str = Field(
        "movinet-a0-stream-lite.k600", description="weights, a run folder, or an architecture"
    )
    settings: dict[str, int | float | bool | str] = Field(
        default_factory=dict, description="arguments of the architecture's builder, as dropout"
    )
    freeze: Literal["none", "backbone"] = Field("none", description="what is not trained")
    frames: int | None = Field(
        None, ge=1, le=10_000, description="in a clip; None: as many as fit, at most the model's"
    )
    rate: float | None = Field(None, gt=0, le=240, description="frames/s; None: the model's own")
    size: int | None = Field(None, ge=8, le=4096, description="pixels; None: the model's own")
    epochs: int = Field(30, ge=1)
    batch: int = Field(16, ge=1, description="clips in a step, over all processes")
    accumulate: int = Field(1, ge=1, description="pieces in which a batch is computed")
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    backbone_lr: float | None = Field(
        None,
        ge=0,
        description="factor on lr before the head; None: 0.1, or 1 for random weights",
    )
    schedule: Literal["cosine", "constant", "multistep"] = "cosine"
    milestones: tuple[float, ...] = Field((), description="multistep: shares of the training")
    warmup: float = Field(1.0, ge=0, description="epochs of rising rate")
    weight_decay: float = Field(0.01, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient")
    clip_each: bool = Field(False, description="of every tensor by itself")
    flip: bool = Field(True, description="mirror half of the clips")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights")
    # YAML, in which settings are written, reads a bare off as no.
    amp: Annotated[
        Literal["auto", "off", "bf16", "fp16"],
        BeforeValidator(lambda value: "off" if value is False else value),
    ] = "auto"
    patience: int | None = Field(None, ge=1, description="epochs without a better score")
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints")
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0, le=64, description="loading processes")
    train_split: str = "train"
    val_split: str = "val"
    deterministic: bool = True
    tensorboard: bool = False


@dataclass(frozen=True)
class Recipe:
    """What tells one recipe from another.

    Attributes:
        name: Of its module.
        source: Batches of the data set's clips, where the caller brings none.
        job: What is trained on what.
        protocol: How the figures are measured, in one line, from the name of the validation split
            (None without one) and what the network expects.
    """

    name: str
    source: Callable[[Any, Dataset], Source]
    job: Callable[[Bench], Job]
    protocol: Callable[[str | None, InputSpec], str]


@dataclass(frozen=True)
class Bench:
    """What lies ready when a recipe makes its job.

    Attributes:
        config: The recipe's configuration.
        dataset: The clips.
        start: The network with its weights, on its device.
        source: Where batches come from.
        us: The processes that train together.
        folder: The run folder.
        show: Told of the progress, if anybody is.
        offline: Never touch the network for weights.
    """

    config: Any
    dataset: Dataset
    start: Start
    source: Source
    us: Team
    folder: Path
    show: Progress | None
    offline: bool


def carry_out(
    recipe: Recipe,
    config: TrainingConfig,
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
    """Train, or go on training, and leave a run folder that `foveate.load` can open.

    Args:
        recipe: How to do it.
        config: What to do.
        dataset: Records with their splits.
        out: The run folder.
        resume: Go on from its last checkpoint; the end is the same as without the interruption.
        progress: Told after each step; a bar on the terminal when None.
        source: Where batches come from instead of the data set's files.
        origin: How the data set was opened, for whoever resumes (`session.read_training`).
        device: Where to compute; CUDA if there is one when None.
        offline: Never touch the network for weights.

    Raises:
        ConfigError: Settings or data that do not fit, or a folder that holds another run.
        TrainError: The loss is no number; the last checkpoint is kept.
        FoveateError: Too many bad clips, or a disk that is full.
    """
    began = time.perf_counter()
    with ExitStack() as held:
        us = held.enter_context(team(device))
        held.enter_context(randomness.preserved())
        held.enter_context(_deterministic(config.deterministic))
        show = progress
        if show is None and us.leads:
            show = held.enter_context(TerminalProgress())
        training = session.Training(recipe.name, config.model_dump(mode="json"), dict(origin or {}))
        folder, classes = Path(out), tuple(dataset.classes)
        checkpoints = session.begin(folder, training, resume) if us.leads else None
        us.wait()
        checkpoints = checkpoints or Checkpoints(folder / "checkpoints")
        # The weights that chance gives are the same in every process and after every resume.
        randomness.seed_all(config.seed, "weights")
        start = start_from(
            config.model, classes, dict(config.settings), size=config.size,
            frames=config.frames, rate=config.rate, offline=offline,
        )  # fmt: skip
        backbone = trainable(start.model, config.freeze)
        start.model.to(us.device)
        if source is None and config.frames is None:
            frames = fitting_frames(dataset, config.train_split, start.input)
            start = replace(start, input=replace(start.input, clip_frames=frames))
        source = source or recipe.source(config, dataset)
        ready = time.perf_counter()
        job = recipe.job(Bench(config, dataset, start, source, us, folder, show, offline))
        computed = time.perf_counter() - ready if config.freeze == "backbone" else 0.0
        run = _run(config, dataset, start, job, backbone, checkpoints, us, folder, resume)
        held.callback(run.log.close)
        with explained(job.batches):
            outcome = train(run, job.batches, job.objective, job.validate, show)
        if outcome != "interrupted" and us.leads:
            _write(recipe, config, dataset, start, run, folder, job)
        failures, damaged = (us.joined(lines) for lines in job.told())
        warnings = [*run.checkpoints.warnings, *damaged]
        return session.close(run, folder, outcome, began, computed, warnings, failures)


def _run(
    config: TrainingConfig,
    dataset: Dataset,
    start: Start,
    job: Job,
    backbone: tuple[str, ...],
    checkpoints: Checkpoints,
    us: Team,
    folder: Path,
    again: bool,
) -> Run:
    """Everything that changes while training, as it was left or as it begins."""
    factor = config.backbone_lr
    if factor is None:
        # Weights that know something already are moved less than a head that knows nothing.
        factor = 1.0 if start.name is None else 0.1
    # The job's network may hold the started one under other names.
    known = dict(start.model.named_parameters())
    early = {id(known[name]) for name in backbone}
    slow = [name for name, p in job.model.named_parameters() if id(p) in early]
    groups = decay_groups(job.model, config.lr, config.weight_decay, slow, factor)
    steps = len(job.batches)
    total = steps * config.epochs
    splits = (config.train_split, config.val_split)
    notes = session.notes_of(
        config.model_dump(mode="json"),
        tuple(dataset.classes),
        {split: dataset.digest(split) for split in splits},
        asdict(start.input),
        us.world,
    )
    saved = checkpoints.latest() if again else None
    if saved is not None:
        checkpoints.warnings += session.check_same(saved, notes, folder)
    lengths = None if saved is None else saved.values["log"]
    run = Run(
        job.model,
        make_optimizer(config.optimizer, groups, momentum=config.momentum),
        make_schedule(
            config.schedule, total, min(total, round(config.warmup * steps)),
            milestones=config.milestones,
        ),
        _settings(config, us),
        checkpoints,
        Log(folder if us.leads else None, lengths, config.tensorboard, saved.step if saved else 0),
        us,
        None if config.ema is None else EMA(job.model, config.ema),
        notes,
    )  # fmt: skip
    if saved is not None:
        resume_from(run, saved)
    return run


def _settings(config: TrainingConfig, us: Team) -> Settings:
    amp = config.amp
    if amp == "auto":
        # On CPUs without matrix units for it, half precision is slower.
        amp = "bf16" if us.device.type == "cuda" and torch.cuda.is_bf16_supported() else "off"
    return Settings(
        epochs=config.epochs,
        seed=config.seed,
        accumulate=config.accumulate,
        clip=config.clip,
        clip_each=config.clip_each,
        amp=amp,
        patience=config.patience,
        save_every=config.save_every,
    )


def _write(
    recipe: Recipe,
    config: TrainingConfig,
    dataset: Dataset,
    start: Start,
    run: Run,
    folder: Path,
    job: Job,
) -> None:
    """Leave the best weights and their card in the run folder."""
    best = run.checkpoints.load(run.best_step or run.step)
    put(job.model, part(best.tensors, "ema/") or part(best.tensors, "model/"))
    spec = start.input
    where = config.val_split if job.held_out is not None else None
    look = getattr(config, "look", None)
    card = RunCard(
        networks={NETWORK: NetworkCard(arch=start.arch, settings=start.settings)},
        classes=list(dataset.classes),
        input=InputCard.of(spec),
        output="sigmoid" if dataset.multilabel else "softmax",
        preset=None if look is None else {"look": look.model_dump(mode="json")},
        recipe=recipe.name,
        configuration=config.model_dump(mode="json"),
        protocol=recipe.protocol(where, spec),
        figures=run.best_figures,
        digests=run.notes["digests"],
        started_from=start.name,
        licence=start.licence,
        notice=start.notice,
        commit=commit(),
        date=now(),
    )
    write_run(folder, {NETWORK: start.model}, card)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Ask torch for kernels that give the same bits every time; put the setting back after."""
    before = torch.are_deterministic_algorithms_enabled()
    softly = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(wanted or before, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=softly)
