"""Peak memory of a training step of 3D ResNet-RS-101, with and without checkpointing.

    python -m benchmarks.step_memory [--size 224] [--frames 32]

Each case is a process of its own that trains by the recipe as `foveate train --config resnet3drs`
sets it up (SGD with momentum, the average of weights and statistics), on random clips that are in
memory: one epoch of one step, checkpoint and run folder written. Float32, which needs more than the
preset's bfloat16. The figure is the largest resident set that the system counted for the process,
Python and torch included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from benchmarks.record import write

from foveate.core.config import build, read_yaml
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.presets import find
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig

DEPTH, CLASSES = 101, 400
GOAL = 8e9  # bytes
STOP = 12e9  # bytes; this machine has other users
CASES = ((1, True), (1, False), (2, True))  # clips, gradient checkpointing


def one_step(batch: int, checkpointing: bool, frames: int, size: int) -> dict[str, Any]:
    """Train one step in this process; its peak memory in bytes, its CPU seconds and its loss."""
    keep_freed_memory()
    torch.set_num_threads(1)
    preset = find("resnet3drs")
    assert preset is not None
    values: dict[str, Any] = read_yaml(preset)
    values |= {
        "model": f"resnet3d-rs-{DEPTH}", "frames": frames, "size": size, "batch": batch,
        "epochs": 1, "warmup": 0.0, "lr": 0.8 * batch / 1024, "amp": "off", "workers": 0,
        "settings": {**values["settings"], "checkpointing": checkpointing},
    }  # fmt: skip
    config = build(SupervisedConfig, values, "settings")
    x = torch.randint(0, 256, (batch, 3, frames, size, size), dtype=torch.uint8)
    y = torch.arange(batch)

    def source(split: str, training: bool, spec: Any, team: Any) -> TensorBatches | None:
        return TensorBatches(x, y, batch, seed=0) if training else None

    dataset: Any = SimpleNamespace(
        classes=tuple(f"class {i}" for i in range(CLASSES)), multilabel=False, root=None,
        digest=lambda split: split,
    )  # fmt: skip
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        done = run_recipe(
            supervised.RECIPE,
            config,
            dataset,
            Path(folder) / "run",
            on_progress=lambda now: None,
            source=source,
        )
        size_of = (Path(folder) / "run" / "model.safetensors").stat().st_size
    seconds = time.process_time() - began
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts KiB
    return {"peak": peak, "cpu_seconds": seconds, "steps": done.steps, "weights_bytes": size_of}


def resident(pid: int) -> int:
    """Bytes that a process holds now; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * resource.getpagesize()


def guarded(arguments: list[str]) -> dict[str, Any]:
    """Run this script as a child that is stopped above `STOP` bytes; what it printed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.step_memory", *arguments], stdout=subprocess.PIPE
    )
    stopped = threading.Event()

    def watch() -> None:
        while child.poll() is None:
            if resident(child.pid) > STOP:
                stopped.set()
                child.kill()
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    said, _ = child.communicate()
    watcher.join()
    if stopped.is_set():
        return {"stopped_above": STOP}
    if child.returncode:
        raise SystemExit(child.returncode)
    found: dict[str, Any] = json.loads(said)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure every case and write the result."""
    parser = argparse.ArgumentParser(description="Memory of a training step of RS-101")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--case", nargs=2, type=int, help="in this process: clips, checkpointing")
    options = parser.parse_args(arguments)
    if options.case is not None:
        batch, again = options.case
        print(json.dumps(one_step(batch, bool(again), options.frames, options.size)))
        return 0
    cases = []
    for batch, again in CASES:
        found = guarded(
            ["--frames", str(options.frames), "--size", str(options.size),
             "--case", str(batch), str(int(again))]
        )  # fmt: skip
        cases.append({"batch": batch, "checkpointing": again, **found})
        print(cases[-1], flush=True)
    write(
        "step_memory",
        f"3D ResNet-RS-{DEPTH}, {options.frames} frames of {options.size} pixels, float32, one "
        "step of the recipe of the preset resnet3drs (SGD with momentum, averaged weights and "
        "statistics) with its checkpoint, random clips, one thread; largest resident set of a "
        f"process of its own; stopped above {STOP / 1e9:g} GB",
        len(cases),
        {"depth": DEPTH, "goal_bytes": GOAL, "cases": cases},
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
