"""What the loop takes its data from: an epoch of batches, from any step on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypedDict

import torch

from foveate.train.kit.randomness import generator


class Batch(TypedDict):
    """One batch of one process.

    `x`: (B, 3, T, H, W), uint8 or float in 0..1, or whatever the model takes; `y`: (B,) class
    indices or (B, classes) of 0 and 1; `index`: (B,) places of the records in their split.
    """

    x: torch.Tensor
    y: torch.Tensor
    index: torch.Tensor


class Batches(Protocol):
    """A source of epochs.

    The same epoch gives the same batches, however often it is asked for. Every process gives the
    same number of them; a batch of which nothing could be read comes empty. Where too much cannot
    be read, the source raises.
    """

    @property
    def failures(self) -> Sequence[Any]:
        """What could not be read so far, one entry per sample."""

    @property
    def warnings(self) -> Sequence[str]:
        """What was damaged so far and could be read nevertheless."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on, which were before it left out unread."""


class TensorBatches:
    """Batches of tensors that are in memory: features, or clips of a test.

    Args:
        x: (N, ...) samples.
        y: (N,) or (N, classes) labels.
        batch: Samples per step over all processes.
        seed: Of the order; None keeps the order as it is (evaluation).
        rank: Which of the processes this one is; it gets every `world`-th sample of a batch.
        world: How many processes there are.
        draw: Changes a sample when it is drawn, with a generator of its own.
    """

    def __init__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        batch: int,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        draw: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None,
    ) -> None:
        self.x, self.y = x, y
        self.size, self.seed, self.rank, self.world = batch, seed, rank, world
        self.draw = draw
        self.failures: list[Any] = []
        self.warnings: list[str] = []

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.x) // self.size)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on."""
        order = torch.arange(len(self.x))
        if self.seed is not None:
            order = torch.randperm(len(self.x), generator=generator(self.seed, "order", epoch))
        for step in range(start_step, len(self)):
            chosen = order[step * self.size : (step + 1) * self.size][self.rank :: self.world]
            x = self.x[chosen]
            if self.draw is not None and self.seed is not None:
                streams = (generator(self.seed, epoch, int(i)) for i in chosen)
                x = torch.stack([self.draw(one, g) for one, g in zip(x, streams, strict=True)])
            yield {"x": x, "y": self.y[chosen], "index": chosen}
