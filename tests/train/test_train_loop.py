"""The loop: what a step does, when it stops, and what it tells."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foveate.train.kit import memory
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.checkpoint import Checkpoints
from foveate.train.kit.ema import EMA
from foveate.train.kit.log import Log
from foveate.train.kit.loop import train
from foveate.train.kit.losses import class_loss
from foveate.train.kit.optim import make_optimizer
from foveate.train.kit.schedule import make_schedule
from foveate.train.kit.state import ProgressEvent, Run, Settings, TrainError, resume_from
from train import tiny_motion

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def run_in(folder: Path, *, ema: bool = False, log: Any = None, **settings: Any) -> Run:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    groups = [{"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.0}]
    return Run(
        model, make_optimizer("sgd", groups), make_schedule("constant", 100),
        Settings(**{"epochs": 2, **settings}), Checkpoints(folder / "checkpoints"),
        Log(folder, log), ema=EMA(model, 0.9) if ema else None,
    )  # fmt: skip


def objective(model: nn.Module, batch: Any, stream: torch.Generator) -> torch.Tensor:
    return class_loss(model(batch["x"]), batch["y"])


def nothing(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
    return (), {}


def go(run: Run, validate: Any = nothing, batch: int = 8, **more: Any) -> str:
    return train(
        run, TensorBatches(X, Y, batch, seed=0), more.pop("loss", objective), validate, **more
    )


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def test_it_learns_and_logs_every_step(tmp_path: Path) -> None:
    run = run_in(tmp_path, epochs=30)
    assert go(run) == "finished"
    rows = tiny_motion.rows(tmp_path)
    losses = [row["loss"] for row in rows if row["event"] == "epoch"]
    assert losses[-1] < 0.2 < losses[0]
    assert [row["step"] for row in rows if row["event"] == "step"] == list(range(1, 91))
    assert run.checkpoints.steps()[-1] == 90


@pytest.mark.parametrize("pieces", [2, 3, 8, 50])
def test_pieces_of_a_batch_give_the_step_of_the_whole(tmp_path: Path, pieces: int) -> None:
    whole, parts = run_in(tmp_path / "a"), run_in(tmp_path / "b", accumulate=pieces)
    sizes: list[int] = []

    def counted(model: nn.Module, batch: Any, stream: Any) -> torch.Tensor:
        sizes.append(len(batch["x"]))
        return objective(model, batch, stream)

    go(whole)
    go(parts, loss=counted)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-5, atol=1e-7)
    assert max(sizes) == math.ceil(8 / min(pieces, 8))
    assert sum(sizes) == 2 * 20


def test_pieces_are_chosen_by_memory_said_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def note(event: ProgressEvent) -> None:
        said.extend([event.message] if event.message else [])

    whole = run_in(tmp_path / "whole")
    go(whole)
    # Memory for three clips of the eight; a step of two is measured.
    monkeypatch.setattr(memory, "peak_bytes", lambda step, device: step() or 200)
    monkeypatch.setattr(memory, "activation_bytes", lambda model, device: 350.0)
    run = run_in(tmp_path / "run", accumulate=None)
    go(run, on_progress=note)
    assert (run.accumulate, len(said)) == (3, 1)
    assert said[0].startswith("memory: 3 of 8 clips at a time")
    torch.testing.assert_close(weights(run), weights(whole), rtol=1e-5, atol=1e-7)
    monkeypatch.setattr(memory, "activation_bytes", lambda model, device: 1e9)
    again = run_in(tmp_path / "run", accumulate=None)
    saved = again.checkpoints.latest()
    assert saved is not None
    resume_from(again, saved)
    assert again.accumulate == 3, "a resumed run computes as before"
    go(ample := run_in(tmp_path / "ample", accumulate=None), on_progress=note)
    assert (ample.accumulate, len(said)) == (1, 1)


@pytest.mark.parametrize("each", [False, True])
def test_gradients_are_bounded_and_their_norm_is_told(tmp_path: Path, each: bool) -> None:
    run = run_in(tmp_path, epochs=1, clip=1e-3, clip_each=each)
    before = weights(run)
    go(run, batch=20)
    moved = float((weights(run) - before).norm())
    bound = 1e-3 * (2.0 if each else 1.0)  # four tensors, each bounded by itself
    assert moved == pytest.approx(0.1 * bound * 1.9, rel=0.1)  # Nesterov's first step: 1 + .9
    assert tiny_motion.rows(tmp_path)[0]["grad_norm"] > 0.01


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(
    tmp_path: Path, broken: str
) -> None:
    run = run_in(tmp_path, save_every=1)
    held: list[torch.Tensor] = []

    def failing(model: nn.Module, batch: Any, stream: Any) -> torch.Tensor:
        losses = objective(model, batch, stream)
        if run.step == 4:
            held.append(weights(run))
            bad = torch.where(losses > 0, losses, losses)
            return losses * math.nan if broken == "loss" else bad + (losses - losses).abs().sqrt()
        return losses

    with pytest.raises(TrainError) as caught:
        go(run, loss=failing)
    text = str(caught.value)
    assert text.startswith(f"step 5 (epoch 2): the {broken} is nan")
    assert "the checkpoint of step 4 is kept" in text
    assert torch.equal(weights(run), held[0])
    kept = run.checkpoints.latest()
    assert kept is not None
    assert kept.step == 4


def test_without_a_checkpoint_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="there is no checkpoint yet; try a lower"):
        go(run_in(tmp_path), loss=lambda m, b, s: objective(m, b, s) * math.inf)


def test_in_half_precision_the_line_names_the_full_one(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="try amp=off, a lower learning rate"):
        go(run_in(tmp_path, amp="bf16"), loss=lambda m, b, s: objective(m, b, s) * math.inf)


def test_it_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    scores = iter([0.2, 0.5, 0.4, 0.5, 0.9])
    run = run_in(tmp_path, epochs=10, patience=2)

    def validate(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        score = next(scores)
        return (score,), {"top1": score}

    assert go(run, validate) == "early"
    assert (run.epoch, run.best, run.best_step) == (4, (0.5,), 6)
    assert run.best_figures == {"top1": 0.5}
    assert 6 in run.checkpoints.steps()
    assert go(run, validate) == "early", "asked again, it does not go on"


def test_patience_counts_from_the_last_clear_improvement_of_any_score(tmp_path: Path) -> None:
    scores = iter([(1.0, -0.05), (1.0, -0.048), (1.0, -0.046), (0.9, -0.0455), (1.0, 0.0)])
    run = run_in(tmp_path, epochs=10, patience=3)
    assert go(run, lambda model: (next(scores), {})) == "early"
    assert (run.epoch, run.best) == (4, (1.0, -0.046)), "a solved task is not trained on"
    falling = iter([(0.1, -2.0), (0.2, -1.9), *((0.1, -1.8 + 0.01 * i) for i in range(8))])
    run = run_in(tmp_path / "b", epochs=10, patience=3)
    assert go(run, lambda model: (next(falling), {})) == "finished", "the loss still falls"


def test_a_model_to_beat_is_validated_first_and_replaced_by_better_ones_only(
    tmp_path: Path,
) -> None:
    scores = iter([0.5, 0.4, 0.6, 0.55])
    run, exported = run_in(tmp_path, epochs=3), []

    def validate(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        score = next(scores)
        return (score,), {"top1": score}

    run.export = lambda: exported.append((run.step, run.exported_figures["top1"]))
    assert go(run, validate, validate_first=True) == "finished"
    assert exported == [(0, 0.5), (6, 0.6)]
    assert (run.start, run.best_figures) == (((0.5,), {"top1": 0.5}), {"top1": 0.6})
    assert tiny_motion.rows(tmp_path)[0]["event"] == "start"


def test_a_run_that_is_told_to_finish_stops_after_its_step(tmp_path: Path) -> None:
    run = run_in(tmp_path, epochs=9)
    run.finish_requested = lambda: run.step == 5
    assert go(run) == "early"
    assert (run.step, run.checkpoints.steps()[-1]) == (5, 5)


def test_validation_sees_the_averaged_weights_and_changes_nothing(tmp_path: Path) -> None:
    run = run_in(tmp_path, ema=True, epochs=1)
    plain = run_in(tmp_path / "plain", epochs=1)
    seen: list[torch.Tensor] = []

    def validate(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        assert not model.training
        seen.append(model[0].weight.clone())  # type: ignore[index]
        torch.rand(100)
        return (0.0,), {}

    go(run, validate)
    go(plain)
    assert run.ema is not None
    assert torch.equal(seen[0], run.ema.tensors["0.weight"])
    assert not torch.equal(seen[0], run.model[0].weight)  # type: ignore[index]
    assert torch.equal(weights(run), weights(plain))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_saved_and_gone_on_with(tmp_path: Path, number: int) -> None:
    whole, broken = run_in(tmp_path / "whole", ema=True), run_in(tmp_path / "broken", ema=True)
    go(whole)
    before = signal.getsignal(number)

    def interrupt(now: ProgressEvent) -> None:
        if now.step == 2:
            os.kill(os.getpid(), number)

    assert go(broken, on_progress=interrupt) == "interrupted"
    assert broken.step == 2
    assert signal.getsignal(number) == before
    again = _resumed(tmp_path / "broken")
    assert again.step == 2
    assert go(again) == "finished"
    assert torch.equal(weights(again), weights(whole))
    logs = [(tmp_path / name / "log.jsonl").read_bytes() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


def _resumed(folder: Path) -> Run:
    saved = Checkpoints(folder / "checkpoints").latest()
    assert saved is not None
    run = run_in(folder, ema=True, log=saved.values["log"])
    resume_from(run, saved)
    return run


def test_an_interruption_during_validation_is_heard(tmp_path: Path) -> None:
    run = run_in(tmp_path, epochs=5)

    def validate(model: nn.Module) -> tuple[tuple[float, ...], dict[str, float]]:
        os.kill(os.getpid(), signal.SIGINT)
        return (), {}

    assert go(run, validate) == "interrupted"
    assert (run.epoch, run.step) == (0, 3)  # validated again when it is resumed
    assert run.checkpoints.steps() == [3]


def test_a_signal_that_ends_the_loading_processes_too_is_an_interruption(tmp_path: Path) -> None:
    class Dying(TensorBatches):
        def batches(self, epoch: int, start_step: int = 0):  # type: ignore[no-untyped-def]
            yield from list(super().batches(epoch, start_step))[:2]
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("DataLoader worker is killed by signal: Terminated")

    run = run_in(tmp_path)
    assert train(run, Dying(X, Y, 8, seed=0), objective, nothing) == "interrupted"
    assert (run.epoch, run.step) == (0, 2)
    assert run.checkpoints.steps() == [2]


def test_a_second_interruption_stops_at_once(tmp_path: Path) -> None:
    def twice(now: ProgressEvent) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(run_in(tmp_path), on_progress=twice)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_learns(tmp_path: Path, amp: str) -> None:
    run = run_in(tmp_path, epochs=30, amp=amp)
    kinds = set()

    def seen(model: nn.Module, batch: Any, stream: Any) -> torch.Tensor:
        logits = model(batch["x"])
        kinds.add(logits.dtype)
        return class_loss(logits, batch["y"])

    go(run, loss=seen)
    assert kinds == {torch.bfloat16 if amp == "bf16" else torch.float16}
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    losses = [row["loss"] for row in tiny_motion.rows(tmp_path) if row["event"] == "epoch"]
    assert losses[-1] < 0.25


def test_a_step_without_samples_counts_and_changes_nothing(tmp_path: Path) -> None:
    class Gaps(TensorBatches):
        def batches(self, epoch: int, start_step: int = 0):  # type: ignore[no-untyped-def]
            for step, batch in enumerate(super().batches(epoch, start_step), start_step):
                empty = {key: value[:0] for key, value in batch.items()}
                yield empty if step == 1 else batch

    run, before = run_in(tmp_path, epochs=1), []

    def note(now: ProgressEvent) -> None:
        before.append(weights(run))

    train(run, Gaps(X, Y, 8, seed=0), objective, nothing, note)
    assert torch.equal(before[0], before[1])
    assert not torch.equal(before[1], before[2])
    steps = [row["step"] for row in tiny_motion.rows(tmp_path) if row["event"] == "step"]
    assert steps == [1, 3]


def test_progress_tells_place_speed_and_time_left(tmp_path: Path) -> None:
    told: list[ProgressEvent] = []
    go(run_in(tmp_path), lambda model: ((0.5,), {"top1": 0.5}), on_progress=told.append)
    assert [(now.epoch, now.step) for now in told] == [
        (0, 1), (0, 2), (0, 3), (0, 3), (1, 4), (1, 5), (1, 6), (1, 6)
    ]  # fmt: skip
    assert all(now.steps == 6 and now.epochs == 2 for now in told)
    assert all(now.clips_per_second and now.clips_per_second > 0 for now in told)
    assert told[-1].seconds_left == 0.0
    assert told[3].figures is not None
    assert told[3].figures["top1"] == 0.5


def test_time_for_validation_is_not_time_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def passing(seconds: float, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            now[0] += seconds
            return inner(*args)

        return call

    class Slow(TensorBatches):
        def batches(self, epoch: int, start_step: int = 0):  # type: ignore[no-untyped-def]
            for batch in super().batches(epoch, start_step):
                now[0] += 1.0
                yield batch

    run = run_in(tmp_path, epochs=1)
    train(run, Slow(X, Y, 8, seed=0), passing(3.0, objective), passing(100.0, nothing))
    assert (run.clock.waiting, run.clock.working) == (3.0, 9.0)
    assert run.clock.training == 12.0
    assert tiny_motion.rows(tmp_path)[-1]["event"] == "epoch"
