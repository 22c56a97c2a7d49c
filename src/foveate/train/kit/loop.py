"""The training loop, the same for every recipe.

It is independent of video: it takes batches and a function that computes losses per sample. It
guarantees that a run that is killed at any moment and resumed ends with the same weights, bit for
bit; that a loss which is not finite stops training before the weights change; and that several
processes give the result of one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

from foveate.train.kit import randomness
from foveate.train.kit.batches import Batch, Batches
from foveate.train.kit.interrupt import Interruption
from foveate.train.kit.state import OnProgress, ProgressEvent, Run, TrainError, save

Objective = Callable[[nn.Module, Batch, torch.Generator], torch.Tensor]
"""Losses (B,) of a batch; the generator belongs to the step."""

Validate = Callable[[nn.Module], tuple[tuple[float, ...], dict[str, float]]]
"""Scores of a model (compared in order, higher is better), and figures for the log."""


def train(
    run: Run,
    batches: Batches,
    objective: Objective,
    validate: Validate,
    on_progress: OnProgress | None = None,
) -> Literal["finished", "early", "interrupted"]:
    """Train from where `run` stands to the end.

    Args:
        run: New, or restored by `resume_from`.
        batches: Training data of this process.
        objective: Losses of a batch.
        validate: Scores a model after each epoch; called in the main process only.
        on_progress: Called after each step and each epoch.

    Returns:
        `finished`, `early` (no better for `patience` epochs) or `interrupted` (and saved).

    Raises:
        TrainError: The loss is not finite.
        FoveateError: A checkpoint or the log cannot be written.
    """
    settings, steps = run.settings, len(batches)
    forward = _wrapped(run)
    with Interruption() as interruption:
        while run.epoch < settings.epochs and not _patience_is_over(run):
            run.model.train()
            requested = time.perf_counter()
            for batch in batches.batches(run.epoch, run.step_in_epoch):
                received = time.perf_counter()
                loss = _step(run, forward, batch, objective)
                run.clock.waiting += received - requested
                run.clock.working += time.perf_counter() - received
                if on_progress is not None:
                    on_progress(_event(run, steps, loss))
                stop = _stop(run, interruption)
                if stop or (settings.save_every and run.step % settings.save_every == 0):
                    save(run)
                if stop:
                    return "interrupted"
                requested = time.perf_counter()
            over = _finish_epoch(run, validate, steps, on_progress)
            if not over and _stop(run, interruption):  # requested during validation
                save(run)
                return "interrupted"
    return "early" if run.epoch < settings.epochs else "finished"


def _step(run: Run, forward: nn.Module, batch: Batch, objective: Objective) -> float | None:
    """One update of the weights; the mean loss over all processes, None if none had a sample."""
    settings, processes = run.settings, run.group
    randomness.seed_all(settings.seed, "step", run.step, processes.rank)
    counts = processes.all_gather(float(len(batch["x"])))
    everything = sum(counts)
    loss = None
    if everything:
        if run.sample_format is None:
            # Once, by all at the same step: a process without samples must know their shape.
            first = next(rank for rank, count in enumerate(counts) if count)
            run.sample_format = processes.broadcast(_sample_format(batch), first)
        for group, rate in zip(run.optimizer.param_groups, run.rates, strict=True):
            group["lr"] = rate * run.schedule(run.step)
        loss, norm = _update(run, forward, batch, objective, everything)
        run.epoch_loss = (run.epoch_loss[0] + loss * everything, run.epoch_loss[1] + everything)
    run.step += 1
    run.step_in_epoch += 1
    run.clock.clips += int(everything)
    run.clock.steps += 1
    if processes.is_main and loss is not None:
        lr = run.optimizer.param_groups[0]["lr"]
        row = {"event": "step", "epoch": run.epoch, "step": run.step, "lr": lr, "loss": loss}
        run.log.write(**row, grad_norm=norm if math.isfinite(norm) else None)
    return loss


def _update(
    run: Run, forward: nn.Module, batch: Batch, objective: Objective, everything: float
) -> tuple[float, float]:
    """Forward, backward, clip, update; the loss and the norm of the gradient.

    Raises:
        TrainError: One of them is not finite; the weights are unchanged.
    """
    group, scaler = run.group, run.scaler
    run.optimizer.zero_grad(set_to_none=True)
    summed = 0.0
    pieces = _pieces(_filled(run, batch), run.settings.accumulate)
    for number, piece in enumerate(pieces):
        stream = randomness.generator(run.settings.seed, "batch", run.step, group.rank, number)
        with _no_sync(forward, number == len(pieces) - 1):
            with _autocast(run):
                losses = objective(forward, piece, stream)
            # Gradients are averaged over processes later; this makes it the mean over samples.
            # A process without samples computes one of weight zero.
            weight = group.world / everything if len(batch["x"]) else 0.0
            torch.autograd.backward(scaler.scale(losses.sum() * weight))
        summed += float(losses.detach().sum()) if weight else 0.0
    loss = group.all_sum(summed)[0] / everything
    _require_finite(run, loss, "the loss")
    scaler.unscale_(run.optimizer)
    norm = _clip(run)
    if not scaler.is_enabled():
        _require_finite(run, norm, "the gradient")
    scaler.step(run.optimizer)
    scaler.update()
    if run.ema is not None:
        run.ema.update(run.model)
    return loss, norm


def _finish_epoch(run: Run, validate: Validate, steps: int, on_progress: OnProgress | None) -> bool:
    """Validate in the main process and save a checkpoint; whether this was the last epoch."""
    group = run.group
    run.model.eval()
    validated: Any = None
    if group.is_main:
        averaged = run.ema.applied(run.model) if run.ema is not None else nullcontext()
        randomness.seed_all(run.settings.seed, "validation", run.epoch)
        with torch.no_grad(), averaged:
            validated = validate(run.model)
    scores, figures = group.broadcast(validated)
    # Without validation, the latest epoch is the best.
    better = run.best is None or not scores or scores > run.best
    mean = run.epoch_loss[0] / max(run.epoch_loss[1], 1.0)
    if group.is_main:
        run.log.write(event="epoch", epoch=run.epoch, step=run.step, loss=mean, figures=figures)
    if on_progress is not None:
        on_progress(_event(run, steps, mean, {"loss": mean, **figures}))
    run.epoch, run.step_in_epoch, run.epoch_loss = run.epoch + 1, 0, (0.0, 0.0)
    run.waited = 0 if better else run.waited + 1
    if better:
        run.best, run.best_step, run.best_figures = scores, run.step, figures
    over = run.epoch >= run.settings.epochs or _patience_is_over(run)
    if better or over or time.monotonic() - run.saved_at > run.settings.save_seconds:
        save(run)
    return over


# --- parts of a step ----------------------------------------------------------------------


def _wrapped(run: Run) -> nn.Module:
    """The model as the forward pass calls it: gradients averaged over the processes."""
    if run.group.world == 1:
        return run.model
    from torch.nn.parallel import DistributedDataParallel

    devices = [run.group.device] if run.group.device.type == "cuda" else None
    return DistributedDataParallel(run.model, device_ids=devices)


def _no_sync(forward: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Only the last piece's backward pass exchanges gradients between processes."""
    no_sync: Any = getattr(forward, "no_sync", None)
    return nullcontext() if last or no_sync is None else no_sync()


def _autocast(run: Run) -> AbstractContextManager[Any]:
    if run.settings.amp == "off":
        return nullcontext()
    dtype = torch.bfloat16 if run.settings.amp == "bf16" else torch.float16
    return torch.autocast(run.group.device.type, dtype)


def _filled(run: Run, batch: Batch) -> Batch:
    """The batch, or one sample of zeros where it is empty."""
    if len(batch["x"]) or run.sample_format is None:
        return batch
    x, y, index = (
        torch.zeros(1, *run.sample_format[key][0], dtype=run.sample_format[key][1])
        for key in ("x", "y", "index")
    )
    return {"x": x, "y": y, "index": index}


def _sample_format(batch: Batch) -> dict[str, Any]:
    """Shape and type of one sample."""
    return {key: (batch[key].shape[1:], batch[key].dtype) for key in ("x", "y", "index")}


def _pieces(batch: Batch, count: int) -> list[Batch]:
    if count == 1 or len(batch["x"]) <= 1:
        return [batch]
    parts = zip(*(batch[key].chunk(count) for key in ("x", "y", "index")), strict=True)
    return [{"x": x, "y": y, "index": index} for x, y, index in parts]


def _clip(run: Run) -> float:
    """Clip the gradient; its norm before that."""
    parameters = [p for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None]
    norm = float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    limit = run.settings.clip
    if limit is not None and math.isfinite(norm):
        if run.settings.clip_each:
            for parameter in parameters:
                nn.utils.clip_grad_norm_([parameter], limit)
        else:
            nn.utils.clip_grads_with_norm_(parameters, limit, torch.tensor(norm))
    return norm


def _require_finite(run: Run, value: float, what: str) -> None:
    if math.isfinite(value):
        return
    kept = run.checkpoints.steps()
    saved = f"the checkpoint of step {kept[-1]} is kept" if kept else "there is no checkpoint yet"
    half = "" if run.settings.amp == "off" else "amp=off, "
    raise TrainError(
        f"step {run.step + 1} (epoch {run.epoch + 1}): {what} is {value}",
        f"{saved}; try {half}a lower learning rate or check the data",
    )


def _stop(run: Run, interruption: Interruption) -> bool:
    """Whether any of the processes was asked to stop."""
    return bool(run.group.all_sum(float(interruption.requested))[0])


def _patience_is_over(run: Run) -> bool:
    return run.settings.patience is not None and run.waited >= run.settings.patience


def _event(
    run: Run, steps: int, loss: float | None, figures: dict[str, float] | None = None
) -> ProgressEvent:
    total, clock = steps * run.settings.epochs, run.clock
    left = clock.elapsed / clock.steps * (total - run.step) if clock.steps else None
    speed = clock.clips / clock.training if clock.training else None
    return ProgressEvent(
        run.epoch, run.settings.epochs, run.step, total, loss, speed, left, figures
    )  # fmt: skip
