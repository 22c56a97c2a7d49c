"""Time of one streaming step, as a multiple of what the arithmetic alone would cost.

Everything is measured in one run, in interleaved rounds, on one thread, in process CPU time,
so that the ratios hold on a busy machine; the milliseconds hold for this machine only.

Two floors are measured, not assumed (both per frame):

* ``gemm``: all multiply-adds at the speed of a large matrix product.
* ``practical``: 1x1 and dense layers at the speed of a mid-sized product, depthwise kernels at
  the speed of the network's largest depthwise convolution in a batch, everything else free.

Run: ``python benchmarks/step_time.py [--rounds N] [--json PATH]``. The published weights are
used when they are on this machine (speed does not depend on them, except that the comparison
with the int8 engine needs their file).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import FoveateError
from foveate.models import count_macs, create
from foveate.models.streaming import State
from foveate.models.weights.resolve import find_local
from foveate.models.weights.table import find

NAME = "movinet-a0-stream-lite.k600"
CHUNKS = (1, 8, 50)

Job = Callable[[], object]


def interleave(jobs: dict[str, tuple[Job, int]], rounds: int) -> dict[str, dict[str, float]]:
    """Time jobs in turn, so that a slow spell of the machine meets all of them.

    Args:
        jobs: Name to (function, units of work in one call).
        rounds: Calls of each; one more is made first and not counted.

    Returns:
        Name to ``min`` and ``median`` CPU milliseconds per unit.
    """
    for run, _ in jobs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (run, units) in jobs.items():
            begin = time.process_time()
            run()
            times[name].append((time.process_time() - begin) * 1e3 / units)
    return {
        name: {"min": min(values), "median": statistics.median(values)}
        for name, values in times.items()
    }


def repeated(run: Job, times: int) -> Job:
    """A job that runs another several times, for what is too short to time."""

    def job() -> None:
        for _ in range(times):
            run()

    return job


def stepper(form: Any, frames: int, size: tuple[int, int], heads: bool = True) -> Job:
    """A job that continues one stream by ``frames`` frames at every call."""
    x = torch.rand(1, 3, frames, *size)
    kept: dict[str, State] = {"state": form.initial_state(1, *size)}

    def job() -> None:
        run = form.step if heads else form.step_features
        with torch.inference_mode():
            kept["state"] = run(x, kept["state"])[1]

    return job


def depthwise_macs(model: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds per frame in depthwise kernels, spatial and temporal."""
    total = 0
    height, width = -(-size[0] // 2), -(-size[1] // 2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            stride = module.stride[0]
            height, width = -(-height // stride), -(-width // stride)
            total += module.weight.numel() * height * width
    return total


def floor_jobs() -> dict[str, tuple[Job, float]]:
    """Jobs that show what the machine can do: name to (job, multiply-adds of a call)."""
    big = torch.rand(768, 768)
    pixels, wide, narrow = torch.rand(968, 80), torch.rand(80, 184), torch.rand(968, 184)
    maps = torch.rand(4, 80, 22, 22).contiguous(memory_format=torch.channels_last)
    kernel, bias = torch.rand(80, 1, 3, 3), torch.rand(80)

    def depthwise() -> object:
        with torch.inference_mode():
            return F.conv2d(maps, kernel, bias, 1, 1, 1, 80)

    return {
        "gemm": (lambda: torch.mm(big, big), float(768**3)),
        "pointwise": (
            repeated(lambda: torch.mm(pixels, wide, out=narrow), 20),
            20.0 * 968 * 80 * 184,
        ),
        "depthwise": (repeated(depthwise, 10), 10.0 * 4 * 80 * 22 * 22 * 9),
    }


def engine_job(path: Path) -> Job | None:
    """A job that runs one frame of the published int8 file, or None without the engine."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return None
    engine = Interpreter(model_path=str(path), num_threads=1)
    engine.allocate_tensors()

    def job() -> None:
        engine.invoke()

    return job


def published_file() -> Path | None:
    """The published file if it is on this machine and whole."""
    return next((found.path for found in find_local(find(NAME).file) if found.ok), None)


def measure(
    model: Any | None = None,
    size: tuple[int, int] = (172, 172),
    rounds: int = 15,
    chunks: tuple[int, ...] = CHUNKS,
    engine: Path | None = None,
) -> dict[str, Any]:
    """Measure a streaming model's step and the floors of this machine in one run.

    Args:
        model: A module with the step form and ``for_inference``; A0-stream-lite when None.
        size: Height and width of the frames in pixels.
        rounds: Interleaved rounds.
        chunks: Frames per call to time.
        engine: A .tflite file to run beside, or None.

    Returns:
        ``threads``, ``size``, ``rounds``; ``macs_per_frame`` and its depthwise part;
        ``times``: CPU milliseconds per frame (min and median) by name; ``gflops`` of the floor
        jobs (2 per multiply-add); ``floors``: milliseconds per frame; ``ratios``: times over
        floors and over the engine, by minimum and by median.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(model, size, rounds, chunks, engine)
    finally:
        torch.set_num_threads(threads)


def _measure(
    model: Any,
    size: tuple[int, int],
    rounds: int,
    chunks: tuple[int, ...],
    engine: Path | None,
) -> dict[str, Any]:
    """``measure`` with one thread already set."""
    model = (create("movinet-a0-stream-lite") if model is None else model).eval()
    fast = model.for_inference()
    jobs: dict[str, tuple[Job, int]] = {"plain step 1": (stepper(model, 1, size), 1)}
    for n in chunks:
        jobs[f"step {n}"] = (stepper(fast, n, size), n)
    jobs["features 1"] = (stepper(fast, 1, size, heads=False), 1)
    run = engine_job(engine) if engine else None
    if run is not None:
        jobs["engine int8"] = (run, 1)
    floors = floor_jobs()
    jobs |= {name: (job, 1) for name, (job, _) in floors.items()}
    times = interleave(jobs, rounds)
    rates = {
        name: {kind: macs / value / 1e9 for kind, value in times.pop(name).items()}
        for name, (_, macs) in floors.items()
    }
    total = count_macs(model, (1, 3, 1, *size))
    deep = depthwise_macs(model, size)
    floor = {
        kind: {
            "gemm": total / rates["gemm"][kind] / 1e9,
            "practical": (total - deep) / rates["pointwise"][kind] / 1e9
            + deep / rates["depthwise"][kind] / 1e9,
        }
        for kind in ("min", "median")
    }
    return {
        "threads": 1,
        "size": list(size),
        "rounds": rounds,
        "macs_per_frame": total,
        "depthwise_macs_per_frame": deep,
        "times": times,
        "gflops": {name: rate["min"] * 2e3 for name, rate in rates.items()},
        "floors": floor,
        "ratios": _ratios(times, floor),
    }


def _ratios(
    times: dict[str, dict[str, float]], floor: dict[str, dict[str, float]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Every time over every yardstick of the run."""
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for name, kinds in times.items():
        ratios[name] = {}
        for kind, value in kinds.items():
            yard = dict(floor[kind])
            if "engine int8" in times:
                yard["engine int8"] = times["engine int8"][kind]
            ratios[name][kind] = {key: value / unit for key, unit in yard.items()}
    return ratios


def table(result: dict[str, Any]) -> str:
    """The result as lines of text."""
    rates = result["gflops"]
    lines = [
        f"{result['macs_per_frame'] / 1e6:.1f} MMACs per frame at "
        f"{result['size'][0]}x{result['size'][1]}, one thread, CPU time, "
        f"{result['rounds']} interleaved rounds",
        "this machine: " + ", ".join(f"{k} {v:.0f} GFLOP/s" for k, v in rates.items()),
        "floors, ms per frame: "
        + ", ".join(f"{k} {v:.2f}" for k, v in result["floors"]["min"].items()),
        f"{'':14}{'min ms':>8}{'median':>8}{'x gemm':>8}{'x pract':>8}{'x int8':>8}",
    ]
    for name, value in result["times"].items():
        ratio = result["ratios"][name]["min"]
        over = f"{ratio['engine int8']:8.2f}" if "engine int8" in ratio else f"{'-':>8}"
        lines.append(
            f"{name:14}{value['min']:8.2f}{value['median']:8.2f}"
            f"{ratio['gemm']:8.1f}{ratio['practical']:8.1f}{over}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="Time of one streaming step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=172, help="side of the frames in pixels")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args(arguments)
    try:
        file = published_file() if options.size == 172 else None
        result = measure(size=(options.size,) * 2, rounds=options.rounds, engine=file)
    except FoveateError as error:
        parser.exit(1, f"{error}\n")
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
