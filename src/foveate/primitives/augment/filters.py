"""Transforms of neighbourhoods: blur, convolution, edges, pooling, and weather."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from foveate.primitives.augment.base import (
    Albumentation,
    Augmentation,
    Random,
    array,
    each_frame,
    functional,
    to_uint8,
)
from foveate.primitives.augment.pixels import Adjustment
from foveate.primitives.base import Search

if TYPE_CHECKING:
    from torch import Tensor

Kernel = Annotated[
    int, Field(ge=3, le=99, description="greatest size in pixels, odd; drawn from 3 on"),
    Search.int(3, 15, step=2),
]  # fmt: skip
Alpha = Annotated[
    float, Field(gt=0, le=1, description="weight of the filtered frame"), Search.float(0.2, 1)
]

# --- blur -----------------------------------------------------------------------------------


class GaussianBlur(Augmentation):
    """Blur with a Gaussian whose width is drawn."""

    kind: Literal["gaussian-blur"] = "gaussian-blur"
    sigma: Annotated[float, Field(ge=0.5, le=20), Search.float(0.5, 5)] = Field(
        2.0, description="greatest standard deviation in pixels; drawn from .5 on"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        sigma = random.uniform(0.5, self.sigma)
        size = 2 * min(round(3 * sigma), (min(x_tchw.shape[-2:]) - 1) // 2) + 1
        blurred: Tensor = functional().gaussian_blur(x_tchw, [size, size], [sigma, sigma])
        return blurred


class BoxBlur(Albumentation):
    """Replace each pixel by the mean of a square."""

    kind: Literal["box-blur"] = "box-blur"
    size: Kernel = 7

    def make(self, package: Any) -> Any:
        return package.Blur((3, self.size), p=1)


class MedianBlur(Albumentation):
    """Replace each pixel by the median of a square."""

    kind: Literal["median-blur"] = "median-blur"
    size: Kernel = 7

    def make(self, package: Any) -> Any:
        return package.MedianBlur((3, self.size), p=1)


class MotionBlur(Albumentation):
    """Blur along a line of random direction, as a moving camera does."""

    kind: Literal["motion-blur"] = "motion-blur"
    size: Kernel = 9

    def make(self, package: Any) -> Any:
        return package.MotionBlur((3, self.size), p=1)


class BilateralBlur(Augmentation):
    """Blur areas, and keep edges."""

    kind: Literal["bilateral-blur"] = "bilateral-blur"
    diameter: Annotated[int, Field(ge=3, le=25), Search.int(3, 11, step=2)] = 7
    levels: Annotated[int, Field(ge=1, le=255), Search.int(20, 150)] = Field(
        80, description="greatest difference, of 255, that is blurred; drawn from half of it on"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        import cv2

        levels = random.uniform(self.levels / 2, self.levels)
        return each_frame(x_tchw, lambda x: cv2.bilateralFilter(x, self.diameter, levels, 10.0))


class DefocusBlur(Albumentation):
    """Blur with a disc, as a lens that is out of focus."""

    kind: Literal["defocus-blur"] = "defocus-blur"
    radius: Annotated[int, Field(ge=2, le=20), Search.int(2, 8)] = 5

    def make(self, package: Any) -> Any:
        return package.Defocus((2, self.radius), p=1)


class GlassBlur(Albumentation):
    """Exchange near pixels, as frosted glass does."""

    kind: Literal["glass-blur"] = "glass-blur"
    distance: Annotated[int, Field(ge=1, le=10), Search.int(1, 5)] = Field(
        3, description="greatest distance of exchanged pixels"
    )

    def make(self, package: Any) -> Any:
        return package.GlassBlur(sigma=0.7, max_delta=self.distance, iterations=1, p=1)


class ZoomBlur(Albumentation):
    """Average several magnifications, as zooming does while the shutter is open."""

    kind: Literal["zoom-blur"] = "zoom-blur"
    zoom: Annotated[float, Field(gt=1.02, le=2), Search.float(1.05, 1.4)] = 1.2

    def make(self, package: Any) -> Any:
        return package.ZoomBlur((1.02, self.zoom), (0.01, 0.03), p=1)


# --- convolution, edges, pooling ------------------------------------------------------------

# The kernels of Pillow's filters, from the top row on (Pillow writes them from the bottom row on):
# weights, their divisor, and what is added.
_RING = [-1.0, -1, -1, -1, 8, -1, -1, -1, -1]
FILTERS: dict[str, tuple[list[float], float, float]] = {
    "blur": ([1.0] * 5 + [1, 0, 0, 0, 1] * 3 + [1.0] * 5, 16, 0),
    "contour": (_RING, 1, 255),
    "detail": ([0.0, -1, 0, -1, 10, -1, 0, -1, 0], 6, 0),
    "edge-enhance": ([*_RING[:4], 10, *_RING[5:]], 2, 0),
    "edge-enhance-more": ([*_RING[:4], 9, *_RING[5:]], 1, 0),
    "emboss": ([0.0, 0, 0, 0, 1, 0, -1, 0, 0], 1, 128),
    "find-edges": (_RING, 1, 0),
    "sharpen": ([-2.0, -2, -2, -2, 32, -2, -2, -2, -2], 16, 0),
    "smooth": ([1.0, 1, 1, 1, 5, 1, 1, 1, 1], 13, 0),
    "smooth-more": ([1.0] * 6 + [5, 5, 5, 1, 1, 5, 44, 5, 1, 1, 5, 5, 5] + [1.0] * 6, 100, 0),
}
FilterName = Literal[
    "blur", "contour", "detail", "edge-enhance", "edge-enhance-more", "emboss", "find-edges",
    "sharpen", "smooth", "smooth-more",
]  # fmt: skip


class Filter(Augmentation):
    """One of Pillow's filters, such as `emboss`, `find-edges` or `sharpen`."""

    kind: Literal["filter"] = "filter"
    name: Annotated[FilterName, Search.choice(*FILTERS)] = "sharpen"
    alpha: Alpha = 1.0

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        weights, divisor, added = FILTERS[self.name]
        return convolved(x_tchw, np.array(weights) / divisor, added, self.alpha)


class DirectedEdges(Augmentation):
    """Show edges of a random direction."""

    kind: Literal["directed-edges"] = "directed-edges"
    alpha: Alpha = 0.7

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        angle = random.uniform(0, 2 * np.pi)
        rows, columns = np.mgrid[-1:2, -1:2]
        weights = np.cos(np.arctan2(rows, columns) - angle).clip(0) ** 4
        weights[1, 1] = 0
        weights /= -weights.sum()
        weights[1, 1] = 1
        return convolved(x_tchw, 4 * weights.ravel(), 0, self.alpha)


class Sharpness(Adjustment):
    """Sharpen or blur a little."""

    function: ClassVar[str] = "adjust_sharpness"
    kind: Literal["sharpness"] = "sharpness"
    limit: Annotated[float, Field(gt=0, le=10), Search.float(0.5, 4)] = 1.0


class Canny(Augmentation):
    """Draw edges, as Canny's detector finds them, white on black."""

    kind: Literal["canny"] = "canny"
    threshold: Annotated[int, Field(ge=10, le=250), Search.int(40, 200)] = Field(
        100, description="gradient of an edge; drawn from half of it on"
    )
    alpha: Alpha = 0.5

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        import cv2

        high = random.uniform(self.threshold / 2, self.threshold)
        edges = each_frame(
            x_tchw, lambda x: cv2.cvtColor(cv2.Canny(x, high / 2, high), cv2.COLOR_GRAY2RGB)
        )
        return to_uint8(x_tchw.float().lerp(edges.float(), self.alpha))


class Pooling(Augmentation):
    """Replace squares by their mean, greatest, least or median values; the size stays."""

    kind: Literal["pooling"] = "pooling"
    operation: Annotated[
        Literal["mean", "max", "min", "median"], Search.choice("mean", "max", "min", "median")
    ] = "mean"
    size: Annotated[int, Field(ge=2, le=64), Search.int(2, 8)] = Field(
        4, description="greatest side of the squares in pixels; drawn from 2 on"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        import torch.nn.functional as nn

        side = int(random.integers(2, self.size + 1))
        count, channels, height, width = x_tchw.shape
        rows, columns = -(-height // side), -(-width // side)
        pads = (0, columns * side - width, 0, rows * side - height)
        cells = nn.pad(x_tchw.float(), pads, "replicate")
        cells = cells.view(count, channels, rows, side, columns, side).transpose(3, 4).flatten(4)
        match self.operation:
            case "max":
                pooled = cells.amax(-1)
            case "min":
                pooled = cells.amin(-1)
            case "median":
                pooled = cells.median(-1).values
            case _:
                pooled = cells.mean(-1)
        whole = pooled.repeat_interleave(side, -2).repeat_interleave(side, -1)
        return to_uint8(whole[..., :height, :width])


# --- weather --------------------------------------------------------------------------------


class Fog(Albumentation):
    """Cover the frames with fog."""

    kind: Literal["fog"] = "fog"
    density: Annotated[float, Field(gt=0.1, le=1), Search.float(0.2, 1)] = Field(
        0.6, description="greatest; drawn from .1 on"
    )

    def make(self, package: Any) -> Any:
        return package.RandomFog(fog_coef_range=(0.1, self.density), alpha_coef=0.2, p=1)


class Rain(Albumentation):
    """Draw streaks of rain, which stay where they are."""

    kind: Literal["rain"] = "rain"
    length: Annotated[int, Field(ge=2, le=100), Search.int(5, 30)] = Field(
        12, description="of streaks, in pixels"
    )

    def make(self, package: Any) -> Any:
        return package.RandomRain(drop_length=self.length, p=1)


class Snow(Albumentation):
    """Whiten areas that are darker than a threshold, as lying snow does."""

    kind: Literal["snow"] = "snow"
    amount: Annotated[float, Field(gt=0.1, le=1), Search.float(0.2, 0.8)] = Field(
        0.5, description="greatest threshold; drawn from .1 on"
    )

    def make(self, package: Any) -> Any:
        return package.RandomSnow(snow_point_range=(0.1, self.amount), p=1)


class Spatter(Albumentation):
    """Drops of rain or mud on the lens."""

    kind: Literal["spatter"] = "spatter"
    substance: Annotated[Literal["rain", "mud"], Search.choice("rain", "mud")] = "rain"

    def make(self, package: Any) -> Any:
        return package.Spatter(mode=self.substance, p=1)


def convolved(x_tchw: Tensor, weights: Any, added: float, alpha: float) -> Tensor:
    """Frames blended with their convolution with a square kernel, to whose result is added."""
    import torch.nn.functional as nn

    x, side = x_tchw.float(), round(len(weights) ** 0.5)
    kernel = array(weights, x_tchw).view(1, 1, side, side).repeat(3, 1, 1, 1)
    padded = nn.pad(x, (side // 2,) * 4, "replicate")
    filtered = (nn.conv2d(padded, kernel, groups=3) + added).clamp_(0, 255)
    return to_uint8(x.lerp(filtered, alpha))
