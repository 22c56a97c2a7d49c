"""One window per frame that moves smoothly: offline by dynamic programming, online by filters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def viterbi(scores: Floats, weight: npt.NDArray[np.float64], cuts: Mask) -> npt.NDArray[np.int64]:
    """The path that maximises the sum of scores less a quadratic cost of every move.

    max over x of sum_k B_k(x_k) - w_k |x_k - x_(k-1)|^2. The cost separates into rows and columns,
    so each step is two one-dimensional distance transforms (Felzenszwalb and Huttenlocher, 2012),
    not a comparison of all pairs of places.

    Args:
        scores: (T, rows, columns).
        weight: (T,) cost of a move by one place, squared, from the frame before.
        cuts: (T,) frames with which a new shot begins: the chain is broken before them.

    Returns:
        (T, 2) row and column.
    """
    count, rows, columns = scores.shape
    squares = [np.square(np.subtract.outer(np.arange(n), np.arange(n))) for n in (rows, columns)]
    value = scores[0].astype(np.float64)
    back = np.zeros((count, rows, columns), np.int64)
    for k in range(1, count):
        if cuts[k]:
            back[k] = value.argmax()
            value = value.max() + scores[k]
            continue
        # Over columns first: for every row, the best column to come from.
        across = value[:, None, :] - weight[k] * squares[1]
        from_column = across.argmax(2)
        reached = across.max(2)
        down = reached[None, :, :] - weight[k] * squares[0][:, :, None]
        from_row = down.argmax(1)
        back[k] = from_row * columns + np.take_along_axis(from_column, from_row, 0)
        value = scores[k] + down.max(1)
    path = np.zeros(count, np.int64)
    path[-1] = value.argmax()
    for k in range(count - 1, 0, -1):
        path[k - 1] = back[k].reshape(-1)[path[k]]
    return np.stack(np.unravel_index(path, (rows, columns)), -1)


def shots(cuts: Mask) -> npt.NDArray[np.int64]:
    """(T,) number of the shot of every frame; the first frame begins one in any case."""
    if not len(cuts):
        return np.zeros(0, np.int64)
    starts = cuts.astype(np.int64)
    starts[0] = 0
    return np.cumsum(starts)


@dataclass(frozen=True)
class Smoothed:
    """Memory of an online track.

    Attributes:
        centre: (x, y) that was given last.
        speed: (x, y) per second, smoothed; used by the one-euro filter.
        time: Seconds of that frame.
    """

    centre: tuple[float, float]
    speed: tuple[float, float]
    time: float


def ema(before: Smoothed | None, centre: tuple[float, float], time: float, beta: float) -> Smoothed:
    """Move a share `beta` of the way to the new centre (exponential moving average)."""
    if before is None:
        return Smoothed(centre, (0.0, 0.0), time)
    x, y = (b + beta * (c - b) for b, c in zip(before.centre, centre, strict=True))
    return Smoothed((x, y), (0.0, 0.0), time)


def one_euro(
    before: Smoothed | None,
    centre: tuple[float, float],
    time: float,
    slowest: float = 0.6,
    gain: float = 0.004,
) -> Smoothed:
    """Smooth more when slow and less when fast (Casiez et al., CHI 2012).

    Args:
        before: What the last step gave, None to begin.
        centre: (x, y) in pixels.
        time: Seconds.
        slowest: Cut-off frequency at rest, in hertz.
        gain: Hertz more for each pixel per second.
    """
    if before is None or time <= before.time:
        return Smoothed(centre, (0.0, 0.0), time)
    step = time - before.time
    raw = [(c - b) / step for b, c in zip(before.centre, centre, strict=True)]
    share = _share(1.0, step)
    speed = [s + share * (r - s) for s, r in zip(before.speed, raw, strict=True)]
    kept = _share(slowest + gain * math.hypot(*speed), step)
    x, y = (b + kept * (c - b) for b, c in zip(before.centre, centre, strict=True))
    return Smoothed((x, y), (speed[0], speed[1]), time)


def _share(frequency: float, step: float) -> float:
    """Share of a new value that a first-order low-pass of that cut-off lets through."""
    turn = 2 * math.pi * frequency * step
    return turn / (turn + 1)
