"""The inner loops of vectors, compiled by Numba where the extra `fast` is installed.

Each is the loop that the NumPy form beside its caller stands for, with the same rounding, and gives
the same bits. Numba keeps what it compiled on disk; a process then loads it once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

_CELL = 8
# Loading takes about half a second of CPU time and then saves a tenth of a millisecond per picture.
_WORTH_LOADING = 4000


class Kernels(NamedTuple):
    """The compiled loops; all write into their last arguments.

    Attributes:
        paint: Of `(words, halves, motion, valid)`: see `grid.paint`.
        cells: Of `(step, valid, before, width, height, after)`: see `CellMotion.add`.
        pixels: Of `(step, before, after)`: see `PixelMotion.add`.
    """

    paint: Callable[..., None]
    cells: Callable[..., None]
    pixels: Callable[..., None]


def kernels(wanted: bool | None = None, pictures: int = 0) -> Kernels | None:
    """The compiled loops, if they are installed and pay.

    Args:
        wanted: False for NumPy; True to load them now; None to load them for a long stretch only,
            and to use them if something else has loaded them.
        pictures: How many are about to be read.
    """
    if wanted is False or find_spec("numba") is None:
        return None
    loaded = _compiled.cache_info().currsize > 0
    return _compiled() if wanted or loaded or pictures >= _WORTH_LOADING else None


@cache
def _compiled() -> Kernels | None:
    try:
        from numba import njit, types
    except ImportError:  # it refuses versions of NumPy that it does not know
        return None

    def array(kind: Any, axes: int, readonly: bool = False) -> Any:
        return types.Array(kind, axes, "C", readonly=readonly)

    def compiled(loop: Callable[..., None], *arguments: Any) -> Callable[..., None]:
        signature = types.void(*arguments)
        done: Callable[..., None]
        try:
            done = njit(signature, cache=True, error_model="numpy")(loop)
        except RuntimeError:  # there is no folder to keep it in
            done = njit(signature, error_model="numpy")(loop)
        return done

    floats, truths = types.float32, types.boolean
    whole, index = types.int16, types.int64
    return Kernels(
        paint=compiled(
            _paint, array(types.int32, 2, True), array(whole, 2, True),
            array(floats, 4), array(truths, 3),
        ),
        cells=compiled(
            _cells, array(floats, 3), array(truths, 2), array(floats, 3), index, index,
            array(floats, 3),
        ),
        pixels=compiled(_pixels, array(whole, 3), array(types.int32, 2), array(types.int32, 2)),
    )  # fmt: skip


def _paint(words: Any, halves: Any, motion: Any, valid: Any) -> None:
    down, across = valid.shape[1], valid.shape[2]
    for row in range(len(words)):
        wide, high = halves[row, 2] & 255, (halves[row, 2] >> 8) & 255
        left = (halves[row, 5] - (wide >> 1)) >> 3
        top = (halves[row, 6] - (high >> 1)) >> 3
        way = 1 if words[row, 0] > 0 else 0
        scale = np.float32(max(halves[row, 16] & 65535, 1))
        x, y = np.float32(words[row, 6]) / scale, np.float32(words[row, 7]) / scale
        for cell_y in range(top, top + (2 if high > _CELL else 1)):
            for cell_x in range(left, left + (2 if wide > _CELL else 1)):
                if 0 <= cell_y < down and 0 <= cell_x < across:
                    motion[way, cell_y, cell_x, 0] = x
                    motion[way, cell_y, cell_x, 1] = y
                    valid[way, cell_y, cell_x] = True


def _cells(step: Any, valid: Any, before: Any, width: int, height: int, after: Any) -> None:
    down, across = valid.shape
    for cell_y in range(down):
        for cell_x in range(across):
            x = np.float32(cell_x * _CELL + _CELL // 2) + step[cell_y, cell_x, 0]
            y = np.float32(cell_y * _CELL + _CELL // 2) + step[cell_y, cell_x, 1]
            if valid[cell_y, cell_x] and 0 <= x < width and 0 <= y < height:
                from_y, from_x = int(y) // _CELL, int(x) // _CELL
                for axis in range(2):
                    after[cell_y, cell_x, axis] = (
                        before[from_y, from_x, axis] - step[cell_y, cell_x, axis]
                    )
            else:
                for axis in range(2):
                    after[cell_y, cell_x, axis] = before[cell_y, cell_x, axis]


def _pixels(step: Any, before: Any, after: Any) -> None:
    height, width = before.shape
    across = step.shape[1]
    # Flat and unsigned: signed indices are looked at for being negative, pixel by pixel.
    old, new = before.reshape(-1), after.reshape(-1)
    for cell_y in range((height + _CELL - 1) // _CELL):
        top = cell_y * _CELL
        bottom = min(top + _CELL, height)
        cell_x = 0
        while cell_x * _CELL < width:
            left = cell_x * _CELL
            dx, dy = int(step[cell_y, cell_x, 0]), int(step[cell_y, cell_x, 1])
            cell_x += 1
            while (
                cell_x < across and step[cell_y, cell_x, 0] == dx and step[cell_y, cell_x, 1] == dy
            ):
                cell_x += 1  # cells that move alike are copied as one
            right = min(cell_x * _CELL, width)
            # What comes from outside the picture keeps what it had: the ends of a line, or all.
            inner_left = min(max(left, -dx), right)
            inner_right = max(min(right, width - dx), inner_left)
            for y in range(top, bottom):
                here = y * width
                a, b = inner_left, inner_right
                if y + dy < 0 or y + dy >= height:
                    a, b = right, right
                there = (y + dy) * width + dx
                for x in range(left, a):
                    new[np.uint64(here + x)] = old[np.uint64(here + x)]
                for x in range(a, b):
                    new[np.uint64(here + x)] = old[np.uint64(there + x)]
                for x in range(b, right):
                    new[np.uint64(here + x)] = old[np.uint64(here + x)]
