"""Means over the frames of a stream so far: what pooling layers remember, as a value.

Squeeze-excitation and the head of a streaming network average over time. How far back they
remember is a choice:

* `Cumulative` weighs all frames alike, as the paper does. It equals the mean over a clip. On an
  endless stream its answer freezes: frame N changes it by 1/N.
* `Exponential` halves the weight of a frame every `half_life` frames. It is the cumulative mean
  while the stream is much younger than that.
* `Segments` weighs the frames of the last `count` segments of `length` frames alike and forgets
  a whole segment at a time: its mean spans (count - 1) * length + 1 to count * length frames.

A network was trained with one of them; another changes its statistics and should be validated,
or trained for. The number of frames seen is kept once for all layers, by the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from foveate.core.errors import ModelError


class Memory(Protocol):
    """A running mean over time."""

    def start(self, batch: int, channels: int, device: torch.device | str) -> torch.Tensor:
        """The stored values of streams before their first frame: zeros (B, ..., C) float32."""

    def advance(
        self, values: torch.Tensor, stored: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in further frames.

        Args:
            values: (B, n, C), one vector per frame.
            stored: From `start` or the previous call; it is not changed.
            seen: Frames before these, (B,) integers.

        Returns:
            The mean after each of these frames (B, n, C) float32, and the new stored values.
        """

    def mean(self, stored: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """The mean (B, C) of the stored values after `seen` frames; zeros before any."""


@dataclass(frozen=True)
class Cumulative:
    """The mean over all frames; their sum is stored (B, C)."""

    def start(self, batch: int, channels: int, device: torch.device | str) -> torch.Tensor:
        """See `Memory`."""
        return torch.zeros(batch, channels, device=device)

    def advance(
        self, values: torch.Tensor, stored: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Memory`."""
        count = values.shape[1]
        if count == 1:  # a live stream
            stored = stored + values[:, 0]
            return (stored / (seen + 1).unsqueeze(1)).unsqueeze(1), stored
        sums = stored.unsqueeze(1) + values.float().cumsum(1)
        ages = seen.unsqueeze(1) + torch.arange(1, count + 1, device=seen.device)
        return sums / ages.unsqueeze(2), sums[:, -1]

    def mean(self, stored: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """See `Memory`."""
        return stored / seen.clamp(min=1).unsqueeze(1)


CUMULATIVE = Cumulative()


@dataclass(frozen=True)
class Exponential:
    """The mean with weights that halve every `half_life` frames; the weighted sum is stored (B, C).

    The weights are normalised to sum to one at every age, so that a young stream is not pulled
    towards zero.
    """

    half_life: float

    def __post_init__(self) -> None:
        if not 0 < self.half_life < float("inf"):
            raise ModelError(f"half_life must be positive and finite, not {self.half_life}")

    start = Cumulative.start

    @property
    def _keep(self) -> float:
        return float(0.5 ** (1 / self.half_life))

    def advance(
        self, values: torch.Tensor, stored: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Memory`."""
        means = []
        for i, value in enumerate(values.float().unbind(1)):
            stored = torch.lerp(value, stored, self._keep)
            means.append(self.mean(stored, seen + i + 1))
        return torch.stack(means, 1), stored

    def mean(self, stored: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """See `Memory`."""
        weight = 1 - self._keep ** seen.clamp(min=1).double()
        return stored / weight.unsqueeze(1).to(stored.dtype)


@dataclass(frozen=True)
class Segments:
    """The mean over the last segments; the sum of each is stored in a ring (B, count, C)."""

    count: int
    length: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.length < 1:
            raise ModelError("count and length of segments must be at least 1")

    def start(self, batch: int, channels: int, device: torch.device | str) -> torch.Tensor:
        """See `Memory`."""
        return torch.zeros(batch, self.count, channels, device=device)

    def advance(
        self, values: torch.Tensor, stored: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Memory`."""
        means = []
        ring = torch.arange(self.count, device=seen.device)
        for i, value in enumerate(values.float().unbind(1)):
            age = (seen + i).unsqueeze(1)
            here = (age // self.length) % self.count == ring  # (B, count)
            begun = here & (age % self.length == 0)
            stored = stored.masked_fill(begun.unsqueeze(2), 0.0) + here.unsqueeze(
                2
            ) * value.unsqueeze(1)
            means.append(self.mean(stored, seen + i + 1))
        return torch.stack(means, 1), stored

    def mean(self, stored: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """See `Memory`."""
        last = (seen - 1).clamp(min=0)
        span = (self.count - 1) * self.length + last % self.length + 1
        return stored.sum(1) / torch.minimum(seen.clamp(min=1), span).unsqueeze(1)


_KINDS: dict[str, tuple[Callable[..., Any], int]] = {
    "cumulative": (Cumulative, 0),
    "exponential": (Exponential, 1),
    "segments": (Segments, 2),
}


def memory(name: str) -> Memory:
    """Return a memory by name: `cumulative`, `exponential:HALF_LIFE` or `segments:COUNT:LENGTH`.

    Lengths are in frames that the network sees.

    Raises:
        ModelError: Another name, or numbers that do not fit it.
    """
    kind, *numbers = name.split(":")
    build, wanted = _KINDS.get(kind, (None, 0))
    hint = "cumulative, exponential:HALF_LIFE or segments:COUNT:LENGTH, in frames"
    if build is None or len(numbers) != wanted:
        raise ModelError(f"unknown memory {name!r}", hint)
    try:
        values = [float(n) if kind == "exponential" else int(n) for n in numbers]
    except ValueError as error:
        raise ModelError(f"unknown memory {name!r}", hint) from error
    made: Memory = build(*values)
    return made
