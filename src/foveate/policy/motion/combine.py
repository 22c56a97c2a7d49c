"""Filters on maps, and maps out of maps: cleaning, history, fusion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foveate.policy.motion.inputs import Floats

NOISE = 0.25  # pixels per frame below which motion counts as noise
_SHORT = 4  # places on each side of a mean that are added one by one
_STILL = 0.09  # of the height, over which motion counts as at the same place
# Of `bodies`.
_BODY = 0.2  # of the height, over which articulation is averaged
_STAYS = 1.2  # seconds over which it is
_RIGID = 0.1  # what is left of rigid motion
_LEAST = 0.3  # of the motion, as against the best place
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
    at = np.arange(length)
    count = np.minimum(at + radius + 1, length) - np.maximum(at - radius, 0)
    if radius <= _SHORT:  # whole maps are added, shifted; longer runs by their running sum
        total = np.array(maps, np.float32)
        here, there = np.moveaxis(total, axis, 0), np.moveaxis(maps, axis, 0)
        for apart in range(1, radius + 1):
            here[apart:] += there[:-apart]
            here[:-apart] += there[apart:]
        here *= (1 / count).astype(np.float32).reshape(-1, *(1,) * (maps.ndim - 1))
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
    # A person never stands completely still.
    return np.asarray(maps * _over_time(_near(maps, _STILL), times, seconds, shot), np.float32)


def bodies(
    maps: Floats,
    articulated: Floats,
    times: npt.NDArray[np.float64],
    shot: npt.NDArray[np.int64],
    rigid: float = 0.0,
) -> Floats:
    """Maps in which bodies count more than rigid things: balls that pass, boxes that turn.

    Four properties are combined: how much of the motion near a place its field leaves unexplained
    (articulation), how long that stays near the place (persistence), and, by a root, how large the
    moving area is rather than how bright. In shots in which only rigid things move there is no
    body to prefer: they keep their maps. The constants were fitted on rendered training clips
    (`docs/research/motion-patches.md`); no labels of actions were used.

    Args:
        maps: (T, h, w) what moves, such as `affine_diff`.
        articulated: (T, h, w) the map `articulated` of the same times, in the same unit.
        times: (T,) seconds, ascending.
        shot: (T,) number of the shot of every frame.
        rigid: Mean articulation of what moves below which a shot has rigid things only.
    """
    bent = _near(_over_time(articulated, times, _STAYS, shot), _BODY)
    moved = _near(_over_time(maps, times, _STAYS, shot), _BODY)
    most = moved.max((1, 2), keepdims=True, initial=0)
    ratio = bent / np.maximum(moved + 0.5 * most, 1e-6)
    found = np.sqrt((articulated + _RIGID * maps) * (_RIGID + ratio) ** 3)
    mass = found.sum((1, 2), keepdims=True)
    even = found / np.maximum(mass, max(0.5 * float(np.median(mass)), 1e-9)) if mass.size else found
    found *= _over_time(_near(even, _STILL), times, _STAYS, shot)
    for n in np.unique(shot):
        rows = shot == n
        plain, here = maps[rows], moved[rows]
        share = _shares(plain)
        bends = float((share * bent[rows] / np.maximum(here + 0.02 * here.max(), 1e-6)).sum())
        # A map that leaves out nearly all that moves has taken noise for a body.
        left = float((_shares(found[rows]) * plain).sum()) < _LEAST * float((share * plain).sum())
        if left or bends < rigid * len(plain):
            found[rows] = plain
    return np.asarray(found, np.float32)


def _near(maps: Floats, share: float) -> Floats:
    """Mean around each place over that share of the height."""
    return box_mean(maps, max(1, round(share * maps.shape[1])) | 1)


def _over_time(
    maps: Floats,
    times: npt.NDArray[np.float64],
    seconds: float,
    shot: npt.NDArray[np.int64],
) -> Floats:
    """Mean of the maps of the same shot, weighted by a Gaussian of that standard deviation."""
    weight = np.exp(-0.5 * np.square(np.subtract.outer(times, times) / seconds))
    weight *= np.equal.outer(shot, shot)
    weight /= weight.sum(1, keepdims=True)
    return np.asarray(np.tensordot(weight.astype(np.float32), maps, 1), np.float32)


def _shares(maps: Floats) -> Floats:
    """Each frame divided by its sum."""
    return np.asarray(maps / np.maximum(maps.sum((1, 2), keepdims=True), 1e-9), np.float32)


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
