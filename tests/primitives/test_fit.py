"""`foveate.fit`: a run folder from a pipeline, used like any other; every recogniser trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foveate
from foveate.core import ConfigError
from foveate.data import Dataset
from foveate.models.weights.run import read_run
from foveate.primitives import (
    TSN,
    Confident,
    Flip,
    MotionPatch,
    Noise,
    RandomCrop,
    Resize,
    Segments,
    Supervised,
)
from foveate.primitives.base import registered
from foveate.primitives.pipeline import Pipeline
from foveate.train import pipelines
from foveate.train.kit.batches import TensorBatches
from foveate.train.recipe import run_recipe
from foveate.train.run_state import RunSummary, read_training
from train import tiny_motion

SILENT: Any = lambda event: None  # noqa: E731
SPEC = Pipeline(
    sampler=Segments(frames=4),
    transforms=(Resize(40), RandomCrop(32), Flip()),
    recogniser=TSN(backbone="test_resnet"),
    stopping=Confident(threshold=0.99),
    training=Supervised(epochs=1, batch=4, workers=0),
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_motion.on_disk(tmp_path_factory.mktemp("clips"), {"train": 8, "val": 4})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, clips: Dataset) -> RunSummary:
    out = tmp_path_factory.mktemp("fit") / "run"
    return foveate.fit(SPEC, clips, out=out, on_progress=SILENT)


def test_the_run_folder_holds_the_pipeline_and_what_it_says(run: RunSummary) -> None:
    assert pipelines.find(run.folder) == SPEC
    card = read_run(run.folder)
    # What sets the size holds for prediction, too; clips of 1.6 s are shown whole.
    assert (card.input.size, card.input.resize_to, card.input.resize) == (32, 40, "squash")
    assert (card.input.clip_frames, card.input.frames_per_second) == (4, 2.5)
    assert card.preset is not None
    assert card.preset["decide"] == {"name": "confident", "threshold": 0.99}
    assert "segments" in card.protocol
    recogniser = foveate.load(run)
    assert recogniser.preset is not None
    assert recogniser.preset.decide == SPEC.stopping


def test_it_is_evaluated_deterministically(run: RunSummary, clips: Dataset) -> None:
    """AutoVideo sampled at random in validation, too."""
    first, second = (foveate.evaluate(run, clips, split="val") for _ in range(2))
    for name in ("top1", "calibration-error"):
        assert first.figure(name) == second.figure(name)


def test_it_is_resumed_with_its_own_pipeline(run: RunSummary, clips: Dataset) -> None:
    longer = SPEC.model_copy(update={"training": Supervised(epochs=2, batch=4, workers=0)})
    again = foveate.fit(longer, clips, out=run.folder, resume=True, on_progress=SILENT)
    assert again.epochs == 2
    assert pipelines.find(run.folder) == longer
    assert read_training(run.folder).preset == SPEC.preset()
    other = SPEC.model_copy(update={"transforms": ()})
    with pytest.raises(ConfigError, match="the run was begun with augment="):
        foveate.fit(other, clips, out=run.folder, resume=True, on_progress=SILENT)


def test_without_videos_and_into_another_run(
    run: RunSummary, clips: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no videos to train on"):
        foveate.fit(SPEC, out=tmp_path / "x")
    with pytest.raises(ConfigError, match="there is a run in this folder"):
        foveate.fit(SPEC, clips, out=run.folder, on_progress=SILENT)
    with pytest.raises(ConfigError, match="no such file or name"):
        foveate.fit("no-such-pipeline", clips, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_transforms_that_features_would_not_see_are_refused(clips: Dataset, tmp_path: Path) -> None:
    """AutoVideo computed augmentations and trained on the plain frames."""
    spec = SPEC.model_copy(
        update={"transforms": (Noise(),), "training": Supervised(freeze="backbone")}
    )
    with pytest.raises(ConfigError, match=r"transforms: noise needs frames"):
        foveate.fit(spec, clips, out=tmp_path / "x", on_progress=SILENT)


def test_training_clips_are_transformed_and_others_are_not(clips: Dataset) -> None:
    from foveate.models.spec import InputSpec
    from foveate.train.recipes.supervised import SupervisedConfig
    from foveate.train.videos import VideoClips

    config = pipelines.recipe_of(SPEC.model_copy(update={"transforms": (Flip(p=1.0),)}))[1]
    assert isinstance(config, SupervisedConfig)
    frames = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    source = VideoClips(clips, 2, 0, 0, config.augment)
    spec = InputSpec(8, 5.0, 2)
    still = clips.classes.index("still")
    random = np.random.default_rng(0)
    plain, _ = source.transform(spec, False)(frames, (still,), None)
    flipped, labels = source.transform(spec, True)(frames, (still,), random)
    assert (flipped == plain.flip(-1)).all()
    assert labels == (still,)
    # `left` becomes `right` where it is mirrored.
    left, right = clips.classes.index("left"), clips.classes.index("right")
    assert source.transform(spec, True)(frames, (left,), random)[1] == (right,)


def test_a_look_is_trained_on_and_used() -> None:
    spec = Pipeline(look=MotionPatch(size=16), recogniser=TSN(backbone="test_resnet"))
    config: Any = pipelines.recipe_of(spec)[1]
    assert config.look.size == 16
    assert spec.preset()["look"]["size"] == 16


# Kind → settings of a small network, and the clip that it takes: side and frames.
SMALL: dict[str, tuple[dict[str, Any], int, int]] = {
    "tsn": ({"backbone": "test_resnet"}, 32, 3),
    "tsm": ({"backbone": "test_resnet"}, 32, 3),
    "tubelet": ({"backbone": "test_vit"}, 32, 4),
    "inflated": ({"backbone": "test_resnet"}, 32, 3),
    "i3d": ({"divide": 16}, 32, 9),
    "c3d": ({"width": 4, "hidden": 8, "size": 32}, 32, 16),
    "eco": ({"divide": 16}, 64, 4),
    "r3d": ({"depth": 10, "width": 4}, 32, 8),
    "r2plus1d": ({"depth": 10, "width": 4}, 32, 8),
    "resnet3d-rs": ({"width": 8, "blocks_per_group": 1}, 32, 4),
    "model": ({"name": "movinet-a0", "settings": {"tiny": True}}, 37, 4),
}
# tests/recipes trains the methods; the networks have no small form but by their names (`model`).
ELSEWHERE = {"adafocus", "adamml", "compressed", "detector", "lsts", "movinet", "torchvision"}


def test_every_recogniser_is_trained_somewhere() -> None:
    assert SMALL.keys() | ELSEWHERE == registered("recognisers").keys()


@pytest.mark.parametrize("kind", SMALL)
def test_a_recogniser_fits_two_clips_in_one_step_and_predicts(kind: str, tmp_path: Path) -> None:
    settings, size, frames = SMALL[kind]
    spec = Pipeline(
        sampler={"kind": "uniform", "frames": frames, "rate": 5.0},
        transforms=(Resize(size),),
        recogniser={"kind": kind, **settings},
        training=Supervised(epochs=1, batch=2, workers=0, freeze="none"),
    )
    recipe, config = pipelines.recipe_of(spec)

    def source(split: str, *_: Any) -> Any:
        return (
            TensorBatches(*tiny_motion.movies(2, 1, frames, size), 2) if split == "train" else None
        )

    data: Any = tiny_motion.Clips()
    summary = run_recipe(recipe, config, data, tmp_path / "run", on_progress=SILENT, source=source)
    assert summary.steps == 1
    clip = np.zeros((frames, 48, 64, 3), np.uint8)
    result = foveate.load(summary).predict(clip, fps=5)
    assert {label.label for label in result.labels} == set(tiny_motion.CLASSES)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["input"]["size"] == size
