"""The shelf on small rendered clips: fifteen actions, and pairs that only motion tells.

    foveate data make mocap15 data/mocap15 --clips 600 --seed 1
    python -m benchmarks.shelf data/mocap15 [--only NAME...] [--task actions|pairs]

Task `actions`: 200 training clips of fifteen classes. Task `pairs`: every clip as it was and with
its frames in reverse order, two classes; the two have the same frames, so a network that takes
the mean over frames, as TSN does, gives both the same answer and cannot pass one half. Clips are
small (eight frames) and lie in memory; the epoch is chosen on the validation split; figures are of
the test split. Image backbones start from the EfficientNet-Lite0 weights, MoViNet from Kinetics,
R(2+1)D from chance.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import RESULTS, write
from torch import nn

from foveate.data import read
from foveate.data.prepare import to_float
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import interval
from foveate.models.macs import count_macs
from foveate.models.spec import InputSpec
from foveate.models.weights.run import load_run
from foveate.train.batches import TensorBatches
from foveate.train.distributed import Team
from foveate.train.supervised import SupervisedConfig, fit
from foveate.train.videos import clips_of

LITE0 = "efficientnet_lite0.imagenet_lite0"
SPEC = InputSpec(size=96, frames_per_second=4.0, clip_frames=8)
MOST = {"train": 200, "val": 90, "test": 150}
PAIRS = ("as it was", "reversed")


@dataclass(frozen=True)
class Entry:
    """One line of the table: what is trained, and how."""

    name: str
    model: str
    freeze: str = "none"
    lr: float = 1e-3
    backbone_lr: float = 0.3
    epochs: int = 12
    settings: dict[str, Any] = field(default_factory=dict)
    start: str = "EfficientNet-Lite0, ImageNet"


ENTRIES = (
    Entry("TSM, all layers", f"tsm:{LITE0}"),
    Entry("TSN, all layers", f"tsn:{LITE0}"),
    Entry("TSN, frozen", f"tsn:{LITE0}", "backbone", 3e-3, epochs=40),
    Entry("TSM, frozen", f"tsm:{LITE0}", "backbone", 3e-3, epochs=40),
    Entry(
        "R(2+1)D of 10 layers, width 32", "r2plus1d", lr=3e-3, backbone_lr=1.0, epochs=24,
        settings={"depth": 10, "width": 32, "stem_frames": 3}, start="chance",
    ),
    Entry(
        "MoViNet-A0-Stream-lite", "movinet-a0-stream-lite.k600", backbone_lr=0.1,
        start="Kinetics-600",
    ),
)  # fmt: skip


@dataclass
class Held:
    """Clips in memory, as much of a data set as the recipe reads.

    Attributes:
        classes: Names of the outputs.
        parts: Split → (N, 3, T, S, S) uint8 and (N,) classes.
    """

    classes: tuple[str, ...]
    parts: dict[str, tuple[torch.Tensor, torch.Tensor]]
    multilabel: bool = False
    root: Any = None

    def digest(self, split: str) -> str:
        """Names what the features of a split were computed from."""
        x, y = self.parts[split]
        return f"{split} {len(y)} {int(x.long().sum())} {' '.join(self.classes)}"

    def source(self, batch: int, seed: int) -> Any:
        """Batches for the recipe; half of the training clips are mirrored."""

        def make(split: str, training: bool, spec: InputSpec, team: Team) -> TensorBatches | None:
            if split not in self.parts:
                return None
            x, y = self.parts[split]
            return TensorBatches(
                x, y, batch, seed if training else None, draw=mirrored if training else None
            )

        return make


def mirrored(x: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """A clip (3, T, S, S), or its mirror image."""
    return x.flip(-1) if torch.rand((), generator=random) < 0.5 else x


def hold(folder: Path, spec: InputSpec = SPEC, most: dict[str, int] | None = None) -> Held:
    """Decode the first clips of every split into memory, the middle of each."""
    dataset = read(folder)
    source = clips_of(dataset, batch=16, seed=0, workers=0, augment="none", flip=False)
    parts = {}
    for split, count in (most or MOST).items():
        batches = source(split, False, spec, Team())
        assert batches is not None, f"{folder}: no split {split!r}"
        rows: list[tuple[torch.Tensor, torch.Tensor]] = []
        for batch in batches.batches(0):
            rows.append((batch["x"], batch["y"]))
            if sum(len(y) for _, y in rows) >= count:
                break
        parts[split] = tuple(torch.cat(column)[:count] for column in zip(*rows, strict=True))
    return Held(tuple(dataset.classes), parts)  # type: ignore[arg-type]


def paired(held: Held) -> Held:
    """Every clip twice: as it was, and with its frames in reverse order."""
    parts = {}
    for split, (x, y) in held.parts.items():
        labels = torch.tensor([0, 1]).repeat_interleave(len(y))
        parts[split] = (torch.cat([x, x.flip(2)]), labels)
    return Held(PAIRS, parts)


def scores_of(model: nn.Module, x: torch.Tensor, spec: InputSpec) -> np.ndarray[Any, Any]:
    """Logits (N, classes) of uint8 clips, batch by batch."""
    with torch.inference_mode():
        rows = [model(to_float(part, spec.mean, spec.std)) for part in x.split(16)]
    return torch.cat(rows).float().numpy()


def train_and_test(entry: Entry, held: Held, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Train one entry and measure it on the test split.

    Returns:
        Top-1 with its interval, MACs and CPU milliseconds per clip, seconds of training.
    """
    x, y = held.parts["test"]
    config = SupervisedConfig(
        model=entry.model, settings=entry.settings, freeze=entry.freeze, size=x.shape[-1],
        frames=x.shape[2], rate=SPEC.frames_per_second, epochs=entry.epochs, batch=16,
        lr=entry.lr, backbone_lr=entry.backbone_lr, label_smoothing=0.1, seed=seed, workers=0,
    )  # fmt: skip
    began = time.process_time()
    dataset: Any = held
    fit(config, dataset, folder, progress=lambda now: None, source=held.source(16, seed))
    trained = time.process_time() - began
    model, run, _ = load_run(folder)
    scores = scores_of(model, x, run.input)
    right = metrics.hits(scores, y.numpy())
    within = interval(metrics.mean(right), len(right))
    one = to_float(x[:1], run.input.mean, run.input.std)
    times = []
    with torch.inference_mode():
        for _ in range(5):
            begin = time.process_time()
            model(one)
            times.append(time.process_time() - begin)
    macs = model.macs(tuple(one.shape)) if hasattr(model, "macs") else count_macs(model, one.shape)
    return {
        "model": entry.model, "start": entry.start, "freeze": entry.freeze, "top1": within.value,
        "low": within.low, "high": within.high, "n": len(right), "macs": int(macs),
        "ms": 1e3 * min(times), "training_cpu_seconds": trained,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Train and measure, one entry after the other; what is done is kept as it comes."""
    parser = argparse.ArgumentParser(description="The shelf on mocap15")
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", choices=("actions", "pairs"), nargs="*", default=None)
    parser.add_argument("--only", nargs="*", help="names of entries")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    clips = hold(options.data)
    stored = RESULTS / "shelf.json"
    figures: dict[str, Any] = {}
    if stored.is_file():
        figures = json.loads(stored.read_text("utf-8"))["figures"]
        figures.pop("versions", None)
    for task in options.task or ("pairs", "actions"):
        held = paired(clips) if task == "pairs" else clips
        for entry in ENTRIES:
            if options.only and entry.name not in options.only:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = train_and_test(entry, held, Path(folder) / "run", options.seed)
            figures.setdefault(task, {})[entry.name] = found
            print(task, entry.name, json.dumps(found), flush=True)
            write(
                "shelf",
                "mocap15 (rendered, one recording per action), 600 clips, seed 1: the first 200 "
                f"training, 90 validation and 150 test clips, {SPEC.clip_frames} frames of "
                f"{SPEC.size} pixels at {SPEC.frames_per_second:g}/s, one view; best epoch by the "
                "validation split; 95 % percentile bootstrap over clips; CPU time of one thread",
                MOST["test"],
                figures,
                (options.seed,),
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
