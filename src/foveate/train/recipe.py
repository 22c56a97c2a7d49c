"""The steps that all recipes share: open the run folder, train, keep the best weights.

A `Recipe` is a configuration and a function that trains. A recipe of one network calls
`train_network` and supplies what is specific to it: clips, loss and metrics. A recipe with stages
calls `RecipeContext.train_stage` for each of them, in any order that plain Python can express.
`run_recipe` runs either kind and makes it resumable.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.data import Dataset
from foveate.evaluate.results import commit, now
from foveate.models.loaded import NETWORK
from foveate.models.spec import InputSpec
from foveate.models.weights.run import (
    InputCard,
    NetworkCard,
    RunCard,
    load_run,
    read_run,
    write_run,
)  # fmt: skip
from foveate.primitives.augment.compose import input_of
from foveate.train import run_state
from foveate.train.config import RecipeConfig, TrainingConfig
from foveate.train.features import compute
from foveate.train.initial_model import InitialModel, build_initial_model, set_trainable
from foveate.train.kit import randomness
from foveate.train.kit.batches import Batches, worker_errors
from foveate.train.kit.checkpoint import Checkpoints
from foveate.train.kit.distributed import ProcessGroup, join_group
from foveate.train.kit.ema import EMA
from foveate.train.kit.log import Log, require_tracker
from foveate.train.kit.loop import Objective, Validate, train
from foveate.train.kit.optim import decay_groups, make_optimizer
from foveate.train.kit.progress import TerminalProgress
from foveate.train.kit.schedule import make_schedule
from foveate.train.kit.state import (
    OnProgress,
    ProgressEvent,
    Run,
    Settings,
    resume_from,
)
from foveate.train.run_state import RunSummary
from foveate.train.unknown import fit_unknown
from foveate.train.videos import Source, fitting_frames, prepare_of


@dataclass(frozen=True)
class Recipe:
    """A training method.

    Attributes:
        name: Of its module or package in `train.recipes`.
        config: The class of its settings.
        train: Trains, and leaves weights with their card in the run folder.
        prepare: Checks settings and data before anything is written; returns the settings to use.
        unlabelled: Labels are not used, so a plain folder of videos is enough.
    """

    name: str
    config: type[RecipeConfig]
    train: Callable[[RecipeContext], RunSummary]
    prepare: Callable[[Any, Dataset], RecipeConfig] | None = None
    unlabelled: bool = False


@dataclass(frozen=True)
class Job:
    """What is trained on what.

    Attributes:
        model: The whole network, or its head.
        batches: Clips, or features.
        held_out: Of the validation split, None if there is none (and in other processes than the
            main one, which validates).
        objective: Losses of a batch.
        validate: Scores of a model.
        failures: Clips of which no features could be computed.
        warnings: Clips that were damaged when features were computed.
        factors: On the learning rate, by the name of the parameter in `model`; None for the
            settings' `backbone_lr` on what is before the head.
        features_saved: Seconds that were not spent because features had been computed before.
    """

    model: nn.Module
    batches: Batches
    held_out: Batches | None
    objective: Objective
    validate: Validate
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    factors: Mapping[str, float] | None = None
    features_saved: float = 0.0

    def problems(self) -> tuple[list[str], list[str]]:
        """All clips that could not be read, and all that were damaged."""
        sources = [source for source in (self.batches, self.held_out) if source is not None]
        failed = [str(failure) for source in sources for failure in source.failures]
        damaged = [line for source in sources for line in source.warnings]
        return self.failures + failed, self.warnings + damaged


@dataclass(frozen=True)
class RecipeContext:
    """What a recipe is given to train with.

    Attributes:
        recipe: The recipe that runs.
        config: Its settings.
        dataset: Records with their splits.
        folder: The run folder.
        resume: Whether the run was begun before.
        checkpoints: Of the run.
        on_progress: Called with every `ProgressEvent`.
        source: Where batches come from instead of the data set's files, None for the files.
        group: The processes that train together.
        offline: Do not use the network for weights.
        features: Where features of frozen networks are stored, None for the run folder.
        summaries: Of the stages that were trained in this call.
        begin: Creates the run folder, the first time it is called. `train_network` and
            `train_stage` call it once everything that can be checked is checked; a recipe that
            writes files before them calls it itself.
    """

    recipe: Recipe
    config: Any
    dataset: Dataset
    folder: Path
    resume: bool
    checkpoints: Checkpoints
    on_progress: OnProgress = lambda event: None
    source: Source | None = None
    group: ProcessGroup = field(default_factory=ProcessGroup)
    offline: bool = False
    features: Path | None = None
    summaries: list[RunSummary] = field(default_factory=list)
    begin: Callable[[], None] = lambda: None

    def say(self, message: str) -> None:
        """Tell the user one line."""
        self.on_progress(ProgressEvent(0, 1, 0, 0, message=message))

    def report(self, stage: str, done: int, total: int) -> None:
        """Report the progress of something other than training steps."""
        self.on_progress(ProgressEvent(0, 1, done, total, stage=stage))

    def train_stage(
        self, name: str, recipe: Recipe, config: RecipeConfig, dataset: Dataset | None = None
    ) -> Path:
        """Run a recipe as a stage of this one, in a run folder of its own.

        A stage that is finished is not repeated, one that was interrupted is resumed.

        Args:
            name: Of the stage; its folder below the run folder.
            recipe: What to run.
            config: Its settings.
            dataset: The clips, if they are not those of the run.

        Returns:
            The stage's run folder, which `load_run` and the setting `model` take.
        """
        folder = self.folder / name
        begun = (folder / run_state.TRAINING).is_file()
        if begun and run_state.read_training(folder).outcome is not None:
            return folder

        def on_progress(event: ProgressEvent) -> None:
            if event.stage == "train" and event.message is None:
                stage = f"{name}, epoch {event.epoch + 1}/{event.epochs}"
                event = replace(event, stage=stage)
            self.on_progress(event)

        summary = run_recipe(
            recipe, config, dataset or self.dataset, folder, begun, on_progress,
            source=self.source if dataset is None else None,
            device=str(self.group.device), offline=self.offline, before=self.begin,
            features=self.features,
        )  # fmt: skip
        self.summaries.append(summary)
        if summary.outcome == "interrupted":
            raise StageInterrupted
        return folder

    def summarize(
        self, figures: dict[str, float], failures: list[str], outcome: str = "finished"
    ) -> RunSummary:
        """The summary of a recipe with stages.

        Args:
            figures: Metrics of the whole run.
            failures: Clips that could not be read.
            outcome: See `RunSummary`.
        """
        stages = self.summaries
        return RunSummary(
            folder=self.folder,
            outcome=outcome,
            epochs=sum(stage.epochs for stage in stages),
            steps=sum(stage.steps for stage in stages),
            figures=figures,
            features_saved=sum(stage.features_saved for stage in stages),
            clips_per_second=statistics.mean([s.clips_per_second for s in stages] or [0.0]),
            loader_share=statistics.mean([s.loader_share for s in stages] or [0.0]),
            warnings=[*self.checkpoints.warnings, *(w for s in stages for w in s.warnings)],
            failures=list(dict.fromkeys([*failures, *(f for s in stages for f in s.failures)])),
            stages={str(s.folder.relative_to(self.folder)): s.figures for s in stages},
        )


class StageInterrupted(Exception):
    """Ends a recipe with stages when one of them was interrupted (and saved)."""


def run_recipe(
    recipe: Recipe,
    config: RecipeConfig,
    dataset: Dataset,
    out: Path,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    *,
    source: Source | None = None,
    origin: Mapping[str, Any] | None = None,
    device: str | None = None,
    offline: bool = False,
    before: Callable[[], None] | None = None,
    preset: Mapping[str, Any] | None = None,
    features: Path | None = None,
) -> RunSummary:
    """Train, or resume training, and leave a run folder that `foveate.load` can open.

    Args:
        recipe: The training method.
        config: Its settings.
        dataset: Records with their splits.
        out: The run folder.
        resume: Resume from its last checkpoint; the result is that of an uninterrupted run.
        on_progress: Called after each step; None for a progress bar on the terminal, or one line
            per epoch where there is none.
        source: Where batches come from instead of the data set's files.
        origin: How the data set was opened, to open it again when resuming.
        device: Where to compute; None for CUDA if available, else the CPU.
        offline: Do not use the network for weights.
        before: Called once settings and model are checked, before anything is written; for checks
            that take long.
        preset: Fields of the preset with which the trained model is used, besides those that the
            recipe sets; None for none or, when resuming, for those that the run was begun with.
        features: Folder for the features of frozen networks, which several runs may share; None for
            one in the run folder.

    Raises:
        ConfigError: Settings or data that do not fit, or a folder that holds another run.
        TrainError: The loss is not finite; the last checkpoint is kept.
        FoveateError: Too many bad clips, or a disk that is full.
    """
    began = time.perf_counter()
    if isinstance(config, TrainingConfig):
        require_tracker(config.report_to)
    if recipe.prepare is not None:
        config = recipe.prepare(config, dataset)
    folder = Path(out)
    training = run_state.Training(
        recipe.name, config.model_dump(mode="json"), dict(origin or {}), preset=dict(preset or {})
    )
    with ExitStack() as stack:
        group = stack.enter_context(join_group(device))
        stack.enter_context(randomness.preserved())
        if group.is_main:
            on_progress = on_progress or stack.enter_context(TerminalProgress())
            run_state.check_run(folder, training, resume, config.free_on_resume)
        checkpoints = Checkpoints(folder / "checkpoints")

        @cache
        def begin() -> None:
            if before is not None:
                before()
            if group.is_main:
                checkpoints.clean()
                kept = run_state.read_training(folder) if resume else training
                used = kept.preset if preset is None else training.preset
                run_state.write_training(folder, replace(training, origin=kept.origin, preset=used))
            group.barrier()

        context = RecipeContext(
            recipe, config, dataset, folder, resume, checkpoints,
            on_progress or (lambda event: None), source, group, offline, features, begin=begin,
        )  # fmt: skip
        try:
            summary = recipe.train(context)
        except StageInterrupted:
            summary = context.summarize({}, [], "interrupted")
        summary = replace(summary, seconds=time.perf_counter() - began)
        begin()
        if group.is_main:
            written = run_state.read_training(folder)
            run_state.add_preset(folder, written.preset)
            if summary.outcome != "interrupted":
                run_state.write_training(folder, replace(written, outcome=summary.outcome))
            run_state.write_timing(summary)
        return summary


def train_network(
    context: RecipeContext,
    source: Source,
    job: Callable[[RecipeContext, InitialModel, Source], Job],
    protocol: Callable[[Any, str | None, InputSpec], str],
    start_from: Path | None = None,
    unknown: bool = True,
    build: Callable[[RecipeContext], InitialModel] | None = None,
) -> RunSummary:
    """Train one network; the `train` of a recipe without stages.

    Args:
        context: Of the run; its settings are a `TrainingConfig`.
        source: Batches of the data set's clips, used unless the caller of the recipe gave others.
        job: What is trained on what.
        protocol: One line that says how figures are measured, from the settings, the name of the
            validation split (None without one) and the network's input.
        start_from: A run folder to start from instead of the settings' model. It is validated
            first, and remains the result unless an epoch is better.
        unknown: Whether to fit when footage is `unknown`; not for a part of a larger model.
        build: Makes the network, if it is not one that classifies clips.
    """
    config, group = context.config, context.group
    with ExitStack() as stack:
        stack.enter_context(_deterministic(config.deterministic))
        start = initial_model(context, start_from) if build is None else build(context)
        backbone = set_trainable(start.model, config.freeze)
        start.model.to(group.device)
        if context.source is None and config.frames is None:
            frames = fitting_frames(context.dataset, config.train_split, start.input)
            start = replace(start, input=replace(start.input, clip_frames=frames))
        ready = time.perf_counter()
        work = job(context, start, context.source or source)
        computed = time.perf_counter() - ready if config.freeze == "backbone" else 0.0
        context.begin()
        run = _prepare_run(context, start, work, backbone)
        run.clock.features = computed
        run.export = partial(_export, context, start, run, work, protocol)
        run.finish_requested = partial(_finish_requested, context.folder)
        stack.callback(run.log.close)
        _say_plan(context, run, work.held_out is not None)
        with worker_errors(work.batches):
            outcome = train(
                run, work.batches, work.objective, work.validate, context.on_progress,
                validate_first=start_from is not None,
            )  # fmt: skip
        if unknown and outcome != "interrupted" and group.is_main:
            _note_unknown(context, start, work, context.source or source)
        failures, damaged = (group.unique(lines) for lines in work.problems())
        trained = run.clock.training
        return RunSummary(
            folder=context.folder,
            outcome=outcome,
            epochs=run.epoch,
            steps=run.step,
            figures=run.exported_figures,
            clips_per_second=run.clock.clips / trained if trained else 0.0,
            loader_share=run.clock.waiting / trained if trained else 0.0,
            features_seconds=computed,
            features_saved=work.features_saved,
            warnings=[*run.checkpoints.warnings, *damaged],
            failures=failures,
            stages={} if run.start is None else {
                "frozen backbone": run.start[1], "all layers": run.best_figures
            },
        )  # fmt: skip


def initial_model(context: RecipeContext, start_from: Path | None = None) -> InitialModel:
    """The network that the settings name, or that of a run folder.

    Random weights are the same in every process and after every resume.
    """
    config = context.config
    randomness.seed_all(config.seed, "weights")
    start = build_initial_model(
        config.model if start_from is None else str(start_from), tuple(context.dataset.classes),
        dict(config.settings), size=config.size, frames=config.frames, rate=config.rate,
        offline=context.offline, initial=None if start_from is not None else config.initial,
    )  # fmt: skip
    transforms = getattr(config, "augment", None)
    # What a look shows has a size of its own.
    if isinstance(transforms, tuple) and getattr(config, "look", None) is None:
        start = replace(start, input=input_of(transforms, start.input))
    return start


def _say_plan(context: RecipeContext, run: Run, validates: bool) -> None:
    """Say where a resumed run continues, and when the training ends."""
    config = context.config
    if context.resume and run.step:
        context.say(f"resumed at epoch {min(run.epoch + 1, config.epochs)} of {config.epochs}")
    elif config.patience is not None and validates:
        context.say(
            f"at most {config.epochs} epoch{'s' * (config.epochs != 1)}; training ends after "
            f"{config.patience} without a better validation score (patience)"
        )


def _finish_requested(folder: Path) -> bool:
    """Whether `foveate train --finish` was called for the run."""
    return run_state.read_training(folder).outcome is not None


def _prepare_run(
    context: RecipeContext, start: InitialModel, job: Job, backbone: tuple[str, ...]
) -> Run:
    """The run at its beginning, or as its last checkpoint left it."""
    config, group, checkpoints = context.config, context.group, context.checkpoints
    factors = job.factors
    if factors is None:
        factor = config.backbone_lr
        if factor is None:
            # Pretrained weights are changed more slowly than a new head.
            factor = 1.0 if start.name is None else 0.1
        # The job's model may contain the initial one under other names.
        known = dict(start.model.named_parameters())
        early = {id(known[name]) for name in backbone}
        factors = {name: factor for name, p in job.model.named_parameters() if id(p) in early}
    steps = len(job.batches)
    total = steps * config.epochs
    notes = run_state.notes_of(
        config.model_dump(mode="json"), context.dataset, (config.train_split, config.val_split),
        asdict(start.input), group.world,
    )  # fmt: skip
    saved = checkpoints.latest() if context.resume else None
    if saved is not None:
        checkpoints.warnings += run_state.check_same(saved, notes, context.folder)
    lengths = None if saved is None else saved.values["log"]
    log_folder = context.folder if group.is_main else None
    run = Run(
        job.model,
        make_optimizer(
            config.optimizer,
            decay_groups(job.model, config.lr, config.weight_decay, factors),
            momentum=config.momentum,
        ),
        make_schedule(
            config.schedule, total, min(total, round(config.warmup * steps)),
            milestones=config.milestones,
        ),
        _loop_settings(config, group),
        checkpoints,
        Log(log_folder, lengths, config.report_to, saved.step if saved else 0),
        group,
        None if config.ema is None else EMA(job.model, config.ema),
        notes,
    )  # fmt: skip
    if saved is not None:
        resume_from(run, saved)
    return run


def _loop_settings(config: TrainingConfig, group: ProcessGroup) -> Settings:
    amp = config.amp
    if amp == "auto":
        # Half precision is slower on CPUs without matrix units for it.
        amp = "bf16" if group.device.type == "cuda" and torch.cuda.is_bf16_supported() else "off"
    shared = ("epochs", "seed", "accumulate", "clip", "clip_each", "patience", "save_every")
    return Settings(amp=amp, **{name: getattr(config, name) for name in shared})


def _export(
    context: RecipeContext,
    start: InitialModel,
    run: Run,
    job: Job,
    protocol: Callable[[Any, str | None, InputSpec], str],
) -> None:
    """Write the weights as validated, and their card, to the run folder."""
    config, dataset = context.config, context.dataset
    look = getattr(config, "look", None)
    preset = start.preset if look is None else {"look": look.model_dump(mode="json")}
    split = None if job.held_out is None else config.val_split
    card = RunCard(
        method=start.method,
        networks={NETWORK: NetworkCard(arch=start.arch, settings=start.settings)},
        classes=list(dataset.classes),
        input=InputCard.of(start.input),
        output="sigmoid" if dataset.multilabel else "softmax",
        preset=preset,
        recipe=context.recipe.name,
        configuration=config.model_dump(mode="json"),
        protocol=protocol(config, split, start.input),
        figures=run.exported_figures,
        digests=run.notes["digests"],
        started_from=start.name,
        licence=start.licence,
        notice=start.notice,
        commit=commit(),
        date=now(),
    )
    with nullcontext() if run.ema is None else run.ema.applied(run.model):
        write_run(context.folder, {NETWORK: start.model}, card)


def _note_unknown(context: RecipeContext, start: InitialModel, job: Job, source: Source) -> None:
    """Write to the run folder when footage is `unknown` to the best model, where that is known."""
    config, group, folder = context.config, context.group, context.folder
    if job.held_out is None or context.recipe.unlabelled:
        return
    if not callable(getattr(start.model, "features", None)):
        return
    start.model.load_state_dict(load_run(folder).networks[NETWORK].state_dict())
    prepare = prepare_of(start.input, group.device)
    features = []
    for split, batches in ((config.train_split, job.batches), (config.val_split, job.held_out)):
        if config.freeze == "backbone":
            features.append(torch.cat([batch["x"] for batch in batches.batches(0)]))
            continue
        clips = source(split, False, start.input, group)  # those of the job are augmented
        if clips is None:
            return
        with worker_errors(clips):
            features.append(compute(start.model, clips, prepare, mirror=False).x[:, 0])
    training, known = features
    unknown = fit_unknown(start.model, training, known, start.input, prepare, config.seed)
    if unknown is not None:
        card = read_run(folder).model_copy(update={"unknown": unknown})
        write_run(folder, {NETWORK: start.model}, card)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Ask torch for deterministic kernels within a block."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(wanted or before, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
