"""From a decoded picture of any format to upright, square-pixel uint8 RGB."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import Interpolation, VideoReformatter

from foveate.media.container import Geometry, pixel_shape

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

_QUARTERS = {90: 3, 180: 2, 270: 1}  # clockwise degrees -> np.rot90 turns (counter-clockwise)

Box = tuple[int, int, int, int]  # left, top, width, height


# Colour matrices by their numbers in ITU-T H.273.
_NAMES = {0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}
_CONSTANT_LUMINANCE = 10  # BT.2020 too, in a form that swscale does not know
_UNTAGGED = 2
HIGH = 720  # lines from which untagged pictures are high definition


def colour_matrix(tag: int, height: int) -> int:
    """The matrix by which a picture becomes RGB.

    Tags win. Untagged pictures are taken as players take them: as BT.709 from 720 lines on, as
    BT.601 below. The same holds for tags that FFmpeg's scaler cannot follow.

    Args:
        tag: The tag of the picture, by its number in ITU-T H.273.
        height: Lines of the coded picture.
    """
    if tag in _NAMES:
        return tag
    if tag == _CONSTANT_LUMINANCE:
        return 9
    return 1 if height >= HIGH else _UNTAGGED


def colour_name(tag: int, height: int) -> str:
    """What a picture is taken as, and why; for `probe`."""
    matrix = colour_matrix(tag, height)
    name = _NAMES.get(matrix, "BT.601")
    if matrix == tag and tag != _UNTAGGED:
        return name
    said = "untagged" if tag == _UNTAGGED else f"tagged as matrix {tag}"
    return f"{name} ({said}, {height} lines)"


class Converter:
    """Scales and converts with one cached scaler; one per open video.

    The scaler averages areas when it shrinks (no aliasing) and interpolates when it enlarges.
    Scaling while converting is cheaper than converting first: see `benchmarks/floor.py`.

    Args:
        geometry: Of the stream as it begins.
        coded_shape: Width of a pixel by its height as the codec says where the stream begins; the
            container may know better.
        lowres: By how many halvings frames may be smaller than the stream says, see `Decoding`.

    Attributes:
        geometry: As given.
        changed: Whether a frame of another size or pixel shape was met. Such a frame is fitted
            into the first size with its proportions kept, black beside it.
    """

    def __init__(
        self, geometry: Geometry, coded_shape: Fraction | None = None, lowres: int = 0
    ) -> None:
        self.geometry = geometry
        self._lowres = lowres
        self._coded_shape = coded_shape
        self._scaler = VideoReformatter()
        self.changed = False

    def __call__(
        self,
        frame: Any,
        size: tuple[int, int] | None = None,
        coded_shape: Fraction | None = None,
    ) -> Pixels:
        """One frame as (H, W, 3) uint8 RGB, upright.

        Args:
            frame: The `av.VideoFrame`.
            size: `(width, height)` of the answer, None for the upright size of the source.
            coded_shape: Width of a pixel by its height as the codec says now.
        """
        shape = self.geometry
        width, height = size or shape.upright
        if shape.rotation in (90, 270):
            width, height = height, width
        now = self.now(frame, coded_shape)
        if now is shape:
            pixels = self._scaled(frame, width, height)
        else:
            left, top, wide, high = fitted(now, shape, (width, height))
            pixels = np.zeros((height, width, 3), np.uint8)
            pixels[top : top + high, left : left + wide] = self._scaled(frame, wide, high)
        return np.asarray(upright(pixels, shape), np.uint8)

    def now(self, frame: Any, coded_shape: Fraction | None = None) -> Geometry:
        """The geometry of a frame: the stream's own object where nothing has changed."""
        first, by = self.geometry, self._lowres
        full, size = (first.width, first.height), (frame.width, frame.height)
        same = size in (full, _halved(full, by)) if by else size == full
        seen = self._coded_shape
        if same and (coded_shape is seen or not coded_shape or coded_shape == seen):
            return first
        self.changed = True
        width, height = size[0] << by, size[1] << by
        return replace(first, width=width, height=height, shape=pixel_shape(coded_shape))

    def _scaled(self, frame: Any, width: int, height: int) -> Pixels:
        tag = frame.colorspace
        matrix = colour_matrix(tag, frame.height)
        if matrix != tag and not frame.format.is_rgb:
            frame.colorspace = matrix
        shrinks = width * height < frame.width * frame.height
        rgb = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.AREA if shrinks else Interpolation.BICUBIC,
            threads=1,
        )
        return np.asarray(rgb.to_ndarray(), np.uint8)


def _halved(size: tuple[int, int], by: int) -> tuple[int, int]:
    """The size at which FFmpeg decodes with `lowres`."""
    return -(-size[0] >> by), -(-size[1] >> by)


def fitted(now: Geometry, first: Geometry, size: tuple[int, int]) -> Box:
    """Where a picture goes whose geometry has changed, so that its proportions stay.

    Args:
        now: Its geometry.
        first: The geometry that `size` stands for.
        size: `(width, height)` of the answer, not yet turned.
    """
    wide, high = first.square
    width, height = now.square
    scale = min(wide / width, high / height)
    across = min(size[0], max(1, round(width * scale * size[0] / wide)))
    down = min(size[1], max(1, round(height * scale * size[1] / high)))
    return (size[0] - across) // 2, (size[1] - down) // 2, across, down


def upright(pixels: Any, shape: Geometry) -> Any:
    """An array whose first axes are rows and columns, mirrored and turned as the display shows."""
    turns = _QUARTERS.get(shape.rotation, 0)
    if not turns and not shape.mirrored:
        return pixels
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if shape.mirrored else pixels, turns))


def orientation(frame: Any) -> tuple[int, bool]:
    """Clockwise degrees (0, 90, 180 or 270) and whether to mirror before, from a decoded frame.

    The display matrix takes a point (x, y) to (a x + c y, b x + d y), y pointing down.
    """
    # Not `frame.side_data`, see `rows.rows_of`.
    data: Any
    for data in SideDataContainer(frame):  # type: ignore[call-arg]
        if data.type is Type.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(data, "<i4")[:5].tolist()
            mirrored = a * d - b * c < 0
            angle = math.atan2(-b, -a) if mirrored else math.atan2(b, a)
            return round(math.degrees(angle) / 90) * 90 % 360, mirrored
    return 0, False
