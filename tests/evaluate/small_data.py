"""A recogniser over the tiny network, and small data sets of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from nontrivial import randomise

from foveate.media import ArrayVideo
from foveate.models import registry
from foveate.pipeline.executors import StreamExecutor
from foveate.pipeline.presets import Preset, edit
from foveate.pipeline.recogniser import Recogniser
from foveate.policy import Context
from tiny_weights import LABELS, SPEC


@dataclass(frozen=True)
class Record:
    path: Any
    labels: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    split: str = "test"
    group: str | None = None
    where: str = ""


@dataclass(frozen=True)
class Dataset:
    records: list[Record]
    classes: tuple[str, ...] = LABELS
    root: Any = None
    multilabel: bool = False
    splits: dict[str, str] = field(default_factory=dict)

    def subset(self, split):
        return replace(self, records=[r for r in self.records if r.split == split])

    def digest(self, split):
        return f"digest of {split}"


def recogniser(seed: int = 0, **settings: Any) -> Recogniser:
    """The tiny network with random weights: 32 px, 5 frames/s, windows of 2 s."""
    model = randomise(registry.create_tiny("movinet-a0-stream-lite"), seed)
    preset = edit(Preset(), {"cut_threshold": 1.0, **settings}, "a test")
    context = Context(SPEC, streaming=True)
    return Recogniser(
        StreamExecutor(model, torch.device("cpu"), SPEC),
        LABELS,
        look=preset.look.build(context),
        decide=preset.decide.build(context),
        budget=preset.budget.value(),
        window=SPEC.clip_seconds,
        preset=preset,
    )


def clip(seed: int, frames: int = 50) -> np.ndarray:
    """Noise, (T, 40, 40, 3) uint8; two seconds at 25 frames/s."""
    return np.random.default_rng(seed).integers(0, 256, (frames, 40, 40, 3), np.uint8)


def dataset(count: int = 8, **changes: Any) -> Dataset:
    """Clips of noise, labelled in turn, two clips a group."""
    records = [
        Record(ArrayVideo(clip(i), 25.0), (LABELS[i % 3],), group=f"g{i // 2}", where=f"clip {i}")
        for i in range(count)
    ]
    return Dataset(records, **changes)
