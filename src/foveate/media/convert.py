"""From a decoded picture of any format to upright, square-pixel uint8 RGB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.reformatter import Interpolation, VideoReformatter

from foveate.media import cutting
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
        self._scaler, self._sampler = VideoReformatter(), VideoReformatter()
        self._cut = cutting.Cutter()
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
        return np.asarray(upright(self._coded(frame, width, height, coded_shape), shape), np.uint8)

    def thumb(self, frame: Any, size: tuple[int, int], coded_shape: Fraction | None) -> Pixels:
        """The pixels of a whole frame at the places of a grid; see `__call__`."""
        shape = self.geometry
        width, height = size[::-1] if shape.rotation in (90, 270) else size
        pixels = self._coded(frame, width, height, coded_shape, points=True)
        return np.asarray(upright(pixels, shape), np.uint8)

    def windows(
        self,
        frame: Any,
        boxes: Sequence[cutting.Box],
        side: int,
        coded_shape: Fraction | None = None,
    ) -> list[Pixels]:
        """Square windows of one frame, (side, side, 3) uint8 RGB each, upright.

        They are cut out before scaling and conversion where the format allows: windows that overlap
        as one piece, the others one by one. The pixels are those of the whole frame scaled by the
        same ratio, up to the scaler's rounding.

        Args:
            frame: The `av.VideoFrame`.
            boxes: `xyxy` in pixels of the upright source, inside of it.
            side: Of the windows, in pixels.
            coded_shape: Width of a pixel by its height as the codec says now.
        """
        shape = self.geometry
        spans = [
            (cutting.span(x1, x2, side, shape.width), cutting.span(y1, y2, side, shape.height))
            for x1, y1, x2, y2 in (cutting.coded_box(box, shape) for box in boxes)
        ]
        full = (frame.width, frame.height) == (shape.width, shape.height)
        cuts = full and self.now(frame, coded_shape) is shape and cutting.can_cut(frame)
        together = cutting.joined(spans) if cuts else None
        self._set_matrix(frame)
        scaled: dict[Any, Pixels] = {}
        found = []
        for x, y in spans:
            across, down = together or (x, y)
            left, top = (x.at - across.begin, y.at - down.begin) if cuts else (x.at, y.at)
            size = x.of_whole(shape.width), y.of_whole(shape.height)
            key = (across, down) if cuts else size
            if key not in scaled and cuts:
                piece = self._cut(frame, across, down)
                scaled[key] = self._scaled(piece, across.scaled, down.scaled)
            elif key not in scaled:
                scaled[key] = self._coded(frame, *size, coded_shape)
            pixels = scaled[key][top : top + side, left : left + side]
            found.append(np.asarray(upright(pixels, shape), np.uint8))
        return found

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

    def _coded(
        self,
        frame: Any,
        width: int,
        height: int,
        coded_shape: Fraction | None,
        points: bool = False,
    ) -> Pixels:
        """The whole frame at a size, not turned yet; fitted in where its geometry has changed."""
        now, first = self.now(frame, coded_shape), self.geometry
        self._set_matrix(frame)
        if now is first:
            return self._scaled(frame, width, height, points)
        left, top, wide, high = fitted(now, first, (width, height))
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[top : top + high, left : left + wide] = self._scaled(frame, wide, high, points)
        return pixels

    def _set_matrix(self, frame: Any) -> None:
        """Tag a frame with the matrix by which it becomes RGB."""
        matrix = colour_matrix(frame.colorspace, frame.height)
        if matrix != frame.colorspace and not frame.format.is_rgb:
            frame.colorspace = matrix

    def _scaled(self, frame: Any, width: int, height: int, points: bool = False) -> Pixels:
        how = Interpolation.BICUBIC
        if points:
            how = Interpolation.POINT
        elif width * height < frame.width * frame.height:
            how = Interpolation.AREA
        scaler = self._sampler if points else self._scaler
        rgb = scaler.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=how, threads=1
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
