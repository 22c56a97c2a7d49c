"""AutoVideo's seven algorithms, as pipelines, on one task that tells them apart.

    python -m benchmarks.seven_algorithms [--only KIND...]

A textured square moves left, right, up or down over noise, or stands still: five classes that no
single frame tells. TSN, which takes the mean over frames, cannot pass one in five; what the others
reach in the same epochs is shown. TSN, TSM and the inflated network start from the
EfficientNet-Lite0 weights, the others from random ones at small width. Clips are generated in
memory. Every algorithm that is done is written at once, so that a run can be continued.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks.record import RESULTS, write

from foveate.data.prepare import to_float
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import interval
from foveate.models.macs import macs_of
from foveate.models.weights.run import load_run
from foveate.primitives.pipeline import Pipeline
from foveate.train.kit.batches import TensorBatches
from foveate.train.pipelines import recipe_of
from foveate.train.recipe import run_recipe

NAME = "seven_algorithms"
LITE0 = "efficientnet_lite0.imagenet_lite0"
SIDE, FRAMES, SPEED = 32, 16, 2  # pixels, frames, pixels per frame
CLASSES = ("left", "right", "up", "down", "still")
STEPS = ((0, -1), (0, 1), (-1, 0), (1, 0), (0, 0))
COUNTS = {"train": 160, "val": 60, "test": 300}
PROTOCOL = (
    f"generated clips of {FRAMES} frames of {SIDE} pixels: a textured square moves {SPEED} pixels "
    f"a frame in one of four directions over noise, or stands still; {COUNTS['train']} training, "
    f"{COUNTS['val']} validation and {COUNTS['test']} test clips; 8 epochs from image weights, 30 "
    "from random ones, in batches of 16 with AdamW, best epoch by the validation split; top-1 with "
    "a 95 % percentile bootstrap over clips; one training seed; CPU seconds of the training, one "
    "thread"
)
# Name in the table → fields of the recogniser, and of the training.
ENTRIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "TSN": ({"kind": "tsn", "backbone": LITE0}, {"epochs": 8, "lr": 1e-3}),
    "TSM": ({"kind": "tsm", "backbone": LITE0}, {"epochs": 8, "lr": 1e-3}),
    "Inflated": ({"kind": "inflated", "backbone": LITE0}, {"epochs": 8, "lr": 1e-3}),
    "I3D": ({"kind": "i3d", "divide": 8}, {"epochs": 30, "lr": 3e-3}),
    "ECO": ({"kind": "eco", "divide": 8}, {"epochs": 30, "lr": 3e-3}),
    "C3D": (
        {"kind": "c3d", "width": 8, "hidden": 64, "size": SIDE}, {"epochs": 30, "lr": 1e-3},
    ),
    "R(2+1)D": ({"kind": "r2plus1d", "depth": 10, "width": 8}, {"epochs": 30, "lr": 3e-3}),
    "R3D": ({"kind": "r3d", "depth": 10, "width": 8}, {"epochs": 30, "lr": 3e-3}),
}  # fmt: skip


def clips(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips (N, 3, T, S, S) uint8 and their classes; the square wraps around at the border."""
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(len(CLASSES), (count,), generator=random)
    x = torch.randint(0, 60, (count, 3, FRAMES, SIDE, SIDE), generator=random)
    for clip, label in zip(x, y.tolist(), strict=True):
        square = torch.randint(90, 250, (3, SIDE // 3, SIDE // 3), generator=random)
        top, left = torch.randint(SIDE, (2,), generator=random).tolist()
        down, right = STEPS[label]
        for t in range(FRAMES):
            rows = (torch.arange(SIDE // 3) + top + down * SPEED * t) % SIDE
            columns = (torch.arange(SIDE // 3) + left + right * SPEED * t) % SIDE
            clip[:, t, rows[:, None], columns] = square
    return x.to(torch.uint8), y


@dataclass
class Squares:
    """The part of a data set that the recipe reads."""

    parts: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=lambda: {
            split: clips(count, seed) for seed, (split, count) in enumerate(COUNTS.items())
        }
    )
    classes: tuple[str, ...] = CLASSES
    multilabel: bool = False
    root: Any = None

    def digest(self, split: str) -> str:
        """Names what a split was made of."""
        return f"{split} {len(self.parts[split][1])}"

    def source(self, split: str, training: bool, *_: Any) -> TensorBatches:
        """Batches of a split, in another order in every epoch of training."""
        x, y = self.parts[split]
        return TensorBatches(x, y, 16, 0 if training else None)


def pipeline_of(name: str) -> Pipeline:
    """The pipeline of an algorithm."""
    recogniser, training = ENTRIES[name]
    return Pipeline(
        sampler={"kind": "uniform", "frames": FRAMES, "rate": 8.0},
        transforms=[{"kind": "resize", "size": SIDE}],
        recogniser=recogniser,
        training={
            "kind": "supervised", "freeze": "none", "batch": 16, "workers": 0,
            "backbone_lr": 1.0, "settings": {"patience": None, "accumulate": 1}, **training,
        },
    )  # fmt: skip


def measure(pipeline: Pipeline, data: Squares, folder: Path) -> dict[str, Any]:
    """Train a pipeline and measure it on the test clips."""
    recipe, config = recipe_of(pipeline)
    began = time.process_time()
    dataset: Any = data
    source: Any = data.source
    run_recipe(recipe, config, dataset, folder, on_progress=lambda event: None, source=source)
    seconds = time.process_time() - began
    run = load_run(folder)
    x, y = data.parts["test"]
    with torch.inference_mode():
        rows = [run.network(to_float(part, run.input.mean, run.input.std)) for part in x.split(32)]
    right = metrics.hits(torch.cat(rows).numpy(), y.numpy())
    within = interval(metrics.mean(right), len(right))
    return {
        "pipeline": json.loads(pipeline.to_json()), "digest": pipeline.digest,
        "top1": within.value, "low": within.low, "high": within.high,
        "macs": macs_of(run.network, (1, *x.shape[1:])), "training_cpu_seconds": seconds,
    }  # fmt: skip


def main(only: list[str]) -> None:
    """Measure the algorithms that are not there yet."""
    path = RESULTS / f"{NAME}.json"
    found = json.loads(path.read_text())["figures"]["algorithms"] if path.is_file() else {}
    data = Squares()
    torch.set_num_threads(1)
    for name in only or [name for name in ENTRIES if name not in found]:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = one = measure(pipeline_of(name), data, Path(folder) / "run")
        print(f"{name}: {one['top1']:.3f} ({one['low']:.3f} to {one['high']:.3f}), "
              f"{one['training_cpu_seconds']:.0f} s", flush=True)  # fmt: skip
        write(NAME, PROTOCOL, COUNTS["test"], {"algorithms": found}, (0,))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], choices=[*ENTRIES])
    main(parser.parse_args().only)
