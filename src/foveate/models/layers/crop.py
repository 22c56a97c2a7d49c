"""Crops of frames in one batch: at whole pixels, and differentiable ones for learned policies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_resized(
    x_tchw: Tensor, boxes: Tensor, side: int, *, antialias: bool = True, padding: str = "border"
) -> Tensor:
    """Crop and resize boxes of frames; differentiable in the frames and in the boxes.

    Args:
        x_tchw: (T, C, H, W) float.
        boxes: (T, 4) or (T, K, 4) `xyxy` in pixels.
        side: Of the square output in pixels.
        antialias: Downsample the frames first where a box is shrunk by more than a half.
        padding: What lies beyond the frames: ``border`` or ``zeros``.

    Returns:
        (T, C, side, side), or (T, K, C, side, side).
    """
    height, width = x_tchw.shape[-2:]
    # `shape[0]`, not `len`, which an export would fix to the number of frames at hand.
    flat = boxes.reshape(x_tchw.shape[0], -1, 4).to(x_tchw)
    shrink = 1.0
    if antialias and flat.numel():
        shrink = float((flat[..., 2:] - flat[..., :2]).detach().amax()) / side
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
        mode="bilinear", padding_mode=padding, align_corners=False,
    )  # fmt: skip
    return cut.reshape(*boxes.shape[:-1], *cut.shape[1:])


def crop_at(x_tchw: Tensor, top_left: Tensor, side: int) -> Tensor:
    """Cut a square of whole pixels out of every frame.

    Args:
        x_tchw: (T, C, H, W).
        top_left: (T, 2) int64, row and column of the upper left pixel.
        side: Of the square in pixels.

    Returns:
        (T, C, side, side), the pixels as they are.
    """
    steps = torch.arange(side, device=x_tchw.device)
    rows, columns = (top_left[:, axis, None] + steps for axis in (0, 1))
    frames = torch.arange(x_tchw.shape[0], device=x_tchw.device)[:, None, None]
    return x_tchw.movedim(1, -1)[frames, rows[:, :, None], columns[:, None]].movedim(-1, 1)
