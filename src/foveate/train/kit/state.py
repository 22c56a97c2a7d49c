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
        clip: Largest norm of the gradient, None for no limit.
        clip_each: Clip every tensor's norm by itself, as the MoViNet recipe does.
        amp: Precision of the forward pass.
        patience: Epochs without a better score after which training stops, None for never.
        save_every: Steps between checkpoints, besides those at the ends of epochs.
        save_seconds: Seconds after which an epoch's end is saved even if it is not the best.
    """

    epochs: int
    seed: int = 0
    accumulate: int = 1
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
        clips_per_second: While training, without validation.
        seconds_left: Estimated until the end.
        figures: Validation metrics, at the end of an epoch only.
        stage: `train`, or what else is being done, such as computing features.
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


OnProgress = Callable[[ProgressEvent], None]


@dataclass
class Clock:
    """What this process spent its time on, in seconds; not part of a checkpoint.

    Attributes:
        started: When the run was created.
        waiting: For batches.
        working: In steps.
        clips: Clips trained on, by all processes.
        steps: Steps done.
    """

    started: float = field(default_factory=time.perf_counter)
    waiting: float = 0.0
    working: float = 0.0
    clips: int = 0
    steps: int = 0

    @property
    def training(self) -> float:
        """Waiting for batches and training on them, without validation and checkpoints."""
        return self.waiting + self.working

    @property
    def elapsed(self) -> float:
        """Since the run was created, everything included."""
        return time.perf_counter() - self.started


@dataclass
class Run:
    """A training in progress: model, optimiser and position."""

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
    best: tuple[float, ...] | None = None
    best_step: int | None = None
    best_figures: dict[str, float] = field(default_factory=dict)
    waited: int = 0
    saved_at: float = field(default_factory=time.monotonic)
    rates: list[float] = field(default_factory=list)
    sample_format: dict[str, Any] | None = None
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.rates = self.rates or [float(g["lr"]) for g in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(
            self.group.device.type, enabled=self.settings.amp == "fp16"
        )


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
        "waited": run.waited,
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
    run.waited, run.rates = values["waited"], values["rates"]


def with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, which is removed."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
