"""The recipes `detector` and `lsts`: samples, exact resumption, run folders, evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foveate
from data import labelled
from foveate.app.main import main as command
from foveate.core import ConfigError
from foveate.data import Dataset, open_labelled
from foveate.data.mocap15 import make
from foveate.evaluate import evaluate
from foveate.media import Limits, open_source
from foveate.models.registry import create
from foveate.models.spec import InputSpec
from foveate.models.video_detector import VideoDetector, VideoState
from foveate.models.weights.run import load_run, read_run
from foveate.train import box_clips
from foveate.train.box_clips import BoxClips, targets_of
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.recipe import run_recipe
from foveate.train.recipes import detector, lsts
from foveate.train.recipes.lsts import LSTSConfig, detect_video, gaps

SPEC = InputSpec(32, 25.0, 1, crop="none")
TINY: dict[str, Any] = {
    "detector": "rfcn:resnet18", "detector_settings": {"channels": 16, "anchors": [8, 16]},
    "neck": {"embedding": 8, "count": 4}, "size": 32, "batch": 2, "per_video": 1, "workers": 1,
    "validation_frames": 3, "frame_epochs": 1, "epochs": 2, "interval": 4, "warmup": 0.0,
}  # fmt: skip


def main(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command; its exit code."""
    monkeypatch.setattr("sys.argv", ["foveate", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        command()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five rendered clips: training, test and validation."""
    return make(
        tmp_path_factory.mktemp("boxes") / "m", 4, 3, mode="detection", size=(64, 48),
        degrade=(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def dataset(videos: Path) -> Dataset:
    found = open_labelled(videos)
    assert {"train", "val"} <= set(found.splits)
    return found


@pytest.fixture(scope="module", autouse=True)
def _patient() -> Iterator[None]:
    """A clip that a busy machine does not open in ten seconds would be left out of the training."""
    patient = partial(open_source, limits=Limits(open_seconds=600))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(box_clips, "open_source", patient)
        yield


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the recipe `lsts`."""
    out = tmp_path_factory.mktemp("runs") / "d"
    summary = run_recipe(lsts.RECIPE, LSTSConfig(**TINY), dataset, out, device="cpu")
    assert summary.failures == []
    return out


def losses(folder: Path) -> dict[str, list[float]]:
    """The loss of every step of both stages."""
    logs = {name: folder / name / "log.jsonl" for name in ("frames", ".")}
    rows = {name: map(json.loads, log.read_text().splitlines()) for name, log in logs.items()}
    return {
        name: [r["loss"] for r in every if r["event"] == "step"] for name, every in rows.items()
    }


def test_the_run_folder_is_a_detector_with_its_stage(run: Path, dataset: Dataset) -> None:
    card, first = read_run(run), read_run(run / "frames")
    assert (card.method, card.network.arch) == ("detector", "lsts")
    assert card.preset == {"look": {"name": "key-frames", "every": 4}}
    assert set(card.figures) == {"map@frame", "map50@frame"}
    assert (first.method, first.network.arch) == ("detector", "rfcn:resnet18")
    assert first.classes == card.classes == list(dataset.classes)
    assert foveate.load(run).preset.look.every == 4


def test_training_moves_the_offsets_and_keeps_frozen_norms(run: Path) -> None:
    network, plain = load_run(run).network, load_run(run / "frames").network.state_dict()
    torch.manual_seed(0)
    for name, value in network.detector.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            assert torch.equal(value, plain[name]), name
    assert any(
        not torch.equal(value, plain[name])
        for name, value in network.detector.state_dict().items()
        if name.endswith("weight")
    )


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    run: Path, dataset: Dataset, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(event: Any) -> None:
        if event.stage == "train" and event.epoch == 1:
            raise Stop

    config = LSTSConfig(**TINY)
    with pytest.raises(Stop):
        run_recipe(lsts.RECIPE, config, dataset, tmp_path / "r", on_progress=stop, device="cpu")
    summary = run_recipe(lsts.RECIPE, config, dataset, tmp_path / "r", True, device="cpu")
    assert summary.failures == []
    assert losses(tmp_path / "r") == losses(run)
    want, got = (load_run(one).network.state_dict() for one in (run, tmp_path / "r"))
    assert all(torch.equal(value, got[name]) for name, value in want.items())


def test_evaluation_gives_precision_strata_and_cost_by_part(run: Path, dataset: Dataset) -> None:
    found = evaluate(foveate.load(run), dataset, split="val")
    assert found.figures[0].name == "map50@frame"
    names = {figure.name for figure in found.figures}
    assert "macs-per-call@video,part=nonkey" in names
    assert any(name.startswith("map50@frame,speed=") for name in names)
    key, other = (
        found.figure(f"macs-per-call@video,part={part}").value for part in ("key", "nonkey")
    )
    assert other < key
    calls = [found.figure(f"calls-per-frame@video,part={p}").value for p in ("key", "nonkey")]
    assert sum(calls) == pytest.approx(1.0)
    assert [one.label for one in found.classes] == list(dataset.classes)


def test_the_command_evaluates(
    run: Path, videos: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "e.json"
    page = tmp_path / "e.html"
    options = ["--split", "val", "--model", run, "--json", out, "--report", page, "--threads", 1]
    assert main(monkeypatch, "evaluate", videos, *options) == 0
    assert "Computed per frame" in page.read_text("utf-8")
    assert capsys.readouterr().out.startswith("val mAP50 ")
    assert json.loads(out.read_text())["n"] == 1


def test_bench_counts_by_frame(run: Path, dataset: Dataset) -> None:
    key, other = foveate.load(run, look={"every": 1}), foveate.load(run, look={"every": 5})
    table = foveate.bench({"every frame": key, "every 5": other}, dataset, split="val")
    every, some = table.rows
    assert table.unit == "frame"
    assert every.accuracy is not None
    assert every.accuracy.name == "map50@frame"
    assert (every.macs.value or 0) > (some.macs.value or 0) > 0
    assert every.parts_ms["network"] > 0
    assert "MACs/frame" in table.markdown()
    assert "executed MACs per frame" in table.svg()


def test_what_does_not_fit_detectors_is_refused(
    run: Path, videos: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(monkeypatch, "evaluate", videos, "--model", run, "--controls") == 2
    assert "--controls: for classes of clips" in capsys.readouterr().err
    options = ["--recipe", "lsts", "--set", "detector=fastestdet", "--out", tmp_path / "r"]
    assert main(monkeypatch, "train", videos, *options) == 2
    assert "fastestdet cannot be trained here" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_clips_without_boxes_are_refused(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/x.mp4", "b/y.mp4", "a/z.mp4", "b/w.mp4", "a/u.mp4", "b/v.mp4"):
        labelled.put(tmp_path / name, name.encode())
    options = ["--recipe", "lsts", "--out", tmp_path / "r"]
    assert main(monkeypatch, "train", tmp_path, *options) == 2
    assert "the clips have no boxes" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_model_of_another_kind_is_refused(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    config = LSTSConfig(**TINY | {"model": str(run)})
    with pytest.raises(ConfigError, match="is no detector of single frames"):
        run_recipe(lsts.RECIPE, config, dataset, tmp_path / "r", device="cpu")
    with pytest.raises(ConfigError, match="detector=tsn:resnet18: is no detector"):
        run_recipe(
            detector.RECIPE, detector.DetectorConfig(detector="tsn:resnet18", size=32), dataset,
            tmp_path / "r", device="cpu",
        )  # fmt: skip


# --- samples ------------------------------------------------------------------------------


def test_triples_are_of_the_published_ranges() -> None:
    random = np.random.default_rng(0)
    online = np.array([gaps(10, False, random) for _ in range(2000)])
    assert (online.min(0) == [-15, -10]).all()
    assert (online.max(0) == [-11, -1]).all()
    offline = np.array([gaps(10, True, random) for _ in range(2000)])
    assert (offline.min(0) == [-10, -5]).all()
    assert (offline.max(0) == [-6, 4]).all()


def test_boxes_follow_their_frames(dataset: Dataset) -> None:
    clips = BoxClips(dataset, 2, 0, workers=1, per_video=2, gaps=partial(gaps, 4, False))
    source = clips("train", True, SPEC, ProcessGroup())
    batches = list(source.batches(0))
    assert len(batches) == len(source)
    for batch in batches:
        assert batch["x"].shape[1:3] == (3, 3)
        assert batch["x"].shape[3:] == (32, 43)
        assert batch["y"][:, :, 0].tolist() == [[[32, 43, 1, 0, 0]] * 3] * len(batch["x"])
        for row in batch["y"][:, -1]:
            (target,), _ = targets_of(row[None])
            assert len(target["boxes"])
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
            assert target["boxes"].max() <= 43
    again = next(iter(source.batches(0, 1)))
    assert torch.equal(again["x"], batches[1]["x"])
    assert torch.equal(again["y"], batches[1]["y"])
    other = next(iter(source.batches(1)))
    assert not torch.equal(other["index"], batches[0]["index"]) or not torch.equal(
        other["x"], batches[0]["x"]
    )


def test_a_mirrored_frame_has_mirrored_boxes(dataset: Dataset) -> None:
    shared = {"batch": 8, "seed": 0, "workers": 1, "per_video": 4}
    plain, mirrored = (
        next(iter(BoxClips(dataset, flip=flip, **shared)("train", True, SPEC, ProcessGroup())
                  .batches(0)))
        for flip in (False, True)
    )  # fmt: skip
    seen = set()
    for at in range(len(plain["x"])):
        same = torch.equal(plain["x"][at], mirrored["x"][at])
        seen.add(same)
        ours, theirs = (targets_of(b["y"][at])[0][0]["boxes"] for b in (plain, mirrored))
        if not same:
            assert torch.equal(mirrored["x"][at].flip(-1), plain["x"][at])
            ours = torch.stack([43 - ours[:, 2], ours[:, 1], 43 - ours[:, 0], ours[:, 3]], 1)
        assert torch.allclose(ours, theirs)
    assert seen == {True, False}


def test_too_many_unreadable_videos_are_one_error(dataset: Dataset, tmp_path: Path) -> None:
    from dataclasses import replace

    gone = replace(
        dataset, records=tuple(replace(r, path=tmp_path / r.path.name) for r in dataset.records)
    )
    source = BoxClips(gone, 2, 0, workers=1)("train", True, SPEC, ProcessGroup())
    with pytest.raises(foveate.data.DataError, match="videos cannot be read; the first is"):
        list(source.batches(0))


# --- validation is what prediction does ---------------------------------------------------


def network() -> VideoDetector:
    torch.manual_seed(0)
    settings = {"detector": TINY["detector"], "detector_settings": TINY["detector_settings"]}
    return create("lsts", num_classes=4, **settings, **TINY["neck"]).eval()


@torch.no_grad()
def test_interval_one_is_every_frame_with_updates_and_videos_do_not_mix() -> None:
    model = network()
    frames = [
        torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(i)) for i in range(3)
    ]
    alone = detect_video(1, model, iter(frames))
    state, want = VideoState(), []
    for frame in frames:
        features, state = model.key(frame, state)
        want += model.detect(features, [(32, 48)])
    plain = model(frames[0])[0]
    for got, one in ((alone[0], plain), *zip(alone, want, strict=True)):
        assert torch.equal(got["boxes"], one["boxes"])
    detect_video(2, model, iter(frames[::-1]))
    again = detect_video(1, model, iter(frames))
    assert all(torch.equal(a["scores"], b["scores"]) for a, b in zip(alone, again, strict=True))


def test_proposals_at_the_border_pool_something() -> None:
    """torchvision's pooling leaves out the last row and column, where scores would all be equal."""
    model = network().detector
    pool = model.model.roi_heads.box_roi_pool
    maps = {"0": torch.rand(1, 16, 2, 3)}
    corner = [torch.tensor([[40.0, 24.0, 48.0, 32.0], [47.9, 31.9, 48.0, 32.0]])]
    with torch.no_grad():
        scores = pool(maps, corner, [(32, 48)])[:, :5]
    assert (scores.std(1) > 0).all()
