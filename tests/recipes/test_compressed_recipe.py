"""The recipe from a folder of videos to a cascade that predicts, broken off and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import compressed_accuracy
from typer.testing import CliRunner

import flowing
import forks
import foveate
from foveate import Budget, load
from foveate.app.main import app
from foveate.core import ConfigError, FoveateError, MediaError, ModelError, WeightsError
from foveate.data import DataRequest, open_labelled
from foveate.data.compressed import Reading, keep, middle, view
from foveate.data.splits import held_out
from foveate.engines.functions import functions_of
from foveate.evaluate.run import evaluate
from foveate.media.compressed import CompressedVideo
from foveate.media.encode import Encoding
from foveate.models.coviar import normalise, square
from foveate.models.weights.run import load_run, read_run
from foveate.policy.calibration import Calibration
from foveate.train.recipe import run_recipe
from foveate.train.recipes.compressed import recipe as compressed
from foveate.train.recipes.compressed.config import CompressedConfig

SETTINGS = {
    "iframe": "test_resnet", "mv": "test_resnet", "residual": "test_resnet", "size": 32,
    "epochs": 6, "iframe_epochs": 2, "head_epochs": 12, "exits": 2, "timed": 2, "batch": 8,
    "segments": 2, "lr": 5e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return flowing.folder(tmp_path_factory.mktemp("videos"), 8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def run(videos, cache, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "c"
    config = CompressedConfig(**SETTINGS, cache=str(cache))
    request = DataRequest(videos)
    summary = run_recipe(
        compressed.RECIPE, config, open_labelled(request), folder, origin=request.origin()
    )
    assert summary.outcome == "finished"
    return folder


def calibration_of(run: Path) -> Calibration:
    return Calibration.read(read_run(run).calibration, run.name)


def test_the_cascade_of_a_run_recognises_and_says_where(run, videos) -> None:
    recogniser = load(str(run))
    dataset = open_labelled(DataRequest(videos))
    found = evaluate(recogniser, dataset, None, repeats=20)
    assert found.figure("top1").value > 0.8
    assert sum(found.exits().values()) == found.n
    assert set(found.exits()) <= set(recogniser.executor.parts)
    result = recogniser.predict(next((videos / "up").iterdir()))
    assert result.trace.steps[-1].exit == next(iter(result.exits))
    assert result.cost.stage(f"decode-{recogniser.executor.order[0]}").frames > 0


def test_a_video_network_sees_the_key_frames_as_one_clip(videos, cache, tmp_path) -> None:
    settings = {
        **SETTINGS, "epochs": 1, "iframe_epochs": 1, "head_epochs": 3, "head_views": 1,
        "iframe": "movinet-t0-stream", "drawn": 2, "timed": 1, "cache": str(cache),
    }  # fmt: skip
    dataset = open_labelled(DataRequest(videos))
    run_recipe(compressed.RECIPE, CompressedConfig(**settings), dataset, tmp_path / "c")
    card = calibration_of(tmp_path / "c")
    assert [name for name in card.macs if name.startswith("iframe")] == ["iframe.final"]
    clip = next((videos / "up").iterdir())
    recogniser = load(str(tmp_path / "c"), decide={"name": "calibrated", "threshold": 1.1})
    result = recogniser.predict(clip)
    assert result.exits == {recogniser.executor.parts[-1]: 1}
    assert result.cost.stage("network-iframe").macs == card.macs["iframe.final"]
    # The same answer as the network that was trained, on the key frames in their order.
    first = load(str(tmp_path / "c"), decide={"name": "calibrated", "threshold": 0.0})
    assert next(iter(first.predict(clip).exits)) == first.executor.parts[0]
    frames = dict(CompressedVideo(clip).key_frames([0, 3]))
    x = torch.from_numpy(np.stack([*frames.values()])).permute(0, 3, 1, 2)
    x = normalise("iframe", square(x, 32), (0.0,) * 3, (1.0,) * 3).transpose(0, 1)[None]
    alone = load_run(tmp_path / "c" / "networks" / "iframe").network
    cascade = load_run(tmp_path / "c").networks["iframe"]
    with torch.no_grad():
        assert torch.equal(cascade(x)["final"], alone(x))
        assert not torch.allclose(alone(x), alone(x.flip(2)))
    with pytest.raises(ModelError, match="video network on key frames cannot be exported"):
        functions_of(load_run(tmp_path / "c"))


def test_budgets_and_orders_are_read_off_the_calibration(run, videos) -> None:
    card = calibration_of(run)
    published = card.orders["published"]
    assert published.order == ["residual", "mv", "iframe"]
    macs = [point.macs for point in published.table]
    assert macs == sorted(macs)
    assert all(sum(p.exits) == card.calibrated_on for p in published.table)
    clip = next((videos / "left").iterdir())
    look = {"name": "groups", "order": "published"}
    whole = load(str(run), look=look, budget=Budget(macs_per_answer=macs[-1] * 1.01))
    first = load(str(run), look=look, budget=Budget(macs_per_answer=macs[0]))
    assert whole.predict(clip).exits == {"iframe.final": 1}
    assert first.predict(clip).exits == {published.wise.exits[0]: 1}
    with pytest.raises(ConfigError, match="less than the first exit costs"):
        load(str(run), budget=Budget(macs_per_answer=1.0))
    with pytest.raises(ConfigError, match="say 5GMAC"):
        load(str(run), budget=Budget(frames_per_second=3))
    # Whatever was measured, the cheapest modality comes first.
    seconds = card.stage_seconds
    costs = [
        seconds[f"decode-{m}"] + sum(v for name, v in seconds.items() if name.startswith(f"{m}."))
        for m in card.orders["measured"].order
    ]  # fmt: skip
    assert costs == sorted(costs)


def test_the_tables_of_the_benchmark_in_seconds(run) -> None:
    """The twin of `benchmarks/compressed_accuracy.py`."""
    opened = compressed_accuracy.opened(run, 8)
    figures = compressed_accuracy.measure([opened], [0], ("ce", "pkd"))
    names = [f"{m}.{exit}" for m in ("mv", "residual", "iframe")
             for exit in ("layer2", "layer3", "final")]  # fmt: skip
    for way in ("ce", "pkd"):
        assert list(figures["exits"][way]) == names
        assert figures["exits"][way]["mv.final"] == figures["exits"]["ce"]["mv.final"]
    assert figures["exits"]["ce"]["mv.layer3"]["top1"] > 0.6  # of three classes
    assert figures["test_clips"] == len(opened.parts.kept["test"])
    against = figures["pkd_against"]["ce"]["mv.layer2"]
    assert against["low"] <= against["points"] <= against["high"]
    point = (figures["exits"]["pkd"]["mv.layer2"], figures["exits"]["ce"]["mv.layer2"])
    assert against["points"] == pytest.approx(100 * (point[0]["top1"] - point[1]["top1"]))
    assert "| WISE |" in compressed_accuracy.table(figures)


def test_the_calibration_clips_are_none_that_a_network_learned_from(run, videos) -> None:
    config = CompressedConfig(**SETTINGS)
    dataset = open_labelled(DataRequest(videos))
    dealt = held_out(dataset, "train", config.calibration, "calibration", config.seed)
    train = {r.path for r in dealt.subset("train").records}
    calibration = {r.path for r in dealt.subset("calibration").records}
    assert train | calibration == {r.path for r in dataset.subset("train").records}
    assert not train & calibration
    test = {r.path for r in dataset.subset("test").records}
    assert not (train | calibration) & test
    card = calibration_of(run)
    assert card.calibrated_on == len(calibration)
    networks = json.loads((run / "networks" / "mv" / "run.json").read_text())
    assert networks["digests"]["train"] == dealt.digest("train")


def test_kept_files_hold_what_the_reader_gives(videos, tmp_path) -> None:
    path = next((videos / "down").iterdir())
    clip = keep(path, tmp_path, Reading(side=80, groups=4, places=1))
    video = CompressedVideo(path)
    want = {p.group: p for p in video.vectors({0: [4], 2: [4]})}
    found = view(clip, "mv", [(0, middle(8)), (2, middle(8))])
    for row, number in enumerate((0, 2)):
        cells = torch.from_numpy(want[number].motion).permute(2, 0, 1).clamp(-20, 20)
        torch.testing.assert_close(found[row], cells, rtol=0, atol=10 / 127 + 1e-5)
    residual = next(iter(video.residuals({1: [4]}))).residual
    kept = view(clip, "residual", [(1, middle(8))])[0]
    whole = torch.from_numpy(residual).permute(2, 0, 1).float()
    # What is clipped in the file is what CoViAR clips.
    torch.testing.assert_close(normalise("residual", kept), normalise("residual", whole))
    key = dict(video.key_frames([3]))[3]
    assert np.array_equal(view(clip, "iframe", [(3, 0.0)])[0].permute(1, 2, 0).numpy(), key)
    # A kept file is used again as long as the video stays the same.
    before = clip.pictures.stat().st_mtime_ns
    assert keep(path, tmp_path, Reading(80, 4, 1)).pictures.stat().st_mtime_ns == before


def test_the_command_takes_a_cascade_wherever_it_takes_a_model(run, videos, tmp_path) -> None:
    def call(*words: str | Path) -> Any:
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    clip = next((videos / "left").iterdir())
    told = call("predict", clip, "--model", run, "--order", "published", "--budget", "5GMAC",
                "--json", tmp_path / "r.jsonl", "--report", tmp_path / "r.html")  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "decided at: iframe.final 1" in told.stdout  # five GMAC are enough for everything
    result = json.loads((tmp_path / "r.jsonl").read_text())
    assert result["exits"] == {"iframe.final": 1}
    assert [step["modalities"] for step in result["trace"]["steps"]] == [
        ["residual"], ["mv"], ["iframe"],
    ]  # fmt: skip
    assert "Exits that decided" in (tmp_path / "r.html").read_text()
    assert "name: groups" in call("predict", "--model", run, "--print-config").stdout
    told = call("evaluate", videos, "--model", run, "--split", "val", "--report",
                tmp_path / "e.html", "--json", tmp_path / "e.json")  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "top1@" in told.stdout
    exits = [p["exits"] for p in json.loads((tmp_path / "e.json").read_text())["predictions"]]
    assert all(sum(found.values()) == 1 for found in exits)
    told = call("bench", videos, "--models", run, "--split", "val")
    assert told.exit_code == 0, told.stderr
    told = call("predict", clip, "--model", run, "--budget", "3fps")
    assert told.exit_code == 2
    assert "say 5GMAC or 20ms" in told.stderr


def test_a_run_that_was_killed_goes_on_and_ends_the_same(run, videos, cache, tmp_path) -> None:
    folder, dataset = tmp_path / "c", open_labelled(DataRequest(videos))
    sets = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    child = forks.Script(
        Path(foveate.__file__).with_name("__main__.py"), "train", videos, "--recipe", "compressed",
        "--no-check", "--out", folder, "--set", f"cache={cache}", *sets,
    )  # fmt: skip
    log = folder / "networks" / "residual" / "log.jsonl"  # the second of the three networks
    end = time.monotonic() + 90
    while child.running() and not (log.is_file() and log.stat().st_size > 300):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (folder / "run.json").exists()
    finished = (folder / "networks" / "mv" / "run.json").stat().st_mtime_ns
    config = CompressedConfig(**SETTINGS, cache=str(cache))
    with pytest.raises(ConfigError, match="resume it"):
        run_recipe(compressed.RECIPE, config, dataset, folder)
    with pytest.raises(ConfigError, match="begun with exits=2, not 1"):
        run_recipe(
            compressed.RECIPE, config.model_copy(update={"exits": 1}), dataset, folder, resume=True
        )
    assert run_recipe(compressed.RECIPE, config, dataset, folder, resume=True).outcome == "finished"
    assert (folder / "networks" / "mv" / "run.json").stat().st_mtime_ns == finished
    same, whole = load_run(folder).networks, load_run(run).networks
    for modality, network in whole.items():
        for name, value in network.state_dict().items():
            assert torch.equal(value, same[modality].state_dict()[name]), (modality, name)


def test_codecs_without_vectors_are_refused_before_anything_is_trained(videos, tmp_path) -> None:
    root = flowing.folder(tmp_path / "videos", 1)
    webm = Encoding("libvpx-vp9", {"threads": "1", "deadline": "realtime", "cpu-used": "8"}, 8)
    flowing.film(root / "up" / "9.mp4", "up", 9, encoding=webm)
    dataset = open_labelled(DataRequest(root))
    everything = [record.__class__(r.path, r.labels, split="train") for r in dataset.records
                  for record in [r]]  # fmt: skip
    dataset = dataset.__class__(tuple(everything), dataset.classes, dataset.root)
    with pytest.raises(MediaError, match="vp9 video gives no motion vectors") as caught:
        run_recipe(compressed.RECIPE, CompressedConfig(**SETTINGS), dataset, tmp_path / "run")
    assert caught.value.hint.startswith("foveate data transcode ")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_was_tampered_with_is_refused(run, tmp_path) -> None:
    broken = tmp_path / "c"
    shutil.copytree(run, broken, ignore=shutil.ignore_patterns("networks", "checkpoints"))
    assert load(str(broken)).predict  # what was left out is not needed for use
    text = (broken / "run.json").read_text()
    for old, new, said in (
        ('"default": ', '"default": 9', "run.json: calibration.orders.measured.default: "),
        ('"wise": {', '"wise": {}, "w": {', "run.json: calibration.orders.measured.wise.exits: "),
        ('"modality": "mv"', '"modality": "iframe"', "model.safetensors does not fit: "),
        ('"mv": {\n   "arch"', '"vectors": {\n   "arch"', "model.safetensors does not fit: "),
        ('"arch": "coviar-exits"', '"arch": "tsm"', "run.json: networks.mv: tsm has no setting"),
    ):
        assert old in text, old
        (broken / "run.json").write_text(text.replace(old, new, 1))
        with pytest.raises(FoveateError) as caught:
            load(str(broken))
        assert str(caught.value).startswith(f"c/{said}")
        assert "\n" not in str(caught.value)
    (broken / "run.json").write_text(text)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(FoveateError, match=r"does not match run\.json"):
        load(str(broken))


def test_a_cascade_of_format_1_is_still_loaded(run, videos, tmp_path) -> None:
    """Such runs have their networks and calibration in `cascade.json`."""
    shutil.copy(run / "model.safetensors", tmp_path)
    card = json.loads((run / "run.json").read_text())
    calibration = card.pop("calibration")
    parts = {name: one["settings"] for name, one in card.pop("networks").items()}
    networks = {
        name: {k: v for k, v in settings.items() if k != "modality"}
        for name, settings in parts.items()
    }
    card |= {"format": 1, "arch": "coviar-cascade"}
    card |= {"settings": {name: settings["backbone"] for name, settings in parts.items()}}
    del card["method"]
    cascade = {"format": 1, "sha256": card["sha256"], "networks": networks, **calibration}
    (tmp_path / "run.json").write_text(json.dumps(card))
    (tmp_path / "cascade.json").write_text(json.dumps(cascade))
    assert read_run(tmp_path) == read_run(run)
    clip = next((videos / "left").iterdir())
    old, new = (load(str(folder)).predict(clip) for folder in (tmp_path, run))
    assert [score.score for score in old.labels] == [score.score for score in new.labels]
    assert old.exits == new.exits
    (tmp_path / "cascade.json").write_text(json.dumps({**cascade, "sha256": "0" * 64}))
    with pytest.raises(WeightsError, match=r"cascade\.json: does not match run\.json"):
        load(str(tmp_path))
    (tmp_path / "cascade.json").unlink()
    with pytest.raises(WeightsError, match=r"cascade\.json: cannot be read"):
        load(str(tmp_path))


def test_encoded_films_flow_as_they_say(videos) -> None:
    """The data says what the tests think: accumulated motion has the class's sign."""
    for way, (dx, dy) in flowing.WAYS.items():
        picture = next(iter(CompressedVideo(videos / way / "0.mp4").vectors({0: [4]})))
        inner = picture.motion[2:-2, 2:-2].reshape(-1, 2)
        assert np.median(inner, 0) == pytest.approx([4 * dx, 4 * dy], abs=1)
