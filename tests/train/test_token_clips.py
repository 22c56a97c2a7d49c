"""Trainings on patch tokens: the tokens of prediction, mirrored with their frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clips
import foveate
from foveate.core import ConfigError
from foveate.data import Dataset, read
from foveate.data.prepare import to_float
from foveate.models.spec import InputSpec
from foveate.policy.looks.tokens import MotionTokensSpec
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.policy_clips import PolicyClips
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from train import tiny_motion

SPEC = InputSpec(size=64, frames_per_second=5.0, clip_frames=4)
ALONE = ProcessGroup(0, 1, torch.device("cpu"))
LOOK = {"name": "motion-tokens", "keep": 0.25, "source": "flow"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Clips of .8 s in which a square moves to the right, in two classes."""
    root = tmp_path_factory.mktemp("tokens")
    for split in ("train", "val"):
        for i in range(2):
            path = root / split / ("one", "two")[i % 2] / f"{i}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(clips.encode(frames=20, size=(96, 64), gop=10))
    return read(root)


def source(data: Dataset, augment: Any = "none", **more: Any) -> PolicyClips:
    look = MotionTokensSpec(**{**LOOK, **more})
    return PolicyClips(
        data, batch=2, seed=0, workers=0, augment=augment, look=look, patch=(1, 16, 16)
    )


def first_clips(made: Any) -> torch.Tensor:
    x: torch.Tensor = next(iter(made.batches(0)))["x"]
    return x


def go(data: Dataset, folder: Path, **more: Any) -> Any:
    config = tiny_motion.config(
        **{
            "model": "tsn:test_vit", "size": 64, "frames": 4, "epochs": 1, "batch": 2,
            "look": LOOK, "mixup": 0.0, **more,
        }
    )  # fmt: skip
    return run_recipe(supervised.RECIPE, config, data, folder, on_progress=lambda now: None)


def test_training_computes_the_tokens_of_prediction(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(data, tmp_path / "run")
    recogniser = foveate.load(str(tmp_path / "run"), cut_threshold=1.0, unknown=False)
    assert recogniser.preset.look.name == "motion-tokens"
    seen: list[torch.Tensor] = []
    real = recogniser.executor.module.features
    monkeypatch.setattr(
        recogniser.executor.module, "features", lambda x: (seen.append(x.clone()), real(x))[1]
    )
    trained = first_clips(source(data)("val", False, SPEC, ALONE))
    assert trained.shape == (2, 4, 4, 64, 64)
    for clip, record in zip(trained, data.subset("val").records, strict=True):
        seen.clear()
        recogniser.predict(record.path)
        (shown,) = seen
        torch.testing.assert_close(to_float(clip[None]), shown, rtol=0, atol=0)
        assert shown[0, 3].sum((1, 2)).tolist() == [4 * 256] * 4


def test_tokens_are_mirrored_with_their_frames(data: Dataset) -> None:
    from foveate.primitives.augment import Flip

    plain = first_clips(source(data, "none")("train", True, SPEC, ALONE))
    flipped = first_clips(source(data, (Flip(p=1.0),))("train", True, SPEC, ALONE))
    assert torch.equal(flipped, plain.flip(-1))
    assert set(plain[:, 3].unique().tolist()) == {0, 255}


def test_random_tokens_are_drawn_anew(data: Dataset) -> None:
    made = source(data, order="random")("train", True, SPEC, ALONE)
    one, other, again = (
        torch.cat([batch["x"] for batch in made.batches(epoch)]) for epoch in (0, 1, 0)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one[:, 3], other[:, 3])


def test_the_mask_is_only_scaled() -> None:
    x = torch.full((1, 4, 1, 2, 2), 255, dtype=torch.uint8)
    found = to_float(x, (0.5, 0.5, 0.25), (0.5, 0.5, 0.25))
    assert found[0, :, 0, 0, 0].tolist() == [1.0, 1.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mixup": 0.2}, "different tokens"),
        ({"augment": "strong"}, "chosen before it, and only mirrored"),
        ({"model": "tsn:test_resnet"}, "has no patch tokens"),
    ],
)
def test_what_cannot_be_trained_on_tokens(data: Dataset, tmp_path: Path, changes, says) -> None:
    with pytest.raises(ConfigError, match=says):
        go(data, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_features_of_a_frozen_network_are_those_of_the_tokens(data: Dataset) -> None:
    from foveate.models.registry import create
    from foveate.train.features import compute

    torch.manual_seed(0)
    network: Any = create("tsn:test_vit", num_classes=2)
    batches = source(data)("val", False, SPEC, ALONE)
    assert batches is not None
    found = compute(network, batches, to_float, mirror=True)
    clip = to_float(first_clips(source(data)("val", False, SPEC, ALONE)))
    with torch.no_grad():
        wanted = network.eval().features(clip).mean(1)
    np.testing.assert_allclose(found.x[:, 0], wanted, atol=1e-5)
