"""A run from its first step to its card: resumed, refused, interrupted, and what it leaves."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.core import ConfigError, FoveateError, WeightsError
from foveate.data import DataError, Dataset
from foveate.models.weights.run import load_run, read_run
from foveate.train import run_state
from foveate.train.kit import log
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.state import ProgressEvent
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.run_state import RunSummary
from foveate.train.unknown import GENERATED
from train import tiny_motion
from train.tiny_motion import config

CLIPS: Any = tiny_motion.Clips()


@pytest.fixture(autouse=True)
def _tiny_network() -> None:
    tiny_motion.enter()


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_motion.on_disk(tmp_path_factory.mktemp("motion"), {"train": 12, "val": 6})


def go(folder: Path, resume: bool = False, progress: Any = None, **changes: Any) -> RunSummary:
    settings = config(**changes)
    source = CLIPS.source(settings.batch)
    return run_recipe(
        supervised.RECIPE,
        settings,
        CLIPS,
        folder,
        resume,
        progress or (lambda now: None),
        source=source,
    )


def interrupt_at(step: int) -> Any:
    def progress(now: ProgressEvent) -> None:
        if now.step == step and now.figures is None:
            os.kill(os.getpid(), 2)

    return progress


def bits(folder: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "log.jsonl", "log.csv")
    return {name: (folder / name).read_bytes() for name in names}


def test_a_run_leaves_a_model_with_its_card(tmp_path: Path) -> None:
    summary = go(tmp_path / "run")
    assert (summary.outcome, summary.epochs, summary.steps) == ("finished", 3, 9)
    assert summary.clips_per_second > 0
    assert 0 <= summary.loader_share <= 1
    card = read_run(tmp_path / "run")
    assert (card.network.arch, card.classes) == (tiny_motion.ARCH, list(tiny_motion.CLASSES))
    assert card.digests == {"train": "train 24 ", "val": "val 12 "}
    assert card.figures == summary.figures
    assert any("top1" in name for name in card.figures)
    assert card.configuration["mixup"] == 0.2
    loaded = load_run(tmp_path / "run")
    model = loaded.network
    assert loaded.labels == tiny_motion.CLASSES
    assert loaded.input.clip_frames == 6
    x, y = tiny_motion.movies(12, seed=2)
    with torch.no_grad():
        right = float((model(x.float() / 255).argmax(1) == y).float().mean())
    assert [right] == [value for name, value in card.figures.items() if "top1" in name]
    timing = json.loads((tmp_path / "run" / "timing.jsonl").read_text())
    assert timing["outcome"] == "finished"


def test_a_checkpoint_says_what_it_belongs_to(tmp_path: Path) -> None:
    from foveate.train.kit.checkpoint import Checkpoints

    go(tmp_path / "run")
    saved = Checkpoints(tmp_path / "run" / "checkpoints").latest()
    assert saved is not None
    notes = saved.values["notes"]
    assert notes["classes"] == list(tiny_motion.CLASSES)
    assert notes["configuration"]["lr"] == 3e-3
    assert notes["input"]["size"] == 16
    assert notes["digests"]["train"] == "train 24 "
    assert notes["commit"]
    assert any(name.startswith("ema/") for name in saved.tensors)


@pytest.mark.parametrize("step", [1, 3, 8, 9])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, step: int) -> None:
    go(tmp_path / "whole")
    summary = go(tmp_path / "broken", progress=interrupt_at(step))
    assert summary.outcome == ("interrupted" if step <= 9 else "finished")
    assert summary.steps == step
    assert run_state.read_training(tmp_path / "broken").outcome is None
    if step > 3:  # an epoch is over: its model can be used
        assert load_run(tmp_path / "broken").labels == tiny_motion.CLASSES
        assert summary.card.figures == summary.figures
    again = go(tmp_path / "broken", resume=True)
    assert again.outcome == run_state.read_training(tmp_path / "broken").outcome == "finished"
    assert bits(tmp_path / "broken") == bits(tmp_path / "whole")


def test_the_seed_decides_and_the_callers_generator_comes_back(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    go(tmp_path / "a", epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    go(tmp_path / "b", epochs=1)
    go(tmp_path / "c", epochs=1, seed=1)
    assert bits(tmp_path / "a") == bits(tmp_path / "b") != bits(tmp_path / "c")


def test_a_finished_run_resumed_is_still_the_same(tmp_path: Path) -> None:
    go(tmp_path / "run")
    before = bits(tmp_path / "run")
    assert go(tmp_path / "run", resume=True).outcome == "finished"
    assert bits(tmp_path / "run") == before


def test_a_damaged_checkpoint_costs_steps_and_not_the_run(tmp_path: Path) -> None:
    go(tmp_path / "whole", save_every=2)
    go(tmp_path / "run", progress=interrupt_at(7), save_every=2)
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-7])
    again = go(tmp_path / "run", resume=True, save_every=2)
    assert any("step-000000007.safetensors: damaged" in line for line in again.warnings)
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "whole", save_every=2)
    real, calls = os.replace, [0]

    def full(a: Any, b: Any) -> None:
        if "step-" in str(b):
            calls[0] += 1
            if calls[0] > 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(a, b)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(FoveateError, match="No space left on device") as caught:
            go(tmp_path / "run", save_every=2)
    assert "\n" not in str(caught.value)
    go(tmp_path / "run", resume=True, save_every=2)
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_what_may_not_change_between_the_parts_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "run", progress=interrupt_at(2))
    with pytest.raises(ConfigError, match=r"begun with lr=0\.003, not 0\.1"):
        go(tmp_path / "run", resume=True, lr=0.1)
    other: Any = tiny_motion.Clips(mark="other")
    with pytest.raises(ConfigError, match="the clips of 'train' changed"):
        run_recipe(
            supervised.RECIPE,
            config(),
            other,
            tmp_path / "run",
            True,
            lambda now: None,
            source=other.source(8),
        )
    renamed: Any = tiny_motion.Clips(classes=("left", "right", "up"))
    with pytest.raises(ConfigError, match="other classes"):
        run_recipe(
            supervised.RECIPE,
            config(),
            renamed,
            tmp_path / "run",
            True,
            lambda now: None,
            source=renamed.source(8),
        )
    # As if there were two: threads that wait for work keep a busy machine busy.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    summary = go(tmp_path / "run", resume=True, save_every=1)  # what is free may change
    assert any("resumed with other threads" in line for line in summary.warnings)


def test_runs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to resume"):
        go(tmp_path / "run", resume=True)
    go(tmp_path / "run", epochs=1)
    with pytest.raises(ConfigError, match="there is a run in this folder"):
        go(tmp_path / "run", epochs=1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "tiny-motoin"}, "did you mean"),
        ({"freeze": "backbone", "cutmix": 1.0}, "cutmix"),
        ({"report_to": "wandb"}, r"foveate\[wandb\]"),
    ],
)
def test_nothing_is_created_before_everything_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], text: str
) -> None:
    monkeypatch.setattr(log, "find_spec", lambda name: None)
    with pytest.raises(FoveateError, match=text):
        go(tmp_path / "run", **changes)
    assert not list(tmp_path.iterdir())


def test_a_check_that_takes_long_comes_last_and_before_the_folder(tmp_path: Path) -> None:
    def check() -> None:
        assert not (tmp_path / "run").exists()
        raise DataError("clips cannot be used")

    for model, text in (("tiny-motoin", "did you mean"), (tiny_motion.ARCH, "cannot be used")):
        with pytest.raises(FoveateError, match=text):
            run_recipe(
                supervised.RECIPE, config(model=model), CLIPS, tmp_path / "run",
                on_progress=quiet, source=CLIPS.source(8), before=check,
            )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FoveateError, match="cannot be written \\(file is a file"):
        go(tmp_path / "file" / "run")


def test_a_finished_run_is_trained_on_with_more_epochs(tmp_path: Path) -> None:
    assert go(tmp_path / "run", epochs=2).epochs == 2
    said: list[ProgressEvent] = []
    more = go(tmp_path / "run", resume=True, epochs=4, progress=said.append)
    assert (more.outcome, more.epochs) == ("finished", 4)
    assert "resumed at epoch 3 of 4" in [event.message for event in said]
    assert run_state.read_training(tmp_path / "run").configuration["epochs"] == 4


def test_a_run_is_ended_with_its_best_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training was begun"):
        run_state.finish_run(tmp_path / "run")
    go(tmp_path / "run", progress=interrupt_at(2))
    with pytest.raises(ConfigError, match="there is no model yet"):
        run_state.finish_run(tmp_path / "run")
    go(tmp_path / "run", resume=True, progress=interrupt_at(5))
    card = run_state.finish_run(tmp_path / "run")
    assert card.figures
    assert run_state.read_training(tmp_path / "run").outcome == "early"

    def finish(event: ProgressEvent) -> None:
        if event.step == 7 and event.figures is None:
            run_state.finish_run(tmp_path / "run")

    running = go(tmp_path / "run", resume=True, progress=finish)
    assert (running.outcome, running.steps) == ("early", 7)
    assert go(tmp_path / "run", resume=True).outcome == "finished"


def test_how_a_run_was_begun_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training was begun"):
        run_state.read_training(tmp_path)
    run_recipe(
        supervised.RECIPE, config(epochs=1), CLIPS, tmp_path / "run", on_progress=quiet,
        source=CLIPS.source(8), origin={"path": "clips"},
    )  # fmt: skip
    begun = run_state.read_training(tmp_path / "run")
    assert (begun.recipe, begun.origin) == ("supervised", {"path": "clips"})
    assert SupervisedConfig(**begun.configuration) == config(epochs=1)
    assert begun.outcome == "finished"
    (tmp_path / "run" / "training.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        run_state.read_training(tmp_path / "run")


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    only: Any = tiny_motion.Clips(counts={"train": 24})
    summary = run_recipe(
        supervised.RECIPE, config(), only, tmp_path / "run", on_progress=quiet,
        source=only.source(8),
    )  # fmt: skip
    assert summary.figures == {}
    assert read_run(tmp_path / "run").protocol.startswith("no validation")


def test_no_training_clips(tmp_path: Path) -> None:
    none: Any = tiny_motion.Clips(counts={"val": 4})
    with pytest.raises(ConfigError, match="the split 'train' has no clips"):
        run_recipe(
            supervised.RECIPE,
            config(),
            none,
            tmp_path / "run",
            on_progress=lambda now: None,
            source=none.source(8),
        )


@pytest.mark.parametrize("mixes", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixing_changes_what_is_learned_and_repeats_itself(
    tmp_path: Path, mixes: dict[str, float]
) -> None:
    off = {"mixup": 0.0, "cutmix": 0.0, "epochs": 1}
    go(tmp_path / "plain", **off)
    for name in ("a", "b"):
        go(tmp_path / name, **{**off, **mixes})
    assert bits(tmp_path / "a") == bits(tmp_path / "b") != bits(tmp_path / "plain")


def test_half_precision_runs(tmp_path: Path) -> None:
    go(tmp_path / "plain", epochs=1)
    summary = go(tmp_path / "half", epochs=1, amp="bf16")
    assert summary.outcome == "finished"
    assert bits(tmp_path / "half") != bits(tmp_path / "plain")


# --- frozen backbones ---------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames that went through the first layer of the network, call by call."""
    from foveate.models import movinet

    seen: list[int] = []
    inference = movinet.MoViNetStream.for_inference

    def watched(self: Any) -> Any:
        quick = inference(self)
        step = quick.step_features

        def step_features(x: torch.Tensor, state: Any) -> Any:
            seen.append(x.shape[0])
            return step(x, state)

        quick.step_features = step_features
        return quick

    monkeypatch.setattr(movinet.MoViNetStream, "for_inference", watched)
    return seen


def test_a_frozen_network_sees_every_clip_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(monkeypatch)
    forward: list[int] = []
    from foveate.models.movinet import MoViNetStream

    features = MoViNetStream.features
    monkeypatch.setattr(
        MoViNetStream, "features", lambda self, x: forward.append(len(x)) or features(self, x)
    )
    summary = go(tmp_path / "run", freeze="backbone", epochs=20, progress=interrupt_at(7))
    assert summary.outcome == "interrupted"
    assert sum(seen) == 24 + 12
    assert not forward
    go(tmp_path / "run", resume=True, freeze="backbone", epochs=20)
    assert sum(seen) == 24 + 12, "a resumed run takes the features that are kept"
    assert sum(forward) == GENERATED, "in the end, the generated clips of `unknown`"


def test_only_the_head_learns(tmp_path: Path) -> None:
    go(tmp_path / "run", freeze="backbone", epochs=2)
    from foveate.train.kit import randomness

    model = load_run(tmp_path / "run").network.state_dict()
    with randomness.preserved():
        randomness.seed_all(0, "weights")
        fresh = tiny_motion._build().state_dict()
    moved = {name for name, value in model.items() if not torch.equal(value, fresh[name])}
    assert moved == {name for name in model if name.startswith("classifier")}


def test_features_are_made_anew_where_they_are_damaged(tmp_path: Path) -> None:
    go(tmp_path / "whole", freeze="backbone")
    go(tmp_path / "run", freeze="backbone", progress=interrupt_at(4))
    for path in (tmp_path / "run" / "features").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    go(tmp_path / "run", resume=True, freeze="backbone")
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_pictures_cannot_be_cut_where_there_are_only_features(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cutmix"):
        go(tmp_path / "run", freeze="backbone", cutmix=1.0)


# --- the head first, then all layers ------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run folder of a network of the same layers, trained on two of the classes."""
    tiny_motion.enter()
    folder = tmp_path_factory.mktemp("weights") / "run"
    x, y = tiny_motion.movies(24, seed=3)

    def source(split: str, *_: Any) -> Any:
        return TensorBatches(x, y.clamp(max=1), 8, 0) if split == "train" else None

    two: Any = tiny_motion.Clips(classes=("left", "right"))
    run_recipe(
        supervised.RECIPE, config(epochs=1), two, folder, on_progress=quiet, source=source
    )  # fmt: skip
    return str(folder)


def tune(folder: Path, weights: str, data: Dataset, progress: Any = None, **more: Any) -> Any:
    resume = more.pop("resume", False)
    settings = config(model=weights, freeze="head-first", batch=4, **more)
    return run_recipe(
        supervised.RECIPE, settings, data, folder, resume, progress or (lambda event: None)
    )


def test_the_head_is_trained_first_and_the_better_model_is_exported(
    tmp_path: Path, weights: str, on_disk: Dataset
) -> None:
    run = tune(tmp_path / "run", weights, on_disk, epochs=2)
    assert list(run.stages) == ["frozen backbone", "all layers"]
    frozen = read_run(tmp_path / "run" / "frozen")
    assert frozen.configuration["freeze"] == "backbone"
    for name, value in frozen.figures.items():
        assert run.stages["frozen backbone"][name] == pytest.approx(value, abs=1e-4)
    first, second = ([*run.stages[name].values()] for name in run.stages)
    better = (second[0], -second[-1]) > (first[0], -first[-1])
    assert run.figures == run.card.figures == run.stages[("frozen backbone", "all layers")[better]]
    assert run.features_seconds > 0
    assert run.card.configuration["freeze"] == "head-first"


def test_layers_that_do_not_improve_are_not_exported(
    tmp_path: Path, weights: str, on_disk: Dataset
) -> None:
    run = tune(tmp_path / "run", weights, on_disk, lr=3.0, patience=1, epochs=9)
    assert (run.outcome, run.epochs) == ("early", 1)
    assert run.figures == run.stages["frozen backbone"] != run.stages["all layers"]
    kept, frozen = (load_run(tmp_path / "run" / n).network.state_dict() for n in (".", "frozen"))
    assert all(torch.equal(kept[name], value) for name, value in frozen.items())


@pytest.mark.parametrize("stage", ["frozen", "all"])
def test_a_run_in_two_steps_is_resumed_in_either(
    tmp_path: Path, weights: str, on_disk: Dataset, stage: str
) -> None:
    def interrupt(event: ProgressEvent) -> None:
        own = event.stage.startswith("frozen") if stage == "frozen" else event.stage == "train"
        if own and event.step == 4 and event.figures is None and event.message is None:
            os.kill(os.getpid(), 2)

    short = {"epochs": 2, "patience": 2}
    tune(tmp_path / "whole", weights, on_disk, **short)
    first = tune(tmp_path / "run", weights, on_disk, interrupt, **short)
    assert first.outcome == "interrupted"
    if stage == "all":
        assert load_run(tmp_path / "run").labels == tiny_motion.CLASSES
    assert tune(tmp_path / "run", weights, on_disk, resume=True, **short).outcome == "finished"
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_without_weights_or_validation_all_layers_are_trained(
    tmp_path: Path, weights: str, on_disk: Dataset
) -> None:
    run = go(tmp_path / "fresh", freeze="head-first", epochs=1)
    only = replace(on_disk, records=on_disk.subset("train").records)
    both = [run, tune(tmp_path / "run", weights, only, epochs=1)]
    assert [one.stages for one in both] == [{}, {}]
    assert all(one.card.configuration["freeze"] == "none" for one in both)


# --- through encoded clips ----------------------------------------------------------------


def quiet(now: ProgressEvent) -> None:
    """No bar on the terminal of the tests."""


@pytest.mark.parametrize("freeze", ["none", "backbone"])
def test_bad_clips_of_every_split_are_named_in_the_summary(tmp_path: Path, freeze: str) -> None:
    data = tiny_motion.on_disk(tmp_path / "clips", {"train": 12, "val": 6})
    broken = [data.subset(split).records[1].path for split in ("train", "val")]
    for path in broken:
        path.write_bytes(b"just words")
    summary = run_recipe(
        supervised.RECIPE,
        config(freeze=freeze, epochs=1, batch=4),
        data,
        tmp_path / "run",
        on_progress=quiet,
    )
    named = [line.split(": ")[0] for line in summary.failures]
    assert named == [data.name(next(r for r in data.records if r.path == p)) for p in broken]


def test_too_many_bad_clips_end_the_run(tmp_path: Path) -> None:
    data = tiny_motion.on_disk(tmp_path / "clips", {"train": 12, "val": 6})
    for record in data.subset("train").records[:2]:
        record.path.write_bytes(b"just words")
    with pytest.raises(DataError, match="2 of 12 clips cannot be read"):
        run_recipe(supervised.RECIPE, config(epochs=1), data, tmp_path / "run", on_progress=quiet)


def test_damage_is_said_in_the_summary(tmp_path: Path, on_disk: Dataset) -> None:
    class Damaged(TensorBatches):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.warnings = ["a.mp4: 36 of 72 frames"]

    def source(split: str, *_: Any) -> Any:
        return Damaged(*tiny_motion.movies(8, seed=1), 8, 0) if split == "train" else None

    summary = run_recipe(
        supervised.RECIPE,
        config(epochs=1),
        on_disk,
        tmp_path / "run",
        on_progress=quiet,
        source=source,
    )
    assert summary.warnings == ["a.mp4: 36 of 72 frames"]


@pytest.mark.parametrize("model", ["movinet-a0-stream-lite.nothing", "no-such-model"])
def test_a_model_that_is_not_there(tmp_path: Path, model: str) -> None:
    with pytest.raises(FoveateError):
        go(tmp_path / "run", model=model)


def test_training_goes_on_from_a_run_with_other_classes(tmp_path: Path) -> None:
    go(tmp_path / "first", epochs=2)
    fewer: Any = tiny_motion.Clips(classes=("left", "right"))
    x, y = tiny_motion.movies(16, seed=3)

    def source(split: str, *_: Any) -> Any:
        return TensorBatches(x, y.clamp(max=1), 8, 0) if split == "train" else None

    run_recipe(
        supervised.RECIPE, config(model=str(tmp_path / "first"), epochs=1, lr=1e-6), fewer,
        tmp_path / "second", on_progress=quiet, source=source,
    )  # fmt: skip
    old, new = (load_run(tmp_path / name).network.state_dict() for name in ("first", "second"))
    assert new["classifier.weight"].shape[0] == 2
    for name, value in old.items():
        if not name.startswith("classifier."):
            torch.testing.assert_close(new[name], value, atol=1e-3, rtol=0)


def test_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    go(tmp_path / "first", epochs=1)
    weights = tmp_path / "first" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(WeightsError):
        go(tmp_path / "second", model=str(tmp_path / "first"))
