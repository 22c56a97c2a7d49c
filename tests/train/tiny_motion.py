"""A tiny network, a tiny motion task in memory, and a recipe that is done in a second."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from foveate.models import registry
from foveate.models.movinet import TINY, MoViNetLite
from foveate.train.batches import TensorBatches
from foveate.train.supervised import SupervisedConfig

ARCH = "tiny-motion"
CLASSES = ("left", "right", "still")


def _build(num_classes: int = 3, dropout: float = 0.2) -> nn.Module:
    """ReZero scalars of one: a network of which every layer learns from the first step."""
    model = MoViNetLite(TINY, num_classes, dropout)
    with torch.no_grad():
        for _, layer in model.layers():
            layer.rezero.fill_(0.5)
    return model


def enter() -> None:
    """Put the tiny network into this process's registry."""
    registry.available()
    registry._ENTRIES[ARCH] = registry.ModelEntry(ARCH, _build)


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

    def source(self, batch: int, seed: int = 0, loading: int | None = None) -> Any:
        """Batches in memory; with `loading`, through that many worker processes."""

        def make(split: str, training: bool, spec: Any, team: Any) -> Any:
            count = self.counts.get(split, 0)
            if not count:
                return None
            x, y = movies(count, seed=1 if split == "train" else 2)
            parts = (team.rank, team.world) if training else (0, 1)
            found = TensorBatches(x, y, batch, seed if training else None, *parts)
            return found if loading is None else Loaded(found, loading)

        return make


class Loaded:
    """The same batches, collated in worker processes."""

    def __init__(self, inner: TensorBatches, workers: int) -> None:
        self.inner, self.workers = inner, workers
        self.failures: list[str] = []
        self.warnings: list[str] = []

    def __len__(self) -> int:
        return len(self.inner)

    def batches(self, epoch: int, start_step: int = 0):
        steps = list(self.inner.batches(epoch, start_step))
        loader = torch.utils.data.DataLoader(
            steps, batch_size=None, num_workers=self.workers, generator=torch.Generator()
        )
        yield from loader


def config(**changes: Any) -> SupervisedConfig:
    values: dict[str, Any] = {
        "model": ARCH, "size": 16, "frames": 6, "rate": 5.0, "epochs": 3, "batch": 8,
        "lr": 3e-3, "warmup": 0.5, "ema": 0.9, "mixup": 0.2, "label_smoothing": 0.1,
        "augment": "none", "workers": 0,
    }  # fmt: skip
    return SupervisedConfig(**{**values, **changes})


def rows(folder: Path) -> list[dict[str, Any]]:
    """The log of a run."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
