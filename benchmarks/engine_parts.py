"""Models of several parts in engines against torch: AdaFocus, AdaMML and a cascade, part by part.

Random weights, since only time is measured: CPU milliseconds of each part of a window, one thread,
torch, ONNX Runtime and OpenVINO in turn. A part's time includes what NumPy does for it.

    OMP_NUM_THREADS=1 python -m benchmarks.engine_parts [--rounds N] [--models a,b]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import RESULTS, write

import foveate
from foveate.core import View
from foveate.engines.export import export
from foveate.engines.network import open_exported
from foveate.models import LoadedModel, create
from foveate.pipeline.adafocus import AdaFocusExecutor
from foveate.pipeline.adamml import AdaMMLExecutor
from foveate.pipeline.cascade import CascadeExecutor

CLASSES = tuple(f"class {i}" for i in range(200))
ENGINES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
PROTOCOL = (
    "one thread, process CPU time of each part of one window, random weights, 200 classes, "
    "engines in turn, median and least; other work ran on the machine, so only ratios within this "
    "run count"
)


def adafocus() -> tuple[LoadedModel, Callable[[Any], Any]]:
    """AdaFocus V2, MobileNetV2 and ResNet-50, 8 frames of 224 and patches of 128 pixels."""
    spec = foveate.InputSpec(224, 1.0, 8)
    network: Any = create("adafocus-v2", num_classes=len(CLASSES), exits=8).eval()
    loaded = LoadedModel("adafocus-v2", {"network": network}, CLASSES, spec, method="adafocus")
    return loaded, lambda networks: AdaFocusExecutor(networks["network"], spec)


def adamml() -> tuple[LoadedModel, Callable[[Any], Any]]:
    """AdaMML, ResNet-50 for 8 frames of 224 pixels, MobileNetV2 for sound and the policy."""
    spec = foveate.InputSpec(224, 8.0, 8)
    network: Any = create("adamml", num_classes=len(CLASSES)).eval()
    loaded = LoadedModel("adamml", {"point-0": network}, CLASSES, spec, method="adamml")
    return loaded, lambda networks: AdaMMLExecutor(networks["point-0"], spec)


def cascade() -> tuple[LoadedModel, Callable[[Any], Any]]:
    """Vectors and key frames of 3 groups, RegNetX-200MF and EfficientNet-Lite0, 224 pixels."""
    spec = foveate.InputSpec(224, 1.0, 3)
    backbones = {"mv": "regnetx_002", "iframe": "efficientnet_lite0"}
    networks: Any = {
        name: create("coviar-exits", num_classes=len(CLASSES), backbone=one, modality=name).eval()
        for name, one in backbones.items()
    }
    loaded = LoadedModel("cascade", networks, CLASSES, spec, method="cascade")
    return loaded, lambda found: CascadeExecutor(found, tuple(backbones), spec=spec)


MODELS = {"adafocus-v2": adafocus, "adamml": adamml, "cascade": cascade}


def parts_of(executor: Any) -> list[tuple[str, dict[str, View]]]:
    """The parts of a window with random views, the head last."""
    if hasattr(executor, "example"):
        return [*executor.example(), (executor.head, {})]
    random, found, before = np.random.default_rng(0), [], ""
    for part in executor.parts:
        modality = part.partition(".")[0]
        shape = (1, 3, 224, 224, 2 if modality == "mv" else 3)
        view = View(random.uniform(0, 16, shape).astype(np.float32), (), np.ones(1, bool))
        found.append((part, {modality: view} if modality != before else {}))
        before = modality
    return [*found, (executor.head, {})]


def measure(name: str, rounds: int) -> dict[str, Any]:
    """CPU milliseconds of each stage of a model, and times faster than torch."""
    torch.manual_seed(0)
    loaded, build = MODELS[name]()
    with tempfile.TemporaryDirectory() as folder:
        card = export(loaded, Path(folder))
        assert card.exported is not None
        executors = {"torch fp32": build(loaded.networks)}
        for engine, precision in ENGINES:
            opened = open_exported(
                Path(folder), name, engine=engine, precision=precision,  # type: ignore[arg-type]
            )  # fmt: skip
            executors[f"{engine} {precision}"] = build(opened.networks)
        steps = parts_of(executors["torch fp32"])
        times: dict[str, dict[str, list[float]]] = {key: {} for key in executors}
        for at in range(rounds + 1):  # the first round is not counted
            for key, executor in executors.items():
                state, spent = None, dict[str, float]()
                for part, views in steps:
                    began = time.process_time()
                    (state,), _ = executor.run(part, [views], [state])
                    stage = executor.stage(part)
                    passed = (time.process_time() - began) * 1e3
                    spent[stage] = spent.get(stage, 0.0) + passed
                spent["all"] = sum(spent.values())
                for stage, value in spent.items() if at else ():
                    times[key].setdefault(stage, []).append(value)
    base = {stage: statistics.median(values) for stage, values in times["torch fp32"].items()}
    return {
        "parity": card.exported.parity,
        "ms": {
            key: {
                stage: {"median": statistics.median(v), "least": min(v)} for stage, v in one.items()
            }
            for key, one in times.items()
        },
        "speedup": {
            key: {stage: base[stage] / statistics.median(v) for stage, v in one.items()}
            for key, one in times.items()
        },
    }


def main() -> None:
    """Measure the models, write the result after each, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", default=",".join(MODELS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for name in options.models.split(","):
        figures[name] = measure(name, options.rounds)
        print(name, figures[name]["speedup"], flush=True)
        write("engine_parts", PROTOCOL, options.rounds, figures, (0,))
    print(RESULTS / "engine_parts.json")


if __name__ == "__main__":
    main()
