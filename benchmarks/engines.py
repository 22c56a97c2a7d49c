"""Engines against torch: steps of streams, other networks, drift of long streams, end to end.

One run on one thread measures, in interleaved rounds of process CPU time:

* `steps`: MoViNet A0-stream-lite, A0-stream and A2-stream, one frame with its answer, one stream
  and eight in one call, in torch (folded, and the plain modules), ONNX Runtime and OpenVINO (fp32,
  bf16 where the processor has it, int8 of A0-stream-lite), and the published int8 file in LiteRT;
  beside the floors of `step_time.py`;
* `agreement`: logits of A0-stream-lite with Kinetics weights on real clips (`--clips FOLDER`)
  against fp32 torch; int8 ranges are measured on other clips of the same folder;
* `drift`: logits over a stream against fp32 torch, frame by frame;
* `drift_long`: the same over ten minutes at 5 frames/s, ten frames a call;
* `chunks`: a call for one frame and for ten, and a key frame of FastestDet;
* `clips`: networks of whole clips and of frames;
* `files`: `predict` from file to label at four sizes, and a fresh process until its first answer.

    OMP_NUM_THREADS=1 python -m benchmarks.engines [--clips FOLDER] [--rounds N] [--frames N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import RESULTS, write
from benchmarks.scenes import write_scene
from benchmarks.step_time import depthwise_macs, floor_jobs, interleave

import foveate
from foveate.core import FoveateError
from foveate.engines.export import export
from foveate.engines.network import EngineNetwork, logits_of, open_exported
from foveate.models import LoadedModel, create, macs_of
from foveate.models.movinet import INPUTS
from foveate.pipeline.detection import DetectExecutor
from foveate.pipeline.engines import job_of
from foveate.pipeline.executors import StreamExecutor, executor_for
from foveate.pipeline.export import frames_of
from foveate.pipeline.exported import ExportedDetector, exported_executor

WEIGHTS = "movinet-a0-stream-lite.k600"
STREAMS = {"movinet-a0-stream-lite": "a0", "movinet-a0-stream": "a0", "movinet-a2-stream": "a2"}
CLIPS = {
    "tsn:efficientnet_lite0": 8, "tsn:resnet50": 8, "r2plus1d-18": 16,
    "tsn:vit_small_patch16_224": 8,
}  # fmt: skip
SIZES = ((320, 240), (640, 360), (1280, 720), (1920, 1080))
ENGINES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
NEEDS_LITE = {"steps", "agreement", "drift", "drift_long", "chunks"}
CPU = torch.device("cpu")
PROTOCOL = (
    "one thread, process CPU time, interleaved rounds, median and least; steps are one frame with "
    "its answer at 600 classes; other work ran on the machine, so only ratios within this run "
    "count"
)


def in_engines(loaded: LoadedModel, folder: Path, clips: list[Any] | None = None) -> dict[str, Any]:
    """Engine and precision → the opened model, exported once per format and precision."""
    found = {}
    for format, precision in (("onnx", "fp32"), ("openvino", "fp32"), ("onnx", "int8")):
        if precision == "int8" and not clips:
            continue
        target = folder / f"{format}-{precision}"
        export(loaded, target, format, precision=precision, clips=clips or [])  # type: ignore[arg-type]
        for engine, computed in ENGINES:
            kept = computed if precision == "fp32" else "int8"
            fits = engine == {"onnx": "onnxruntime"}.get(format, format) or precision == "int8"
            if fits and (computed == "fp32" or precision == "fp32"):
                try:
                    one: Any = open_exported(
                        target,
                        loaded.name,
                        engine=engine,
                        precision=kept,  # type: ignore[arg-type]
                    )
                except FoveateError as error:
                    print(f"left out: {engine} {kept}: {error}", flush=True)
                    continue
                found[f"{engine} {kept}"] = one
    return found


def steps(rounds: int, lite: dict[str, Any]) -> dict[str, Any]:
    """Streams: CPU milliseconds of a frame with its answer, and ratios."""
    figures = {}
    for name, table in STREAMS.items():
        torch.manual_seed(0)
        if WEIGHTS.startswith(f"{name}."):
            loaded = foveate.models.load(WEIGHTS, offline=True)
        else:
            network = create(name).eval()
            for parameter in network.parameters():
                if parameter.ndim == 0:
                    parameter.data.fill_(0.5)
            labels = tuple(f"class {i}" for i in range(600))
            spec = replace(INPUTS[table], resize_to=None)
            loaded = LoadedModel(name, {"network": network}, labels, spec)
        spec, module = loaded.input, loaded.network
        with tempfile.TemporaryDirectory() as folder:
            opened = lite if WEIGHTS.startswith(f"{name}.") else in_engines(loaded, Path(folder))
            plain = StreamExecutor(module, CPU, spec)
            plain.module = module
            executors: dict[str, Any] = {
                "torch plain": plain, "torch folded": executor_for(module, CPU, spec),
                **{key: exported_executor(one.network, spec) for key, one in opened.items()},
            }  # fmt: skip
            if WEIGHTS.startswith(f"{name}."):
                published = foveate.load(WEIGHTS, offline=True, engine="litert")
                executors["litert published int8"] = published.executor
            jobs = {}
            for key, executor in executors.items():
                jobs[f"{key}, one stream"] = (job_of(executor, None, 1), 1)
                jobs[f"{key}, eight streams"] = (job_of(executor, None, 8), 8)
            floors = floor_jobs()
            times = interleave(jobs | {k: (job, 1) for k, (job, _) in floors.items()}, rounds)
        total = macs_of(module, (1, 3, 1, spec.size, spec.size))
        deep = depthwise_macs(module, (spec.size, spec.size))
        rates = {key: macs / times[key]["median"] / 1e9 for key, (_, macs) in floors.items()}
        floor = (total - deep) / rates["pointwise"] / 1e9 + deep / rates["depthwise"] / 1e9
        times = {key: value for key, value in times.items() if key not in floors}
        base = {key: value["median"] for key, value in times.items()}
        figures[name] = {
            "ms": times,
            "practical_floor_ms": floor,
            "times_floor": {key: value / floor for key, value in base.items()},
            "times_torch_folded": {
                key: value / base[f"torch folded,{key.partition(',')[2]}"]
                for key, value in base.items()
            },
            "eight_over_one": {
                key: base[f"{key}, one stream"] / base[f"{key}, eight streams"] for key in executors
            },
        }
        print(name, {key: round(value, 2) for key, value in base.items()}, flush=True)
    return figures


def agreement(folder: Path | None, lite: dict[str, Any]) -> dict[str, Any]:
    """Logits on real clips against fp32 torch: correlation, same best class."""
    if folder is None:
        return {}
    loaded = foveate.models.load(WEIGHTS, offline=True)
    paths = sorted(folder.rglob("*.mp4"))[5::24]
    shown = [frames_of(path, loaded.input) for path in paths]
    rows = {
        key: np.stack([list(logits_of(one.network, clip))[-1] for clip in shown])
        for key, one in lite.items()
    }
    published = foveate.load(WEIGHTS, offline=True, engine="litert").executor
    rows["litert published int8"] = np.stack([published_logits(published, clip) for clip in shown])
    module: Any = loaded.network
    with torch.inference_mode():
        x = [torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 255 for clip in shown]
        wanted = torch.cat([module(one) for one in x]).numpy()
    return {
        "clips": len(shown),
        **{
            key: {
                "correlation": float(np.corrcoef(found.ravel(), wanted.ravel())[0, 1]),
                "same_top1": float((found.argmax(1) == wanted.argmax(1)).mean()),
                "largest_difference": float(np.abs(found - wanted).max() / np.abs(wanted).max()),
            }
            for key, found in rows.items()
        },
    }


def published_logits(executor: Any, clip: Any) -> Any:
    """The last logits of the published file on a clip."""
    from foveate.core import View

    view = {"rgb": View(clip[None], tuple(range(len(clip))), np.ones(1, bool))}
    states, _ = executor.run("network", [view], [None])
    return executor.run("head", [{}], states)[1][0].logits["final"]


def drift(frames: int, lite: dict[str, Any]) -> dict[str, Any]:
    """Logits of a long stream against fp32 torch, at several ages in frames."""
    loaded = foveate.models.load(WEIGHTS, offline=True)
    module: Any = loaded.network
    fast = module.for_inference()
    side = loaded.input.size
    frame = moving_picture(side)
    ages = [age for age in (10, 100, 500, 1000, 2000, 3000, frames) if age <= frames]
    figures: dict[str, Any] = {"frames": frames, "ages": ages}
    networks: dict[str, EngineNetwork] = {key: one.network for key, one in lite.items()}
    graph = f"step-{side}"
    states = {key: one.initial(graph, 1) for key, one in networks.items()}
    state = fast.initial_state(1, side, side)
    for i in range(1, frames + 1):
        shown = np.ascontiguousarray(frame(i))
        x = torch.from_numpy(shown).permute(2, 0, 1)[None, :, None].float() / 255
        _, state = fast.step_features(x, state)
        for key, one in networks.items():
            _, states[key] = one.step(graph, {"frames": shown[None]}, states[key])
        if i not in ages:
            continue
        wanted = fast.classify(fast.pooled(state))[0].numpy()
        for key, one in networks.items():
            given = {t.name: states[key][t.name] for t in one.card("head").inputs}
            found = one.call("head", given)["logits"][0]
            figures.setdefault(key, []).append(
                {
                    "frame": i,
                    "largest_difference": float(
                        np.abs(found - wanted).max() / np.abs(wanted).max()
                    ),
                    "correlation": float(np.corrcoef(found, wanted)[0, 1]),
                    "same_top1": bool(found.argmax() == wanted.argmax()),
                }
            )
    return figures


def moving_picture(side: int) -> Any:
    """Number of a frame → (S, S, 3) uint8 of a random pattern that moves to and fro."""
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (side // 4 + 40, side // 4 + 40, 3), np.uint8)
    picture = picture.repeat(4, 0).repeat(4, 1)

    def frame(i: int) -> Any:
        x, y = (int(80 * (1 + np.sin(i / period))) for period in (17, 29))
        return picture[y : y + side, x : x + side]

    return frame


def drift_long(lite: dict[str, Any], frames: int = 3000, count: int = 10) -> dict[str, Any]:
    """The largest difference of a logit from fp32 torch over a stream, ten frames a call."""
    loaded = foveate.models.load(WEIGHTS, offline=True)
    module: Any = loaded.network
    fast, side = module.for_inference(), loaded.input.size
    frame = moving_picture(side)
    state, states = fast.initial_state(1, side, side), dict.fromkeys(lite)
    rows: dict[str, list[tuple[float, float, bool]]] = {key: [] for key in lite}
    for start in range(0, frames, count):
        shown = np.stack([frame(i) for i in range(start, start + count)])[None]
        x = torch.from_numpy(shown).permute(0, 4, 1, 2, 3).float() / 255
        wanted, state = fast.step(x, state)
        reference = wanted[0].numpy()
        for key, one in lite.items():
            _, states[key] = one.network.advance(shown, states[key])
            found = one.network.head(states[key])["logits"][0]
            difference = float(np.abs(found - reference).max() / np.abs(reference).max())
            correlation = float(np.corrcoef(found, reference)[0, 1])
            rows[key].append((difference, correlation, bool(found.argmax() == reference.argmax())))
    minute = 300 // count
    return {
        "frames": frames,
        **{
            key: {
                "largest_difference_by_minute": [
                    max(row[0] for row in found[at : at + minute])
                    for at in range(0, len(found), minute)
                ],
                "least_correlation": min(row[1] for row in found),
                "same_top1": sum(row[2] for row in found) / len(found),
            }
            for key, found in rows.items()
        },
    }


def chunks(rounds: int, lite: dict[str, Any]) -> dict[str, Any]:
    """CPU milliseconds of a frame: streams one frame and ten frames a call, FastestDet."""
    loaded = foveate.models.load(WEIGHTS, offline=True)
    streams: dict[str, Any] = {
        "torch folded": executor_for(loaded.network, CPU, loaded.input),
        **{key: exported_executor(one.network, loaded.input) for key, one in lite.items()},
    }
    detector = foveate.models.load("fastestdet.coco", offline=True)
    detectors: dict[str, Any] = {"torch": DetectExecutor(detector.network, CPU, detector.input)}
    with tempfile.TemporaryDirectory() as folder:
        for key, one in in_engines(detector, Path(folder)).items():
            detectors[key] = ExportedDetector(one.network, detector.input)
        jobs = {}
        for key, executor in streams.items():
            jobs[f"{key}, one frame"] = (job_of(executor), 1)
            jobs[f"{key}, ten frames"] = (job_of(executor, frames=10), 10)
        jobs |= {f"{key}, fastestdet": (job_of(one), 1) for key, one in detectors.items()}
        times = interleave(jobs, rounds)

    def ratios(kind: str, base: str) -> dict[str, float]:
        before = times[f"{base}, {kind}"]["median"]
        return {
            key.removesuffix(f", {kind}"): before / value["median"]
            for key, value in times.items()
            if key.endswith(kind)
        }

    return {
        "ms": times,
        "speedup_one_frame": ratios("one frame", "torch folded"),
        "speedup_ten_frames": ratios("ten frames", "torch folded"),
        "speedup_fastestdet": ratios("fastestdet", "torch"),
    }


def clip_networks(rounds: int, names: list[str]) -> dict[str, Any]:
    """Networks of clips and frames, random weights: CPU milliseconds of a clip, and ratios."""
    figures = {}
    for name in names:
        count = CLIPS[name]
        torch.manual_seed(0)
        side = 112 if name.startswith("r2") else 224
        spec = foveate.InputSpec(side, 5.0, count)
        labels = tuple(f"class {i}" for i in range(400))
        network = create(name, num_classes=400).eval()
        loaded = LoadedModel(name, {"network": network}, labels, spec)
        with tempfile.TemporaryDirectory() as folder:
            opened = in_engines(loaded, Path(folder))
            executors = {
                "torch fp32": executor_for(network, CPU, spec),
                **{key: exported_executor(one.network, spec) for key, one in opened.items()},
            }
            jobs = {key: (job_of(one), 1) for key, one in executors.items()}
            times = interleave(jobs, max(3, rounds // 4))
        base = times["torch fp32"]["median"]
        figures[name] = {
            "frames": count,
            "side": side,
            "ms": times,
            "speedup": {key: base / value["median"] for key, value in times.items()},
        }
        print(name, {k: round(v, 2) for k, v in figures[name]["speedup"].items()}, flush=True)
    return figures


_CHILD = "from foveate.app.main import main\nmain()"


def files(rounds: int) -> dict[str, Any]:
    """`predict` on rendered files in torch and ONNX Runtime: CPU seconds and shares of stages."""
    engines = ("torch", "onnxruntime", "openvino")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        recognisers = {e: foveate.load(WEIGHTS, offline=True, engine=e) for e in engines}
        for width, height in SIZES:
            path = write_scene(Path(name) / f"{height}.mp4", (width, height), 4)
            seconds: dict[str, list[float]] = {e: [] for e in engines}
            stages: dict[str, dict[str, list[float]]] = {e: {} for e in engines}
            for _ in range(rounds):
                for engine, recogniser in recognisers.items():
                    began = time.process_time()
                    result = recogniser.predict(path)
                    seconds[engine].append(time.process_time() - began)
                    for stage in result.cost.stages:
                        stages[engine].setdefault(stage.name, []).append(stage.seconds)
            medians = {e: statistics.median(values) for e, values in seconds.items()}
            figures[f"{width}x{height}"] = {
                "videos_per_cpu_second": {e: 1 / value for e, value in medians.items()},
                "speedup": {e: medians["torch"] / value for e, value in medians.items()},
                "stage_seconds": {
                    e: {key: statistics.median(v) for key, v in one.items()}
                    for e, one in stages.items()
                },
            }
        short = write_scene(Path(name) / "short.mp4", (320, 240), 2)
        starts: dict[str, list[tuple[float, float]]] = {e: [] for e in engines}
        for _ in range(3):
            for engine in engines:
                code = f"{_CHILD}".replace(
                    "main()", "\ntry: main()\nfinally:\n import time, sys\n"
                    " print(time.process_time(), file=sys.stderr)", 1
                )  # fmt: skip
                began = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", code, "predict", "-q", str(short), "--engine", engine,
                     "--model", WEIGHTS, "--offline"],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                cpu = float(done.stderr.split()[-1])
                starts[engine].append((time.perf_counter() - began, cpu))
        figures["first_answer_seconds"] = {
            engine: dict(zip(("wall", "cpu"), map(float, np.median(values, 0)), strict=True))
            for engine, values in starts.items()
        }
    return figures


def main() -> None:
    """Measure everything, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--frames", type=int, default=3000, help="of the stream for drift")
    parser.add_argument("--clips", type=Path, help="a folder of real clips")
    parser.add_argument("--parts", help="measure only these, such as clips,drift")
    parser.add_argument("--networks", default=",".join(CLIPS), help="of whole clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = foveate.models.load(WEIGHTS, offline=True)
    spec = loaded.input
    calibration = []
    if options.clips is not None:
        chosen = sorted(options.clips.rglob("*.mp4"))[::12]
        calibration = [frames_of(path, spec) for path in chosen]
    with tempfile.TemporaryDirectory() as folder:
        needed = not options.parts or NEEDS_LITE & {*options.parts.split(",")}
        lite = in_engines(loaded, Path(folder), calibration) if needed else {}
        parts = {
            "steps": lambda: steps(options.rounds, lite),
            "files": lambda: files(max(3, options.rounds // 4)),
            "agreement": lambda: agreement(options.clips, lite),
            "drift": lambda: drift(options.frames, lite),
            "drift_long": lambda: drift_long(lite),
            "chunks": lambda: chunks(options.rounds, lite),
            "clips": lambda: clip_networks(options.rounds, options.networks.split(",")),
        }
        figures: dict[str, Any] = {}
        chosen = options.parts.split(",") if options.parts else list(parts)
        if options.parts:  # the others stay as they are
            figures = dict(json.loads((RESULTS / "engines.json").read_text("utf-8"))["figures"])
        for name in chosen:  # written after each, so that a run can be ended
            figures[name] = parts[name]()
            print(write("engines", PROTOCOL, options.rounds, figures, (0,)), name, flush=True)


if __name__ == "__main__":
    main()
