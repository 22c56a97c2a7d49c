"""`search`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.labelled import put, video

CLASSES = ("jump", "run")
QUICK = [
    word
    for setting in ("epochs=2", "size=16", "rate=4", "workers=0", "augment=none", "batch=8")
    for word in ("--set", setting)
]
SMALL = ["--set", "frames=3", "--set", "width=.125", "--set", "layers=1", "--set", "candidates=1"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Sixteen clips in two folders, all different."""
    root = tmp_path_factory.mktemp("videos")
    for at, label in enumerate(CLASSES):
        for i in range(8):
            put(root / label / f"{label}{i}.mp4", video(first=1000 * at + 40 * i, frames=15))
    return root


def test_architecture_finds_a_model_and_resumes(run, videos, tmp_path) -> None:
    out = tmp_path / "study"
    command = ["search", "architecture", videos, "--target", "0.2MMAC", "--out", out, *SMALL,
               *QUICK, "--set", "train_epochs=1"]  # fmt: skip
    said = run(*command)
    assert said.code == 0, said.err
    assert said.out.strip() == str(out)
    assert "Pareto front" in said.err
    assert "*" in said.err
    assert f"next: foveate evaluate {videos} --model {out / 'winner'}" in said.err
    content = json.loads((out / "pareto.json").read_text("utf-8"))
    assert 0 < content["winner"]["cost"] <= 200e3
    before = (out / "winner" / "model.safetensors").read_bytes()
    said = run(*command)
    assert said.code == 0, said.err
    assert (out / "winner" / "model.safetensors").read_bytes() == before
    said = run("evaluate", videos, "--model", out / "winner")
    assert said.code == 0, said.err
    command[4] = "1MMAC"
    said = run(*command)
    assert said.code == 2
    assert said.err.splitlines()[-1].endswith("begun with target=0.2MMAC, not 1MMAC")


def test_scaling_trains_variants_of_a_cost(run, videos, tmp_path) -> None:
    out = tmp_path / "study"
    said = run(
        "search", "scaling", videos, "--factor", "2", "--out", out, *QUICK,
        "--set", "table=8 | 8/2 16/133 | 8/2 16/333 | 16 16", "--set", "trials=2",
        "--set", "seconds=.6", "--set", "tolerance=.3",
    )  # fmt: skip
    assert said.code == 0, said.err
    content = json.loads((out / "scaling.json").read_text("utf-8"))
    assert len(content["trials"]) == 2
    assert "trial-1" in said.err
    said = run("evaluate", videos, "--model", out / content["winner"])
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["architecture", "--target", "2s"],
         "target 2s: not understood (write 2ms or 20MMAC, per frame)"),
        (["architecture", "--target", "2ms", "--set", "kernels=[544]"],
         "kernel '544': not understood"),
        (["scaling", "--factor", "0"], "settings: factor: must be positive"),
        (["scaling", "--factor", "2", "--set", "table=a9"], "table 'a9': not a block table"),
    ],
)  # fmt: skip
def test_wrong_requests_are_one_line(run, videos, tmp_path, words, message) -> None:
    name, *options = words
    said = run("search", name, videos, "--out", tmp_path / "x", *options)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert not (tmp_path / "x").exists()
