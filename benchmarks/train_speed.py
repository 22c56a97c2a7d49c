"""Training on two cores: clips/s, share of time waiting for clips, memory, and what malloc costs.

Every line is a process of its own, so that its memory and processor time are its own. Clips are
rendered ones (320x240, H.264), the network is MoViNet-A0 at 172 pixels, 10 frames a clip.

Run: ``python benchmarks/train_speed.py MOCAP15 [--json PATH]`` (a few minutes on one core).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foveate.data import Dataset, read
from foveate.evaluate.results import write_result
from foveate.models import load
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig

STEPS, CLIPS, FRAMES, SIZE = 3, 8, 10, 172
TRAINED = 200  # clips of the fine-tune of a user
WHOLE = 64  # clips of one epoch of all layers
PROTOCOL = (
    f"one network thread; MoViNet-A0 (SE-free), {FRAMES} frames of {SIZE} pixels; step: mean of "
    f"{STEPS} steps of {CLIPS} clips in memory; frozen: features of {TRAINED} clips and their "
    f"mirror images once, 100 epochs of the head; all layers: one epoch of {WHOLE} clips; each "
    "line a process of its own; cpu is user + system time, of loading processes too"
)


def step(keep: bool) -> dict[str, Any]:
    """Processor time and page faults of a step on random clips."""
    if keep:
        keep_freed_memory()
    model = load("movinet-a0-stream-lite.k600", num_classes=15).network.train()
    x = torch.rand(CLIPS, 3, FRAMES, SIZE, SIZE)
    model(x).sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(STEPS):
        model(x).sum().backward()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "user_s": (after.ru_utime - before.ru_utime) / STEPS,
        "system_s": (after.ru_stime - before.ru_stime) / STEPS,
        "page_faults": (after.ru_minflt - before.ru_minflt) // STEPS,
        "peak_mb": after.ru_maxrss / 1e3,
    }


def tuned(data: Path, clips: int, **settings: Any) -> dict[str, Any]:
    """A fine-tune as `foveate train` does it, over that many clips."""
    keep_freed_memory()
    config = SupervisedConfig(frames=FRAMES, patience=None, **settings)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = run_recipe(
            supervised.RECIPE,
            config,
            _some(read(data), clips),
            Path(folder) / "run",
            on_progress=lambda _: None,
        )
        wall = time.perf_counter() - started
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "clips": clips,
        "wall_s": wall,
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "clips_per_second": done.clips_per_second,
        "loader_share": done.loader_share,
        "features_s": done.features_seconds,
        "peak_mb": own.ru_maxrss / 1e3,
    }


def _some(dataset: Dataset, clips: int) -> Dataset:
    """The first training clips as a set with no validation."""
    return replace(dataset, records=dataset.subset("train").records[:clips])


def lines(data: Path) -> dict[str, Any]:
    """What is measured: name → how."""
    whole = {"epochs": 1, "batch": CLIPS, "freeze": "none", "accumulate": 1}
    return {
        "step, malloc as it comes": lambda: step(False),
        "step, freed memory kept": lambda: step(True),
        "frozen": lambda: tuned(data, TRAINED, freeze="backbone", epochs=100),
        "all layers, 0 workers": lambda: tuned(data, WHOLE, workers=0, **whole),
        "all layers, 1 worker": lambda: tuned(data, WHOLE, workers=1, **whole),
        "all layers, 2 workers": lambda: tuned(data, WHOLE, workers=2, **whole),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="mocap15, as foveate data make renders it")
    parser.add_argument("--json", type=Path, help="write a result file")
    parser.add_argument("--line", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.line:
        print(json.dumps(lines(options.data)[options.line]()))
        return
    figures: dict[str, Any] = {}
    for name in lines(options.data):
        command = [sys.executable, __file__, str(options.data), "--line", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, figures[name], flush=True)
    both = [figures[f"step, {how}"] for how in ("malloc as it comes", "freed memory kept")]
    cost = [one["user_s"] + one["system_s"] for one in both]
    figures["step time saved by keeping freed memory"] = 1 - cost[1] / cost[0]
    if options.json is not None:
        write_result(options.json, "training speed", PROTOCOL, TRAINED, [0], figures)


if __name__ == "__main__":
    main()
