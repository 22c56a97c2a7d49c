"""Motion vectors painted on a grid of 8x8 cells: exact, since FFmpeg's blocks lie on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from foveate.media.vectors.kernels import Kernels
from foveate.media.vectors.rows import Rows

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CELL = 8  # pixels; blocks are 8 or 16 wide and high
PAST, FUTURE = 0, 1
_RIGHT, _BELOW = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])  # the cells of a block


@dataclass(frozen=True)
class VectorField:
    """The motion of one picture as the encoder described it.

    Attributes:
        time: Seconds from the first frame.
        kind: `I`, `P` or `B`.
        key: Whether decoding can start here.
        distance: How many pictures the nearest past and future reference are away in the order of
            display; NaN where there is none or it is not known.
        rows: (N,) the exported rows, if they were asked for.
        frame: The decoded `av.VideoFrame`, if it was asked for.
        painting: Gives `motion` and `valid` when they are first asked for.
    """

    time: float
    kind: str
    key: bool
    distance: tuple[float, float]
    painting: Callable[[], tuple[Floats, Mask]] = field(repr=False)
    rows: Rows | None = None
    frame: Any = None

    @cached_property
    def _painted(self) -> tuple[Floats, Mask]:
        return self.painting()

    @property
    def motion(self) -> Floats:
        """(2, Hc, Wc, 2) float32, x then y, in pixels of the coded picture.

        Where the cell is predicted from, relative to itself; [0] in a past picture, [1] in a
        future one.
        """
        return self._painted[0]

    @property
    def valid(self) -> Mask:
        """(2, Hc, Wc): which cells have such a prediction. Intra blocks have none."""
        return self._painted[1]

    def flow(self) -> tuple[Floats, Mask]:
        """Displacement per picture interval, forward in time, and where it is known.

        A block is predicted from `p + motion`: from a past reference the content moved by
        `-motion` until now, to a future one it goes on by `+motion`. FFmpeg does not export which
        picture is meant; the nearest reference on that side is taken, as encoders mostly do. The
        future is used only where both distances are known, and then the two are averaged.

        Returns:
            (Hc, Wc, 2) float32 in pixels per picture, zero where unknown; (Hc, Wc) bool.
        """
        back, ahead = self.distance
        past = self.valid[PAST]
        flow = np.where(past[..., None], self.motion[PAST], 0)
        flow /= -(back if math.isfinite(back) and back > 0 else 1.0)
        if not (math.isfinite(back) and math.isfinite(ahead) and ahead > 0):
            return flow, past
        future = self.valid[FUTURE]
        flow += np.where(future[..., None], self.motion[FUTURE], 0) / np.float32(ahead)
        flow /= np.maximum(past.astype(np.float32) + future, 1)[..., None]
        return flow, past | future


def grid_shape(width: int, height: int) -> tuple[int, int]:
    """(rows, columns) of the cell grid of a coded picture; whole macroblocks."""
    return -(-height // 16) * 2, -(-width // 16) * 2


def paint(
    rows: Rows | None, width: int, height: int, compiled: Kernels | None = None
) -> tuple[Floats, Mask]:
    """Paint exported rows into cells; of two rows for one cell and direction the later one stays.

    Args:
        rows: (N,) of `rows.ROW`, None for an intra picture.
        width: Of the coded picture, in pixels.
        height: Of the coded picture, in pixels.
        compiled: Compiled loops to do it with; the same by NumPy if None.

    Returns:
        (2, Hc, Wc, 2) float32 `motion / motion_scale` (past, future) and (2, Hc, Wc) bool.
    """
    down, across = grid_shape(width, height)
    motion = np.zeros((2, down, across, 2), np.float32)
    valid = np.zeros((2, down, across), bool)
    if rows is None or not len(rows):
        return motion, valid
    # A row as ten words or twenty halves: fields of all rows at once, without looking them up.
    words = rows.view(np.int32).reshape(-1, 10)
    halves = rows.view(np.int16).reshape(-1, 20)
    if compiled is not None:
        compiled.paint(words, halves, motion, valid)
        return motion, valid
    # Columns one by one: NumPy is slow over rows of two.
    sizes = rows.view(np.uint8).reshape(-1, 40)
    wide, high = sizes[:, 4].astype(np.int32), sizes[:, 5].astype(np.int32)
    left, top = (halves[:, 5] - (wide >> 1)) >> 3, (halves[:, 6] - (high >> 1)) >> 3
    covers = np.ones((len(rows), 4), bool)
    covers[:, 1], covers[:, 2] = wide > CELL, high > CELL
    np.logical_and(covers[:, 1], covers[:, 2], out=covers[:, 3])
    chosen = np.flatnonzero(covers)  # row by row, so that the later row stays
    row, which = chosen >> 2, chosen & 3
    right, bottom = (left + covers[:, 1]).max(), (top + covers[:, 2]).max()
    if min(left.min(), top.min()) < 0 or right >= across or bottom >= down:
        x, y = left[row] + _RIGHT[which], top[row] + _BELOW[which]
        inside = (x >= 0) & (x < across) & (y >= 0) & (y < down)
        row, which = row[inside], which[inside]
    at = np.multiply(top, across, dtype=np.intp) + left
    future = words[:, 0] > 0
    if future.any():
        at += future * (down * across)
    cells = at[row] + (_BELOW * across + _RIGHT)[which]
    # A pair of floats is moved as one complex number.
    pel = np.empty(len(rows), np.complex64)
    scale = np.maximum(halves[:, 16].view(np.uint16), 1).astype(np.float32)
    pel.real = words[:, 6].astype(np.float32) / scale
    pel.imag = words[:, 7].astype(np.float32) / scale
    motion.view(np.complex64).ravel()[cells] = pel[row]
    valid.reshape(-1)[cells] = True
    return motion, valid
