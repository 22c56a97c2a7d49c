"""Training of MoViNets: a stream starts from a network of whole clips; temporal ensembles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import foveate
from foveate.core import ConfigError
from foveate.models.movinet import INPUTS, stream_from_base
from foveate.models.registry import create
from foveate.models.weights.run import load_run, read_run
from foveate.train.initial_model import build_initial_model
from train import tiny_motion

SETTINGS: dict[str, Any] = {
    "size": 32, "frames": 8, "rate": 5.0, "batch": 8, "epochs": 1, "workers": 0,
    "on_progress": lambda event: None,
}  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("motion") / "clips"
    tiny_motion.on_disk(folder, {"train": 12, "val": 6})
    return folder


@pytest.fixture(scope="module")
def base(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network of whole clips."""
    out = tmp_path_factory.mktemp("base") / "run"
    foveate.train(videos, out=out, model="movinet-a0", settings={"tiny": True}, **SETTINGS)
    return out


def test_a_stream_starts_from_a_network_of_whole_clips(
    videos: Path, base: Path, tmp_path: Path
) -> None:
    classes = read_run(base).classes
    start = build_initial_model(
        "movinet-a0-stream", tuple(classes), {"tiny": True}, initial=str(base)
    )
    assert start.input == read_run(base).input.spec()
    want = stream_from_base(
        load_run(base).network, create("movinet-a0-stream", num_classes=3, tiny=True)
    ).state_dict()
    for name, value in start.model.state_dict().items():
        torch.testing.assert_close(value, want[name], msg=name)
    # Of other classes, the classifier starts anew and everything else does not.
    other = build_initial_model(
        "movinet-a0-stream", ("a", "b", "c"), {"tiny": True}, initial=str(base)
    ).model.state_dict()
    assert not torch.equal(other["classifier.weight"], want["classifier.weight"])
    assert torch.equal(other["stem.weight"], want["stem.weight"])
    run = foveate.train(
        videos, out=tmp_path / "run", model="movinet-a0-stream", initial=str(base),
        **SETTINGS | {"settings": {"tiny": True}},
    )  # fmt: skip
    assert run.card.started_from == "an earlier run"
    assert len(list(foveate.load(run).stream(next(videos.rglob("*.mp4"))))) > 1


@pytest.mark.parametrize(
    ("model", "initial", "says"),
    [
        ("movinet-a1-stream", None, "movinet-a1-stream cannot start from"),
        ("movinet-a0", None, "movinet-a0 cannot start from"),
        ("movinet-a0-stream", "nowhere", "nowhere: no run folder"),
    ],
)
def test_only_the_stream_of_the_same_name_starts_from_it(model, initial, says, base: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        build_initial_model(model, ("a",), {}, initial=initial or str(base))


def test_inputs_are_known_without_weights() -> None:
    for name, spec in INPUTS.items():
        for kind in ("", "-stream"):
            start = build_initial_model(f"movinet-{name}{kind}", ("a", "b"), {"tiny": True})
            assert start.input == spec
    small = build_initial_model("movinet-a0", ("a", "b"), {"tiny": True}, size=86).input
    assert (small.size, small.resize_to) == (86, 96)  # the crop keeps its share of the frame


def test_an_ensemble_is_trained_joined_and_used(videos: Path, tmp_path: Path) -> None:
    run = foveate.train(
        videos, out=tmp_path / "run", model="movinet-a0-stream", recipe="ensemble",
        settings={"tiny": True}, **SETTINGS,
    )  # fmt: skip
    even, odd = (read_run(run.folder / name) for name in ("even", "odd"))
    assert (even.input.frames_per_second, even.input.clip_frames) == (2.5, 4)
    assert [one.configuration["seed"] for one in (even, odd)] == [0, 1]
    assert (run.card.method, list(run.card.networks)) == ("ensemble", ["even", "odd"])
    assert (run.card.input.frames_per_second, run.card.input.clip_frames) == (5.0, 8)
    assert run.figures
    assert "val" in run.card.protocol
    recogniser = foveate.load(run)
    clip = next(videos.rglob("*.mp4"))
    whole, steps = recogniser.predict(clip), list(recogniser.stream(clip))
    assert steps[-1].labels[0].score == pytest.approx(whole.labels[0].score, rel=1e-3)
    assert len(steps) == len([t for s in whole.trace.steps for t in s.frames])

    joined = foveate.train(
        videos, out=tmp_path / "joined", recipe="ensemble",
        members=(str(run.folder / "even"), str(run.folder / "odd")), **SETTINGS,
    )  # fmt: skip
    assert joined.epochs == 0
    assert foveate.load(joined).predict(clip).labels == whole.labels
    with pytest.raises(ConfigError, match="members"):
        foveate.train(
            videos, out=tmp_path / "one", recipe="ensemble", members=(str(run.folder / "even"),),
            **SETTINGS,
        )  # fmt: skip
