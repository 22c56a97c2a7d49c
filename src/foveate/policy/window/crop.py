"""Cuts windows out of frames, all of them in one call."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


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


def resample(pixels: Pixels, boxes: npt.NDArray[np.float64], side: int) -> Pixels:
    """Windows of any place and size, by bilinear sampling with the border repeated outside.

    Where a window is shrunk, frames are averaged down first, so that nothing aliases. Products are
    rounded as `models.layers.crop.crop_resized` rounds them, which is the same on tensors with
    gradients: training and prediction use the same pixels.

    Args:
        pixels: (T, H, W, C) uint8.
        boxes: (T, 4) `xyxy` in pixels.
        side: Of the square answer.

    Returns:
        (T, side, side, C) uint8.
    """
    height, width = pixels.shape[1:3]
    out = np.empty((len(pixels), side, side, pixels.shape[3]), np.uint8)
    rounded = boxes.astype(np.float32)
    shrink = float((rounded[:, 2:] - rounded[:, :2]).max(initial=0)) / side
    one = np.float32(1)
    for number, box in enumerate(rounded):
        frame = pixels[number].astype(np.float32)
        if shrink > 1.5:
            frame = _averaged(frame, max(1, round(width / shrink)), 1)
            frame = _averaged(frame, max(1, round(height / shrink)), 0)
        rows, down = _places(height, frame.shape[0], box[1], box[3], side)
        columns, across = _places(width, frame.shape[1], box[0], box[2], side)
        y, x = down[:, None, None], across[None, :, None]
        upper, lower = frame[rows], frame[np.minimum(rows + 1, frame.shape[0] - 1)]
        right = np.minimum(columns + 1, frame.shape[1] - 1)
        cut = _sum(
            [
                (upper[:, columns], (one - y) * (one - x)),
                (upper[:, right], (one - y) * x),
                (lower[:, columns], y * (one - x)),
                (lower[:, right], y * x),
            ]
        )
        out[number] = np.clip(np.round(cut), 0, 255)
    return out


def _places(
    length: int, small: int, low: np.float32, high: np.float32, side: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """One axis of a window: the pixel before each sample and the share of the one behind it.

    Args:
        length: Pixels of the axis that the window is in.
        small: Pixels that the axis was averaged down to.
        low: First edge of the window.
        high: Second edge.
        side: Samples.
    """
    steps = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
    # Through -1..1, the coordinates of `grid_sample`.
    grid = np.float32(2) * (low + (high - low) * steps) / np.float32(length) - np.float32(1)
    half = np.float32(small) / np.float32(2)
    at = (grid.astype(np.float64) * half + (half - 0.5)).astype(np.float32)
    at = np.clip(at, np.float32(0), np.float32(small - 1))
    first = np.floor(at)
    return first.astype(np.int64), at - first


def _averaged(frame: Floats, small: int, axis: int) -> Floats:
    """A frame (H, W, C) with one axis scaled down by triangle filters."""
    at, weights = _filters(frame.shape[axis], small)
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    taps = zip(at, weights, strict=True)
    return _sum([(frame.take(column, axis), weight.reshape(shape)) for column, weight in taps])


@lru_cache(16)
def _filters(length: int, small: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Pixels and weights (taps, small) of triangle filters, as wide as keeps out aliasing."""
    scale = np.float32(length) / np.float32(small)
    middle = scale * (np.arange(small, dtype=np.float32) + np.float32(0.5))
    first = np.maximum((middle - scale + np.float32(0.5)).astype(np.int64), 0)
    count = np.minimum((middle + scale + np.float32(0.5)).astype(np.int64), length) - first
    taps = np.arange(count.max())[:, None]
    distance = (taps + first).astype(np.float32) - middle + np.float32(0.5)
    weights = np.maximum(np.float32(1) - np.abs(distance * (np.float32(1) / scale)), np.float32(0))
    weights *= taps < count
    weights /= np.add.accumulate(weights)[-1]
    return np.minimum(taps + first, length - 1), weights.astype(np.float32)


def _sum(products: list[tuple[Floats, Floats]]) -> Floats:
    """The sum of products, each rounded to float32 once, after it was added."""
    (value, weight), *rest = products
    found = value * weight
    for value, weight in rest:
        exact = value * weight.astype(np.float64)
        exact += found
        found = exact.astype(np.float32)
    return found
