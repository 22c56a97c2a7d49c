"""`foveate pipeline` and `foveate fit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from clips import encode
from foveate.primitives.pipeline import Pipeline
from tiny_weights import NAME
from train import tiny_motion

YAML = """
sampler: {kind: segments, frames: 2}
transforms: [{kind: resize, size: 32}]
recogniser: {kind: tsn, backbone: test_resnet}
training: {kind: supervised, epochs: 1, batch: 8, workers: 0}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(YAML, "utf-8")
    return path


def test_list_names_presets_and_every_kind(run) -> None:
    said = run("pipeline", "list")
    assert said.code == 0
    assert "motion-patch-movinet-a0-stream-lite" in said.out
    assert "resnet3drs-small" in said.out
    assert "recognisers: tsn, tsm," in said.out
    assert "looks: " in said.out


def test_what_is_shown_is_a_valid_pipeline(run, spec, tmp_path) -> None:
    said = run("pipeline", "show", spec, "--set", "training.lr=0.5")
    assert said.code == 0
    assert "recogniser: tsn (backbone=test_resnet)" in said.err
    (tmp_path / "shown.yaml").write_text(said.out, "utf-8")
    shown = Pipeline.read(tmp_path / "shown.yaml")
    assert shown.training.lr == 0.5
    as_json = run("pipeline", "show", tmp_path / "shown.yaml", "--json")
    assert Pipeline.model_validate_json(as_json.out) == shown
    assert as_json.err == ""


def test_the_schema_is_printed(run) -> None:
    assert json.loads(run("pipeline", "schema").out) == Pipeline.json_schema()


def test_validate_checks_every_file_and_the_recipe(run, spec, tmp_path) -> None:
    said = run("pipeline", "validate", spec)
    assert (said.code, said.err) == (0, "")
    assert Pipeline.read(spec).digest in said.out
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("recogniser: {kind: tsmm}\n")
    other = tmp_path / "other.yaml"
    other.write_text("training: {kind: supervised, settings: {momentun: 0.9}}\n")
    said = run("pipeline", "validate", wrong, spec, other)
    assert said.code == 2
    first, second = said.err.splitlines()
    assert "wrong.yaml: recogniser.kind: there is no tsmm (did you mean tsm? known: " in first
    assert "other.yaml: recipe supervised: unknown key momentun (did you mean momentum?)" in second
    assert said.out.startswith(str(spec))


def test_fit_writes_a_run_folder_that_is_used_like_any_other(run, spec, tmp_path) -> None:
    tiny_motion.on_disk(tmp_path / "clips", {"train": 8, "val": 4})
    out = tmp_path / "run"
    said = run("fit", tmp_path / "clips", "--pipeline", spec, "--print-config")
    assert said.code == 0
    assert "kind: segments" in said.out
    assert not out.exists()
    said = run("fit", tmp_path / "clips", "--pipeline", spec, "--out", out, "--no-check")
    assert said.code == 0, said.err
    assert "transforms: resize(size=32)" in said.err
    assert Pipeline.read(out / "pipeline.json") == Pipeline.read(spec)
    assert run("evaluate", tmp_path / "clips", "--model", out, "--split", "val").code == 0
    said = run("fit", "--resume", out, "--set", "training.epochs=2")
    assert said.code == 0, said.err
    assert "finished: 2 epochs" in said.err
    assert run("pipeline", "show", out, "--json").out == (out / "pipeline.json").read_text()


def test_a_pipeline_with_weights_is_used_without_training(run, tmp_path) -> None:
    path = tmp_path / "used.yaml"
    stop = "stopping: {kind: confident, threshold: 0.5}\nlook: {kind: resize, size: 24}\n"
    path.write_text(f"recogniser: {{kind: model, name: {NAME}}}\n{stop}", "utf-8")
    shown = yaml.safe_load(run("evaluate", tmp_path, "--model", path, "--print-config").out)
    assert shown["model"] == NAME
    assert shown["look"]["size"] == 24
    assert shown["decide"] == {"name": "confident", "threshold": 0.5}
    clips = tmp_path / "clips"
    clips.mkdir()
    for frames in (10, 11, 12):
        (clips / f"{frames}.mp4").write_bytes(encode(frames=frames, size=(48, 32), rate=5))
    data = (clips, "--format", "unlabelled")
    said = run("bench", *data, "--presets", f"{NAME},{path}")
    assert said.code == 0, said.err
    assert str(path) in said.out
    path.write_text("recogniser: tsn\n")
    said = run("bench", *data, "--presets", path)
    assert said.code == 2
    assert "used.yaml: its recogniser tsn has no weights" in said.err
    path.write_text("recogniser: tsnn\n")
    assert "there is no tsnn (did you mean tsn?" in run("bench", *data, "--models", path).err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("fit",), "fit needs a pipeline"),
        (("fit", "--pipeline", "SPEC"), "fit needs data and --out"),
        (("fit", "x", "--pipeline", "no.yaml", "--out", "y"), "no.yaml: cannot be read"),
        (("fit", "x", "--pipeline", "resnet3dr", "--out", "y"), "did you mean resnet3drs"),
        (("fit", "--resume", "nowhere"), "no such file or name"),
        (("pipeline", "show", "SPEC", "--set", "recogniser.drop=1"), "did you mean dropout"),
    ],
)
def test_a_mistake_costs_one_line(run, spec, tmp_path, monkeypatch, words, text) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*(spec if word == "SPEC" else word for word in words))
    assert said.code == 2
    assert text in said.err
    assert len(said.err.splitlines()) == 1
