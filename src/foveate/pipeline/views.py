"""From decoded frames to what the network takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from foveate.models.spec import InputSpec

if TYPE_CHECKING:
    from foveate.core.loop import Pixels


def decode_size(source: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """The `(width, height)` to decode to, so that the crop needs no second scaling.

    Args:
        source: Upright `(width, height)`.
        spec: What the network expects.
    """
    width, height = source
    side = spec.resize_to or spec.size
    if spec.resize == "squash":
        return side, side
    scale = side / min(width, height)
    return max(side, round(width * scale)), max(side, round(height * scale))


def crop(pixels: Pixels, spec: InputSpec) -> Pixels:
    """The centre square of (T, H, W, 3) frames, without copying."""
    if spec.crop == "none":
        return pixels
    top = (pixels.shape[1] - spec.size) // 2
    left = (pixels.shape[2] - spec.size) // 2
    return pixels[:, top : top + spec.size, left : left + spec.size]


def to_views(pixels: Pixels, spec: InputSpec, device: torch.device) -> Tensor:
    """Frames as a clip for the network.

    Args:
        pixels: (T, S, S, 3) uint8 RGB.
        spec: Value range, mean and standard deviation.
        device: Where the network runs.

    Returns:
        (1, 3, T, S, S) float32, laid out channels last in memory.
    """
    x_thwc = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float().div_(255)
    if any(spec.mean):
        x_thwc -= x_thwc.new_tensor(spec.mean)
    if any(value != 1.0 for value in spec.std):
        x_thwc /= x_thwc.new_tensor(spec.std)
    return x_thwc.permute(3, 0, 1, 2).unsqueeze(0)
