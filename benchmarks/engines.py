"""Engines against torch: steps of streams, other networks, drift of long streams, end to end.

One run on one thread measures, in interleaved rounds of process CPU time:

* `steps`: MoViNet A0-stream-lite, A0-stream and A2-stream, one frame with its answer, one stream
  and eight in one call, in torch (folded, and the plain modules), ONNX Runtime, OpenVINO (fp32,
  bf16 where the processor has it, int8 of A0-stream-lite) and LiteRT (fp32 where litert-torch is
  installed, and the published int8 file); beside the floors of `step_time.py`;
* `agreement`: logits of A0-stream-lite with Kinetics weights on real clips (`--clips FOLDER`)
  against fp32 torch; int8 ranges are measured on other clips of the same folder;
* `drift_long`: logits over ten minutes at 5 frames/s, ten frames a call, against fp32 torch;
* `groups`: where a step of A0-stream-lite spends its time, by kind of layer, from the profilers of
  ONNX Runtime and OpenVINO, beside the floor of each kind: operations over the speed of a matrix
  product, or bytes over bandwidth, whichever takes longer;
* `chunks`: a call for one frame and for ten, and a key frame of FastestDet;
* `clips`: networks of whole clips and of frames;
* `files`: `predict` from file to label at four sizes, and a fresh process until its first answer.

    OMP_NUM_THREADS=1 python -m benchmarks.engines [--clips FOLDER] [--rounds N] [--parts NAMES]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import RESULTS, write
from benchmarks.scenes import write_scene
from benchmarks.step_time import depthwise_macs, floor_jobs, interleave, repeated
from torch import nn

import foveate
from foveate.core import FoveateError
from foveate.engines.export import export
from foveate.engines.network import logits_of, open_exported
from foveate.models import LoadedModel, create, macs_of
from foveate.models.movinet import INPUTS
from foveate.models.weights.builtin import CARD
from foveate.models.weights.run import read_run
from foveate.pipeline.detection import DetectExecutor
from foveate.pipeline.engines import job_of
from foveate.pipeline.executors import StreamExecutor, executor_for
from foveate.pipeline.export import frames_of
from foveate.pipeline.exported import ExportedDetector, exported_executor

WEIGHTS = "movinet-a0-stream-lite.k600"
STREAMS = {"movinet-a0-stream-lite": "a0", "movinet-a0-stream": "a0", "movinet-a2-stream": "a2"}
CLIPS = {
    "tsn:efficientnet_lite0": 8, "r2plus1d-18": 16, "ssdlite320-mobilenet-v3-large": 1,
    "tsn:vit_small_patch16_224": 8, "tsn:resnet50": 8,
}  # fmt: skip
SIDES = {"r2plus1d-18": 112, "ssdlite320-mobilenet-v3-large": 320}
SIZES = ((320, 240), (640, 360), (1280, 720), (1920, 1080))
# Format and precision of the graphs → engines and precisions that run them.
FORMS: dict[tuple[Any, Any], tuple[tuple[Any, Any], ...]] = {
    ("onnx", "fp32"): (("onnxruntime", "fp32"),),
    ("openvino", "fp32"): (("openvino", "fp32"), ("openvino", "bf16")),
    ("litert", "fp32"): (("litert", "fp32"),),
    ("onnx", "int8"): (("onnxruntime", "int8"), ("openvino", "int8")),
}
# Operators of the floor; the others can be fused to them or need no copy.
COUNTED = ("Conv", "Gemm", "MatMul", "AveragePool", "ReduceMean", "GlobalAveragePool")
NEEDS_LITE = {"steps", "agreement", "drift_long", "chunks", "groups"}
CPU = torch.device("cpu")
PROTOCOL = (
    "one thread, process CPU time, interleaved rounds, median and least; steps are one frame with "
    "its answer at 600 classes; other work ran on the machine, so only ratios within this run "
    "count"
)


def in_engines(loaded: LoadedModel, folder: Path, clips: list[Any] | None = None) -> dict[str, Any]:
    """Engine and precision → the opened model, exported to `folder` unless it is there already."""
    found = {}
    for (format, precision), engines in FORMS.items():
        if precision == "int8" and not clips:
            continue
        target = folder / f"{format}-{precision}"
        try:
            if not (target / CARD).exists():
                export(loaded, target, format, precision=precision, clips=clips or [])
            for engine, computed in engines:
                found[f"{engine} {computed}"] = open_exported(
                    target, loaded.name, engine=engine, precision=computed
                )
        except FoveateError as error:
            print(f"left out: {format} {precision}: {error}", flush=True)
    return found


def steps(rounds: int, lite: dict[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    """Streams: CPU milliseconds of a frame with its answer, and ratios; after each network."""
    figures: dict[str, Any] = {}
    for name in names:
        table = STREAMS[name]
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
        yield figures


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
    networks: dict[str, Any] = {key: one.network for key, one in lite.items()}
    published: Any = foveate.load(WEIGHTS, offline=True, engine="litert").executor
    networks["litert published int8"] = published.network
    state, states = fast.initial_state(1, side, side), dict.fromkeys(networks)
    rows: dict[str, list[tuple[float, float, bool]]] = {key: [] for key in networks}
    for start in range(0, frames, count):
        shown = np.stack([frame(i) for i in range(start, start + count)])[None]
        x = torch.from_numpy(shown).permute(0, 4, 1, 2, 3).float() / 255
        wanted, state = fast.step(x, state)
        reference = wanted[0].numpy()
        for key, network in networks.items():
            outputs, states[key] = network.advance(shown, states[key])
            outputs = network.head(states[key]) if network.has("head") else outputs
            found = outputs["logits"][0]
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


class RawDetections(nn.Module):
    """A detector of torchvision without the selection of boxes, as a network of clips of a frame.

    Args:
        detector: A `TorchvisionDetector` whose head takes maps alone.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.detector.high(self.detector.low(x[:, :, 0]))
        found = self.detector.model.head(list(maps.values()))
        return torch.cat([one.flatten(1) for one in found.values()], 1)


def clip_networks(rounds: int, names: list[str]) -> Iterator[dict[str, Any]]:
    """Networks of clips and frames, random weights: CPU milliseconds of a clip, and ratios.

    After each network, all so far.
    """
    figures: dict[str, Any] = {}
    for name in names:
        count = CLIPS[name]
        torch.manual_seed(0)
        side = SIDES.get(name, 224)
        spec = foveate.InputSpec(side, 5.0, count)
        labels = tuple(f"class {i}" for i in range(400))
        network = create(name) if "ssdlite" in name else create(name, num_classes=400)
        network = (RawDetections(network) if "ssdlite" in name else network).eval()
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
        yield figures


@dataclass
class Group:
    """Layers of one kind in a step.

    Attributes:
        macs: Multiply-adds.
        bytes: Read and written, weights among them.
        ms: By engine, as its profiler says.
    """

    macs: float = 0.0
    bytes: float = 0.0
    ms: dict[str, float] = field(default_factory=dict)


def kind_of(operator: str, groups: int = 1, size: int = 1) -> str:
    """The group of an operator of ONNX or OpenVINO.

    Args:
        operator: Its type.
        groups: Of a convolution.
        size: Height of its kernel.
    """
    kinds = {
        "Reorder": "layout", "Transpose": "layout", "Pool": "pooling", "Mean": "pooling",
        "Gemm": "classifier", "MatMul": "classifier", "FullyConnected": "classifier",
    }  # fmt: skip
    if operator == "Conv":
        if groups > 1:
            return "temporal kernels" if size == 1 else "depthwise"
        return "pointwise" if size == 1 else "first convolution"
    return next((kind for key, kind in kinds.items() if key in operator), "element-wise, other")


def onnx_groups(path: Path, groups: dict[str, Group]) -> dict[str, str]:
    """Count multiply-adds and bytes of an ONNX graph at a batch of one.

    Returns:
        Name of an output of a convolution, or of what is fused to it → its group.
    """
    import onnx

    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        for one in value.type.tensor_type.shape.dim:
            if one.dim_param:
                one.dim_value = 1
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    shapes = {
        value.name: [one.dim_value for one in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
    } | {one.name: list(one.dims) for one in graph.initializer}
    sizes = {key: float(np.prod(shape)) for key, shape in shapes.items()}
    found = {}
    for node in graph.node:
        count = next((one.i for one in node.attribute if one.name == "group"), 1)
        weight = shapes.get(node.input[1], [1]) if len(node.input) > 1 else [1]
        kind = kind_of(node.op_type, count, [*weight, 1, 1, 1][2])
        if node.op_type == "Conv":
            found[node.output[0]] = kind
        elif node.op_type in ("Clip", "Relu", "Add") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
        if node.op_type not in COUNTED:
            continue
        group = groups.setdefault(kind, Group())
        group.bytes += 4 * sum(sizes.get(one, 0.0) for one in (*node.input, *node.output))
        if node.op_type == "Conv":
            group.macs += sizes[node.output[0]] * float(np.prod(weight[1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            group.macs += sizes[node.input[1]]
    return found


def in_onnxruntime(graph: Path, given: Any, calls: int, kinds: dict[str, str]) -> dict[str, float]:
    """Group → milliseconds of a call by ONNX Runtime's profiler, the least of each node.

    Profilers measure elapsed time, which grows when other processes run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 1, True
    options.profile_file_prefix = str(graph.with_suffix(""))
    session = onnxruntime.InferenceSession(str(graph), options, ["CPUExecutionProvider"])
    for _ in range(calls):
        session.run(None, given)
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    times: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, operator = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            known = kinds.get(name.removesuffix("_nchwc"))
            kind = known if operator == "Conv" and known else kind_of(operator)
            times.setdefault(f"{kind}\n{name}", []).append(event["dur"] / 1e3)
    return summed({key: min(values) for key, values in times.items()})


def in_openvino(graph: Path, given: Any, calls: int) -> dict[str, float]:
    """Group → milliseconds of a call by OpenVINO's counters, the least of each node."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(graph))
    model.reshape({key: list(value.shape) for key, value in given.items()})
    kinds = {}
    for node in model.get_ops():
        if "Convolution" in node.get_type_name():
            shape = list(node.input_value(1).get_shape())
            grouped = node.get_type_name() == "GroupConvolution"
            kinds[node.get_friendly_name()] = kind_of("Conv", 2 if grouped else 1, shape[-1])
    settings = {"INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    times: dict[str, list[float]] = {}
    for _ in range(calls):
        request.infer(given)
        for one in request.get_profiling_info():
            if one.real_time.total_seconds() > 0:
                kind = kinds.get(one.node_name) or kind_of(one.node_type)
                key = f"{kind}\n{one.node_name}"
                times.setdefault(key, []).append(one.real_time.total_seconds() * 1e3)
    return summed({key: min(values) for key, values in times.items()})


def in_litert(folder: Path, calls: int) -> dict[str, float]:
    """CPU milliseconds of LiteRT's two graphs alone, and of the same with buffers and Python."""
    from ai_edge_litert.interpreter import Interpreter

    opened: Any = open_exported(folder, WEIGHTS, engine="litert")
    jobs: dict[str, Any] = {
        "executor": (job_of(exported_executor(opened.network, opened.input)), 1)
    }
    for name in ("step-172", "head"):
        interpreter = Interpreter(model_path=str(folder / f"network.{name}.tflite"), num_threads=1)
        interpreter.allocate_tensors()
        jobs[name] = (interpreter.invoke, 1)
    return {key: value["median"] for key, value in interleave(jobs, calls).items()}


def summed(times: dict[str, float]) -> dict[str, float]:
    """Group → the sum over its nodes, of `GROUP newline NODE`."""
    found: dict[str, float] = {}
    for key, value in times.items():
        kind = key.partition("\n")[0]
        found[kind] = found.get(kind, 0.0) + value
    return found


def groups(folder: Path, calls: int) -> dict[str, Any]:
    """Where a step of A0-stream-lite and its head spend their time, and the floor of each group."""
    found: dict[str, Group] = {}
    litert = folder / "litert-fp32"
    for name in ("step-172", "head"):
        plain = folder / "onnx-fp32" / f"network.{name}.onnx"
        kinds = onnx_groups(plain, found)
        card = read_run(folder / "onnx-fp32").exported
        assert card is not None
        random = np.random.default_rng(0)
        given = {}
        for one in card.networks["network"].graphs[name].inputs:
            shape = [1 if isinstance(size, str) else size for size in one.shape]
            given[one.name] = random.integers(0, 9, shape).astype(one.dtype)
        for engine, times in (
            ("onnxruntime", in_onnxruntime(plain, given, calls, kinds)),
            ("openvino", in_openvino(folder / "openvino-fp32" / f"network.{name}.xml",
                                     given, calls)),
        ):  # fmt: skip
            for kind, value in times.items():
                ms = found.setdefault(kind, Group()).ms
                ms[engine] = ms.get(engine, 0.0) + value
    small, large = torch.rand(2, 64, 1024), torch.rand(2048, 1080)
    vector, out = torch.rand(1080), torch.empty(64, 1024)
    jobs: dict[str, Any] = {
        "in cache": (repeated(lambda: torch.add(small[0], small[1], out=out), 50), 50),
        "from memory": (lambda: torch.mv(large, vector), 1),
        "gemm": (floor_jobs()["gemm"][0], 1),
    }
    times_ms = interleave(jobs, calls)
    near = 3 * 4 * out.numel() / times_ms["in cache"]["median"] * 1e3
    far = 4 * large.numel() / times_ms["from memory"]["median"] * 1e3
    peak = floor_jobs()["gemm"][1] / times_ms["gemm"]["median"] * 1e3
    rows = {
        kind: {
            "macs": one.macs,
            "bytes": one.bytes,
            "floor_ms": 1e3
            * max(one.macs / peak, one.bytes / (far if kind == "classifier" else near)),
            "ms": one.ms,
        }
        for kind, one in found.items()
    }
    return {
        "macs_per_second": peak,
        "bytes_per_second": {"in cache": near, "from memory": far},
        "groups": rows,
        "floor_ms": sum(row["floor_ms"] for row in rows.values()),
        "litert_ms": in_litert(litert, calls) if (litert / CARD).exists() else {},
    }


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
    parser.add_argument("--clips", type=Path, help="a folder of real clips")
    parser.add_argument("--parts", help="measure only these, such as clips,steps")
    parser.add_argument("--graphs", type=Path, help="a folder that keeps those of A0-stream-lite")
    parser.add_argument("--streams", default=",".join(STREAMS), help="of steps")
    parser.add_argument("--networks", default=",".join(CLIPS), help="of whole clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = foveate.models.load(WEIGHTS, offline=True)
    spec = loaded.input
    calibration = []
    if options.clips is not None:
        chosen = sorted(options.clips.rglob("*.mp4"))[::12]
        calibration = [frames_of(path, spec) for path in chosen]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.graphs or Path(temporary)
        needed = not options.parts or NEEDS_LITE & {*options.parts.split(",")}
        lite = in_engines(loaded, folder, calibration) if needed else {}
        parts: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
            "agreement": lambda: [agreement(options.clips, lite)],
            "steps": lambda: steps(options.rounds, lite, options.streams.split(",")),
            "groups": lambda: [groups(folder, 5 * options.rounds)],
            "drift_long": lambda: [drift_long(lite)],
            "chunks": lambda: [chunks(options.rounds, lite)],
            "clips": lambda: clip_networks(options.rounds, options.networks.split(",")),
            "files": lambda: [files(max(3, options.rounds // 4))],
        }
        figures: dict[str, Any] = {}
        if options.parts:  # the others stay as they are
            before = json.loads((RESULTS / "engines.json").read_text("utf-8"))["figures"]
            figures = {name: value for name, value in before.items() if name in parts}
        for name in options.parts.split(",") if options.parts else parts:
            for found in parts[name]():  # written after each, so that a run can be ended
                figures[name] = {**figures.get(name, {}), **found}
                print(write("engines", PROTOCOL, options.rounds, figures, (0,)), name, flush=True)


if __name__ == "__main__":
    main()
