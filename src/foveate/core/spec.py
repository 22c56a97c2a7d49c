"""The input that a set of weights expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Resize = Literal["shorter side", "squash"]
Crop = Literal["centre", "none"]


@dataclass(frozen=True)
class InputSpec:
    """How frames are prepared for a model: size, rate, clip length and value range.

    Attributes:
        size: Side of the square input, in pixels.
        frames_per_second: Frame rate of the training clips.
        clip_frames: Frames in one training clip; longer files run in windows of this length.
        mean: Subtracted per channel (RGB order) after scaling to 0..1.
        std: Divides per channel after the mean is subtracted.
        resize: ``"shorter side"`` keeps the aspect, ``"squash"`` does not.
        crop: Which part of the resized frame is used.
        resize_to: Shorter side after resizing, before the crop to ``size``; None means ``size``.
    """

    size: int
    frames_per_second: float
    clip_frames: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Resize = "shorter side"
    crop: Crop = "centre"
    resize_to: int | None = None

    def __post_init__(self) -> None:
        """Refuse sizes and rates that cannot be meant."""
        if self.size < 1 or self.clip_frames < 1 or self.frames_per_second <= 0:
            raise ValueError(f"sizes and rates must be positive: {self}")
        if self.resize_to is not None and self.resize_to < self.size:
            raise ValueError(f"a crop of {self.size} does not fit into {self.resize_to} pixels")
        if min(self.std) <= 0:
            raise ValueError(f"a standard deviation must be positive: {self.std}")

    @property
    def clip_seconds(self) -> float:
        """Duration of one training clip in seconds."""
        return self.clip_frames / self.frames_per_second
