"""Which clips form which batch, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from foveate.data.dataset import BadClip

Key = tuple[int, int]  # epoch, index of the record


def order(count: int, seed: int, epoch: int, shuffle: bool) -> list[int]:
    """The indices of one epoch, in the order in which clips are shown."""
    if not shuffle:
        return list(range(count))
    return [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]


class Batches(Sampler[list[Key]]):
    """Batches of one epoch, from any step on.

    With several processes each takes every `world`-th clip of a batch, so the clips of a step are
    the same for any number of processes.

    Args:
        count: Number of records.
        batch: Clips per step, of all processes together.
        seed: Of the order.
        shuffle: Whether the order is drawn, anew in each epoch.
        drop_last: Leave out a last batch that is not full.
        rank: Number of this process.
        world: How many processes there are.

    Attributes:
        epoch: The epoch that the next pass gives.
        start: The step that it starts at.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch < world or not 0 <= rank < world:
            raise ValueError(f"a batch of {batch} for process {rank} of {world}")
        self._count, self._batch, self._seed, self._shuffle = count, batch, seed, shuffle
        self._drop_last, self._rank, self._world = drop_last, rank, world
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        full, rest = divmod(self._count, self._batch)
        return full + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        places = order(self._count, self._seed, epoch, self._shuffle)
        for step in range(self.start, len(self)):
            chosen = places[step * self._batch : (step + 1) * self._batch]
            yield [(epoch, index) for index in chosen[self._rank :: self._world]]


def collate(items: Sequence[dict[str, Any] | BadClip]) -> dict[str, Any]:
    """Put clips together; those that could not be read make the batch smaller.

    Args:
        items: What `ClipDataset` gave.

    Returns:
        `x`, `y` and further modalities stacked, `index` (B,) int64, `frames` (B,) int64 true
        lengths; clips of different length are filled up with zeros at the end. `bad` and
        `warnings` are lists. If no clip could be read, the tensors have no elements.
    """
    good = [item for item in items if not isinstance(item, BadClip)]
    out: dict[str, Any] = {
        "bad": [item for item in items if isinstance(item, BadClip)],
        "warnings": [(item["index"], line) for item in good for line in item["warnings"]],
        "index": torch.tensor([item["index"] for item in good], dtype=torch.int64),
        "frames": torch.tensor([_length(item["x"]) for item in good], dtype=torch.int64),
        "x": torch.empty(0, dtype=torch.uint8),
        "y": torch.empty(0, dtype=torch.int64),
    }
    for name in good[0] if good else ():
        if name not in ("index", "warnings"):
            out[name] = _stack([item[name] for item in good])
    return out


def _length(x: Tensor) -> int:
    """Frames of one clip, (..., T, H, W)."""
    return int(x.shape[-3])


def _stack(parts: list[Tensor]) -> Tensor:
    """Stacked, after filling the last but two dimensions up to the longest with zeros."""
    if len({part.shape for part in parts}) == 1:
        return torch.stack(parts)
    longest = max(_length(part) for part in parts)
    if any(p.shape[-2:] != parts[0].shape[-2:] or p.ndim != parts[0].ndim for p in parts):
        shapes = sorted({tuple(part.shape) for part in parts})
        raise ValueError(f"clips of different shapes do not make a batch: {shapes}")
    filled = [
        torch.nn.functional.pad(part, (0, 0, 0, 0, 0, longest - _length(part))) for part in parts
    ]
    return torch.stack(filled)
