"""Trainings on patches: the same pixels as in prediction, chosen once, drawn anew, resumable."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clips
import foveate
from foveate.core import ConfigError
from foveate.data import Dataset, read
from foveate.media import open_source
from foveate.models.spec import InputSpec
from foveate.models.weights.run import read_run
from foveate.pipeline.presets import resolve
from foveate.policy.build import LOOKS
from foveate.policy.looks.patches import MotionPatchSpec
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.kit.state import ProgressEvent
from foveate.train.policy_clips import POSITIONS, PolicyClips, PolicySampler
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.videos import transform_of
from train import tiny_motion

SPEC = InputSpec(size=32, frames_per_second=5.0, clip_frames=6)
ALONE = ProcessGroup(0, 1, torch.device("cpu"))
PATCH = {"name": "motion-patch", "size": 16, "source": "flow"}


@pytest.fixture(autouse=True)
def _tiny_network() -> None:
    tiny_motion.enter()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Clips of 64x48 in which a square wanders left or right; those of training are longer."""
    root = tmp_path_factory.mktemp("movers")
    for split, count, frames in (("train", 6, 40), ("val", 4, 30)):
        for i in range(count):
            path = root / split / ("left", "right")[i % 2] / f"{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(clips.encode(frames=frames, size=(64, 48), draw=_mover(i), gop=10))
    return read(root)


def _mover(seed: int) -> Any:
    random = np.random.default_rng(seed)
    ground = random.integers(60, 180, (12, 16, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    square = random.integers(0, 256, (5, 5, 3)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    y = int(random.integers(4, 34))

    def draw(number: int, size: Any) -> Any:
        out = ground.copy()
        x = (number if seed % 2 else 45 - number) + 4
        out[y : y + 10, x : x + 10] = square
        return out

    return draw


def config(**changes: Any) -> SupervisedConfig:
    return tiny_motion.config(
        **{"size": 32, "epochs": 2, "batch": 3, "look": PATCH, "augment": "none", **changes}
    )


def go(data: Dataset, folder: Path, resume: bool = False, progress: Any = None, **more: Any) -> Any:
    return run_recipe(
        supervised.RECIPE, config(**more), data, folder, resume, progress or (lambda now: None)
    )


def source(data: Dataset, look: Any = PATCH, kept: Path | None = None, **more: Any) -> PolicyClips:
    settings = {"batch": 3, "seed": 0, "workers": 0, "augment": "none", "flip": False, **more}
    return PolicyClips(data, look=spec_of(look), kept=kept, **settings)


def spec_of(look: Any) -> Any:
    """The specification of settings with a name."""
    return LOOKS[look["name"]](**look)


def clips_in(batches: Any, epoch: int = 0) -> dict[int, torch.Tensor]:
    return {
        int(i): x
        for batch in batches.batches(epoch)
        for i, x in zip(batch["index"], batch["x"], strict=True)
    }


def bits(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("model.safetensors", "log.csv")]


@pytest.mark.parametrize("name", ["uniform", "resize", "centre", "random", "motion-patch"])
def test_training_shows_what_prediction_shows(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Validation clips, bit for bit what reaches the network when the run predicts them."""
    look: Any = {"name": name} | ({} if name == "uniform" else {"size": 16})
    go(data, tmp_path / "run", epochs=1, look=look)
    recogniser = foveate.load(str(tmp_path / "run"), cut_threshold=1.0)
    assert recogniser.preset.look.name == name
    seen: list[torch.Tensor] = []
    module = recogniser.executor.module
    step = module.step_features
    monkeypatch.setattr(
        module, "step_features", lambda x, state: (seen.append(x.clone()), step(x, state))[1],
        raising=False,
    )  # fmt: skip
    spec = replace(SPEC, clip_frames=6)
    trained = clips_in(PolicyClips(
        data, look=spec_of(look), batch=1, seed=0, workers=0, augment="none", flip=False
    )("val", False, spec, ALONE))  # fmt: skip
    side = 32 if name == "uniform" else 16
    for index, record in enumerate(data.subset("val").records):
        seen.clear()
        recogniser.predict(record.path)
        shown = torch.cat(seen, 2)[0]
        assert trained[index].shape == (3, 6, side, side)
        torch.testing.assert_close(trained[index].float() / 255, shown, rtol=0, atol=0)


def test_the_run_keeps_its_look_and_another_may_be_asked_for(data: Dataset, tmp_path: Path) -> None:
    go(data, tmp_path / "run", epochs=1)
    card = read_run(tmp_path / "run")
    assert card.preset is not None
    assert card.preset["look"]["name"] == "motion-patch"
    assert card.preset["look"]["size"] == 16
    assert card.input.size == 32
    assert "motion-patch" in card.protocol
    _, preset = resolve(str(tmp_path / "run"))
    assert preset.look == MotionPatchSpec(**PATCH)  # type: ignore[arg-type]
    clip = data.subset("val").records[0].path
    boxes = foveate.load(str(tmp_path / "run")).predict(clip).trace.steps[0].boxes
    assert len(boxes) == 6
    whole = foveate.load(str(tmp_path / "run"), look="uniform").predict(clip)
    assert whole.trace.steps[0].boxes == []


def test_windows_are_chosen_once_and_not_again_in_later_epochs(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foveate.media import Video

    asked: list[str] = []
    real = Video.motion

    def motion(self: Any, *more: Any, **options: Any) -> Any:
        asked.append(self.info.name)
        return real(self, *more, **options)

    monkeypatch.setattr(Video, "motion", motion)
    batches = source(data, kept=tmp_path)("train", True, SPEC, ALONE)
    first = [clips_in(batches, epoch) for epoch in range(8)]
    most = 6 * POSITIONS
    assert 6 <= len(asked) <= most
    asked.clear()
    again = source(data, kept=tmp_path)("train", True, SPEC, ALONE)
    second = [clips_in(again, epoch) for epoch in range(8)]
    assert asked == []
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[i], other[i]) for i in one)
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text()[:-3])
    third = clips_in(source(data, kept=tmp_path)("train", True, SPEC, ALONE))
    assert asked  # damaged: chosen anew, and the same
    assert all(torch.equal(first[0][i], third[i]) for i in third)


def test_random_windows_are_drawn_anew_in_every_epoch(data: Dataset) -> None:
    look = {"name": "random", "size": 16}
    short = replace(SPEC, clip_frames=8)  # the whole clip, so that only the place can differ
    epochs = [
        clips_in(source(data, look)("train", True, short, ALONE), epoch) for epoch in (0, 1, 0)
    ]
    assert all(torch.equal(epochs[0][i], epochs[2][i]) for i in range(6))
    assert sum(not torch.equal(epochs[0][i], epochs[1][i]) for i in range(6)) >= 5
    held = [clips_in(source(data, look)("val", False, short, ALONE), e) for e in (0, 1)]
    assert all(torch.equal(held[0][i], held[1][i]) for i in range(4))
    other = clips_in(source(data, look, seed=1)("train", True, short, ALONE))
    assert any(not torch.equal(epochs[0][i], other[i]) for i in range(6))


def test_longer_clips_are_seen_from_a_few_places_in_training(
    data: Dataset,
) -> None:
    record = data.subset("train").records[0]
    looked = PolicySampler(spec_of(PATCH), SPEC)
    random = np.random.default_rng(0)
    with closing(open_source(record.path)) as sample:
        starts = {
            looked.selected(sample, record, 0.0, 1.6, random)[0].request.times[0] for _ in range(20)
        }
        chosen = looked.selected(sample, record, 0.0, 1.6, None)
    assert len(starts) == POSITIONS
    times = [t for one in chosen for t in one.request.times]
    assert len(times) == 6
    assert np.allclose(np.diff(times), 0.2)
    assert times[0] == pytest.approx(0.2)


@pytest.mark.parametrize("look", [PATCH, {"name": "random", "size": 16}], ids=["motion", "random"])
@pytest.mark.parametrize("step", [1, 3])
def test_an_interrupted_run_ends_with_the_same_bits(
    data: Dataset, tmp_path: Path, look: dict[str, Any], step: int
) -> None:
    settings = {"look": look, "augment": "light", "mixup": 0.2}

    def stop(now: ProgressEvent) -> None:
        if now.step == step and now.figures is None:
            os.kill(os.getpid(), 2)

    go(data, tmp_path / "whole", **settings)
    assert go(data, tmp_path / "broken", progress=stop, **settings).outcome == "interrupted"
    assert go(data, tmp_path / "broken", resume=True, **settings).outcome == "finished"
    assert bits(tmp_path / "broken") == bits(tmp_path / "whole")
    with pytest.raises(ConfigError, match="begun with look"):
        go(data, tmp_path / "broken", resume=True, **{**settings, "look": "resize"})


def test_a_frozen_network_sees_several_random_windows(data: Dataset, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    summary = go(data, tmp_path / "run", freeze="backbone", look={"name": "random", "size": 16})
    assert summary.outcome == "finished"
    files = sorted((tmp_path / "run" / "features").glob("train-*"))
    assert len(files) == 4
    kept = [load_file(file)["x"] for file in files]
    assert not torch.equal(kept[0], kept[1])
    assert len(list((tmp_path / "run" / "features").glob("val-*"))) == 1


def test_augmentation_cuts_nothing_out_of_a_patch() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    transform = transform_of("light", 16, ("a", "b"), True, crop=False)
    found = set()
    for seed in range(8):
        x, labels = transform(frames, (1,), np.random.default_rng(seed))
        same = torch.equal(x, torch.from_numpy(frames).permute(0, 3, 1, 2))
        turned = torch.equal(x, torch.from_numpy(frames).permute(0, 3, 1, 2).flip(-1))
        assert same or turned
        assert labels == (1,)
        found.add(same)
    assert found == {True, False}
