"""Filters on maps, and maps out of maps: cleaning, history, fusion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foveate.policy.motion.inputs import Floats

NOISE = 0.25  # pixels per frame below which motion counts as noise
_SHORT = 4  # places on each side of a mean that are added one by one
_CACHED = 20_000  # places whose ten copies stay in a core's cache


def box_mean(maps: Floats, size: int) -> Floats:
    """Mean over `size` x `size` places (odd) around each place, as many of them as there are.

    Args:
        maps: (..., h, w).
        size: Places.
    """
    return run_mean(run_mean(maps, size, -1), size, -2)


def run_mean(maps: Floats, size: int, axis: int) -> Floats:
    """Mean over `size` places (odd) of one axis around each place, as many as there are.

    Args:
        maps: (..., h, w).
        size: Places.
        axis: -1 or -2.
    """
    length = maps.shape[axis]
    radius = min(size // 2, length - 1)
    if radius <= 0:
        return maps
    rest = (slice(None),) * (-1 - axis)
    at = np.arange(length)
    count = np.minimum(at + radius + 1, length) - np.maximum(at - radius, 0)
    share = np.float32(1) / count.astype(np.float32).reshape(-1, *(1,) * len(rest))
    if radius <= _SHORT:  # whole maps are added, shifted; longer runs by their running sum
        total = np.array(maps, np.float32)
        for apart in range(1, radius + 1):
            near, far = (..., slice(apart, None), *rest), (..., slice(None, -apart), *rest)
            total[near] += maps[far]
            total[far] += maps[near]
        total *= share
        return total
    moved = np.moveaxis(maps, axis, -1)
    running = np.zeros((*moved.shape[:-1], length + 1))
    np.cumsum(moved, -1, out=running[..., 1:])
    sums = running[..., np.minimum(at + radius + 1, length)]
    sums -= running[..., np.maximum(at - radius, 0)]
    return np.moveaxis((sums / count).astype(np.float32), -1, axis)


def median3(maps: Floats) -> Floats:
    """Median over 3x3 places, edges repeated, by a network of nineteen exchanges (Paeth, 1990)."""
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1, height, width)
    out = np.empty(flat.shape, np.float32)
    step = max(1, _CACHED // max(1, height * width))
    for first in range(0, len(flat), step):
        part = flat[first : first + step]
        padded = np.pad(part, [(0, 0), (1, 1), (1, 1)], mode="edge")
        p = [np.array(padded[:, i : i + height, j : j + width]) for i in range(3) for j in range(3)]
        spare = np.empty_like(p[0])
        for a, b in _EXCHANGES:
            np.minimum(p[a], p[b], out=spare)
            np.maximum(p[a], p[b], out=p[b])
            p[a], spare = spare, p[a]
        out[first : first + step] = p[4]
    return out.reshape(maps.shape)


_EXCHANGES = (
    (1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3),
    (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2),
)  # fmt: skip


def prepare(maps: Floats, floor: float | Floats = NOISE, *, root: bool = False) -> Floats:
    """Clean a map before a window is searched in it.

    The noise floor is taken off, each frame is clipped at its 99.5th percentile, and optionally
    the root is drawn (MGSampler raises its scores to the power .5).

    Args:
        maps: (T, h, w), not negative.
        floor: In the unit of the maps; a number, or (T,) one per frame.
        root: Whether to draw the root.
    """
    level = np.asarray(floor, np.float32)
    clean = np.maximum(maps - (level[:, None, None] if level.ndim else level), 0)
    clean = np.where(np.isfinite(clean), clean, 0).astype(np.float32)
    if clean.size:
        flat = clean.reshape(len(clean), -1)
        flat = flat[:, :: max(1, flat.shape[1] // 1000)]  # enough to estimate the quantile
        at = min(flat.shape[1] - 1, int(0.995 * flat.shape[1]))
        # Sorted, not partitioned: nearly all places are zero, and selection is slow among equals.
        most = np.sort(flat, axis=1)[:, at]
        # Where less than one place in two hundred moves, clipping would leave nothing.
        most = np.where(most > 0, most, clean.max((1, 2), initial=0))
        clean = np.minimum(clean, most[:, None, None])
    return np.asarray(np.sqrt(clean) if root else clean, np.float32)


def history(maps: Floats, alpha: float = 0.8) -> Floats:
    """Motion history, M_t = max(alpha M_(t-1), S_t), for all t at once.

    Args:
        maps: (T, h, w).
        alpha: What is kept from frame to frame, in 0..1.
    """
    out = maps
    step = 1
    # After round n a place knows the 2^n frames before it; doubling needs log2(T) rounds.
    while step < len(maps):
        faded = out[:-step] * np.float32(alpha**step)
        out = np.concatenate([out[:step], np.maximum(out[step:], faded)])
        step *= 2
    return out


def lasting(
    maps: Floats,
    times: npt.NDArray[np.float64],
    seconds: float,
    shot: npt.NDArray[np.int64],
) -> Floats:
    """Maps times what moves at the same place before and after: what passes by counts less.

    Args:
        maps: (T, h, w).
        times: (T,) seconds, ascending.
        seconds: Standard deviation of the Gaussian over which neighbours in time are averaged.
        shot: (T,) number of the shot of every frame; other shots do not count.
    """
    if len(maps) < 2:
        return maps
    wide = max(1, round(0.09 * maps.shape[1])) | 1  # a person never stands completely still
    near = box_mean(maps, wide)
    total, weight = near.copy(), np.ones(len(maps))
    for gap in range(1, len(maps)):
        apart = (times[gap:] - times[:-gap]) / seconds
        share = np.where(shot[gap:] == shot[:-gap], np.exp(-0.5 * apart * apart), 0)
        if apart.min() > 3:
            break
        factor = share.astype(np.float32)[:, None, None]
        total[:-gap] += factor * near[gap:]
        total[gap:] += factor * near[:-gap]
        weight[:-gap] += share
        weight[gap:] += share
    return np.asarray(maps * total / weight[:, None, None], np.float32)


def standard(maps: Floats) -> Floats:
    """Each frame shifted and scaled to mean 0 and deviation 1, then cut at 0."""
    mean = maps.mean((1, 2), keepdims=True)
    deviation = maps.std((1, 2), keepdims=True)
    return np.asarray(np.maximum((maps - mean) / np.maximum(deviation, 1e-6), 0), np.float32)


def fuse(first: Floats, second: Floats, epsilon: float = 0.1, prior: float = 0.15) -> Floats:
    """z(first) (epsilon + z(second)) times a weak prior for the centre.

    Args:
        first: (T, h, w), such as the affine residual.
        second: (T, h, w), such as motion boundaries.
        epsilon: What is left of the first where the second is zero.
        prior: How much less a corner counts than the centre, in 0..1.
    """
    height, width = first.shape[1:]
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None] if height > 1 else np.zeros((1, 1))
    xs = np.linspace(-1, 1, width, dtype=np.float32) if width > 1 else np.zeros(1)
    liking = 1 - prior * (ys**2 + xs**2) / 2
    moves = first.max((1, 2), keepdims=True) > 0
    joined = standard(first) * (epsilon + standard(second)) * liking
    return np.where(moves, joined, 0).astype(np.float32)
