"""The recipe adamml on a small set whose classes are seen in some segments and heard in others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from benchmarks import adamml as benchmark
from typer.testing import CliRunner

import sounding
from foveate import load
from foveate.app.main import app
from foveate.core import ConfigError, FoveateError, WeightsError
from foveate.core.config import build
from foveate.data import DataRequest, open_labelled
from foveate.models import registry
from foveate.models.adamml import selection_loss
from foveate.models.weights.run import load_run, read_run
from foveate.models.yamnet import YAMNet
from foveate.train import presets
from foveate.train.kit.checkpoint import Checkpoints
from foveate.train.recipe import run_recipe
from foveate.train.recipes.adamml import clips, recipe, stages
from foveate.train.recipes.adamml.config import AdaMMLConfig

SETTINGS: dict[str, Any] = {
    "visual": "test_resnet", "audio": "test_efficientnet", "policy": "test_efficientnet",
    "policy_audio": "test_efficientnet", "size": 32, "policy_size": 32, "columns": 32,
    "frames": 2, "seconds": sounding.SEGMENT, "segments": 3, "epochs": 8, "visual_epochs": 6,
    "policy_epochs": 0, "warmup_epochs": 1, "hidden": 32, "state": 16, "joint": "policy",
    "joint_epochs": 20, "tune_epochs": 0, "temperature": 1.0, "batch": 8, "lr": 5e-3,
    "policy_lr": 1e-2, "lambdas": (0.05,), "costs": "published", "flip": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return sounding.folder(tmp_path_factory.mktemp("sounding"), 8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("segments")


@pytest.fixture(scope="module")
def run(videos, cache, tmp_path_factory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "m"
    request = DataRequest(videos)
    config = AdaMMLConfig(**SETTINGS, cache=str(cache))
    summary = run_recipe(
        recipe.RECIPE, config, open_labelled(request), folder, origin=request.origin()
    )
    assert summary.outcome == "finished"
    assert summary.figures == read_run(folder).figures
    return folder


def test_the_policy_learns_which_modality_matters(run, videos) -> None:
    """It uses what shows the class, spares what does not, and beats a random choice."""
    test = open_labelled(DataRequest(videos)).subset("test")
    results = benchmark.results_of(run, {}, test)
    way = benchmark.way_of(results, test, ("rgb", "sound"))
    assert way.right.mean() >= 0.85
    seen = [int(one.path.stem) % 2 == 0 for one in test.records]  # the others are heard
    rgb, sound = (np.array([use[:, at].mean() for use in way.used]) for at in (0, 1))
    assert rgb[seen].mean() > rgb[np.invert(seen)].mean() + 0.2
    assert sound[np.invert(seen)].mean() > 0.6
    known = benchmark.answers_of(run, "point-0", test, run / "more")
    network, answers = known.network, known.logits
    assert all(map(np.array_equal, known.use, way.used))
    labels = torch.tensor([test.indices(one)[0] for one in test.records])
    # The answers without skipping, fused by the decisions, are those of the loop.
    assert benchmark.fused(network, answers, way.used, labels).tolist() == way.right.tolist()
    each = np.array([2.0, 1.0])
    cost = float(benchmark.macs_by(way.used, each).sum() / sum(map(len, way.used)))
    rates = benchmark.rates_for(cost, np.concatenate(way.used).mean(0), each)
    assert (rates * each).sum() == pytest.approx(cost, rel=1e-3)
    drawn = benchmark.random_way(network, answers, labels, rates, each)
    assert way.right.mean() > drawn.right.mean()


def test_the_command_takes_the_run_wherever_it_takes_a_model(run, videos, tmp_path) -> None:
    def call(*words: str | Path) -> Any:
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    clip = next((videos / "test" / "low").iterdir())
    told = call("predict", clip, "--model", run, "--json", tmp_path / "r.jsonl", "--report",
                tmp_path / "why.html", "--budget", "5GMAC")  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "used: policy 3" in told.stdout
    page = (tmp_path / "why.html").read_text("utf-8")
    assert "Modalities over time: policy 3" in page
    assert ">sound</text>" in page
    steps = json.loads((tmp_path / "r.jsonl").read_text())["trace"]["steps"]
    assert steps[0]["part"] == "policy"
    assert set(steps[0]["proposals"]) == {"segments", "rgb", "sound"}
    told = call("explain", clip, "--model", run, "--report", tmp_path / "explained.html")
    assert told.exit_code == 0, told.stderr
    assert "used: policy 3" in told.stdout
    assert "Modalities over time" in (tmp_path / "explained.html").read_text("utf-8")
    assert call("explain", clip, "--model", run, "--video", tmp_path / "v.mp4").exit_code == 2
    told = call("predict", clip, "--model", run, "--budget", "0.001ms")
    assert told.exit_code == 2
    assert "cheapest operating point" in told.stderr
    told = call("bench", videos, "--models", run, "--split", "test")
    assert told.exit_code == 0, told.stderr
    assert str(run) in told.stdout
    line = call("train", videos, "--recipe", "adamml", "--out", tmp_path / "x", "--set",
                   "modalities=[rgb,sund]").stderr  # fmt: skip
    assert "modalities: 'sund' is not one of rgb" in line
    assert "did you mean 'sound'?" in line
    assert not (tmp_path / "x").exists()


def test_operating_points_and_costs_are_in_the_run_folder(run) -> None:
    card = read_run(run)
    curve = card.calibration
    assert card.method == "adamml"
    assert curve["costs"] == {"rgb": 1.0, "sound": 0.05}
    assert curve["calibrated_on"] == 8
    (point,) = curve["points"]
    assert point["accuracy"] == next(iter(card.figures.values()))
    everything = load(run, look={"name": "modalities", "use": "all"})
    assert everything.plan.look.fixed == ("rgb", "sound")


ALTERNATING = {
    **SETTINGS, "modalities": ("rgb", "mv"), "costs": "measured", "timed": 1, "epochs": 1,
    "visual_epochs": 1, "policy_epochs": 0, "warmup_epochs": 0, "joint": "alternate",
    "joint_epochs": 2, "lambdas": (0.5,), "milestones": (0.5,),
}  # fmt: skip


def test_a_run_that_was_interrupted_ends_the_same(videos, cache, tmp_path, monkeypatch) -> None:
    """Also: rates fall at the milestones, and frozen networks keep their statistics."""
    dataset, config = (
        open_labelled(DataRequest(videos)),
        AdaMMLConfig(**ALTERNATING, cache=str(cache)),
    )
    few = replace(dataset, records=tuple(r for n, r in enumerate(dataset.records) if n % 4 == 0))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    moved: list[tuple[str, bool]] = []
    begin, save = stages._begin_pass, stages._save
    before: dict[str, Any] = {}

    def begun(model: Any, one: Any, parameters: Any) -> None:
        noted()
        begin(model, one, parameters)
        before.update(name=one.name, model=model, state=buffers(getattr(model, "nets", model)))

    def noted() -> None:
        if before:
            same = buffers(getattr(before["model"], "nets", before["model"])) == before["state"]
            moved.append((before["name"], not same))
            before.clear()

    monkeypatch.setattr(stages, "_begin_pass", begun)
    # Measured costs differ from run to run.
    monkeypatch.setattr(recipe, "_costs", lambda *_: {"rgb": 1.0, "mv": 0.2})
    run_recipe(recipe.RECIPE, config, few, whole)
    noted()
    assert {name for name, changed in moved if changed} == {"rgb", "mv", "networks"}
    assert [changed for name, changed in moved if name == "policy"] == [False] * 2
    monkeypatch.setattr(stages, "_begin_pass", begin)
    saves = []

    def stops(*arguments: Any) -> None:
        save(*arguments)
        saves.append(1)
        if len(saves) == 3:  # within the alternating epochs of the first operating point
            raise KeyboardInterrupt

    monkeypatch.setattr(stages, "_save", stops)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe.RECIPE, config, few, broken)
    monkeypatch.setattr(stages, "_save", save)
    run_recipe(recipe.RECIPE, config, few, broken, resume=True)
    assert read_run(broken).sha256 == read_run(whole).sha256
    networks = load_run(whole).networks
    assert list(networks) == ["point-0"]
    log = [
        json.loads(line) for line in (whole / "stages/joint-0/log.jsonl").read_text().splitlines()
    ]
    assert [row["event"] for row in log] == ["networks", "policy"] * 2
    assert [row["lr"] for row in log] == pytest.approx([1e-3, 1e-2, 1e-4, 1e-3])


def buffers(module: torch.nn.Module) -> list[float]:
    return [float(value.double().sum()) for value in module.buffers()]


def test_one_modality_alone_needs_no_policy(videos, cache, tmp_path) -> None:
    settings = {**ALTERNATING, "modalities": ("rgb",), "lambdas": ()}
    config = AdaMMLConfig(**settings, cache=str(cache))
    run_recipe(recipe.RECIPE, config, open_labelled(DataRequest(videos)), tmp_path / "rgb")
    recogniser = load(tmp_path / "rgb")
    assert recogniser.plan.look.fixed == ("rgb",)
    assert recogniser.plan.look.parts == ("rgb",)
    assert read_run(tmp_path / "rgb").calibration["costs"] == {"rgb": 1.0}  # measured


def test_the_last_layers_of_the_policy_can_be_trained_alone(videos, cache, tmp_path) -> None:
    """On what is computed once, after its backbones were trained on the labels."""
    layers = {"joint": "policy-layers", "policy_epochs": 1, "lambdas": (0.0,), "held_out": 0.4}
    config = AdaMMLConfig(**{**ALTERNATING, **layers, "cache": str(cache)})
    run_recipe(recipe.RECIPE, config, open_labelled(DataRequest(videos)), tmp_path / "m")
    log = [json.loads(line) for line in (tmp_path / "m/stages/joint-0/log.jsonl").open()]
    assert [row["event"] for row in log] == ["policy"] * 2
    policy = Checkpoints(tmp_path / "m/stages/only-policy-rgb").latest()
    assert policy is not None
    name = "net.conv_stem.weight"
    kept = load_run(tmp_path / "m").networks["point-0"].state_dict()[f"policy.nets.0.{name}"]
    assert torch.equal(policy.tensors[f"model/net.{name}"], kept)


def test_motion_patches_with_an_early_exit_are_trained_and_executed(
    videos, cache, tmp_path
) -> None:
    settings = {
        **ALTERNATING, "modalities": ("patch", "sound"), "patch_size": 16, "exit": "layer2",
        "exit_epochs": 1, "joint": "policy-layers", "lambdas": (0.0,), "flip": True,
    }  # fmt: skip
    config = AdaMMLConfig(**{**settings, "cache": str(cache)})
    run_recipe(recipe.RECIPE, config, open_labelled(DataRequest(videos)), tmp_path / "m")
    card = read_run(tmp_path / "m").calibration
    assert card["seen"] == ["rgb", "sound"]
    assert card["patch_size"] == 16
    assert 0 < card["exit"] <= 1
    clip = videos / "test" / "low" / "0.mp4"
    use = {"name": "modalities", "use": "all"}
    whole, early = (load(tmp_path / "m", look={**use, "exit": sure}) for sure in (1.0, 0.0))
    macs = whole.executor.segment_macs()
    result = whole.predict(clip)
    assert result.cost.stage("network-patch-rest").macs == 3 * macs["patch-rest"]
    assert not early.predict(clip).cost.stage("network-patch-rest").calls
    dataset = open_labelled(DataRequest(videos)).subset("test")
    how = recipe.reading_of(config, recipe.build_model(config, 2))
    arrays = clips.read_segments(dataset.records[0], how)
    assert arrays["patch"].shape == (3, 2, 16, 16, 3)
    assert arrays["rgb"].shape[:2] == (3, 1)  # the policy sees every second frame


def test_the_exit_leaves_where_it_agrees_with_the_network() -> None:
    class Net:
        def begin(self, x: Any) -> Any:
            return x, torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]])

        def finish(self, maps: Any) -> Any:
            return torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

    shown = SimpleNamespace(x={"rgb": torch.zeros(3)}, valid={"rgb": torch.ones(3)})
    batches: Any = SimpleNamespace(kept=[0], whole=lambda row, names: shown)
    found = stages.exit_threshold("rgb", Net(), batches)
    assert found == pytest.approx(float(torch.tensor([0.0, 2.0]).softmax(0)[1]))


@pytest.mark.parametrize("name", [one for one in presets.names() if one.startswith("adamml")])
def test_presets_can_be_built(name) -> None:
    path = presets.find(name)
    assert path is not None
    config = build(AdaMMLConfig, yaml.safe_load(path.read_text("utf-8")), name)
    with torch.device("meta"):
        network = registry.create("adamml", num_classes=3, **recipe.settings_of(config))
    assert network.modalities == config.modalities


def test_a_video_network_starts_from_its_weights(monkeypatch) -> None:
    settings = {"modalities": ("rgb", "mv", "sound"), "visual": "movinet-a0-stream-lite.k600"}
    config = AdaMMLConfig(**{**SETTINGS, **settings, "motion": "test_resnet"})
    torch.manual_seed(0)
    weights = registry.create("movinet-a0-stream-lite", num_classes=2)
    monkeypatch.setattr(recipe, "load_weights", lambda *_, **__: SimpleNamespace(network=weights))
    own: Any = recipe.build_model(config, 2).nets["rgb"]
    wanted, found = weights.state_dict(), own.net.state_dict()
    same = {key for key, value in wanted.items() if torch.equal(value, found[key])}
    assert set(wanted) == same
    assert recipe.spec_of(config).mean == (0.0, 0.0, 0.0)


def test_only_the_head_on_an_embedding_of_sound_is_trained(
    videos, cache, tmp_path, monkeypatch
) -> None:
    torch.manual_seed(0)
    weights = YAMNet().eval()
    torch.nn.init.uniform_(weights.mel)
    monkeypatch.setattr(recipe, "load_yamnet", lambda: weights)
    settings = {**ALTERNATING, "modalities": ("rgb", "yamnet"), "lambdas": ()}
    config = AdaMMLConfig(**{**settings, "cache": str(cache)})
    dataset = open_labelled(DataRequest(videos))
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"yamnet\.tflite"):
        run_recipe(recipe.RECIPE, config, dataset, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    monkeypatch.setattr(recipe, "locate", lambda *_, **__: None)
    run_recipe(recipe.RECIPE, config, dataset, tmp_path / "m")
    network: Any = load_run(tmp_path / "m").networks["point-0"]
    for key, value in weights.state_dict().items():
        assert torch.equal(network.nets["yamnet"].net.state_dict()[key], value), key
    assert load(tmp_path / "m").predict(videos / "test" / "low" / "0.mp4").ok


def test_a_strength_of_zero_costs_nothing() -> None:
    use = torch.ones(4, 3, 2, requires_grad=True)
    loss = selection_loss(use, torch.ones(4, dtype=torch.bool), 0.0 * torch.tensor([1.0, 0.2]))
    assert loss.item() == 0.0
    (gradient,) = torch.autograd.grad(loss, use)
    assert not gradient.any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modalities": ("rgb", "rgb")}, "each may be there once"),
        ({"modalities": ("flow", "rgbdiff")}, "the policy sees rgbdiff for flow"),
        ({"modalities": ("patch", "rgb")}, "the policy sees rgb for patch"),
        ({"modalities": ("rgb", "mv"), "costs": "published"}, "the paper has none for rgb\\+mv"),
        ({"val_split": "nowhere"}, "operating points are measured on it"),
    ],
)
def test_what_cannot_be_trained_is_one_line(videos, settings, said) -> None:
    config = build(AdaMMLConfig, settings, "settings")
    with pytest.raises(ConfigError, match=said):
        recipe.prepare(config, open_labelled(DataRequest(videos)))


def test_settings_have_their_usual_names() -> None:
    config = build(AdaMMLConfig, {"modalities": ["rgb", "audio", "flow"], "lambdas": 1}, "settings")
    assert config.modalities == ("rgb", "sound", "flow")
    assert config.lambdas == (1.0,)
    with pytest.raises(ConfigError, match="ascending"):
        build(AdaMMLConfig, {"lambdas": [2, 1]}, "settings")


def test_stored_segments_are_what_prediction_fetches(videos, cache) -> None:
    """And a mirrored clip has its motion mirrored."""
    dataset = open_labelled(DataRequest(videos)).subset("test")
    config = AdaMMLConfig(**{**SETTINGS, "modalities": ("rgb", "flow", "mv"), "size": 40})
    network = recipe.build_model(config, 2)
    how = recipe.reading_of(config, network)
    arrays = clips.read_segments(dataset.records[0], how)
    side = how.spec.size
    assert arrays["rgb"].shape == (3, 2, side, side, 3)
    assert arrays["flow"].shape == (3, 2, side, side, 10)
    assert arrays["rgbdiff"].shape == (3, 1, side, side, 15)  # the policy sees every second
    assert arrays["mv"].shape[:2] == (3, 2)
    assert arrays["mv.valid"].any()
    random = np.random.default_rng(0).integers(0, 256, arrays["flow"].shape, np.uint8)
    one, other = (
        clips._moved("flow", random, 40, side, (0.5, 0.5), flip) for flip in (False, True)
    )
    np.testing.assert_array_equal(other[..., 1::2], one[:, :, :, ::-1, 1::2])
    np.testing.assert_array_equal(other[..., ::2], 255 - one[:, :, :, ::-1, ::2])
    field = np.random.default_rng(0).normal(size=arrays["mv"].shape).astype(np.float32)
    one, other = (clips._moved("mv", field, 40, side, (0.5, 0.5), flip) for flip in (False, True))
    np.testing.assert_array_equal(other, one[:, :, :, ::-1] * np.array([-1, 1], np.float32))


def test_a_clip_that_cannot_be_read_is_named(videos, cache, tmp_path) -> None:
    dataset = open_labelled(DataRequest(videos)).subset("test")
    config = AdaMMLConfig(**SETTINGS)
    how = recipe.reading_of(config, recipe.build_model(config, 2))
    gone = replace(dataset.records[0], path=tmp_path / "gone.mp4")
    with pytest.raises(FoveateError, match=r"gone.mp4: cannot be read"):
        clips.keep(gone, cache, how)


def test_a_modality_that_no_clip_has_is_refused(tmp_path) -> None:
    """One clip that has it in one segment is enough."""
    for name in sounding.CLASSES:
        for split in ("train", "val"):
            path = tmp_path / "videos" / split / name / "0.mp4"
            sounding.film(path, name, [1], len(name), sound=False)
    config = AdaMMLConfig(**{**SETTINGS, "modalities": ("rgb", "sound")})

    def read() -> clips.SegmentSet:
        train = open_labelled(DataRequest(tmp_path / "videos")).subset("train")
        how = recipe.reading_of(config, recipe.build_model(config, 2))
        return clips.keep_all(train, tmp_path / "cache", how, lambda done, total: None)

    request = DataRequest(tmp_path / "videos")
    with pytest.raises(FoveateError, match="none of the 2 training clips has sound") as caught:
        run_recipe(recipe.RECIPE, config, open_labelled(request), tmp_path / "run")
    assert caught.value.hint == "leave out sound"
    assert not (tmp_path / "run").exists()
    sounding.film(tmp_path / "videos" / "train" / "low" / "0.mp4", "low", [0, 2], 1)
    clips.require_modalities(read(), ("rgb", "sound"))
