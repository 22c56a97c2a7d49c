"""A set of tokens instead of a window: the same map for transformers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def top_tokens(
    maps: Floats, grid: tuple[int, int, int], keep: int, tubelet: int = 2
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The tokens with the most motion.

    Args:
        maps: (T, h, w) for the T frames that the network takes.
        grid: (t, rows, columns) of its tokens; t * tubelet is T, or T is repeated to it.
        keep: How many tokens are wanted.
        tubelet: Frames of one token.

    Returns:
        (keep,) ascending token numbers, time first, then row, then column; and all scores
        (t, rows, columns). Of equal scores the one nearer to the middle is taken, so that a clip
        without motion gives its centre.
    """
    deep, rows, columns = grid
    if not 0 < keep <= deep * rows * columns:
        raise ValueError(f"{keep} of {deep * rows * columns} tokens cannot be kept")
    if not len(maps):
        raise ValueError("no maps")
    wanted = np.minimum(np.arange(deep * tubelet) * len(maps) // (deep * tubelet), len(maps) - 1)
    in_time = maps[wanted].reshape(deep, tubelet, *maps.shape[1:]).mean(1)
    scores = _share(_share(in_time, rows, 1), columns, 2).astype(np.float32)
    middle = [np.abs(np.arange(n) - (n - 1) / 2) / n for n in (rows, columns)]
    away = np.broadcast_to(np.add.outer(middle[0], middle[1]), scores.shape)
    order = np.lexsort((away.ravel(), -scores.ravel()))
    return np.sort(order[:keep]), scores


def _share(maps: npt.NDArray[np.floating], parts: int, axis: int) -> npt.NDArray[np.float64]:
    """Mean over equal parts of an axis, whatever its length."""
    length = maps.shape[axis]
    moved = np.moveaxis(maps, axis, -1)
    total = np.concatenate(
        [np.zeros((*moved.shape[:-1], 1)), np.cumsum(moved, -1, dtype=np.float64)], -1
    )
    edges = np.linspace(0, length, parts + 1)
    at = np.minimum(edges.astype(np.int64), length - 1)
    # Between whole places the running sum is a straight line.
    sums = total[..., at] + (edges - at) * (total[..., at + 1] - total[..., at])
    mean = np.diff(sums, axis=-1) * parts / length
    return np.asarray(np.moveaxis(mean, -1, axis))
