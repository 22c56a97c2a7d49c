"""How frames are prepared for a network outside training: exactly as for prediction.

Frames are decoded at the size at which the network's square fits, so nothing is scaled twice, and
stay uint8 until they are a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.core.loop import Pixels

Labels = tuple[int, ...]


class Expects(Protocol):
    """What a set of weights expects of its input (`models.InputSpec`)."""

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Subtracted per channel after scaling to 0..1."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Divides per channel after that."""

    @property
    def resize(self) -> str:
        """`shorter side` keeps the aspect, `squash` does not."""

    @property
    def crop(self) -> str:
        """`centre` or `none`."""

    @property
    def resize_to(self) -> int | None:
        """Shorter side from which the square is cut; None: the square's own."""


class Transform(Protocol):
    """From decoded frames to the frames of a clip; one draw for all frames of a clip."""

    def decode_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """The `(width, height)` to decode a source of that upright size to."""

    def __call__(
        self, frames: Pixels, labels: Labels, random: np.random.Generator | None
    ) -> tuple[Tensor, Labels]:
        """Frames (N, H, W, 3) uint8 to (N, 3, S, S) uint8, and the labels they then have."""


@dataclass(frozen=True)
class Centre:
    """The transform of prediction and evaluation: the centre square, nothing drawn.

    Args:
        size: Side of the square in pixels.
        resize: `shorter side` or `squash`.
        crop: `centre` or `none`.
        resize_to: Shorter side from which the square is cut; None: `size`.
    """

    size: int
    resize: str = "shorter side"
    crop: str = "centre"
    resize_to: int | None = None

    @classmethod
    def of(cls, spec: Expects) -> Centre:
        """The transform for weights that expect `spec`."""
        return cls(spec.size, spec.resize, spec.crop, spec.resize_to)

    def decode_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """The `(width, height)` at which the square fits."""
        side = self.resize_to or self.size
        return (side, side) if self.resize == "squash" else shorter_side(source, side)

    def __call__(
        self, frames: Pixels, labels: Labels, random: np.random.Generator | None = None
    ) -> tuple[Tensor, Labels]:
        """Cut the centre square of every frame."""
        if self.crop != "none":
            top = (frames.shape[1] - self.size) // 2
            left = (frames.shape[2] - self.size) // 2
            frames = frames[:, top : top + self.size, left : left + self.size]
        return to_tchw(frames), labels


def shorter_side(source: tuple[int, int], size: int) -> tuple[int, int]:
    """`(width, height)` of the same aspect whose shorter side is `size`."""
    width, height = source
    scale = size / min(width, height)
    return max(size, round(width * scale)), max(size, round(height * scale))


def to_tchw(frames: Pixels) -> Tensor:
    """(N, H, W, 3) uint8 frames as an (N, 3, H, W) tensor, channels last in memory."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def to_float(
    x_bcthw: Tensor, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)
) -> Tensor:
    """A uint8 batch as float32, scaled to 0..1 and normalised per channel.

    Args:
        x_bcthw: (..., C, T, H, W) uint8; float batches are returned as they are.
        mean: One value, or one per channel; further channels are only scaled.
        std: One value, or one per channel.

    Returns:
        (..., C, T, H, W) float32, bit for bit what prediction feeds the network.
    """
    if x_bcthw.is_floating_point():
        return x_bcthw
    out = x_bcthw.float().div_(255)
    if any(mean):
        _channels(out, len(mean)).sub_(out.new_tensor(mean).view(-1, 1, 1, 1))
    if any(value != 1.0 for value in std):
        _channels(out, len(std)).div_(out.new_tensor(std).view(-1, 1, 1, 1))
    return out


def _channels(x_bcthw: Tensor, count: int) -> Tensor:
    """The first channels of a batch, or all of them for one value."""
    return x_bcthw if count == 1 else x_bcthw.narrow(-4, 0, count)
