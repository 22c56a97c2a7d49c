"""`foveate detect`: boxes in JSON, CSV, COCO, a video and a page; and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clips import encode
from foveate.core import Detection, Result, Trace, TraceStep, read_results
from foveate.media import Video
from foveate.models import registry
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run

SETTINGS = {"channels": [16, 32, 64], "repeats": [2, 2, 2]}
CARD = RunCard(
    method="detector",
    networks={"network": NetworkCard(arch="fastestdet", settings=SETTINGS)},
    classes=["person", "dog", "kite"],
    input=InputCard(size=64, frames_per_second=25.0, clip_frames=1, resize="squash", crop="none"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An untrained detector and a clip of twelve frames."""
    folder = tmp_path_factory.mktemp("detect")
    torch.manual_seed(0)
    network = registry.create("fastestdet", num_classes=3, **SETTINGS)
    write_run(folder / "run", {"network": network}, CARD)
    (folder / "clip.mp4").write_bytes(encode(frames=12, size=(128, 96)))
    return folder


def test_all_outputs_say_the_same(run, folder: Path, tmp_path: Path) -> None:
    said = run(
        "detect", folder / "clip.mp4", "--model", folder / "run", "--min-score", "0.1", "--track",
        "--every", "5", "--json", tmp_path / "boxes.jsonl", "--csv", tmp_path / "boxes.csv",
        "--coco", tmp_path / "coco.json", "--video", tmp_path / "boxes.mp4",
        "--report", tmp_path / "page.html",
    )  # fmt: skip
    assert said.code == 0, said.err
    (result,) = read_results(tmp_path / "boxes.jsonl")
    assert result.task == "detect"
    assert len(result.times) == 12
    assert [step.part for step in result.trace.steps].count("key") == 3
    assert result.detections
    with (tmp_path / "boxes.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["score"]) for row in table] == [one.score for one in result.detections]
    assert {int(row["track"]) for row in table} == {one.track for one in result.detections}
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [one["name"] for one in coco["categories"]] == ["person", "dog", "kite"]
    assert [one["frame_id"] for one in coco["images"]] == list(range(12))
    assert coco["videos"][0]["width"] == 128
    assert len(coco["annotations"]) == len(table)
    first, box = coco["annotations"][0], result.detections[0].box
    assert first["bbox"] == pytest.approx([box[0], box[1], box[2] - box[0], box[3] - box[1]])
    times = {one["id"]: one["time"] for one in coco["images"]}
    assert times[first["image_id"]] == result.detections[0].time
    with Video(tmp_path / "boxes.mp4") as video:
        assert len(video.times()) == 12
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Frames by part" in page
    assert "move 9×" in page


def test_an_engine_finds_the_boxes_of_torch(
    run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxscript", engine := "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    words = ("detect", folder / "clip.mp4", "--model", folder / "run", "--every", "5",
             "--min-score", "0.1", "--json")  # fmt: skip
    assert run(*words, tmp_path / "torch.jsonl").code == 0
    said = run(*words, tmp_path / "engine.jsonl", "--engine", engine)
    assert said.code == 0, said.err
    (wanted,), (found,) = (read_results(tmp_path / f"{one}.jsonl") for one in ("torch", "engine"))
    assert wanted.detections
    assert [one.label for one in found.detections] == [one.label for one in wanted.detections]
    for a, b in zip(found.detections, wanted.detections, strict=True):
        assert (*a.box, a.score) == pytest.approx((*b.box, b.score), abs=0.05)
    assert [step.part for step in found.trace.steps] == [step.part for step in wanted.trace.steps]
    assert found.cost.macs == wanted.cost.macs
    warped = run(*words, "-", "--engine", engine, "--between", "warp")
    assert (warped.code, "has no part 'warp'" in warped.err) == (2, True)


def test_a_detector_that_no_engine_runs_is_one_line(run, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    network = NetworkCard(arch="rfcn:resnet18", settings={"channels": 64})
    card = CARD.model_copy(update={"networks": {"network": network}})
    built = registry.create("rfcn:resnet18", num_classes=3, channels=64)
    write_run(tmp_path / "run", {"network": built}, card)
    model = tmp_path / "run"
    said = run("detect", folder / "clip.mp4", "--model", model, "--engine", "onnxruntime")
    assert said.code == 2
    assert "a TorchvisionDetector cannot be exported, only FastestDet" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--every", "x"], "--every x: not a number of frames"),
        (["--every", "0"], "look.every: 0"),
        (["--between", "nonkey"], "has no part for other frames than key frames"),
        (["--between", "guess"], "look.between"),
        (["--csv", "missing/boxes.csv"], "its folder does not exist"),
        (["--csv", "-"], "not written to standard output (name a file)"),
        (["--coco", "boxes.json", "--no-trace"], "--coco needs the trace"),
    ],
)
def test_what_cannot_be_meant_costs_one_line(run, folder: Path, words, error: str) -> None:
    said = run("detect", folder / "clip.mp4", "--model", folder / "run", *words)
    assert said.code in (1, 2)
    assert error in said.err
    assert "Traceback" not in said.err


def test_models_of_clips_are_sent_to_predict_and_detectors_work_there(run, folder: Path) -> None:
    said = run("detect", folder / "clip.mp4", "--model", "movinet-a0-stream-lite.actions15")
    assert said.code == 2
    assert "finds no boxes (type: foveate predict)" in said.err
    said = run("predict", folder / "clip.mp4", "--model", folder / "run")
    assert said.code == 0, said.err
    assert "move" in said.out


def test_settings_are_those_of_the_look(run, folder: Path) -> None:
    said = run("detect", "--model", folder / "run", "--every", "auto", "--set", "look.change=0.3",
               "--hold", "--print-config")  # fmt: skip
    assert said.code == 0, said.err
    assert "every: auto" in said.out
    assert "change: 0.3" in said.out
    assert "hold: true" in said.out


def result() -> Result:
    """Two frames with a box, and one without."""
    found = [
        Detection(time=0.0, box=[1, 2, 3, 4], label="dog", index=1, score=0.5, track=7),
        Detection(time=0.1, box=[2, 2, 4, 4], label="person", index=0, score=0.75, track=8),
    ]
    trace = Trace(size=[64, 48], steps=[TraceStep(time=0.2, frames=[0.0, 0.1, 0.2])])
    return Result(source="a", model="m", task="detect", detections=found, trace=trace)


class Plain(SimpleNamespace):
    """What `supervision.Detections` is made of, where the library is not installed."""


def test_results_become_detections_of_supervision(monkeypatch) -> None:
    try:
        import supervision

        kind = supervision.Detections
    except ImportError:
        kind = Plain
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=Plain))
    frames = result().to_supervision()
    assert list(frames) == [0.0, 0.1, 0.2]
    assert [len(one.xyxy) for one in frames.values()] == [1, 1, 0]
    assert isinstance(frames[0.0], kind)
    assert frames[0.0].xyxy.tolist() == [[1, 2, 3, 4]]
    assert frames[0.0].class_id.tolist() == [1]
    assert frames[0.1].tracker_id.tolist() == [8]
    assert frames[0.1].data["class_name"].tolist() == ["person"]
    assert frames[0.2].xyxy.shape == (0, 4)


def test_boxes_are_drawn_with_their_text_and_only_near_their_time() -> None:
    from foveate.viz.overlay import annotate

    grey = np.full((240, 320, 3), 128, np.uint8)
    one = Detection(time=0.0, box=[16, 24, 32, 36], label="dog", index=1, score=0.5)
    found = result().model_copy(update={"detections": [one]})
    drawn = annotate(grey, found, 0.0)
    changed = (drawn != grey).any(-1)
    assert changed[120:180, 80:160].any(1).all()  # five times the source
    assert changed[100:120, 80:120].any()  # the text above
    assert not changed[190:, :].any()
    later = annotate(grey, found, 0.2)  # looked at, and nothing was there
    assert not (later != grey).any(-1)[100:180].any()
