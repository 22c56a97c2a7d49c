"""AdaFocus as a user types it: predict with a report and a budget, explain, and bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from clips import encode
from foveate.app.glances import on_frame
from foveate.app.main import app
from foveate.media import Video
from foveate.models import registry
from foveate.models.spec import InputSpec
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run
from foveate.pipeline.adafocus import AdaFocusExecutor
from foveate.policy.operating import fit_exits
from models.nontrivial import randomise

CLASSES = tuple("abcdefg")
SIZE = (128, 96)


def call(*words: Any) -> Any:
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders `v2`, calibrated, and `uni`; two classes of clips in `videos`."""
    root = tmp_path_factory.mktemp("adafocus")
    for name, arch in (("v1", "adafocus-v1"), ("v2", "adafocus-v2"), ("uni", "uni-adafocus")):
        torch.manual_seed(0)
        network: Any = randomise(registry.create_tiny(arch))
        frames = registry.entry(arch).tiny_input[2]
        spec = InputSpec(64, frames / 2.4, frames, resize_to=72)
        calibration = {}
        if name == "v2":
            macs = AdaFocusExecutor(network, spec).exit_macs(1)
            logits = torch.randn(60, 3, 7, generator=torch.Generator().manual_seed(0))
            card = fit_exits(logits, logits[:, 2].argmax(1), list(macs.values()), list(macs))
            calibration = card.model_dump(mode="json")
        settings = {k: v for k, v in registry.entry(arch).tiny.items() if k != "num_classes"}
        card_of = RunCard(
            method="adafocus", networks={"network": NetworkCard(arch=arch, settings=settings)},
            classes=list(CLASSES), input=InputCard.of(spec), calibration=calibration,
        )  # fmt: skip
        write_run(root / name, {"network": network}, card_of)
    for label in CLASSES[:2]:
        (root / "videos" / "test" / label).mkdir(parents=True)
        data = encode(frames=60, size=SIZE, gop=12 if label == "a" else 20)
        (root / "videos" / "test" / label / "1.mp4").write_bytes(data)
    return root


def test_predict_with_a_budget_writes_a_report_with_patches_and_exits(
    folder: Path, tmp_path: Path
) -> None:
    clip, page, lines = folder / "videos/test/a/1.mp4", tmp_path / "why.html", tmp_path / "r.jsonl"
    words = ("predict", clip, "--model", folder / "v2", "--report", page, "--json", lines)
    macs = {}
    for budget in ("5GMAC", None, "1kMAC"):
        done = call(*words, *(() if budget is None else ("--budget", budget)))
        if budget == "1kMAC":
            assert done.exit_code == 2
            assert "the budget is less than the first exit costs" in done.output
            break
        assert done.exit_code == 0, done.output
        result = json.loads(lines.read_text())
        macs[budget] = result["cost"]["macs"]
        assert [len(s["boxes"]) for s in result["trace"]["steps"] if s["part"] == "focus"]
        text = page.read_text("utf-8")
        assert "Exits that decided" in text
        assert f"{next(iter(result['exits']))}" in text
        assert "Part of the frame seen" in text
    assert macs["5GMAC"] >= macs[None] > 0


@pytest.mark.parametrize("name", ["v1", "v2", "uni"])
def test_explain_draws_glance_policy_patches_and_exit(
    folder: Path, tmp_path: Path, name: str
) -> None:
    video, page = tmp_path / "why.mp4", tmp_path / "why.html"
    clip = folder / "videos/test/a/1.mp4"
    done = call("explain", clip, "--model", folder / name, "--video", video, "--report", page)
    assert done.exit_code == 0, done.output
    assert "3 frames glanced at, 3 patches, exit focus.3 (1 window)" in done.output
    with Video(video) as drawn:
        assert drawn.info.width == 2 * SIZE[0]
        assert drawn.info.duration == pytest.approx(2.4, abs=0.1)
    text = page.read_text("utf-8")
    assert text.count("<figure>") == 3
    assert "patch 3 of 3   exit focus.3" in text
    assert "what the glance found" in text


def test_explain_with_places_of_motion(folder: Path) -> None:
    words = ("explain", folder / "videos/test/a/1.mp4", "--model", folder / "v2")
    motion = call(*words, "--look", "adafocus-motion")
    assert "0 frames glanced at, 3 patches" in motion.output
    assert "motion from vectors" in call(*words, "--look", "motion-patch").output


def test_a_map_of_a_region_lies_in_its_place() -> None:
    whole = on_frame(np.ones((2, 2), np.float32), (16.0, 0.0, 112.0, 96.0), SIZE)
    assert whole.shape == (36, 48)
    assert whole[:, 6:42].all()
    assert not whole[:, :6].any()
    assert not whole[:, 42:].any()


def test_bench_compares_places_with_the_same_networks(folder: Path, tmp_path: Path) -> None:
    table, plot = tmp_path / "t.json", tmp_path / "curve.svg"
    looks = "own,motion-patch,resize,oracle"
    done = call(
        "bench", folder / "videos", "--models", folder / "v2", "--looks",
        looks, "--json", table, "--plot", plot, "--set", "decide.name=at-end",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = json.loads(table.read_text())["figures"]["rows"]
    own, *others, oracle = rows
    assert [row["name"] for row in rows] == looks.split(",")
    assert plot.read_text().startswith("<svg")
    assert all(row["macs"]["value"] == own["macs"]["value"] for row in others)
    assert oracle["macs"]["value"] > 5 * own["macs"]["value"]
