"""One window per frame that moves smoothly: offline by dynamic programming, online by filters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Of `crosses`, fitted on rendered validation clips (motion-accuracy.md).
_WIDE = 0.3  # standard deviation of the place, in sides of the window
_ROUGH = 1.2  # mean squared change of velocity, in variances of the place
# Of the online camera.
_LATELY = 2.0  # seconds
_MOST = 60  # places that are remembered
_FEW = 4  # places below which it goes with the subject
_SLACK = 0.1  # sides of the window by which the subject may be off its middle


def viterbi(
    scores: Floats,
    weight: npt.NDArray[np.float64],
    cuts: Mask,
    power: int = 2,
    places: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None,
) -> npt.NDArray[np.int64]:
    """The path that maximises the sum of scores less a cost of every move.

    max over x of sum_k B_k(x_k) - w_k |x_k - x_(k-1)|^p. The cost separates into rows and columns,
    so each step is two one-dimensional distance transforms (Felzenszwalb and Huttenlocher, 2012),
    not a comparison of all pairs of places. A quadratic cost spreads a move over time. An absolute
    one, total variation, stands still until a move pays, as L1-optimal camera paths do (Grundmann
    et al., CVPR 2011). With `power=0` every move costs the same, so that the path is constant in
    segments (Potts' model).

    Args:
        scores: (T, rows, columns).
        weight: (T,) cost of a move by one place, to that power, from the frame before.
        cuts: (T,) frames with which a new shot begins: the chain is broken before them.
        power: 2, 1 or 0.
        places: (rows,) and (columns,) where the scores lie; 0, 1, 2, ... if None.

    Returns:
        (T, 2) row and column, in the unit of `places`.
    """
    count, rows, columns = scores.shape
    at = places or (np.arange(rows), np.arange(columns))
    down_cost, across_cost = (np.abs(np.subtract.outer(a, a)) ** power for a in at)
    own = np.arange(rows * columns).reshape(rows, columns)
    every = np.arange(columns)
    value = scores[0].astype(np.float64)
    back = np.zeros((count, rows, columns), np.int64)
    for k in range(1, count):
        most = value.max()
        if cuts[k] or power == 0:
            bar = most if cuts[k] else most - weight[k]
            back[k] = np.where((value >= bar) & ~cuts[k], own, value.argmax())
            value = np.maximum(value, bar) + scores[k]
            continue
        # Over columns first: for every row, the best column to come from.
        across = value[:, None, :] - weight[k] * across_cost
        from_column = across.argmax(2)
        reached = across.max(2)
        down = reached.T[:, None, :] - weight[k] * down_cost
        from_row = down.argmax(2).T
        back[k] = from_row * columns + from_column[from_row, every]
        value = scores[k] + down.max(2).T
    path = np.zeros(count, np.int64)
    path[-1] = value.argmax()
    for k in range(count - 1, 0, -1):
        path[k - 1] = back[k].reshape(-1)[path[k]]
    row, column = np.unravel_index(path, (rows, columns))
    return np.stack([at[0][row], at[1][column]], -1)


def shots(cuts: Mask) -> npt.NDArray[np.int64]:
    """(T,) number of the shot of every frame; the first frame begins one in any case."""
    if not len(cuts):
        return np.zeros(0, np.int64)
    starts = cuts.astype(np.int64)
    starts[0] = 0
    return np.cumsum(starts)


def crosses(path: Places) -> bool:
    """Whether a subject crosses the picture: its way is wide, and smooth.

    A body has inertia; a map that flickers between several places has none. The mean square of
    the change of velocity is compared with the variance of the place: their ratio is 6 for noise
    and near 0 for a body that goes its way.

    Args:
        path: (T, 2) where the subject is, in sides of the window, at about even times.
    """
    variance = path.var(0).sum()
    if len(path) < 3 or variance < _WIDE**2:
        return False
    return bool(np.square(np.diff(path, 2, axis=0)).sum(1).mean() < _ROUGH * variance)


@dataclass(frozen=True)
class Smoothed:
    """Memory of an online track.

    Attributes:
        centre: (x, y) that was given last.
        speed: (x, y) per second, smoothed; used by the one-euro filter.
        time: Seconds of that frame.
        recent: (seconds, x, y) of what was found lately; used by the camera.
        follows: Whether the camera goes with the subject.
    """

    centre: tuple[float, float]
    speed: tuple[float, float]
    time: float
    recent: tuple[tuple[float, float, float], ...] = ()
    follows: bool = False


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


def camera(
    before: Smoothed | None, centre: tuple[float, float], time: float, side: float
) -> Smoothed:
    """Stand still where the subject stays in the picture, go with it where it crosses.

    At rest the window stands around the median of where the subject was lately, and moves only
    when that leaves the middle of it.

    Args:
        before: What the last step gave, None to begin.
        centre: (x, y) of the subject in pixels.
        time: Seconds.
        side: Of the window in pixels.
    """
    known = () if before is None or time <= before.time else before.recent
    recent = (*(one for one in known if one[0] > time - _LATELY), (time, *centre))[-_MOST:]
    path = np.array(recent)[:, 1:]
    if before is None or len(recent) < _FEW or crosses(path / side):
        return Smoothed(centre, (0.0, 0.0), time, recent, len(recent) >= _FEW)
    away = np.median(path, axis=0) - before.centre
    moved = np.array(before.centre) + np.sign(away) * np.maximum(np.abs(away) - _SLACK * side, 0)
    return Smoothed((float(moved[0]), float(moved[1])), (0.0, 0.0), time, recent)


def _share(frequency: float, step: float) -> float:
    """Share of a new value that a first-order low-pass of that cut-off lets through."""
    turn = 2 * math.pi * frequency * step
    return turn / (turn + 1)
