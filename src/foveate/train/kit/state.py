"""The state of a training: everything that changes, saved to and restored from checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from foveate.core import FoveateError
from foveate.train.kit import randomness
from foveate.train.kit.checkpoint import Checkpoints, Saved, pack_optimizer, unpack_optimizer
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.kit.ema import EMA
from foveate.train.kit.log import Log
from foveate.train.kit.schedule import Schedule

MIN_DELTA = 0.005  # of a score: what counts as better for `patience`


class TrainError(FoveateError):
    """Training cannot continue."""

    kind = "train"


@dataclass(frozen=True)
class Settings:
    """How the loop runs.

    Attributes:
        epochs: Times through the data.
        seed: Of everything random in a step.
        accumulate: Pieces in which a batch is computed, to save memory; the gradient is the same.
            None: chosen from the free memory at the first step.
        clip: Largest norm of the gradient, None for no limit.
        clip_each: Clip every tensor's norm by itself, as the MoViNet recipe does.
        amp: Precision of the forward pass.
        patience: Epochs after which training stops if no score rose by `MIN_DELTA` in them, None
            for never.
        save_every: Steps between checkpoints, besides those at the ends of epochs.
        save_seconds: Seconds after which an epoch's end is saved even if it is not the best.
    """

    epochs: int
    seed: int = 0
    accumulate: int | None = 1
    clip: float | None = None
    clip_each: bool = False
    amp: Literal["off", "bf16", "fp16"] = "off"
    patience: int | None = None
    save_every: int | None = None
    save_seconds: float = 60.0


@dataclass(frozen=True)
class ProgressEvent:
    """How far a training is, given to `on_progress`.

    Attributes:
        epoch: Current epoch, from 0.
        epochs: Epochs in all.
        step: Steps done.
        steps: Steps in all.
        loss: Mean loss of the step, or of the epoch at its end.
        clips_per_second: While training and computing features, without validation.
        seconds_left: Estimated until the end.
        figures: Validation metrics, at the end of an epoch only.
        stage: `train`, or what else is being done, such as computing features.
        message: One line for the user; the event then says nothing else.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    clips_per_second: float | None = None
    seconds_left: float | None = None
    figures: dict[str, float] | None = None
    stage: str = "train"
    message: str | None = None


OnProgress = Callable[[ProgressEvent], None]


@dataclass
class Clock:
    """What this process spent its time on, in seconds; not part of a checkpoint.

    Attributes:
        started: When the run was created.
        waiting: For batches.
        working: In steps.
        features: Computing features before the first step.
        clips: Clips trained on, by all processes.
        steps: Steps done.
    """

    started: float = field(default_factory=time.perf_counter)
    waiting: float = 0.0
    working: float = 0.0
    features: float = 0.0
    clips: int = 0
    steps: int = 0

    @property
    def training(self) -> float:
        """Computing features, waiting for batches and training, without validation."""
        return self.features + self.waiting + self.working

    @property
    def elapsed(self) -> float:
        """Since the run was created, everything included."""
        return time.perf_counter() - self.started


@dataclass
class Run:
    """A training in progress: model, optimiser and position.

    `start` has scores and figures of the model before the first epoch, where they were asked for;
    `best`, `best_step` and `best_figures` are those of the best epoch. `marks` are the scores at
    which patience began to count, `waited` the epochs since.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    settings: Settings
    checkpoints: Checkpoints
    log: Log
    group: ProcessGroup = field(default_factory=ProcessGroup)
    ema: EMA | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    epoch_loss: tuple[float, float] = (0.0, 0.0)
    accumulate: int | None = None
    start: tuple[tuple[float, ...], dict[str, float]] | None = None
    best: tuple[float, ...] | None = None
    best_step: int | None = None
    best_figures: dict[str, float] = field(default_factory=dict)
    marks: list[float] = field(default_factory=list)
    waited: int = 0
    saved_at: float = field(default_factory=time.monotonic)
    rates: list[float] = field(default_factory=list)
    sample_format: dict[str, Any] | None = None
    clock: Clock = field(default_factory=Clock)
    export: Callable[[], None] = lambda: None
    finish_requested: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.accumulate = self.settings.accumulate
        self.rates = self.rates or [float(g["lr"]) for g in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(
            self.group.device.type, enabled=self.settings.amp == "fp16"
        )

    @property
    def exported_figures(self) -> dict[str, float]:
        """Validation metrics of the exported model: the best epoch, or the start."""
        if self.start is not None and (self.best is None or self.best <= self.start[0]):
            return self.start[1]
        return self.best_figures


def save(run: Run) -> None:
    """Write a checkpoint (in the main process)."""
    run.saved_at = time.monotonic()
    if not run.group.is_main:
        return
    tensors, optimizer = pack_optimizer(run.optimizer)
    tensors |= {f"model/{name}": value for name, value in run.model.state_dict().items()}
    if run.ema is not None:
        tensors |= {f"ema/{name}": value for name, value in run.ema.tensors.items()}
    random, states = randomness.capture()
    values = {
        "epoch": run.epoch,
        "step_in_epoch": run.step_in_epoch,
        "epoch_loss": list(run.epoch_loss),
        "scores": None if run.best is None else list(run.best),
        "figures": run.best_figures,
        "start": None if run.start is None else [list(run.start[0]), run.start[1]],
        "marks": run.marks,
        "waited": run.waited,
        "accumulate": run.accumulate,
        "optimizer": optimizer,
        "rates": run.rates,
        "scaler": run.scaler.state_dict(),
        "ema_updates": run.ema.updates if run.ema is not None else None,
        "random": random,
        "log": run.log.lengths(),
        "notes": run.notes,
    }
    run.checkpoints.save(run.step, {**tensors, **states}, values, run.best_step)


def resume_from(run: Run, saved: Saved) -> None:
    """Restore a run from a checkpoint; the caller opens its log."""
    values, tensors = saved.values, saved.tensors
    run.model.load_state_dict(with_prefix(tensors, "model/"))
    unpack_optimizer(run.optimizer, tensors, values["optimizer"])
    if run.ema is not None:
        for name, value in with_prefix(tensors, "ema/").items():
            run.ema.tensors[name].copy_(value)
        run.ema.updates = values["ema_updates"]
    run.scaler.load_state_dict(values["scaler"])
    randomness.restore(values["random"], tensors)
    run.step, run.epoch, run.step_in_epoch = saved.step, values["epoch"], values["step_in_epoch"]
    run.epoch_loss = (values["epoch_loss"][0], values["epoch_loss"][1])
    run.best = None if values["scores"] is None else tuple(values["scores"])
    run.best_step, run.best_figures = values["best"], values["figures"]
    start = values["start"]
    run.start = None if start is None else (tuple(start[0]), start[1])
    run.marks, run.waited, run.rates = values["marks"], values["waited"], values["rates"]
    run.accumulate = values["accumulate"]


def with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, which is removed."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
