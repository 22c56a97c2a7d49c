"""Cuts windows out of frames, all of them in one call."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Pixels = npt.NDArray[np.uint8]


def crop(pixels: Pixels, corner: npt.NDArray[np.int64], side: int) -> Pixels:
    """Whole-pixel windows of one size: a single gather, no interpolation.

    Args:
        pixels: (T, H, W, 3).
        corner: (T, 2) or (T, K, 2) integer x and y of the first pixel; moved inside the frame.
        side: Of the square, at most the frame's shorter side.

    Returns:
        (T, side, side, 3), or (T, K, side, side, 3).
    """
    count, height, width = pixels.shape[:3]
    if side > min(height, width):
        raise ValueError(f"a window of {side} pixels in a frame of {width}x{height}")
    flat = corner.reshape(count, -1, 2)
    flat = np.clip(flat, 0, np.array([width - side, height - side]))
    views = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), (1, 2))
    frames = np.arange(count)[:, None]
    cut = views[frames, flat[..., 1], flat[..., 0]].transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(cut.reshape(*corner.shape[:-1], side, side, pixels.shape[3]))


def crop_resized(x_tchw: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Windows of any place and size, resampled: differentiable in the frames and in the boxes.

    Where a window is shrunk, the frames are averaged down first, so that nothing aliases.

    Args:
        x_tchw: (T, C, H, W) float.
        boxes: (T, 4) or (T, K, 4) `xyxy` in pixels.
        side: Of the square answer.

    Returns:
        (T, C, side, side), or (T, K, C, side, side).
    """
    height, width = x_tchw.shape[-2:]
    flat = boxes.reshape(len(x_tchw), -1, 4).to(x_tchw)
    shrink = float((flat[..., 2:] - flat[..., :2]).detach().amax()) / side if flat.numel() else 1.0
    if shrink > 1.5:
        size = [max(1, round(height / shrink)), max(1, round(width / shrink))]
        x_tchw = F.interpolate(x_tchw, size, mode="bilinear", antialias=True, align_corners=False)
    steps = (torch.arange(side, device=x_tchw.device, dtype=x_tchw.dtype) + 0.5) / side
    x = flat[..., :1] + (flat[..., 2:3] - flat[..., :1]) * steps
    y = flat[..., 1:2] + (flat[..., 3:4] - flat[..., 1:2]) * steps
    grid = torch.stack(
        [
            (2 * x / width - 1)[..., None, :].expand(*x.shape[:2], side, side),
            (2 * y / height - 1)[..., None].expand(*y.shape[:2], side, side),
        ],
        -1,
    )
    count, windows = flat.shape[:2]
    frames = x_tchw.repeat_interleave(windows, 0) if windows != 1 else x_tchw
    cut = F.grid_sample(
        frames, grid.reshape(count * windows, side, side, 2),
        mode="bilinear", padding_mode="border", align_corners=False,
    )  # fmt: skip
    return cut.reshape(*boxes.shape[:-1], *cut.shape[1:])
