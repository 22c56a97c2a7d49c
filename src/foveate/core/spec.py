"""The input that a set of weights expects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

from foveate.core.errors import ConfigError

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
        """Refuse sizes and rates that cannot be meant.

        Raises:
            ConfigError: A value is not a number, not finite, not positive, or does not fit.
        """
        for name in ("size", "clip_frames", *(["resize_to"] if self.resize_to is not None else [])):
            value = getattr(self, name)
            if not (isinstance(value, Integral) and int(value) >= 1):
                raise ConfigError(f"InputSpec: {name} must be a positive integer, not {value!r}")
        rate = self.frames_per_second
        if not (isinstance(rate, Real) and 0 < float(rate) < math.inf):
            raise ConfigError(
                f"InputSpec: frames_per_second must be positive and finite, not {rate!r}"
            )
        if self.resize_to is not None and self.resize_to < self.size:
            raise ConfigError(
                f"InputSpec: a crop of {self.size} does not fit into {self.resize_to} pixels"
            )
        for name, least in (("mean", -math.inf), ("std", 0.0)):
            values = getattr(self, name)
            if len(values) != 3 or not all(least < v < math.inf for v in values):
                raise ConfigError(
                    f"InputSpec: {name} must be three {'positive ' if name == 'std' else ''}"
                    f"numbers, not {values!r}"
                )

    @property
    def clip_seconds(self) -> float:
        """Duration of one training clip in seconds."""
        return self.clip_frames / self.frames_per_second
