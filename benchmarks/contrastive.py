"""Do contrastive features beat random ones under a linear probe? Generated videos, three seeds.

    python -m benchmarks.contrastive          # two minutes of one core

A video is a bar that moves on and on with its own speed, one of five. Two clips of a video share
nothing but that speed: place, brightness and noise are each clip's own, and so no single frame
tells. A small 3D ResNet-RS is pre-trained on videos without labels; then a linear probe is trained
on few labelled clips over its frozen features, and over those of the same network as it was drawn.

Nothing is chosen by what is reported: settings of the pre-training and of both probes, and every
probe's epoch, are chosen on the validation clips; accuracy is that of the test clips, which are
looked at once for each seed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import write
from benchmarks.zoo_accuracy import scores_of

from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.models.weights.run import load_run
from foveate.train.kit.batches import TensorBatches
from foveate.train.recipe import run_recipe
from foveate.train.recipes import contrastive, supervised
from foveate.train.recipes.contrastive import ContrastiveConfig
from foveate.train.recipes.supervised import SupervisedConfig

SPEEDS = (-2, -1, 0, 1, 2)  # pixels a frame
FRAMES, SIZE, RATE = 8, 24, 8.0
NETWORK: dict[str, Any] = {
    "model": "resnet3d-rs-50", "settings": {"width": 8, "blocks_per_group": 1, "dropout": 0.0},
    "size": SIZE, "frames": FRAMES, "rate": RATE, "workers": 0, "flip": False,
}  # fmt: skip
TEMPERATURES, RATES = (0.1, 0.5), (1e-2,)  # of the pre-training
PROBE_RATES = (3e-3, 1e-2, 3e-2)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Sizes:
    """How many videos, clips and epochs."""

    videos: int = 300
    epochs: int = 12
    train: int = 100
    val: int = 100
    test: int = 300
    probe_epochs: int = 60


def clip_of(speed: int, random: torch.Generator) -> torch.Tensor:
    """A clip (3, FRAMES, SIZE, SIZE) of an endless video whose bar moves by `speed` a frame."""
    x = torch.randint(0, 40, (3, FRAMES, SIZE, SIZE), generator=random)
    start, light = (int(torch.randint(n, (), generator=random)) for n in (SIZE, 60))
    for t in range(FRAMES):
        for wide in range(3):
            x[:, t, :, (start + speed * t + wide) % SIZE] += 140 + light
    return x.to(torch.uint8)


def labelled(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips (N, 3, FRAMES, SIZE, SIZE) and the numbers of their speeds."""
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(len(SPEEDS), (count,), generator=random)
    return torch.stack([clip_of(SPEEDS[int(kind)], random) for kind in y]), y


@dataclass
class Bars:
    """What the recipes read of a data set, for one seed."""

    seed: int
    sizes: Sizes
    classes: tuple[str, ...] = tuple(f"{speed:+d}" for speed in SPEEDS)
    multilabel: bool = False
    root: Any = None

    def digest(self, split: str) -> str:
        """Names the clips of a split."""
        return f"bars {split} {self.seed} {self.sizes}"

    def clips(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """The labelled clips of a split; no two splits or seeds share any."""
        place = ("train", "val", "test").index(split)
        return labelled(getattr(self.sizes, split), 1 + 10 * self.seed + place)

    def pairs(self, split: str, training: bool, spec: Any, team: Any) -> TensorBatches | None:
        """Videos without labels: two clips of each, drawn anew in every epoch."""
        if not training:
            return None
        random = torch.Generator().manual_seed(10_000 + self.seed)
        kinds = torch.randint(len(SPEEDS), (self.sizes.videos,), generator=random)

        def draw(kind: torch.Tensor, random: torch.Generator) -> torch.Tensor:
            return torch.stack([clip_of(SPEEDS[int(kind)], random) for _ in range(2)])

        return TensorBatches(kinds, torch.zeros(len(kinds)).long(), 32, self.seed, draw=draw)

    def probed(self, split: str, training: bool, spec: Any, team: Any) -> TensorBatches | None:
        """The labelled clips, for the probe."""
        if split == "test":
            return None
        return TensorBatches(*self.clips(split), 25, self.seed if training else None)


def pretrained(bars: Bars, folder: Path, temperature: float, lr: float) -> Path:
    """Pre-train on the videos without labels; the run folder."""
    config = ContrastiveConfig(
        **NETWORK, epochs=bars.sizes.epochs, batch=32, lr=lr, temperature=temperature, hidden=64,
        projection=16, seed=bars.seed, accumulate=1, patience=None,
    )  # fmt: skip
    data: Any = bars
    run_recipe(
        contrastive.RECIPE, config, data, folder, on_progress=lambda now: None, source=bars.pairs
    )
    return folder


def probed(bars: Bars, folder: Path, model: str | None) -> tuple[float, Path, float]:
    """The best of the linear probes over a network, by the validation clips.

    Args:
        bars: The clips.
        folder: For the runs.
        model: A run folder; None for the network as it is drawn.

    Returns:
        Its top-1 on the validation clips, its run folder and its learning rate.
    """
    found = []
    for lr in PROBE_RATES:
        values = NETWORK if model is None else {**NETWORK, "model": model, "settings": {}}
        config = SupervisedConfig(
            **values, freeze="backbone", epochs=bars.sizes.probe_epochs, lr=lr, batch=25,
            seed=bars.seed, patience=None,
        )  # fmt: skip
        data: Any = bars
        run = folder / f"{lr:g}"
        done = run_recipe(
            supervised.RECIPE, config, data, run, on_progress=lambda now: None, source=bars.probed
        )
        top1 = next(value for name, value in done.figures.items() if name.startswith("top1"))
        found.append((top1, run, lr))
    return max(found, key=lambda one: one[0])


def tested(bars: Bars, run: Path) -> np.ndarray[Any, Any]:
    """For each test clip whether the probe is right."""
    loaded = load_run(run)
    x, y = bars.clips("test")
    return np.asarray(metrics.hits(scores_of(loaded.network, x, loaded.input), y.numpy()), float)


def measure(folder: Path, seeds: tuple[int, ...], sizes: Sizes) -> dict[str, Any]:
    """Everything the result says."""
    runs: dict[tuple[float, float], list[tuple[float, Path, float]]] = {}
    random = []
    for seed in seeds:
        bars = Bars(seed, sizes)
        random.append(probed(bars, folder / f"random-{seed}", None))
        for temperature, lr in product(TEMPERATURES, RATES):
            place = folder / f"{temperature:g}-{lr:g}-{seed}"
            run = pretrained(bars, place / "pre", temperature, lr)
            runs.setdefault((temperature, lr), []).append(probed(bars, place, str(run)))
    by_val = {key: float(np.mean([top1 for top1, _, _ in rows])) for key, rows in runs.items()}
    chosen = max(by_val, key=lambda key: by_val[key])
    rows = {}
    for name, best in (("contrastive", runs[chosen]), ("random features", random)):
        right = np.stack(
            [tested(Bars(s, sizes), one[1]) for s, one in zip(seeds, best, strict=True)]
        )
        # Every seed has its own test clips: all of them are one sample.
        rows[name] = right.reshape(-1)
    figures: dict[str, Any] = {
        "chance": 1 / len(SPEEDS),
        "chosen": {"temperature": chosen[0], "lr": chosen[1]},
        "validation": {f"temperature {t:g}, lr {lr:g}": v for (t, lr), v in by_val.items()},
    }
    for name, right in rows.items():
        within = interval(metrics.mean(right), len(right))
        figures[name] = {
            "top1": within.value, "low": within.low, "high": within.high, "n": len(right),
            "by_seed": [float(part.mean()) for part in np.split(right, len(seeds))],
        }  # fmt: skip
    one, two = (metrics.mean(rows[name]) for name in ("contrastive", "random features"))
    against = compare(one, two, sizes.test * len(seeds))
    return {**figures, "difference": against.sentence("contrastive", "random features", "top1")}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the result."""
    argparse.ArgumentParser(description="Linear probe of contrastive features").parse_args(
        arguments
    )
    torch.set_num_threads(1)
    sizes = Sizes()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), SEEDS, sizes)
    figures["cpu_seconds"] = time.process_time() - began
    print(figures)
    write(
        "contrastive",
        f"generated bars that move with one of {len(SPEEDS)} speeds, {FRAMES} frames of {SIZE} "
        f"pixels; 3D ResNet-RS of one block a group, width 8; {sizes.videos} videos without "
        f"labels, {sizes.epochs} epochs; linear probe on {sizes.train} clips, settings and epochs "
        f"chosen on {sizes.val} validation clips, top-1 of {sizes.test} test clips, all new for "
        "every seed; 95 % percentile bootstrap over the test clips of all seeds",
        sizes.test * len(SEEDS),
        figures,
        SEEDS,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
