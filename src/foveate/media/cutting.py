"""Windows of decoded pictures: cut out of the planes, then scaled and converted.

A window is a square of whole pixels of the scaled picture, as if the whole picture had been scaled.
The piece that is cut out is larger by the reach of the scaler's filter, and begins where a pixel
of the source and one of the scaled picture coincide: what is scaled then has the same phase, and
the window the same pixels up to the scaler's rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from foveate.media.container import Geometry

Box = tuple[float, float, float, float]

_TOLERANCE = 0.005  # share of its side by which a window may be wider or narrower than asked for
_REACH = 2  # pixels of the source, beside one scaled pixel, that the filter reaches on each side


@dataclass(frozen=True)
class Span:
    """A window on one axis of a picture.

    Attributes:
        step: Pixels of the source, and as many scaled ones that cover the same length.
        first: First pixel of the piece, a multiple of twice the step.
        length: Pixels of the piece, the same; it may end behind the picture.
        at: First pixel of the window in the scaled picture.
        side: Scaled pixels of the window.
    """

    step: tuple[int, int]
    first: int
    length: int
    at: int
    side: int

    @property
    def scaled(self) -> int:
        """Pixels of the scaled piece."""
        return self.length * self.step[1] // self.step[0]

    @property
    def begin(self) -> int:
        """First pixel of the scaled piece in the scaled picture."""
        return self.first * self.step[1] // self.step[0]

    def of_whole(self, length: int) -> int:
        """Scaled pixels of a picture of so many, of which the window is a part."""
        return max(self.at + self.side, round(length * self.step[1] / self.step[0]))


@lru_cache(256)
def steps(extent: float, side: int) -> tuple[int, int]:
    """The smallest numbers of source and scaled pixels whose ratio is that of extent and side."""
    for scaled in range(1, side + 1):
        source = round(extent * scaled / side)
        if source and abs(extent * scaled / source - side) <= _TOLERANCE * side:
            return source, scaled
    return max(1, round(extent)), side


def span(low: float, high: float, side: int, length: int) -> Span:
    """A window on one axis.

    Args:
        low: Where it begins, in pixels of the source.
        high: Where it ends.
        side: Its scaled pixels.
        length: Pixels of the source.
    """
    source, scaled = steps(high - low, side)
    cell = 2 * source  # even, for chroma of half the size
    most = length * scaled // source - side
    at = max(0, min(round((low + high) / 2 * scaled / source - side / 2), most))
    # Chroma is filtered at half the size, so that the filter reaches twice as far.
    reach = 2 * (-(-source // scaled) + _REACH)
    # The same number of cells wherever the window is: the scaler is set up only once.
    cells = min(-(-(side * source // scaled + 2 * reach) // cell) + 1, -(-length // cell))
    begin = max(0, min((at * source // scaled - reach) // cell, -(-length // cell) - cells))
    return Span((source, scaled), begin * cell, cells * cell, at, side)


def coded_box(box: Box, shape: Geometry) -> Box:
    """A box in pixels of the upright picture as one in pixels of the coded picture."""
    x1, y1, x2, y2 = box
    wide, high = shape.square
    if shape.rotation == 90:
        x1, y1, x2, y2 = y1, high - x2, y2, high - x1
    elif shape.rotation == 180:
        x1, y1, x2, y2 = wide - x2, high - y2, wide - x1, high - y1
    elif shape.rotation == 270:
        x1, y1, x2, y2 = wide - y2, x1, wide - y1, x2
    if shape.mirrored:
        x1, x2 = wide - x2, wide - x1
    across, down = shape.width / wide, shape.height / high
    return x1 * across, y1 * down, x2 * across, y2 * down


def joined(spans: list[tuple[Span, Span]]) -> tuple[Span, Span] | None:
    """One piece for several windows of a picture, if it is smaller than theirs together."""
    found: list[Span] = []
    for axis in zip(*spans, strict=True):
        if len({one.step for one in axis}) > 1:
            return None
        first = min(one.first for one in axis)
        last = max(one.first + one.length for one in axis)
        found.append(Span(axis[0].step, first, last - first, 0, 0))
    x, y = found
    apart = sum(across.length * down.length for across, down in spans)
    return (x, y) if x.length * y.length < apart else None


def can_cut(frame: Any) -> bool:
    """Whether the planes of a picture hold one component each, chroma at half the size at most."""
    kind, planes = frame.format, frame.planes
    if not kind.name.startswith(("yuv", "gray", "gbr")) or len(planes) != len(kind.components):
        return False
    return all(
        part.bits in (8, 9, 10, 12, 14, 16)
        and plane.line_size >= plane.width * _bytes(part)
        and 2 * plane.width >= frame.width
        and 2 * plane.height >= frame.height
        for part, plane in zip(kind.components, planes, strict=True)
    )


class Cutter:
    """Cuts pieces out of pictures; the memory of the last piece is used again."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._piece: Any = None

    def __call__(self, frame: Any, x: Span, y: Span) -> Any:
        """A piece of a picture in its own format; behind the picture its edge is repeated.

        Args:
            frame: An `av.VideoFrame` that `can_cut` accepts.
            x: The columns.
            y: The rows.

        Returns:
            The frame itself, or one that is valid until the next call.
        """
        size, name = (x.length, y.length), frame.format.name
        if size == (frame.width, frame.height):
            return frame
        piece = self._piece
        if piece is None or (piece.width, piece.height) != size or piece.format.name != name:
            # Scaled, not made anew: properties that PyAV cannot set on a new frame, such as the
            # position of its chroma samples, are copied.
            piece = self._scaler.reformat(
                frame, width=size[0], height=size[1], format=name,
                interpolation=Interpolation.POINT, threads=1,
            )  # fmt: skip
            self._piece = piece
        piece.colorspace, piece.color_range = frame.colorspace, frame.color_range
        parts = zip(frame.format.components, frame.planes, piece.planes, strict=True)
        for part, source, target in parts:
            across = 1 if source.width == frame.width else 2
            down = 1 if source.height == frame.height else 2
            have, wanted = _array(source, part), _array(target, part)
            inside = have[y.first // down :, x.first // across :][: len(wanted), : wanted.shape[1]]
            rows, columns = inside.shape
            wanted[:rows, :columns] = inside
            wanted[:rows, columns:] = inside[:, -1:]
            wanted[rows:] = wanted[rows - 1]
        return piece


def _array(plane: Any, part: Any) -> npt.NDArray[Any]:
    """A plane as (height, width) numbers, without a copy."""
    kind = np.uint16 if _bytes(part) == 2 else np.uint8
    rows = np.frombuffer(plane, kind, plane.height * plane.line_size // _bytes(part))
    return rows.reshape(plane.height, -1)[:, : plane.width]


def _bytes(part: Any) -> int:
    return 2 if part.bits > 8 else 1
