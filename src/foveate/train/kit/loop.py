"""The training loop, the same for every recipe.

It is independent of video: it takes batches and a function that computes losses per sample. It
guarantees that a run that is killed at any moment and resumed ends with the same weights, bit for
bit; that a loss which is not finite stops training before the weights change; and that several
processes give the result of one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from foveate.core import FoveateError
from foveate.train.kit import memory, randomness
from foveate.train.kit.batches import Batch, Batches
from foveate.train.kit.interrupt import Interruption
from foveate.train.kit.state import MIN_DELTA, OnProgress, ProgressEvent, Run, TrainError, save

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
    validate_first: bool = False,
) -> Literal["finished", "early", "interrupted"]:
    """Train from where `run` stands to the end.

    Args:
        run: New, or restored by `resume_from`.
        batches: Training data of this process.
        objective: Losses of a batch.
        validate: Scores a model after each epoch; called in the main process only.
        on_progress: Called after each step and each epoch.
        validate_first: Validate and export the model before the first epoch; later epochs are
            exported if they are better.

    Returns:
        `finished`, `early` (no better for `patience` epochs, or `run.finish_requested`) or
        `interrupted` (and saved).

    Raises:
        TrainError: The loss is not finite.
        FoveateError: A checkpoint or the log cannot be written.
    """
    settings, steps = run.settings, len(batches)
    forward = _wrapped(run)
    on_progress = on_progress or (lambda event: None)
    with Interruption() as interruption:
        if validate_first and run.start is None:
            validated = _validated(run, validate, interruption)
            if validated is None:
                return "interrupted"
            _start(run, *validated)
        while run.epoch < settings.epochs and not _patience_is_over(run):
            run.model.train()
            requested = time.perf_counter()
            for batch in _until_interrupted(run, batches, interruption):
                received = time.perf_counter()
                if run.accumulate is None:
                    _choose_pieces(run, batch, objective, on_progress)
                try:
                    loss = _step(run, forward, batch, objective)
                except RuntimeError:  # loading processes that ended within the step
                    if not interruption.requested:
                        raise
                    return "interrupted"
                run.clock.waiting += received - requested
                run.clock.working += time.perf_counter() - received
                on_progress(_event(run, steps, loss))
                stop = _stop(run, interruption)
                if stop or (settings.save_every and run.step % settings.save_every == 0):
                    save(run)
                if stop:
                    return stop
                requested = time.perf_counter()
            validated = None
            if run.step_in_epoch == steps:
                validated = _validated(run, validate, interruption)
            if validated is None:
                save(run)
                return "interrupted"
            over = _finish_epoch(run, *validated, steps, on_progress)
            stop = None if over else _stop(run, interruption)
            if stop:
                save(run)
                return stop
    return "early" if run.epoch < settings.epochs else "finished"


def _until_interrupted(run: Run, batches: Batches, interruption: Interruption) -> Iterator[Batch]:
    """The rest of the epoch; cut short where the signal also ended the loading processes."""
    try:
        yield from batches.batches(run.epoch, run.step_in_epoch)
    except (RuntimeError, FoveateError):
        if not interruption.requested:
            raise


def _choose_pieces(run: Run, batch: Batch, objective: Objective, on_progress: OnProgress) -> None:
    """Choose in how many pieces a batch is computed, by the memory that a clip needs."""
    group, clips = run.group, len(batch["x"])
    pieces, lines = 1, ""
    if clips > 1:
        with randomness.preserved():
            free = memory.activation_bytes(run.model, group.device)
            model = copy.deepcopy(run.model).train()
            two: Batch = {"x": batch["x"][:2], "y": batch["y"][:2], "index": batch["index"][:2]}

            def step() -> None:
                with _autocast(run):
                    losses = objective(model, two, randomness.generator(0))
                torch.autograd.backward(losses.sum())

            each = memory.peak_bytes(step, group.device) / 2
        pieces = -(-clips // max(1, min(clips, int(free / max(each, 1.0)))))
        size = -(-clips // pieces)
        lines = f"{size} of {clips} clips at a time, about {size * each / 1e9:.1f} GB"
    run.accumulate = int(max(group.all_gather(float(pieces))))
    if group.is_main and run.accumulate > 1:
        norms = any(isinstance(part, _BatchNorm) for part in run.model.modules())
        seen = "; batch norms see only these clips" if norms else ""
        line = f"memory: {lines}, with the gradient of the whole batch{seen}"
        on_progress(replace(_event(run, 0, None), message=line))


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
    pieces = [_filled(run, batch)]
    model: Any = run.model
    if hasattr(model, "pieces"):  # its loss needs the whole batch, so it makes the pieces itself
        model.pieces = run.accumulate
    else:
        pieces = _pieces(pieces[0], run.accumulate or 1)
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


def _validated(
    run: Run, validate: Validate, interruption: Interruption
) -> tuple[tuple[float, ...], dict[str, float]] | None:
    """Scores and figures, computed in the main process; None if a signal ended it."""
    group = run.group
    run.model.eval()
    found: Any = None
    if group.is_main:
        averaged = run.ema.applied(run.model) if run.ema is not None else nullcontext()
        randomness.seed_all(run.settings.seed, "validation", run.epoch)
        # Other processes wait for the result, so theirs is not cut short.
        immediate = interruption.immediate() if group.world == 1 else nullcontext()
        try:
            with torch.no_grad(), averaged, immediate:
                found = validate(run.model)
        except (KeyboardInterrupt, RuntimeError, FoveateError):
            if not interruption.requested:
                raise
    validated: tuple[tuple[float, ...], dict[str, float]] | None = group.broadcast(found)
    return validated


def _start(run: Run, scores: tuple[float, ...], figures: dict[str, float]) -> None:
    """Export the model before the first epoch, as the one to beat."""
    run.start, run.marks = (scores, figures), list(scores)
    if run.group.is_main:
        run.log.write(event="start", epoch=0, step=0, figures=figures)
        run.export()


def _finish_epoch(
    run: Run, scores: tuple[float, ...], figures: dict[str, float], steps: int,
    on_progress: OnProgress,
) -> bool:  # fmt: skip
    """Export a better model and save a checkpoint; whether this was the last epoch."""
    group = run.group
    # Without validation, the latest epoch is the best.
    better = run.best is None or not scores or scores > run.best
    mean = run.epoch_loss[0] / max(run.epoch_loss[1], 1.0)
    if group.is_main:
        run.log.write(event="epoch", epoch=run.epoch, step=run.step, loss=mean, figures=figures)
    on_progress(_event(run, steps, mean, {"loss": mean, **figures}))
    run.epoch, run.step_in_epoch, run.epoch_loss = run.epoch + 1, 0, (0.0, 0.0)
    run.marks = run.marks or [-math.inf] * len(scores)
    risen = [one > mark + MIN_DELTA for one, mark in zip(scores, run.marks, strict=True)]
    run.waited = 0 if any(risen) or not scores else run.waited + 1
    run.marks = [
        max(pair) if up else pair[1] for *pair, up in zip(scores, run.marks, risen, strict=True)
    ]
    if better:
        run.best, run.best_step, run.best_figures = scores, run.step, figures
        # Before the checkpoint: a run that is killed in between does this epoch again.
        if group.is_main and (run.start is None or scores > run.start[0]):
            run.export()
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


def _stop(run: Run, interruption: Interruption) -> Literal["interrupted", "early"] | None:
    """What any of the processes was asked to do."""
    finish = run.group.is_main and run.finish_requested()
    interrupted, early = run.group.all_sum(float(interruption.requested), float(finish))
    return "interrupted" if interrupted else "early" if early else None


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
