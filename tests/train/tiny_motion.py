"""A tiny network, a tiny motion task in memory or on disk, and a recipe done in a second."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import clips
from foveate.data import Dataset, read
from foveate.models import registry
from foveate.models.movinet import movinet
from foveate.models.movinet_config import TINY, lite
from foveate.train.kit.batches import TensorBatches
from foveate.train.recipes.supervised import SupervisedConfig

ARCH = "tiny-motion"
CLASSES = ("left", "right", "still")


def _build(num_classes: int = 3, dropout: float = 0.2) -> nn.Module:
    """ReZero scalars of one: a network of which every layer learns from the first step."""
    model = movinet(lite(TINY), num_classes, dropout)
    with torch.no_grad():
        for _, layer in model.layers():
            layer.rezero.fill_(0.5)
    return model


def enter() -> None:
    """Put the tiny network into this process's registry."""
    registry.available()
    registry._ENTRIES[ARCH] = registry.ModelEntry(ARCH, _build, streaming=True)


def movies(count: int, seed: int, frames: int = 6, size: int = 16) -> tuple[Any, Any]:
    """Bars that move left, right or not at all: (N, 3, T, S, S) uint8 and their classes.

    A single frame says nothing of the class.
    """
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=random)
    start = torch.randint(size, (count,), generator=random)
    x = torch.randint(0, 40, (count, 3, frames, size, size), generator=random)
    for i in range(count):
        step = (-2, 2, 0)[int(y[i])]
        for t in range(frames):
            at = int(start[i]) + step * t
            for wide in range(3):
                x[i, :, t, :, (at + wide) % size] += 180
    return x.to(torch.uint8), y


@dataclass
class Clips:
    """The part of a data set that the recipe reads."""

    classes: tuple[str, ...] = CLASSES
    multilabel: bool = False
    root: Any = None
    mark: str = ""
    counts: dict[str, int] = field(default_factory=lambda: {"train": 24, "val": 12})

    def digest(self, split: str) -> str:
        return f"{split} {self.counts.get(split, 0)} {self.mark}"

    def source(self, batch: int, seed: int = 0) -> Any:
        """Batches in memory."""

        def make(split: str, training: bool, spec: Any, team: Any) -> Any:
            count = self.counts.get(split, 0)
            if not count:
                return None
            x, y = movies(count, seed=1 if split == "train" else 2)
            parts = (team.rank, team.world) if training else (0, 1)
            return TensorBatches(x, y, batch, seed if training else None, *parts)

        return make


def on_disk(root: Path, counts: Mapping[str, int] | None = None) -> Dataset:
    """The same task as encoded clips, 32x32 and 1.6 s at 5 frames/s, read from class folders."""
    for split, count in (counts or {"train": 24, "val": 12}).items():
        x, y = movies(count, 1 if split == "train" else 2, frames=8, size=32)
        for i, label in enumerate(y.tolist()):
            path = root / split / CLASSES[label] / f"{i:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures = x[i].permute(1, 2, 3, 0).numpy()

            def draw(number: int, size: Any, pictures: Any = pictures) -> Any:
                return pictures[number]

            path.write_bytes(clips.encode(frames=8, size=(32, 32), rate=5, gop=4, draw=draw))
    return read(root)


def config(**changes: Any) -> SupervisedConfig:
    values: dict[str, Any] = {
        "model": ARCH, "size": 16, "frames": 6, "rate": 5.0, "epochs": 3, "batch": 8,
        "lr": 3e-3, "warmup": 0.5, "ema": 0.9, "mixup": 0.2, "label_smoothing": 0.1,
        "augment": "none", "workers": 0, "freeze": "none",
    }  # fmt: skip
    return SupervisedConfig(**{**values, **changes})


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
