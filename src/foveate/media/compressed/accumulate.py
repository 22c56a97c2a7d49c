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

import numpy as np
import numpy.typing as npt

from foveate.media.vectors.grid import CELL, PAST, Floats, Mask, VectorField, grid_shape

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

Index = npt.NDArray[np.int32]
Signed = npt.NDArray[np.int16]


class CellMotion:
    """Accumulated motion at the middles of 8x8 cells, for one group after another.

    Args:
        width: Of the coded picture, in pixels.
        height: Of the coded picture, in pixels.

    Attributes:
        motion: (Hc, Wc, 2) float32, `D` in pixels, x then y.
        valid: (Hc, Wc) whether the last picture had a vector there: intra blocks have none.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = np.array([width, height], np.float32)
        down, across = grid_shape(width, height)
        y, x = np.mgrid[:down, :across].astype(np.float32)
        self._centre = np.stack([x, y], -1) * CELL + CELL / 2
        self.reset()

    def reset(self) -> None:
        """An intra picture: everything starts from where it is."""
        self.motion: Floats = np.zeros_like(self._centre)
        self.valid: Mask = np.ones(self._centre.shape[:2], bool)

    def add(self, field: VectorField) -> None:
        """The next P picture of the group."""
        step = field.motion[PAST]
        valid = field.valid[PAST]
        source = self._centre + step
        moves = valid & ((source >= 0) & (source < self._size)).all(-1)
        cell = (source[moves] // CELL).astype(np.int64)
        motion = self.motion.copy()
        motion[moves] = self.motion[cell[:, 1], cell[:, 0]] - step[moves]
        self.motion, self.valid = motion, valid.copy()


class PixelMotion:
    """Accumulated motion of every pixel by the authors' integer rule.

    A pixel whose block has no vector or a zero one, or whose source lies outside the picture,
    keeps what the pixel at its place had. Vectors are truncated towards zero to whole pixels, as
    FFmpeg does for `src_x` and `src_y`. Only cells that move are touched.

    Args:
        width: Of the coded picture, in pixels.
        height: Of the coded picture, in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        down, across = grid_shape(width, height)
        self._stride = across * CELL
        rows = np.arange(down * CELL, dtype=np.int32) * np.int32(self._stride)
        columns = np.arange(self._stride, dtype=np.int32)
        self._still: Index = np.add(rows[:, None], columns, dtype=np.int32)
        inner = np.arange(CELL, dtype=np.int32)
        self._inner_y, self._inner_x = inner[:, None], inner[None, :]
        self.reset()

    def reset(self) -> None:
        """An intra picture: every pixel comes from itself."""
        self._from: Index = self._still

    def add(self, field: VectorField) -> None:
        """The next P picture of the group."""
        whole = np.trunc(field.motion[PAST]).astype(np.int32)
        cell_y, cell_x = np.nonzero((whole != 0).any(-1) & field.valid[PAST])
        if not len(cell_y):
            return
        step = whole[cell_y, cell_x]
        own_y = cell_y.astype(np.int32)[:, None, None] * CELL + self._inner_y
        own_x = cell_x.astype(np.int32)[:, None, None] * CELL + self._inner_x
        y, x = own_y + step[:, 1, None, None], own_x + step[:, 0, None, None]
        inside = (y >= 0) & (y < self.height) & (x >= 0) & (x < self.width)
        stride = np.int32(self._stride)
        at = np.where(inside, y * stride + x, own_y * stride + own_x)
        before = self._from
        after = before.copy()
        blocks = after.reshape(after.shape[0] // CELL, CELL, after.shape[1] // CELL, CELL)
        blocks[cell_y, :, cell_x, :] = before.ravel()[at]
        self._from = after

    @property
    def source(self) -> tuple[Index, Index]:
        """`J` as rows and columns in the intra picture, each (H, W)."""
        flat = self._from[: self.height, : self.width]
        return np.asarray(flat // self._stride, np.int32), np.asarray(flat % self._stride, np.int32)

    @property
    def motion(self) -> Signed:
        """(H, W, 2) int16, `D` in whole pixels, x then y."""
        y, x = self.source
        own_y, own_x = np.mgrid[: self.height, : self.width]
        return np.stack([own_x - x, own_y - y], -1).astype(np.int16)


def trace_back(intra: Pixels, motion: PixelMotion) -> Pixels:
    """What the accumulated vectors make of the intra picture.

    Args:
        intra: (H, W, ...) the decoded intra picture, in coded orientation.
        motion: Accumulated up to the picture that is meant.
    """
    rows, columns = motion.source
    return intra[rows, columns]


def residual(intra: Pixels, picture: Pixels, motion: PixelMotion) -> Signed:
    """What the accumulated vectors do not explain: `picture - intra[J]`.

    This is a difference of decoded pictures, not the residual in the bit stream.

    Returns:
        (H, W, ...) int16 in -255..255.
    """
    return picture.astype(np.int16) - trace_back(intra, motion)
