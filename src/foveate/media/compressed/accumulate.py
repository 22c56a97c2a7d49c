"""Motion vectors of a group, accumulated back to its intra picture.

Every P picture is predicted from the picture before it, so its own vectors say little. CoViAR
(arXiv 1712.00636, section 3.2) follows each pixel back through all of them: `J_t(p)`, the place in
the intra picture that pixel `p` of picture `t` comes from, with `J_0(p) = p`. The accumulated
vector is `D_t(p) = p - J_t(p)`: where the content moved to, of the opposite sign to the codec's
vectors, which say where a block is taken from.

Two forms: `PixelMotion` follows the authors' integer rule pixel by pixel, and is what residuals
need; `CellMotion` follows the middles of 8x8 cells, keeps fractions of a pixel and costs next to
nothing, which is enough for a network whose input is constant over cells anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import LimitError
from foveate.media.vectors.grid import CELL, PAST, Floats, Mask, VectorField, grid_shape
from foveate.media.vectors.kernels import Kernels

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

Index = npt.NDArray[np.int16]
Signed = npt.NDArray[np.int16]

_LONGEST_SIDE = 32766
_NO_MAP = np.empty(0, np.int16)  # OpenCV's second map, of fractions


class CellMotion:
    """Accumulated motion at the middles of 8x8 cells, for one group after another.

    Args:
        width: Of the coded picture, in pixels.
        height: Of the coded picture, in pixels.
        compiled: Compiled loops to do it with; the same by NumPy if None.

    Attributes:
        motion: (Hc, Wc, 2) float32, `D` in pixels, x then y; a new array for every picture.
        valid: (Hc, Wc) whether the last picture had a vector there: intra blocks have none.
    """

    def __init__(self, width: int, height: int, compiled: Kernels | None = None) -> None:
        self._width, self._height, self._compiled = width, height, compiled
        down, across = grid_shape(width, height)
        y, x = np.mgrid[:down, :across].astype(np.float32) * CELL + CELL / 2
        self._centre = _pairs(np.stack([x, y], -1))
        self._across = np.int32(across)
        self.reset()

    def reset(self) -> None:
        """An intra picture: everything starts from where it is."""
        self.motion: Floats = np.zeros((*self._centre.shape, 2), np.float32)
        self.valid: Mask = np.ones(self._centre.shape, bool)

    def add(self, field: VectorField) -> None:
        """The next P picture of the group."""
        self.follow(field.motion[PAST], field.valid[PAST])

    def follow(self, step: Floats, valid: Mask) -> None:
        """The same from the vectors into the past, (Hc, Wc, 2), and where there are any."""
        before, self.valid = self.motion, valid
        self.motion = np.empty_like(before)
        if self._compiled is not None:
            self._compiled.cells(step, valid, before, self._width, self._height, self.motion)
            return
        by = _pairs(step)
        source = self._centre + by
        x, y = source.real, source.imag
        moves = (x >= 0) & (x < self._width) & (y >= 0) & (y < self._height) & valid
        by = np.where(moves, by, np.complex64(0))
        source = self._centre + by
        eighth = np.float32(1 / CELL)
        at = (source.imag * eighth).astype(np.int32) * self._across
        at += (source.real * eighth).astype(np.int32)
        np.subtract(_pairs(before).ravel()[at], by, out=_pairs(self.motion))


def _pairs(of: Floats) -> npt.NDArray[np.complex64]:
    """(Hc, Wc) x and y as one complex number, which NumPy handles faster than rows of two."""
    return of.view(np.complex64)[..., 0]


class PixelMotion:
    """Accumulated motion of every pixel by the authors' integer rule.

    A pixel whose block has no vector or a zero one, or whose source lies outside the picture,
    keeps what the pixel at its place had. Vectors are truncated towards zero to whole pixels, as
    FFmpeg does for `src_x` and `src_y`. Only the rectangle around what moves is touched.

    Args:
        width: Of the coded picture, in pixels.
        height: Of the coded picture, in pixels.
        compiled: Compiled loops to do it with; the same by OpenCV if None.

    Attributes:
        places: (H, W, 2) int16, `J`: column and row in the intra picture. Memory that is used
            again by the picture after the next.

    Raises:
        LimitError: A side of more than 32766 pixels: vectors are 16 bits wide.
    """

    def __init__(self, width: int, height: int, compiled: Kernels | None = None) -> None:
        if max(width, height) > _LONGEST_SIDE:
            raise LimitError(
                f"pictures of {width}x{height} pixels: motion is followed up to {_LONGEST_SIDE}"
            )
        self.width, self.height, self._compiled = width, height, compiled
        self._cells = np.s_[: -(-height // CELL), : -(-width // CELL)]  # the grid reaches beyond
        self._still: Index = np.empty((height, width, 2), np.int16)
        self._still[..., 0] = np.arange(width, dtype=np.int16)
        self._still[..., 1] = np.arange(height, dtype=np.int16)[:, None]
        # Megabytes taken anew for every picture would cost more than what is computed in them.
        self._spare, self._other = np.empty_like(self._still), np.empty_like(self._still)
        self._map = np.empty_like(self._still)
        self.reset()

    def reset(self) -> None:
        """An intra picture: every pixel comes from itself."""
        self.places: Index = self._still

    def add(self, field: VectorField) -> None:
        """The next P picture of the group."""
        self.follow(field.motion[PAST], field.valid[PAST])

    def follow(self, step: Floats, valid: Mask) -> None:
        """The same from the vectors into the past, (Hc, Wc, 2), and where there are any."""
        # Whatever is clipped here leads out of the picture anyway.
        whole = np.clip(step[self._cells], -_LONGEST_SIDE, _LONGEST_SIDE).astype(np.int16)
        whole[~valid[self._cells]] = 0
        if not whole.any():
            return
        before, self.places = self.places, self._spare
        self._spare, self._other = self._other, self._spare
        if self._compiled is not None:
            self._compiled.pixels(whole, _words(before), _words(self.places))
            return
        np.copyto(self.places, before)
        rows, columns = np.flatnonzero(whole.any((1, 2))), np.flatnonzero(whole.any((0, 2)))
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        there = np.s_[top * CELL : bottom * CELL, left * CELL : right * CELL]
        own = self._still[there]
        dense = whole[top:bottom, left:right].repeat(CELL, 0).repeat(CELL, 1)
        source = self._map[: own.shape[0], : own.shape[1]]
        np.add(own, dense[: own.shape[0], : own.shape[1]], out=source)  # overflow is outside too
        # A transparent border leaves alone what comes from outside. The two halves of a place are
        # moved as one float, which nobody looks into.
        cv2.remap(
            _words(before).view(np.float32), source, _NO_MAP, cv2.INTER_NEAREST,
            dst=_words(self.places).view(np.float32)[there], borderMode=cv2.BORDER_TRANSPARENT,
        )  # fmt: skip

    @property
    def source(self) -> tuple[Index, Index]:
        """`J` as rows and columns in the intra picture, each (H, W); see `places`."""
        return self.places[..., 1], self.places[..., 0]

    @property
    def motion(self) -> Signed:
        """(H, W, 2) int16, `D` in whole pixels, x then y."""
        return self._still - self.places


def _words(places: Index) -> npt.NDArray[np.int32]:
    """(H, W) with the two halves of each place as one word."""
    return places.view(np.int32)[..., 0]


def trace_back(intra: Pixels, motion: PixelMotion) -> Pixels:
    """What the accumulated vectors make of the intra picture.

    Args:
        intra: (H, W, 3) the decoded intra picture, in coded orientation.
        motion: Accumulated up to the picture that is meant.
    """
    return np.asarray(cv2.remap(intra, motion.places, _NO_MAP, cv2.INTER_NEAREST), np.uint8)


def residual(intra: Pixels, picture: Pixels, motion: PixelMotion) -> Signed:
    """What the accumulated vectors do not explain: `picture - intra[J]`.

    This is a difference of decoded pictures, not the residual in the bit stream.

    Args:
        intra: (H, W, 3) uint8, the decoded intra picture, in coded orientation.
        picture: (H, W, 3) uint8, the picture that is meant.
        motion: Accumulated up to it.

    Returns:
        (H, W, 3) int16 in -255..255.
    """
    traced = trace_back(intra, motion)
    return np.asarray(cv2.subtract(picture, traced, dtype=cv2.CV_16S), np.int16)
