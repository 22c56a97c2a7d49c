"""Batches of clips as recipes ask for them, and what a training starts from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.core import ConfigError, ModelError
from foveate.data import DataError, Dataset
from foveate.data.prepare import Centre
from foveate.models.spec import InputSpec
from foveate.primitives.augment import describe, mirrors
from foveate.train import videos
from foveate.train.initial_model import build_initial_model, set_trainable
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from train import tiny_motion

SPEC = InputSpec(16, 5.0, 6)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_motion.on_disk(tmp_path_factory.mktemp("clips"), {"train": 10, "val": 5})


def source(data: Dataset, **more: Any) -> videos.Source:
    return videos.VideoClips(data, **{"batch": 4, "seed": 0, "workers": 0, **more})


def indices(batches: Any, epoch: int, start: int = 0) -> list[list[int]]:
    return [batch["index"].tolist() for batch in batches.batches(epoch, start)]


def test_training_is_drawn_and_evaluation_is_fixed(data: Dataset) -> None:
    training = source(data)("train", True, SPEC, ProcessGroup())
    held_out = source(data)("val", False, SPEC, ProcessGroup())
    assert training is not None
    assert held_out is not None
    assert len(training) == 3
    assert indices(training, 0) != indices(training, 1)
    assert indices(training, 1, 2) == indices(training, 1)[2:]
    assert indices(training, 0, 3) == []
    assert indices(held_out, 0) == [[0, 1, 2, 3], [4]]
    batch = next(iter(training.batches(0)))
    assert (batch["x"].shape, batch["x"].dtype) == ((4, 3, 6, 16, 16), torch.uint8)


def test_processes_share_training_and_the_leader_validates(data: Dataset) -> None:
    parts = [source(data)("train", True, SPEC, ProcessGroup(rank, 2)) for rank in (0, 1)]
    steps = zip(*(indices(part, 0) for part in parts), strict=True)
    assert sorted(i for step in steps for part in step for i in part) == list(range(10))
    whole = source(data)("val", False, SPEC, ProcessGroup(1, 2))
    assert indices(whole, 0) == [[0, 1, 2, 3], [4]]


def test_a_split_without_clips_has_no_batches(data: Dataset) -> None:
    assert source(data)("test", False, SPEC, ProcessGroup()) is None


def test_strengths(data: Dataset) -> None:
    assert videos.VideoClips(data, 4, 0, 0, "none").transform(SPEC, True) == Centre(16)
    made = partial(videos.transform_of, size=16, classes=("left", "right", "still"))
    light, strong = made("light", flip=True), made("strong", flip=True)
    assert light.mirror == (1, 0, 2)
    assert describe(light.transforms) == "random-resized-crop(size=16), flip"
    assert describe(strong.transforms) == (
        "random-resized-crop(size=16, scale=0.25), flip, colour-jitter(strength=0.3), "
        "rand-augment(operations=1, magnitude=7)"
    )
    assert not mirrors(made("light", flip=False).transforms)
    assert describe(made("full", flip=True, crop=False).transforms) == "flip, rand-augment"


def test_frames_are_as_many_as_fit(data: Dataset) -> None:
    # Clips of 1.6 s at 5 frames/s.
    assert videos.fitting_frames(data, "train", InputSpec(16, 5.0, 6)) == 6
    assert videos.fitting_frames(data, "train", InputSpec(16, 5.0, 50)) == 8
    assert videos.fitting_frames(data, "nothing", InputSpec(16, 5.0, 50)) == 50


class Fatal(Centre):
    """Takes its process down."""

    def __call__(self, frames, labels, random=None):  # type: ignore[no-untyped-def]
        import os

        os._exit(1)


@pytest.mark.parametrize("freeze", ["none", "backbone"])
def test_a_dying_loading_process_is_one_line(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freeze: str
) -> None:
    tiny_motion.enter()
    monkeypatch.setattr(videos, "transform_of", lambda *_, **__: Fatal(16))
    monkeypatch.setattr(Centre, "of", classmethod(lambda cls, spec: Fatal(16)))
    settings = tiny_motion.config(workers=1, freeze=freeze, epochs=1)
    with pytest.raises(DataError, match="a loading process died"):
        run_recipe(
            supervised.RECIPE, settings, data, tmp_path / "run", on_progress=lambda now: None
        )


# --- what a training starts from ----------------------------------------------------------


def test_random_weights_need_to_be_told_what_they_see() -> None:
    tiny_motion.enter()
    with pytest.raises(ConfigError, match="set size, frames and rate"):
        build_initial_model(tiny_motion.ARCH, ("a", "b"), {})
    start = build_initial_model(
        tiny_motion.ARCH, ("a", "b"), {"dropout": 0.0}, size=16, frames=6, rate=5.0
    )
    assert (start.name, start.input.clip_frames, start.settings) == (None, 6, {"dropout": 0.0})
    assert start.model(torch.zeros(1, 3, 6, 16, 16)).shape == (1, 2)


def test_an_unknown_architecture_or_setting() -> None:
    with pytest.raises(ModelError):
        build_initial_model("no-such-network", ("a",), {})
    with pytest.raises(ModelError, match="no setting"):
        build_initial_model(tiny_motion.ARCH, ("a",), {"drop": 0.1}, size=16, frames=6, rate=5.0)


def test_freezing_leaves_the_head() -> None:
    model = tiny_motion._build()
    backbone = set_trainable(model, "backbone")
    learns = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learns.isdisjoint(backbone)
    assert learns == {n for n, _ in model.named_parameters() if n.startswith("classifier")}
    set_trainable(model, "none")
    assert all(p.requires_grad for p in model.parameters())
