"""`probe`, `weights` and `doctor`."""

import json
import re

import pytest

from clips import encode
from foveate.models import registry
from foveate.models.weights.builtin import built_in
from tiny_weights import NAME


def test_probe_says_what_a_file_is(run, tmp_path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(encode(frames=50, gop=10, rotation=90, tone=(440.0, 0.0, 1.0)))
    said = run("probe", path)
    assert said.code == 0
    for text in ("h264", "48x64", "270 degrees", "25.000", "2.00 s", "50", "aac", "yes"):
        assert text in said.out, text
    (facts,) = [json.loads(line) for line in run("probe", path, "--json").out.splitlines()]
    assert (facts["frames"], facts["keyframes"], facts["rotation"]) == (50, 5, 270)
    assert facts["motion_vectors"]
    assert not facts["variable_rate"]


def test_probe_tells_variable_rate_and_no_vectors(run, tmp_path) -> None:
    path = tmp_path / "a.webm"
    times = [i * 0.04 + (0.3 if i % 3 == 0 else 0.0) for i in range(60)]
    path.write_bytes(encode("webm", "libvpx-vp9", 60, times=sorted(times)))
    said = run("probe", path)
    assert "variable" in said.out
    assert "no, not from vp9" in said.out


def test_probe_of_a_folder_and_of_rubbish(run, clips) -> None:
    said = run("probe", clips, "--json")
    assert said.code == 1
    facts = [json.loads(line) for line in said.out.splitlines()]
    assert [("error" in f) for f in facts] == [True, False, True, False]
    assert said.err.count("foveate: ") == 2


def test_weights_list_fetch_verify(run, published) -> None:
    listed = run("weights", "list").out
    (row,) = [line for line in listed.splitlines() if line.startswith(NAME)]
    assert "on disk" in row
    assert len(listed.splitlines()[0].split()) == 6
    assert str(published) in run("weights", "list", NAME).out
    said = run("weights", "list", "nothing")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert run("weights", "fetch", NAME).code == 0
    said = run("weights", "verify")
    assert said.out.count(f"ok  {published}") == 2
    assert said.out.count("built_in") == len(built_in())


def test_weights_unknown_and_missing(run, monkeypatch, tmp_path) -> None:
    said = run("weights", "fetch", "nothing")
    assert said.code == 2
    assert f"did you mean '{NAME}'" in said.err
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    said = run("weights", "fetch", NAME)
    assert said.code == 2
    assert "network is off" in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert "no weights on this machine" in run("weights", "verify").out


def test_weights_verify_finds_damage(run, published, tmp_path, monkeypatch) -> None:
    (tmp_path / "tiny.tflite").write_bytes((published / "tiny.tflite").read_bytes()[:-1] + b"!")
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(tmp_path))
    said = run("weights", "verify")
    assert said.code == 1
    assert "BAD" in said.out


def test_doctor_finds_all_here_and_names_the_cure_for_what_is_not(run, monkeypatch) -> None:
    said = run("doctor")
    assert said.code == 0
    assert "ok       torch" in said.out
    assert "libx264" in said.out or "encoder" in said.out
    from foveate.app import doctor

    monkeypatch.setattr(doctor, "CORE", {**doctor.CORE, "not_there": "not-there"})
    monkeypatch.setattr(doctor, "EXTRAS", {"dream": ("dreaming", ("not_there",))})
    said = run("doctor")
    assert said.code == 1
    assert "pip install not-there" in said.out
    assert "pip install 'foveate[dream]'" in said.out


@pytest.mark.parametrize("verb", ["predict", "probe", "weights", "doctor", "train", "data"])
def test_help_of_every_verb(run, verb) -> None:
    from typer.testing import CliRunner

    from foveate.app.main import app

    done = CliRunner().invoke(app, [verb, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.stdout
    assert "bool" not in done.stdout


@pytest.mark.parametrize("kind", ["pth", "npz", "safetensors"])
def test_weights_import(run, tmp_path, monkeypatch, kind) -> None:
    import numpy as np
    import torch
    from safetensors.torch import save_file

    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    model = registry.create("r3d", depth=10, width=4, num_classes=2)
    state = {n.replace("classifier.", "fc."): v for n, v in model.state_dict().items()}
    file = tmp_path / f"r3d.{kind}"
    if kind == "pth":
        torch.save({"state_dict": state, "epoch": 3}, file)
    elif kind == "npz":
        np.savez(file, **{name: value.numpy() for name, value in state.items()})
    else:
        save_file(state, file)
    (tmp_path / "labels.txt").write_text("run\nsit\n")
    said = run(
        "weights", "import", file, "--as", "mine", "--set", "widen_factor=0.0625",
        "--labels", tmp_path / "labels.txt",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "mine: r3d with 2 classes, from autovideo" in said.out
    assert re.search(r"^mine +imported$", run("weights", "list").out, re.M)
    said = run("weights", "import", file, "--as", "other")
    assert said.code == 2
    assert "layer1.0.conv1.weight is (4, 4, 3, 3, 3), not (64, 64, 3, 3, 3)" in said.err
