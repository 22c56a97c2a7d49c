"""Exact search of the box with the largest sum of a map, by integral images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foveate.policy.motion.combine import run_mean

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.float64]


def places_of(side: float, cell: tuple[float, float], shape: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the map that a square of `side` source pixels covers, at least one.

    Args:
        side: Pixels of the source.
        cell: Pixels of the source (x, y) per place.
        shape: (h, w) of the map.
    """
    rows = min(shape[0], max(1, round(side / cell[1])))
    columns = min(shape[1], max(1, round(side / cell[0])))
    return rows, columns


def box_sums(maps: Floats, size: tuple[int, int]) -> Places:
    """Sum of the map in every box that lies inside it: four reads of the integral image.

    Args:
        maps: (T, h, w).
        size: (rows, columns) of the box.

    Returns:
        (T, h - rows + 1, w - columns + 1) float64, by the box's first row and column.
    """
    count, height, width = maps.shape
    total = np.zeros((count, height + 1, width + 1))
    np.cumsum(maps, 1, dtype=np.float64, out=total[:, 1:, 1:])
    np.cumsum(total[:, 1:, 1:], 2, out=total[:, 1:, 1:])
    rows, columns = size
    upper, lower = total[:, :-rows] if rows else total, total[:, rows:]
    sums = lower[:, :, columns:] - lower[:, :, :-columns]
    sums -= upper[:, :, columns:] - upper[:, :, :-columns]
    # Differences of large sums can be slightly below zero.
    return np.asarray(np.maximum(sums, 0))


def tapered(sums: Places, size: tuple[int, int]) -> Floats:
    """Box sums averaged over a quarter of the box: breaks the tie of a mover smaller than it.

    All boxes that contain a small mover have the same sum; the middle one of them is wanted.
    """
    smooth = sums.astype(np.float32)
    for axis, length in ((-2, size[0]), (-1, size[1])):
        smooth = run_mean(smooth, max(1, length // 4) | 1, axis)
    return np.ascontiguousarray(smooth)


def best(scores: Floats) -> npt.NDArray[np.int64]:
    """(T, 2) row and column of the highest score; of equal ones the mean, then the first."""
    flat = scores.reshape(len(scores), -1)
    at = flat.argmax(1)
    top = np.take_along_axis(flat, at[:, None], 1)
    ties = (flat >= top * (1 - 1e-6)).reshape(scores.shape)
    count = ties.sum((1, 2))
    rows = (ties.sum(2) * np.arange(scores.shape[1])).sum(1) / count
    columns = (ties.sum(1) * np.arange(scores.shape[2])).sum(1) / count
    middle = np.stack([np.round(rows), np.round(columns)], -1).astype(np.int64)
    # Two separate peaks have their mean between them: then the first of them.
    values = ties[np.arange(len(scores)), middle[:, 0], middle[:, 1]]
    first = np.stack(np.unravel_index(at, scores.shape[1:]), -1)
    return np.where(values[:, None], middle, first)


def centred(maps: Floats, corner: Places, size: tuple[int, int]) -> Places:
    """One centroid step: boxes moved to the centroid of their content, inside the map.

    Args:
        maps: (T, h, w).
        corner: (T, 2) first row and column, may be fractional.
        size: (rows, columns).
    """
    height, width = maps.shape[1:]
    weights = np.where(inside(corner, size, (height, width)), maps, 0).astype(np.float64)
    mass = weights.sum((1, 2))
    rows = (weights.sum(2) * np.arange(height)).sum(1) / np.maximum(mass, 1e-12)
    columns = (weights.sum(1) * np.arange(width)).sum(1) / np.maximum(mass, 1e-12)
    half = (np.array(size) - 1) / 2
    moved = np.stack([rows, columns], -1) - half
    moved = np.clip(moved, 0, np.array([height, width]) - size)
    return np.where((mass > 0)[:, None], moved, corner)


def inside(corner: Places, size: tuple[int, int], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(T, h, w): the places whose middle lies in the box."""
    ys, xs = np.arange(shape[0]), np.arange(shape[1])
    top, left = corner[:, :1], corner[:, 1:]
    rows = (ys >= top - 0.5) & (ys < top + size[0] - 0.5)
    columns = (xs >= left - 0.5) & (xs < left + size[1] - 0.5)
    return np.asarray(rows[:, :, None] & columns[:, None, :])


def capture(maps: Floats, size: tuple[int, int], sums: Places | None = None) -> Places:
    """(T,) the share of the map inside the best box; 0 where nothing moves.

    Args:
        maps: (T, h, w).
        size: (rows, columns) of the box.
        sums: `box_sums` of the two, if they are known.
    """
    total = maps.sum((1, 2), dtype=np.float64)
    most = (box_sums(maps, size) if sums is None else sums).max((1, 2))
    return np.where(total > 0, most / np.maximum(total, 1e-12), 0)


def excess(share: Places, size: tuple[int, int], shape: tuple[int, int]) -> Places:
    """Capture beyond that of a uniform map, 0..1.

    (rho - a) / (1 - a) with a the box's share of the area; 0 for a box that covers everything.
    """
    area = size[0] * size[1] / (shape[0] * shape[1])
    if area >= 1:
        return np.zeros_like(share)
    return np.clip((share - area) / (1 - area), 0, 1)
