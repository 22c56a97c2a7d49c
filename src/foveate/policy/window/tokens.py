"""A set of tokens instead of a window: the same map for transformers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def top_tokens(
    maps: Floats,
    grid: tuple[int, int, int],
    keep: int,
    tubelet: int = 2,
    region: tuple[float, float, float, float] | None = None,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The tokens with the most motion.

    Args:
        maps: (T, h, w) for the T frames that the network takes.
        grid: (t, rows, columns) of its tokens; t * tubelet is T, or T is repeated to it.
        keep: How many tokens are wanted.
        tubelet: Frames of one token.
        region: `xyxy` in cells of the maps: the part that the grid covers; None for all.

    Returns:
        (keep,) ascending token numbers, time first, then row, then column; and all scores
        (t, rows, columns). Of equal scores the one nearer to the middle of the motion is taken:
        what surrounds a body that moves and, in a clip without motion, the centre.
    """
    deep, rows, columns = grid
    if not 0 < keep <= deep * rows * columns:
        raise ValueError(f"{keep} of {deep * rows * columns} tokens cannot be kept")
    if not len(maps):
        raise ValueError("no maps")
    wanted = np.minimum(np.arange(deep * tubelet) * len(maps) // (deep * tubelet), len(maps) - 1)
    in_time = maps[wanted].reshape(deep, tubelet, *maps.shape[1:]).mean(1)
    x1, y1, x2, y2 = region or (0, 0, maps.shape[2], maps.shape[1])
    scores = _share(_share(in_time, rows, 1, (y1, y2)), columns, 2, (x1, x2)).astype(np.float32)
    away = np.broadcast_to(
        np.add.outer(*(_from_middle(scores.sum(axes)) for axes in ((0, 2), (0, 1)))), scores.shape
    )
    order = np.lexsort((away.ravel(), -scores.ravel()))
    return np.sort(order[:keep]), scores


def _from_middle(weights: Floats) -> npt.NDArray[np.float64]:
    """Distance of each place from the mean place, as a share of their number."""
    places = np.arange(len(weights))
    total = weights.sum()
    middle = (places * weights).sum() / total if total > 0 else (len(weights) - 1) / 2
    return np.asarray(np.abs(places - middle) / len(weights))


def _share(
    maps: npt.NDArray[np.floating], parts: int, axis: int, span: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Mean over equal parts of a span of an axis, whatever its length."""
    length = maps.shape[axis]
    moved = np.moveaxis(maps, axis, -1)
    total = np.concatenate(
        [np.zeros((*moved.shape[:-1], 1)), np.cumsum(moved, -1, dtype=np.float64)], -1
    )
    edges = np.linspace(*span, parts + 1)
    at = np.minimum(edges.astype(np.int64), length - 1)
    # Between whole places the running sum is a straight line.
    sums = total[..., at] + (edges - at) * (total[..., at + 1] - total[..., at])
    mean = np.diff(sums, axis=-1) * parts / (span[1] - span[0])
    return np.asarray(np.moveaxis(mean, -1, axis))
