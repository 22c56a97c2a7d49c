"""Models of several parts in engines: the same answers, costs and traces as in PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nontrivial import randomise

import foveate
from clips import encode
from foveate.core import ConfigError, InputSpec, ModelError, Window
from foveate.engines.export import PARITY
from foveate.models import LoadedModel, registry
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, read_run, write_run
from foveate.pipeline.adafocus import AdaFocusExecutor
from foveate.pipeline.adamml import AdaMMLExecutor
from foveate.pipeline.engines import job_of
from foveate.policy import Context
from foveate.policy.build import LOOKS
from graphs import graphs_of

ZOO = os.environ.get("FOVEATE_ZOO") == "1"
LABELS = tuple("abcdefg")
ADAFOCUS = ("adafocus-v1", "adafocus-v1-tsm", "adafocus-v2", "adafocus-v2-tsm", "uni-adafocus",
            "uni-adafocus-tsm")  # fmt: skip
FAST = ("adafocus-v1", "adafocus-v1-tsm", "adafocus-v2, motion", "uni-adafocus", "adamml, exit",
        "adamml, yamnet")  # fmt: skip
SMALL = {"columns": 32, "policy_side": 32}
ADAMML: dict[str, dict[str, Any]] = {
    "adamml, two": {},
    "adamml, sound": {"modalities": ("sound",)},
    "adamml, exit": {"exit": "layer2"},
    "adamml, flow": {"modalities": ("rgb", "flow"), "proxy": "mv"},
    "adamml, patch": {"modalities": ("patch", "sound"), "patch_side": 16},
    "adamml, yamnet": {"modalities": ("rgb", "yamnet")},
}


def settings_of(name: str) -> dict[str, Any]:
    """Arguments of a small network, as JSON."""
    arch = name.partition(",")[0]
    tiny = {k: v for k, v in registry.entry(arch).tiny.items() if k != "num_classes"}
    more: dict[str, dict[str, Any]] = {
        "motion": {"motion_prior": True},
        "movinet": {"glance": "movinet-a0-stream"},
    }
    more |= {key.partition(", ")[2]: SMALL | value for key, value in ADAMML.items()}
    found: dict[str, Any] = json.loads(json.dumps(tiny | more.get(name.partition(", ")[2], {})))
    return found


def made(name: str) -> Any:
    torch.manual_seed(0)
    arch = name.partition(",")[0]
    return randomise(registry.create(arch, num_classes=len(LABELS), **settings_of(name))).eval()


def spec_of(name: str) -> InputSpec:
    if name.startswith("adamml"):
        return InputSpec(32, 2 / 0.64, 8, resize_to=36)
    count = int(registry.entry(name.partition(",")[0]).tiny_input[2])
    return InputSpec(64, count / 2, count)


def curve(name: str, network: Any) -> dict[str, Any]:
    """The calibration of a run of `adamml`, with one operating point."""
    point = {"network": "point-0", "strength": 0.0, "accuracy": 0.9, "macs": 1e6, "seconds": 0.01,
             "rates": dict.fromkeys(network.modalities, 0.5)}  # fmt: skip
    return {
        "modalities": list(network.modalities), "seen": list(network.seen), "frames": 2,
        "seconds": 0.64, "costs": dict.fromkeys(network.modalities, 1.0), "points": [point],
        "default": 0, "calibrated_on": 9, "exit": 0.5 if "exit" in name else None,
        "patch_size": network.patch_side if "patch" in network.modalities else None,
    }  # fmt: skip


def save(folder: Path, name: str, **more: Any) -> None:
    """A run folder of a network."""
    network, method = made(name), "adamml" if name.startswith("adamml") else "adafocus"
    part = "point-0" if method == "adamml" else "network"
    if method == "adamml":
        more["calibration"] = curve(name, network)
    card = RunCard(
        method=method,
        networks={part: NetworkCard(arch=name.partition(",")[0], settings=settings_of(name))},
        classes=list(LABELS), input=InputCard.of(spec_of(name)), **more,
    )  # fmt: skip
    write_run(folder, {part: network}, card)


def source(name: str) -> Any:
    """A clip with sound and motion vectors."""
    if name.startswith("adamml"):
        return encode("mp4", "libx264", 60, size=(96, 80), gop=12, tone=(440.0, 0.0, 2.4),
                      options={"refs": "1", "weightp": "0", "sc_threshold": "0"})  # fmt: skip
    return encode("matroska", "libx264", 48, size=(96, 80), gop=12)


def check_equal(found: Any, wanted: Any) -> None:
    """The same labels, multiply-adds and trace."""
    assert found.ok
    scores = {one.label: one.score for one in wanted.labels}
    assert {one.label: one.score for one in found.labels} == pytest.approx(scores, abs=1e-4)
    assert found.cost.macs == wanted.cost.macs
    assert [s.name for s in found.cost.stages] == [s.name for s in wanted.cost.stages]
    for one, other in zip(found.trace.steps, wanted.trace.steps, strict=True):
        assert (one.part, one.frames, one.modalities) == (
            other.part,
            other.frames,
            other.modalities,
        )
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.02)


def executor_of(name: str, network: Any) -> Any:
    if name.startswith("adamml"):
        return AdaMMLExecutor(network, spec_of(name), exit=0.5 if "exit" in name else None)
    return AdaFocusExecutor(network, spec_of(name))


@pytest.mark.parametrize("name", FAST)
def test_the_functions_of_all_networks_say_what_an_export_must_know(name: str) -> None:
    """Facts survive JSON, shapes are those of the calls, and a batch of one is enough."""
    network = made(name)
    method = "adamml" if name.startswith("adamml") else "adafocus"
    loaded = LoadedModel(name, {"network": network}, LABELS, spec_of(name), method=method)
    graphs = graphs_of(loaded, single=True)["network"]
    card = type(graphs.facts).model_validate_json(graphs.facts.model_dump_json())
    assert card == graphs.facts
    for executor in (executor_of(name, network), executor_of(name, graphs)):
        job_of(executor, rows=2)()
    parts = [one for one, _ in executor.example()]
    macs = [[e.cost(part, views, None) for part, views in e.example() if views]
            for e in (executor, executor_of(name, network))]  # fmt: skip
    assert macs[0] == macs[1]
    assert min(macs[0]) > 0
    assert set(parts) <= set(executor.parts)


def test_no_executor_of_parts_needs_pytorch() -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from foveate.pipeline import adafocus, adamml, cascade, exported\n"
        "from foveate.policy.looks import adafocus, groups, modalities\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_chooser_of_frames_is_exported_for_one_number_of_candidates() -> None:
    name = "uni-adafocus"
    loaded = LoadedModel(name, {"network": made(name)}, LABELS, spec_of(name), method="adafocus")
    graphs = graphs_of(loaded)["network"]
    with pytest.raises(ConfigError, match="exported for 6 frames of a window, not 9"):
        AdaFocusExecutor(graphs, spec_of(name), candidates=9)
    with pytest.raises(ModelError, match="frames of 32 pixels for a network of 64"):
        AdaFocusExecutor(made(name), InputSpec(32, 3.0, 6))
    with pytest.raises(ModelError, match=r"cut was exported for an input of shape"):
        graphs.call("cut", {"frames": np.zeros((1, 8, 8, 3), np.uint8)})
    look: Any = LOOKS["adafocus"].model_validate({}).build(Context(spec_of(name), network=graphs))
    assert (look.exits, look.glances) == (("glance.3", "focus.3"), (1, 3, 5))
    assert look.window(None, 0.0, 2.0) == Window(0.0, 2.0)


# --- real exports -------------------------------------------------------------------------------


def exported(name: str, folder: Path, format: str = "onnx", **more: Any) -> tuple[str, str]:
    """A run folder and what was exported of it."""
    run, out = folder / "run", folder / "out"
    save(run, name, **more)
    card = foveate.export(str(run), out, format=format)
    assert card.exported is not None
    assert 0 < card.exported.parity < PARITY
    assert card.exported.weights == read_run(run).sha256
    return str(run), str(out)


def test_adamml_is_predicted_without_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnxruntime")
    pytest.importorskip("onnxscript", reason="needs the extra onnxruntime")
    run, out = exported("adamml, sound", tmp_path)
    (tmp_path / "clip.mp4").write_bytes(source("adamml"))
    code = "import sys\nsys.modules['torch'] = None\nfrom foveate.app.main import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(tmp_path / "clip.mp4"), "--model", out,
         "--top-k", "7", "--json", "-"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = foveate.load(run, top_k=7).predict(tmp_path / "clip.mp4")
    scores = {one["label"]: one["score"] for one in json.loads(done.stdout)["labels"]}
    assert scores == pytest.approx({one.label: one.score for one in wanted.labels}, abs=1e-4)
    check_equal(foveate.load(out, top_k=7).predict(tmp_path / "clip.mp4"), wanted)


@pytest.mark.slow
@pytest.mark.skipif(not ZOO, reason="exports many networks, minutes: set FOVEATE_ZOO=1")
@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize(
    "name", [*ADAFOCUS, "adafocus-v2, movinet", "adafocus-v2, motion", *ADAMML]
)
def test_export_run_and_compare(name: str, format: str, tmp_path: Path) -> None:
    clip = source(name)
    if "yamnet" in name and format == "openvino":
        with pytest.raises(ModelError, match="yamnet: OpenVINO lacks an operator of it"):
            exported(name, tmp_path, format)
        return
    run, out = exported(name, tmp_path, format)
    wanted, graphs = foveate.load(run, top_k=7), foveate.load(out, top_k=7)
    check_equal(graphs.predict(clip), wanted.predict(clip))
    several = list(graphs.predict_many([clip, clip], batch=2))
    check_equal(several[1], wanted.predict(clip))
    if name.startswith("adafocus"):
        looks: list[dict[str, Any]] = [
            {"name": "adafocus-motion"},
            {"name": "adafocus", "patches": "centre"},
        ]
        if not name.endswith("tsm"):
            looks.append({"name": "adafocus", "chunk": 1})
        for look in looks:
            check_equal(
                foveate.load(out, look=look, top_k=7).predict(clip),
                foveate.load(run, look=look, top_k=7).predict(clip),
            )
