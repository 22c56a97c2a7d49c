"""Where the loop takes its data from: an epoch of batches, starting at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict

import torch
from torch import nn

from foveate.core import FoveateError
from foveate.train.kit.randomness import generator

Prepare = Callable[[torch.Tensor], torch.Tensor]
"""Samples as a loader gives them → input of the network."""


class Batch(TypedDict):
    """One batch of one process.

    `x`: (B, 3, T, H, W), uint8 or float in 0..1, or whatever the model takes; `y`: (B,) class
    indices or (B, classes) of 0 and 1; `index`: (B,) positions of the records in their split.
    """

    x: torch.Tensor
    y: torch.Tensor
    index: torch.Tensor


class Batches(Protocol):
    """A source of epochs.

    The same epoch always gives the same batches. Every process gets the same number of them; a
    batch of which nothing could be read is empty. If too many samples cannot be read, the source
    raises.
    """

    @property
    def failures(self) -> Sequence[Any]:
        """What could not be read so far, one entry per sample."""

    @property
    def warnings(self) -> Sequence[str]:
        """What was damaged so far but could be read."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on; earlier ones are not read."""


class TensorBatches:
    """Batches of tensors in memory: features, or clips in a test.

    Args:
        x: (N, ...) samples.
        y: (N,) or (N, classes) labels.
        batch: Samples per step over all processes.
        seed: Of the order; None keeps the order as it is (evaluation).
        rank: Of this process, which gets every `world`-th sample of a batch.
        world: Number of processes.
        draw: Changes a sample when it is drawn, with its own generator.
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


@contextmanager
def worker_errors(batches: Batches) -> Iterator[None]:
    """Turn torch's error about a dead loading process into one that names the cause."""
    try:
        yield
    except RuntimeError as error:
        explain = getattr(batches, "explain", None)
        found = explain(error) if explain is not None else None
        if found is None:
            raise
        raise found from None


def outputs_of(
    model: nn.Module, batches: Batches, prepare: Prepare
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs (N, ...) of a model for one epoch of validation batches, and the labels.

    Raises:
        FoveateError: No clip could be read.
    """
    outputs, labels = [], []
    with worker_errors(batches):
        for batch in batches.batches(0):
            if len(batch["x"]):
                outputs.append(model(prepare(batch["x"])).float().cpu())
                labels.append(batch["y"].cpu())
    if not outputs:
        raise FoveateError("no clip of the validation split could be read")
    return torch.cat(outputs), torch.cat(labels)
