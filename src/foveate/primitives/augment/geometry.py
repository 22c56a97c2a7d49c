"""Transforms of places: size, flips, and geometric ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from foveate.data.transforms import mirror_labels
from foveate.primitives.augment.base import (
    Albumentation,
    Augmentation,
    Labels,
    Mirror,
    Random,
    Transform,
    array,
    functional,
    seeded,
    v2,
)
from foveate.primitives.base import Search

if TYPE_CHECKING:
    from torch import Tensor

Side = Annotated[int, Field(ge=8, le=4096), Search.int(64, 256, step=32)]
Aspect = Annotated[float, Field(ge=0.1, le=10, description="width by height")]
Border = Annotated[
    Literal["constant", "edge"], Search.choice("constant", "edge"),
    Field(description="black, or the outermost pixels repeated"),
]  # fmt: skip
Centred = Annotated[bool, Field(description="in the centre; else the place is drawn")]

# --- size -----------------------------------------------------------------------------------


class SizeTransform(Transform):
    """Base of transforms to `size` pixels; the size may be given without its name."""

    sets_size: ClassVar[bool] = True

    size: Side

    def __init__(self, size: int | None = None, /, **values: Any) -> None:
        super().__init__(**(values if size is None else {"size": size, **values}))

    def decode_size(self, source: tuple[int, int], share: float) -> tuple[int, int]:
        """The `(width, height)` to decode a source of that size to, if this is the first one.

        Args:
            source: Upright `(width, height)` in pixels.
            share: Shorter side of frames from which a part is cut out, as a multiple of its size.
        """
        return _shorter_side(source, round(self.size * share))


class Resize(SizeTransform):
    """Scale to a square, whatever the aspect."""

    kind: Literal["resize"] = "resize"

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        return scaled(x_tchw, (self.size, self.size))

    def decode_size(self, source: tuple[int, int], share: float) -> tuple[int, int]:
        return self.size, self.size


class ResizeShorter(SizeTransform):
    """Scale so that the shorter side has `size` pixels; the aspect is kept."""

    kind: Literal["resize-shorter"] = "resize-shorter"

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        return scaled(x_tchw, _shorter_side((width, height), self.size)[::-1])

    def decode_size(self, source: tuple[int, int], share: float) -> tuple[int, int]:
        return _shorter_side(source, self.size)


class CentreCrop(SizeTransform):
    """Cut out the centre square."""

    kind: Literal["centre-crop"] = "centre-crop"

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        top, left = (space // 2 for space in _spaces(x_tchw, self.size))
        return x_tchw[..., top : top + self.size, left : left + self.size]


class RandomCrop(SizeTransform):
    """Cut out a square at a random place."""

    kind: Literal["random-crop"] = "random-crop"

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        top, left = (int(random.integers(space + 1)) for space in _spaces(x_tchw, self.size))
        return x_tchw[..., top : top + self.size, left : left + self.size]


class RandomResizedCrop(SizeTransform):
    """Cut out a rectangle of random area, shape and place, and scale it to a square.

    Szegedy et al., "Going deeper with convolutions" (CVPR 2015), section 6.
    """

    kind: Literal["random-resized-crop"] = "random-resized-crop"
    scale: Annotated[float, Field(gt=0, le=1), Search.float(0.08, 1)] = Field(
        0.5, description="least share of the frame's area; the greatest is 1"
    )
    ratio: Annotated[float, Field(ge=1, le=4), Search.float(1, 2)] = Field(
        4 / 3, description="greatest width by height, and height by width"
    )

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        for _ in range(10):
            area = height * width * random.uniform(self.scale, 1)
            shape = math.exp(random.uniform(-math.log(self.ratio), math.log(self.ratio)))
            wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < wide <= width and 0 < high <= height:
                break
        else:
            wide = high = min(height, width)
        top, left = int(random.integers(height - high + 1)), int(random.integers(width - wide + 1))
        cut = x_tchw[..., top : top + high, left : left + wide]
        return scaled(cut, (self.size, self.size))


class Pad(SizeTransform):
    """Add borders, so that no side is shorter than `size` pixels."""

    kind: Literal["pad"] = "pad"
    centre: Centred = True
    border: Border = "constant"

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        spaces = max(0, self.size - height), max(0, self.size - width)
        return _padded(x_tchw, spaces, self.centre, self.border, random)


class PadToAspect(Transform):
    """Add borders above and below, or left and right, until the frame has an aspect."""

    sets_size: ClassVar[bool] = True

    kind: Literal["pad-to-aspect"] = "pad-to-aspect"
    aspect: Aspect = 1.0
    centre: Centred = True
    border: Border = "constant"

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        high, wide = round(width / self.aspect), round(height * self.aspect)
        spaces = max(0, high - height), max(0, wide - width)
        return _padded(x_tchw, spaces, self.centre, self.border, random)


class CropToAspect(Transform):
    """Cut out the largest rectangle of an aspect."""

    sets_size: ClassVar[bool] = True

    kind: Literal["crop-to-aspect"] = "crop-to-aspect"
    aspect: Aspect = 1.0
    centre: Centred = True

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        high, wide = round(width / self.aspect), round(height * self.aspect)
        high, wide = max(1, min(height, high)), max(1, min(width, wide))
        top, left = (_before(space, self.centre, random) for space in (height - high, width - wide))
        return x_tchw[..., top : top + high, left : left + wide]


class CropAndPad(Augmentation):
    """Crop or pad each side by a share that is drawn from -limit to limit; the size stays."""

    kind: Literal["crop-and-pad"] = "crop-and-pad"
    limit: Annotated[float, Field(gt=0, lt=0.5), Search.float(0.02, 0.3)] = 0.1
    border: Border = "constant"

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        high, wide = (max(1, round(self.limit * side)) for side in (height, width))
        larger = functional().pad(x_tchw, [wide, high], padding_mode=self.border)
        top, bottom = (int(n) for n in random.integers(0, 2 * high + 1, 2))
        left, right = (int(n) for n in random.integers(0, 2 * wide + 1, 2))
        cut = larger[..., top : height + 2 * high - bottom, left : width + 2 * wide - right]
        return scaled(cut, (height, width))


# --- flips ----------------------------------------------------------------------------------


class Mirroring(Augmentation):
    """Base of transforms that give a mirror image; not for classes whose mirror image is another.

    Attributes:
        exchanges: Whether a mirror image has the labels of the other class; where it is unclear,
            such as upside down, clips of such classes are left as they are.
    """

    exchanges: ClassVar[bool] = False

    p: Annotated[float, Field(ge=0, le=1), Search.float(0, 1)] = 0.5

    def apply_labelled(
        self, x_tchw: Tensor, labels: Labels, random: Random, mirror: Mirror
    ) -> tuple[Tensor, Labels]:
        mirrored = mirror_labels(labels, mirror)
        if mirrored is None or (mirrored != labels and not self.exchanges):
            return x_tchw, labels
        changed = self.apply(x_tchw, random)
        return changed, labels if changed is x_tchw else mirrored


class Flip(Mirroring):
    """Exchange left and right, and the labels of classes that are each other's mirror image."""

    exchanges: ClassVar[bool] = True

    kind: Literal["flip"] = "flip"

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        return x_tchw.flip(-1)


class VerticalFlip(Mirroring):
    """Exchange top and bottom."""

    kind: Literal["vertical-flip"] = "vertical-flip"

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        return x_tchw.flip(-2)


class QuarterTurns(Mirroring):
    """Turn by 90, 180 or 270 degrees."""

    kind: Literal["quarter-turns"] = "quarter-turns"

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        return x_tchw.rot90(int(random.integers(1, 4)), (-2, -1))


# --- geometric ------------------------------------------------------------------------------


class Affine(Augmentation):
    """Rotate, move, scale and shear, each by an amount that is drawn up to its limit."""

    kind: Literal["affine"] = "affine"
    degrees: Annotated[float, Field(ge=0, le=180), Search.float(0, 30)] = Field(
        10.0, description="greatest rotation either way"
    )
    translate: Annotated[float, Field(ge=0, le=1), Search.float(0, 0.3)] = Field(
        0.0, description="greatest shift, as a share of width and height"
    )
    scale: Annotated[float, Field(ge=0, lt=1), Search.float(0, 0.3)] = Field(
        0.0, description="greatest change of scale either way"
    )
    shear: Annotated[float, Field(ge=0, le=60), Search.float(0, 20)] = Field(
        0.0, description="greatest degrees along x, and along y"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        angle, x, y, scale, *shear = random.uniform(-1, 1, 6)
        moved: Tensor = functional().affine(
            x_tchw, float(angle * self.degrees),
            [round(x * self.translate * width), round(y * self.translate * height)],
            float(1 + scale * self.scale), [float(self.shear * s) for s in shear],
            interpolation=v2().InterpolationMode.BILINEAR,
        )  # fmt: skip
        return moved


class Stretch(Augmentation):
    """Scale width and height by different factors; the size stays, borders are black."""

    kind: Literal["stretch"] = "stretch"
    x: Annotated[float, Field(ge=0, lt=1), Search.float(0, 0.4)] = Field(
        0.2, description="greatest change of the width"
    )
    y: Annotated[float, Field(ge=0, lt=1), Search.float(0, 0.4)] = Field(
        0.2, description="greatest change of the height"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        height, width = x_tchw.shape[-2:]
        high = max(1, round(height * random.uniform(1 - self.y, 1 + self.y)))
        wide = max(1, round(width * random.uniform(1 - self.x, 1 + self.x)))
        cut: Tensor = functional().center_crop(scaled(x_tchw, (high, wide)), [height, width])
        return cut


class Perspective(Augmentation):
    """Look at the frame from an oblique angle."""

    kind: Literal["perspective"] = "perspective"
    distortion: Annotated[float, Field(gt=0, le=1), Search.float(0.1, 0.6)] = 0.3

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        turn: Callable[[Tensor], Tensor] = v2().RandomPerspective(self.distortion, p=1)
        with seeded(random):
            return turn(x_tchw)


class Elastic(Augmentation):
    """Move pixels by smooth noise (Simard et al., ICDAR 2003)."""

    kind: Literal["elastic"] = "elastic"
    strength: Annotated[float, Field(gt=0, le=500), Search.float(10, 150)] = 60.0
    smoothness: Annotated[float, Field(ge=1, le=20), Search.float(2, 8)] = Field(
        4.0, description="standard deviation of the Gaussian in pixels"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        # The Gaussian is cut off at four times its deviation, which must fit into the frame.
        sigma = min(self.smoothness, (min(x_tchw.shape[-2:]) - 3) / 4)
        move: Callable[[Tensor], Tensor] = v2().ElasticTransform(self.strength, sigma)
        with seeded(random):
            return move(x_tchw)


class GridDistortion(Augmentation):
    """Move the points of a grid, and everything between them accordingly."""

    kind: Literal["grid-distortion"] = "grid-distortion"
    cells: Annotated[int, Field(ge=2, le=32), Search.int(2, 8)] = Field(
        4, description="along a side"
    )
    strength: Annotated[float, Field(gt=0, le=0.5), Search.float(0.05, 0.3)] = Field(
        0.15, description="standard deviation of the shift, in cells"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        import torch

        shape = (1, 2, self.cells + 1, self.cells + 1)
        shifts = array(random.normal(0, 2 * self.strength / self.cells, shape), x_tchw)
        dense = torch.nn.functional.interpolate(
            shifts, x_tchw.shape[-2:], mode="bilinear", align_corners=True
        )
        moved: Tensor = functional().elastic(x_tchw, dense.permute(0, 2, 3, 1))
        return moved


class Jigsaw(Albumentation):
    """Exchange the cells of a grid."""

    kind: Literal["jigsaw"] = "jigsaw"
    cells: Annotated[int, Field(ge=2, le=16), Search.int(2, 6)] = Field(
        3, description="along a side"
    )

    def make(self, package: Any) -> Any:
        return package.RandomGridShuffle((self.cells, self.cells), p=1)


def scaled(x_tchw: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames scaled to `(height, width)` (bilinear, antialiased)."""
    if tuple(x_tchw.shape[-2:]) == size:
        return x_tchw
    resized: Tensor = functional().resize(x_tchw, list(size), antialias=True)
    return resized


def _shorter_side(source: tuple[int, int], size: int) -> tuple[int, int]:
    from foveate.data.prepare import shorter_side  # loads torch

    return shorter_side(source, size)


def _padded(
    x_tchw: Tensor, spaces: tuple[int, int], centre: bool, border: str, random: Random
) -> Tensor:
    """Frames with so many more rows and columns."""
    rows, columns = spaces
    top, left = _before(rows, centre, random), _before(columns, centre, random)
    sides = [left, top, columns - left, rows - top]
    larger: Tensor = functional().pad(x_tchw, sides, padding_mode=border)
    return larger if rows or columns else x_tchw


def _before(space: int, centre: bool, random: Random) -> int:
    """How much of a space comes before the rest: half, or a part that is drawn."""
    return space // 2 if centre else int(random.integers(space + 1))


def _spaces(x_tchw: Tensor, size: int) -> tuple[int, int]:
    """Pixels that remain above or below, and left or right of a square.

    Raises:
        ValueError: The frames are smaller than the square.
    """
    height, width = x_tchw.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"frames of {height} x {width} pixels have no square of {size}")
    return height - size, width - size
