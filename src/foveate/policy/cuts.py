"""Scene cuts between frames that are decoded for other reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

_BINS = 8


def signature(frames: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Colour histograms in a 2 x 2 grid of each frame.

    Args:
        frames: (T, H, W, 3) uint8 RGB; some thousand pixels of each are enough.

    Returns:
        (T, 4 * 3 * 8) float32; the histogram of each cell and channel sums to one.
    """
    small = frames // (256 // _BINS)
    cells = [
        cell
        for half in np.array_split(small, 2, axis=1)
        for cell in np.array_split(half, 2, axis=2)
    ]
    parts = []
    for cell in cells:
        count, pixels = len(cell), cell.shape[1] * cell.shape[2]
        # One table of all frames: by frame, then value, then channel.
        at = cell.reshape(count, pixels, 3) * np.intp(3) + np.arange(3)
        at += (3 * _BINS * np.arange(count))[:, None, None]
        counts = np.bincount(at.ravel(), minlength=3 * _BINS * count)
        parts.append(counts.reshape(count, 3 * _BINS) / max(pixels, 1))
    return np.concatenate(parts, 1).astype(np.float32)


def distances(
    signatures: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    before: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None,
) -> list[float]:
    """Distance of each frame from the one before it, in 0..1 (0: same histograms everywhere).

    Args:
        signatures: (T, N), from `signature`.
        before: (1, N) of the frame before the first, None if there is none.
    """
    if not len(signatures):
        return []
    chain = np.concatenate([signatures[:1] if before is None else before, signatures])
    channels = 4 * 3
    return [float(d) for d in np.abs(np.diff(chain, axis=0)).sum(1) / (2 * channels)]
