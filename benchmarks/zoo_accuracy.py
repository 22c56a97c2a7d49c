"""The model zoo on small rendered clips: fifteen actions, and pairs that only motion tells.

    foveate data make mocap15 data/mocap15 --clips 1200 --seed 1
    python -m benchmarks.zoo_accuracy data/mocap15 [--only NAME...] [--task NAME...] [--keep RUNS]

Task `actions`: 200 training clips of fifteen classes. Task `pairs`: somebody gets up; every clip as
it was and with its frames in reverse order, two classes. The two have the same frames, so a network
that takes the mean over frames, as TSN does, gives both the same answer and cannot pass one half.
Getting up was picked after pairs of all fifteen actions had taught TSM nothing in five epochs: it
begins and ends in two different poses, where a step or a turn is much the same backwards.
Task `bars`: the same with generated bars that all move one way, and small networks from scratch, in
seconds. Clips are small (eight frames) and lie in memory; the epoch is chosen on the validation
split; figures are of the test split, intervals over its groups (body and background). Image
backbones start from the EfficientNet-Lite0 weights, MoViNet from Kinetics, R(2+1)D from scratch.
`--keep` leaves every trained network behind as a run folder.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.record import RESULTS, write
from torch import nn

from foveate.core import ConfigError
from foveate.data import read
from foveate.data.prepare import to_float
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.models import registry
from foveate.models.macs import macs_of
from foveate.models.spec import InputSpec
from foveate.models.weights.run import load_run
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.videos import VideoClips

LITE0 = "efficientnet_lite0.imagenet_lite0"
SPEC = InputSpec(size=96, frames_per_second=4.0, clip_frames=8)
MOST = {"train": 200, "val": 90, "test": 150}
DIRECTED = ("getup_facedown", "getup_faceup")  # all of their clips; twice as many with the reverse
TASKS = ("bars", "pairs", "actions")
PAIRS = ("as it was", "reversed")
PROTOCOL = (
    "mocap15 (rendered, one recording per action), 1200 clips, seed 1. Actions: of each split the "
    f"first {MOST['train']} training, {MOST['val']} validation and {MOST['test']} test clips "
    "(other bodies, backgrounds and camera sectors). Pairs: all clips of somebody getting up and "
    f"their reverses, two answers to a clip. {SPEC.clip_frames} frames of {SPEC.size} pixels at "
    f"{SPEC.frames_per_second:g}/s from the middle, one view. Bars: generated, eight frames of 24 "
    "pixels, 100 clips each to train on and to test, and their reverses. Best epoch by the "
    "validation split; one training seed; 95 % percentile bootstrap over groups (body and "
    "background); CPU time of one thread, the least of five rounds in turns with r3d-18 on "
    "the same clip"
)


@dataclass(frozen=True)
class Entry:
    """One line of the table: what is trained, and how."""

    name: str
    model: str
    freeze: str = "none"
    lr: float = 1e-3
    backbone_lr: float = 0.3
    epochs: int = 8
    settings: dict[str, Any] = field(default_factory=dict)
    start: str = "EfficientNet-Lite0, ImageNet"


ENTRIES = (
    Entry("TSN, all layers", f"tsn:{LITE0}"),
    # Layers that see shifted channels are far from what ImageNet taught them.
    Entry("TSM, all layers", f"tsm:{LITE0}", backbone_lr=1.0),
    Entry("TSM, frozen", f"tsm:{LITE0}", "backbone", 3e-3, epochs=40),
    Entry(
        "R(2+1)D of 10 layers, width 32", "r2plus1d", lr=3e-3, backbone_lr=1.0, epochs=10,
        settings={"depth": 10, "width": 32, "stem_frames": 3}, start="chance",
    ),
    Entry(
        "MoViNet-A0-Stream-lite", "movinet-a0-stream-lite.k600", backbone_lr=0.1,
        start="Kinetics-600",
    ),
)  # fmt: skip
# Of the task `bars`, which needs no data and no weights.
SMALL = tuple(
    Entry(name, f"{arch}:test_efficientnet", lr=3e-3, backbone_lr=1.0, epochs=8, start="chance")
    for name, arch in (("TSN, all layers", "tsn"), ("TSM, all layers", "tsm"))
)
# What TSN says of pairs is known before it is trained.
PAIR_EPOCHS = {"TSN, all layers": 1, "TSM, all layers": 12, "MoViNet-A0-Stream-lite": 12}
# Each against the second: what is to be distinguished.
AGAINST = (
    ("TSM, all layers", "TSN, all layers"),
    ("TSM, all layers", "TSM, frozen"),
    ("MoViNet-A0-Stream-lite", "TSM, all layers"),
)
YARDSTICK = "r3d-18"


@dataclass
class LoadedClips:
    """Clips in memory, as much of a data set as the recipe reads.

    Attributes:
        classes: Names of the outputs.
        parts: Split → (N, 3, T, S, S) uint8 and (N,) classes.
        groups: Of the test clips, in their order: what is not independent.
        vary: Whether training clips are cut and mirrored.
    """

    classes: tuple[str, ...]
    parts: dict[str, tuple[torch.Tensor, torch.Tensor]]
    groups: tuple[str, ...]
    vary: bool = True
    multilabel: bool = False
    root: Any = None

    def digest(self, split: str) -> str:
        """Names what the features of a split were computed from."""
        if split not in self.parts:
            return f"{split} 0"
        x, y = self.parts[split]
        return f"{split} {len(y)} {int(x.long().sum())} {' '.join(self.classes)}"

    def source(self, batch: int, seed: int) -> Any:
        """Batches for the recipe; training clips are cut and mirrored."""

        def make(
            split: str, training: bool, spec: InputSpec, team: ProcessGroup
        ) -> TensorBatches | None:
            if split not in self.parts:
                return None
            x, y = self.parts[split]
            return TensorBatches(
                x,
                y,
                batch,
                seed if training else None,
                draw=varied if training and self.vary else None,
            )

        return make


def varied(x: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """A square of at least half the area of a clip (3, T, S, S), mirrored half of the time.

    All frames of a clip are cut alike.
    """
    size = x.shape[-1]
    share, across, down, turn = torch.rand(4, generator=random).tolist()
    side = round(size * (0.5 + 0.5 * share) ** 0.5)
    left, top = round(across * (size - side)), round(down * (size - side))
    cut = x[..., top : top + side, left : left + side].transpose(0, 1).float()
    cut = F.interpolate(cut, (size, size), mode="bilinear", antialias=True)
    back = cut.transpose(0, 1).round().to(torch.uint8)
    return back.flip(-1) if turn < 0.5 else back


def hold(
    folder: Path,
    spec: InputSpec = SPEC,
    most: dict[str, int] | None = None,
    only: tuple[str, ...] = (),
) -> LoadedClips:
    """Decode the first clips of every split into memory, the middle of each.

    Args:
        folder: Of mocap15.
        spec: What a clip is.
        most: Clips of each split.
        only: Classes that are wanted; empty for all.
    """
    dataset = read(folder)
    if only:
        wanted = tuple(r for r in dataset.records if set(r.labels) & set(only))
        dataset = replace(dataset, records=wanted)
    source = VideoClips(dataset, batch=16, seed=0, workers=0)
    parts, groups = {}, []
    for split, count in (most or MOST).items():
        records = dataset.subset(split).records
        batches = source(split, False, spec, ProcessGroup())
        assert batches is not None, f"{folder}: no split {split!r}"
        rows: list[tuple[torch.Tensor, torch.Tensor]] = []
        for batch in batches.batches(0):
            rows.append((batch["x"], batch["y"]))
            if split == "test":
                groups += [str(records[int(i)].group) for i in batch["index"]]
            if sum(len(y) for _, y in rows) >= count:
                break
        parts[split] = tuple(torch.cat(column)[:count] for column in zip(*rows, strict=True))
    return LoadedClips(tuple(dataset.classes), parts, tuple(groups[: len(parts["test"][1])]))  # type: ignore[arg-type]


def paired(clips: LoadedClips) -> LoadedClips:
    """Every clip twice: as it was, and with its frames in reverse order."""
    parts = {}
    for split, (x, y) in clips.parts.items():
        labels = torch.tensor([0, 1]).repeat_interleave(len(y))
        parts[split] = (torch.cat([x, x.flip(2)]), labels)
    return LoadedClips(PAIRS, parts, clips.groups * 2, clips.vary)


def bars(counts: dict[str, int] | None = None) -> LoadedClips:
    """Generated clips of bars that move the same way; a mirror image would be the reverse."""
    from benchmarks.contrastive import clip_of

    parts = {}
    counts = counts or {"train": 100, "val": 40, "test": 100}
    for seed, (split, count) in enumerate(counts.items()):
        random = torch.Generator().manual_seed(seed)
        x = torch.stack([clip_of(2, random) for _ in range(count)])
        parts[split] = (x, torch.zeros(count).long())
    return LoadedClips(("bar",), parts, tuple(map(str, range(counts["test"]))), vary=False)


def clips_for(task: str, folder: Path | None) -> LoadedClips:
    """The clips of a task.

    Raises:
        ConfigError: It needs a data set.
    """
    if task == "bars":
        return paired(bars())
    if folder is None:
        raise ConfigError(f"the task {task} needs the folder of mocap15")
    return paired(hold(folder, only=DIRECTED)) if task == "pairs" else hold(folder)


def scores_of(model: nn.Module, x: torch.Tensor, spec: InputSpec) -> np.ndarray[Any, Any]:
    """Logits (N, classes) of uint8 clips, batch by batch."""
    with torch.inference_mode():
        rows = [model(to_float(part, spec.mean, spec.std)) for part in x.split(16)]
    return torch.cat(rows).float().numpy()


def train_and_test(
    entry: Entry, clips: LoadedClips, folder: Path, seed: int = 0, epochs: int | None = None
) -> dict[str, Any]:
    """Train one entry and measure it on the test split.

    Returns:
        Top-1 with its interval, MACs and CPU milliseconds per clip, seconds of training, and for
        each test clip whether its answer was right.
    """
    x, y = clips.parts["test"]
    config = SupervisedConfig(
        model=entry.model, settings=entry.settings, freeze=entry.freeze, size=x.shape[-1],
        frames=x.shape[2], rate=SPEC.frames_per_second, epochs=epochs or entry.epochs, batch=16,
        lr=entry.lr, backbone_lr=entry.backbone_lr, label_smoothing=0.1, seed=seed, workers=0,
        accumulate=1, patience=None,
    )  # fmt: skip
    began = time.process_time()
    dataset: Any = clips
    run_recipe(
        supervised.RECIPE,
        config,
        dataset,
        folder,
        on_progress=lambda now: None,
        source=clips.source(16, seed),
    )
    trained = time.process_time() - began
    run = load_run(folder)
    model = run.network
    right = metrics.hits(scores_of(model, x, run.input), y.numpy())
    within = interval(metrics.mean(right), len(right), clips.groups)
    one = to_float(x[:1], run.input.mean, run.input.std)
    ms, ratio = cost_of(model, one)
    macs = macs_of(model, tuple(one.shape))
    return {
        "model": entry.model, "start": entry.start, "freeze": entry.freeze, "top1": within.value,
        "low": within.low, "high": within.high, "n": len(right), "groups": within.units,
        "epochs": config.epochs, "lr": config.lr, "backbone_lr": config.backbone_lr,
        "macs": macs, "ms": ms, "ratio": ratio,
        "training_cpu_seconds": trained, "right": [int(one) for one in right],
    }  # fmt: skip


def cost_of(model: nn.Module, one: torch.Tensor, rounds: int = 5) -> tuple[float, float]:
    """CPU milliseconds of one clip, and how many times those of r3d-18 on the same clip.

    Both run in turns; the least of the rounds counts.
    """
    yardstick = registry.create(YARDSTICK).eval()
    times: list[tuple[float, float]] = []
    with torch.inference_mode():
        for _ in range(rounds):
            pair = []
            for network in (model, yardstick):
                begin = time.process_time()
                network(one)
                pair.append(time.process_time() - begin)
            times.append((pair[0], pair[1]))
    own, other = (min(column) for column in zip(*times, strict=True))
    return 1e3 * own, own / other


def compared(found: dict[str, dict[str, Any]], groups: tuple[str, ...]) -> list[str]:
    """The differences that the table is there to show, in words, as far as both are measured."""
    lines = []
    for first, second in AGAINST:
        if first in found and second in found:
            one, two = (metrics.mean(np.array(found[name]["right"], float))
                        for name in (first, second))  # fmt: skip
            against = compare(one, two, len(groups), groups)
            lines.append(against.sentence(first, second, "top1"))
    return lines


def keep(
    stored: Path, task: str, name: str, found: dict[str, Any], groups: tuple[str, ...], seed: int
) -> None:
    """Add an entry to what is stored, which another process may have added to meanwhile."""
    figures: dict[str, Any] = {}
    if stored.is_file():
        figures = json.loads(stored.read_text("utf-8"))["figures"]
        figures.pop("versions", None)
    table = figures.setdefault(task, {"entries": {}})
    table["entries"][name] = found
    order = [entry.name for entry in ENTRIES if entry.name in table["entries"]]
    table["entries"] = {known: table["entries"][known] for known in order}
    table["differences"] = compared(table["entries"], groups)
    write("zoo_accuracy", PROTOCOL, MOST["test"], figures, (seed,))


def markdown(table: dict[str, Any]) -> str:
    """The table of one task for the documentation, and its differences as a list."""
    lines = [
        "| | starts from | top-1 | 95 % range | MACs | time, × r3d-18 | epochs | training, CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in table["entries"].items():
        lines.append(
            f"| {name} | {row['start']} | {row['top1']:.3f} | {row['low']:.3f} to "
            f"{row['high']:.3f} | {row['macs'] / 1e6:,.0f} M | {row['ratio']:.3f} "
            f"({row['ms']:.1f} ms) | {row['epochs']} | {row['training_cpu_seconds']:,.0f} |"
        )
    return "\n".join([*lines, "", *(f"* {line}." for line in table["differences"])])


def main(arguments: list[str] | None = None) -> int:
    """Train and measure, one entry after the other; what is done is kept as it comes."""
    parser = argparse.ArgumentParser(description="The model zoo on mocap15")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--task", choices=TASKS, nargs="*", default=None)
    parser.add_argument("--only", nargs="*", help="names of entries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the trained networks")
    parser.add_argument("--render", action="store_true", help="print the stored tables")
    options = parser.parse_args(arguments)
    stored = RESULTS / "zoo_accuracy.json"
    if options.render:
        held_figures = json.loads(stored.read_text("utf-8"))["figures"]
        print("\n\n".join(markdown(held_figures[task]) for task in TASKS))
        return 0
    torch.set_num_threads(1)
    keep_freed_memory()
    for task in options.task or TASKS:
        clips = clips_for(task, options.data)
        for entry in SMALL if task == "bars" else ENTRIES:
            if options.only and entry.name not in options.only:
                continue
            epochs = PAIR_EPOCHS.get(entry.name) if task == "pairs" else None
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                if options.keep is not None:
                    run = options.keep / f"{task}-{re.sub(r'[^a-z0-9]+', '-', entry.name.lower())}"
                found = train_and_test(entry, clips, run, options.seed, epochs)
            keep(stored, task, entry.name, found, clips.groups, options.seed)
            shown = {key: value for key, value in found.items() if key != "right"}
            print(task, entry.name, json.dumps(shown), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
