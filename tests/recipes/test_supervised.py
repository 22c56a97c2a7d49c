"""The supervised recipe learns: motion from scratch, then encoded clips with a frozen network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.models.weights.run import read_run
from foveate.train.kit.batches import TensorBatches
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.run_state import RunSummary
from train import tiny_motion
from train.tiny_motion import config

CLIPS: Any = tiny_motion.Clips(counts={"train": 96, "val": 60})


def top1(summary: RunSummary) -> float:
    return next(value for name, value in summary.figures.items() if name.startswith("top1"))


def learn(folder: Path, source: Any) -> float:
    tiny_motion.enter()
    settings = config(epochs=15, lr=1e-2, batch=16, mixup=0.0, label_smoothing=0.0)
    return top1(
        run_recipe(
            supervised.RECIPE, settings, CLIPS, folder, on_progress=lambda now: None, source=source
        )
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    folder = tmp_path_factory.mktemp("motion") / "run"
    return folder, learn(folder, CLIPS.source(16))


def test_it_learns_which_way_things_move(learned: tuple[Path, float]) -> None:
    assert learned[1] > 0.8


def test_it_cannot_learn_that_from_single_frames(tmp_path: Path) -> None:
    def source(split: str, training: bool, *_: Any) -> Any:
        x, y = tiny_motion.movies(CLIPS.counts[split], seed=1 if training else 2)
        return TensorBatches(x[:, :, :1], y, 16, 0 if training else None)

    assert learn(tmp_path / "run", source) < 0.6


def test_a_frozen_network_learns_encoded_clips_at_once(
    tmp_path: Path, learned: tuple[Path, float]
) -> None:
    data = tiny_motion.on_disk(tmp_path / "clips", {"train": 45, "val": 30})
    settings = config(model=str(learned[0]), freeze="backbone", epochs=60, lr=1e-2, flip=False)
    summary = run_recipe(
        supervised.RECIPE, settings, data, tmp_path / "run", on_progress=lambda now: None
    )
    assert top1(summary) > 0.7
    assert summary.features_seconds > 0
    card = read_run(tmp_path / "run")
    assert card.classes == list(data.classes)
    assert card.digests["train"] == data.digest("train")


def test_every_layer_learns_from_encoded_clips_that_are_flipped(
    tmp_path: Path, learned: tuple[Path, float]
) -> None:
    """Mirror images of `left` are `right`: taught wrongly, they would undo what was learned."""
    data = tiny_motion.on_disk(tmp_path / "clips", {"train": 45, "val": 30})
    settings = config(
        model=str(learned[0]),
        epochs=4,
        lr=2e-3,
        backbone_lr=1.0,
        augment="light",
        flip=True,
        mixup=0.0,
    )
    summary = run_recipe(
        supervised.RECIPE, settings, data, tmp_path / "run", on_progress=lambda now: None
    )
    assert top1(summary) > 0.7
    torch.testing.assert_close(summary.figures["top1@clip,views=1"], top1(summary))
