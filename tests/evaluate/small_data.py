"""A recogniser over the tiny network, and small data sets of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from foveate.pipeline.network import StreamingNetwork
from foveate.pipeline.policies import make_decide, make_look
from nontrivial import randomise

from foveate.models import registry
from foveate.pipeline.presets import Preset, edit
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.session import Plan
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
    network = StreamingNetwork(model, torch.device("cpu"))
    preset = edit(Preset(), {"cut_threshold": 1.0, **settings})
    plan = Plan(
        look=make_look(preset, SPEC.frames_per_second),
        decide=make_decide(preset),
        budget=preset.budget.value(),
        spec=SPEC,
        device=torch.device("cpu"),
        window_seconds=SPEC.clip_seconds,
        cut_threshold=1.0,
        macs_per_view=network.observe_macs((1, 3, 1, SPEC.size, SPEC.size)),
        macs_per_answer=network.answer_macs(1),
    )
    return Recogniser(network, plan, preset, LABELS)


def clip(seed: int, frames: int = 50) -> np.ndarray:
    """Noise, (T, 40, 40, 3) uint8; two seconds at 25 frames/s."""
    return np.random.default_rng(seed).integers(0, 256, (frames, 40, 40, 3), np.uint8)


def dataset(count: int = 8, **changes: Any) -> Dataset:
    """Clips of noise, labelled in turn, two clips a group."""
    records = [
        Record(clip(i), (LABELS[i % 3],), group=f"g{i // 2}", where=f"clip {i}")
        for i in range(count)
    ]
    return Dataset(records, **changes)
