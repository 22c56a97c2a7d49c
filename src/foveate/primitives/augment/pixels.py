"""Transforms of values: arithmetic, noise, colour, contrast, and policies such as RandAugment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from foveate.primitives.augment.base import (
    Albumentation,
    Augmentation,
    Probability,
    Random,
    Share,
    array,
    each_frame,
    functional,
    one_picture,
    seeded,
    to_uint8,
    v2,
)
from foveate.primitives.base import Search

if TYPE_CHECKING:
    from torch import Tensor

Levels = Annotated[int, Field(ge=1, le=255), Search.int(5, 80)]
Limit = Annotated[float, Field(gt=0, le=1), Search.float(0.05, 0.8)]
Switch = Annotated[bool, Search.choice(False, True)]
Distribution = Literal["gaussian", "laplace", "uniform", "poisson", "shot", "speckle"]
Filling = Literal["black", "white", "salt-and-pepper", "random"]

# --- arithmetic -----------------------------------------------------------------------------


class Add(Augmentation):
    """Add a level that is drawn from -limit to limit."""

    kind: Literal["add"] = "add"
    limit: Levels = Field(40, description="of 255")
    per_channel: Switch = False

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        level = random.uniform(-self.limit, self.limit, (3 if self.per_channel else 1, 1, 1))
        return to_uint8(x_tchw + array(level, x_tchw))


class Noise(Augmentation):
    """Add noise that is drawn per pixel and stays over the clip; shot and speckle grow with it."""

    kind: Literal["noise"] = "noise"
    distribution: Annotated[Distribution, Search.choice(*Distribution.__args__)] = "gaussian"
    strength: Annotated[float, Field(gt=0, le=1), Search.float(0.01, 0.4, log=True)] = Field(
        0.06, description="standard deviation, or mean, as a share of the range of values"
    )
    per_channel: Switch = True

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        shape = (3 if self.per_channel else 1, *x_tchw.shape[-2:])
        x, level = x_tchw.float(), 255 * self.strength
        match self.distribution:
            case "laplace":
                x = x + array(random.laplace(0, level / np.sqrt(2), shape), x)
            case "uniform":
                x = x + array(random.uniform(-level, level, shape) * np.sqrt(3), x)
            case "poisson":
                x = x + array(random.poisson(level, shape) * random.choice([-1, 1]), x)
            case "shot":  # the normal approximation: equal pixels of several frames stay equal
                x = x + (x * level / np.sqrt(128)).sqrt() * array(random.normal(0, 1, shape), x)
            case "speckle":
                x = x * array(random.normal(1, 2 * self.strength, shape), x)
            case _:
                x = x + array(random.normal(0, level, shape), x)
        return to_uint8(x)


class Replace(Augmentation):
    """Replace a share of the pixels, or of coarse cells, by black or other values."""

    kind: Literal["replace"] = "replace"
    by: Annotated[Filling, Search.choice(*Filling.__args__)] = "black"
    share: Share = 0.1
    cells: Annotated[int, Field(ge=0, le=256), Search.choice(0, 4, 8, 16)] = Field(
        0, description="along a side of the frame; 0: single pixels"
    )
    per_channel: Switch = False

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        import torch

        height, width = x_tchw.shape[-2:]
        rows, columns = (self.cells, self.cells) if self.cells else (height, width)
        shape = (3 if self.per_channel else 1, rows, columns)
        chosen = random.random(shape) < self.share
        chosen[0, random.integers(rows), random.integers(columns)] = True  # one cell at least
        drawn = random.integers(0, 256, shape)
        values = {"black": 0 * drawn, "white": 0 * drawn + 255, "random": drawn}
        values["salt-and-pepper"] = (drawn > 127) * 255
        layers = array(np.stack([chosen, values[self.by]]), x_tchw)
        mask, fill = torch.nn.functional.interpolate(layers, (height, width), mode="nearest")
        return torch.where(mask > 0, fill.to(torch.uint8), x_tchw)


class Cutout(Augmentation):
    """Fill rectangles at random places (DeVries and Taylor, 2017, arXiv 1708.04552)."""

    kind: Literal["cutout"] = "cutout"
    count: Annotated[int, Field(ge=1, le=64), Search.int(1, 8)] = 1
    size: Share = Field(0.3, description="sides, as a share of the frame's")
    fill: Annotated[int, Field(ge=0, le=255)] = Field(128, description="grey level")

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        out = x_tchw.clone()
        height, width = x_tchw.shape[-2:]
        high, wide = max(1, round(height * self.size)), max(1, round(width * self.size))
        for _ in range(self.count):
            top = int(random.integers(height - high + 1))
            left = int(random.integers(width - wide + 1))
            out[..., top : top + high, left : left + wide] = self.fill
        return out


class Solarize(Augmentation):
    """Invert values from a threshold on; with 0, all of them."""

    kind: Literal["solarize"] = "solarize"
    p: Probability = 0.5
    threshold: Annotated[int, Field(ge=0, le=255), Search.int(0, 224)] = 128

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        return x_tchw.where(x_tchw < self.threshold, 255 - x_tchw)


class Jpeg(Augmentation):
    """Compress as JPEG, with a quality that is drawn from `quality` to 95."""

    kind: Literal["jpeg"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=95), Search.int(5, 80)] = 20

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        import cv2

        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(self.quality, 96))]
        # OpenCV takes blue first; channels are exchanged before and after.
        packed = each_frame(
            x_tchw.flip(1), lambda x: cv2.imdecode(cv2.imencode(".jpg", x, quality)[1], 1)
        )
        return packed.flip(1)


# --- colour ---------------------------------------------------------------------------------


class Adjustment(Augmentation):
    """Base of torchvision's adjustments by a factor that is drawn from 1 - limit to 1 + limit."""

    function: ClassVar[str]

    limit: Limit = 0.4

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        factor = random.uniform(max(0, 1 - self.limit), 1 + self.limit)
        adjusted: Tensor = getattr(functional(), self.function)(x_tchw, factor)
        return adjusted


class Brightness(Adjustment):
    """Multiply all values."""

    function: ClassVar[str] = "adjust_brightness"
    kind: Literal["brightness"] = "brightness"


class Contrast(Adjustment):
    """Change the contrast, around the mean grey of the clip."""

    function: ClassVar[str] = "adjust_contrast"
    kind: Literal["contrast"] = "contrast"

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        return one_picture(x_tchw, lambda x: super(Contrast, self).change(x, random))


class Saturation(Adjustment):
    """Change the saturation."""

    function: ClassVar[str] = "adjust_saturation"
    kind: Literal["saturation"] = "saturation"


class Hue(Augmentation):
    """Turn the hue."""

    kind: Literal["hue"] = "hue"
    limit: Annotated[float, Field(gt=0, le=0.5), Search.float(0.01, 0.5)] = Field(
        0.1, description="in turns of the colour circle"
    )

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        turned: Tensor = functional().adjust_hue(x_tchw, random.uniform(-self.limit, self.limit))
        return turned


class ColourJitter(Augmentation):
    """Change brightness, contrast and saturation by up to `strength`, hue by a tenth of it."""

    kind: Literal["colour-jitter"] = "colour-jitter"
    strength: Limit = 0.4

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        most = (self.strength,) * 3 + (self.strength / 10,)
        jitter: Callable[[Tensor], Tensor] = v2().ColorJitter(*most)
        with seeded(random):
            return jitter(x_tchw)


class Grey(Augmentation):
    """Take the colours out: the luma in all three channels."""

    kind: Literal["grey"] = "grey"
    p: Probability = 0.5

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        pale: Tensor = functional().rgb_to_grayscale(x_tchw, 3)
        return pale


class ChannelShuffle(Augmentation):
    """Exchange the channels red, green and blue."""

    kind: Literal["channel-shuffle"] = "channel-shuffle"
    p: Probability = 0.5

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        orders = [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        return x_tchw[:, list(orders[int(random.integers(5))])]


class ChannelDropout(Augmentation):
    """Set one of the channels red, green and blue to zero."""

    kind: Literal["channel-dropout"] = "channel-dropout"
    p: Probability = 0.5

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        out = x_tchw.clone()
        out[:, int(random.integers(3))] = 0
        return out


class ColourTemperature(Albumentation):
    """Change the colour of the light, from that of lamps to that of a blue sky."""

    kind: Literal["colour-temperature"] = "colour-temperature"
    warmest: Annotated[int, Field(ge=3000, le=6000), Search.int(3000, 6000, step=500)] = Field(
        4500, description="least temperature in kelvin; drawn up to 12000"
    )

    def make(self, package: Any) -> Any:
        return package.PlanckianJitter(temperature_limit=(self.warmest, 12_000), p=1)


class Posterize(Augmentation):
    """Keep only the highest bits of every value."""

    kind: Literal["posterize"] = "posterize"
    p: Probability = 0.5
    bits: Annotated[int, Field(ge=1, le=7), Search.int(2, 6)] = 3

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        coarse: Tensor = functional().posterize(x_tchw, self.bits)
        return coarse


# --- contrast -------------------------------------------------------------------------------


class Curve(Augmentation):
    """Base of transforms that map every value by one curve."""

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        import torch

        curve = 255 * self.curve(np.arange(256) / 255, random)
        return torch.from_numpy(np.rint(curve).clip(0, 255).astype(np.uint8))[x_tchw.int()]

    def curve(self, values: Any, random: Random) -> Any:
        """What becomes of 256 values from 0 to 1."""
        raise NotImplementedError


class Gamma(Curve):
    """Raise values to a power that is drawn from 1 / limit to limit."""

    kind: Literal["gamma"] = "gamma"
    limit: Annotated[float, Field(gt=1, le=5), Search.float(1.1, 3)] = 2.0

    def curve(self, values: Any, random: Random) -> Any:
        return values ** np.exp(random.uniform(-np.log(self.limit), np.log(self.limit)))


class SigmoidContrast(Curve):
    """Raise the contrast around a middle value, which is drawn, by a sigmoid curve."""

    kind: Literal["sigmoid-contrast"] = "sigmoid-contrast"
    gain: Annotated[float, Field(ge=2, le=20), Search.float(4, 12)] = 8.0

    def curve(self, values: Any, random: Random) -> Any:
        return 1 / (1 + np.exp(self.gain * (random.uniform(0.35, 0.65) - values)))


class LogContrast(Curve):
    """Brighten dark values more than bright ones, by a logarithm."""

    kind: Literal["log-contrast"] = "log-contrast"
    gain: Annotated[float, Field(gt=0.5, le=2), Search.float(0.6, 1.5)] = 1.0

    def curve(self, values: Any, random: Random) -> Any:
        return random.uniform(0.9, 1.1) * self.gain * np.log2(1 + values)


class Equalize(Augmentation):
    """Equalise the histogram of the clip, each channel by itself."""

    kind: Literal["equalize"] = "equalize"
    p: Probability = 0.5

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        return one_picture(x_tchw, functional().equalize)


class Autocontrast(Augmentation):
    """Stretch the values of the clip to the whole range, each channel by itself."""

    kind: Literal["autocontrast"] = "autocontrast"
    p: Probability = 0.5

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        return one_picture(x_tchw, functional().autocontrast)


class CLAHE(Albumentation):
    """Equalise the histogram of each part of a frame, with limited contrast."""

    kind: Literal["clahe"] = "clahe"
    limit: Annotated[float, Field(gt=1, le=20), Search.float(1.5, 8)] = Field(
        4.0, description="of the contrast; drawn from 1 on"
    )
    grid: Annotated[int, Field(ge=2, le=32), Search.int(4, 16)] = Field(
        8, description="parts along a side"
    )

    def make(self, package: Any) -> Any:
        return package.CLAHE((1, self.limit), (self.grid, self.grid), p=1)


# --- policies -------------------------------------------------------------------------------


class RandAugment(Augmentation):
    """Operations with random choice and sign (Cubuk et al., RandAugment, NeurIPS 2020)."""

    kind: Literal["rand-augment"] = "rand-augment"
    operations: Annotated[int, Field(ge=1, le=8), Search.int(1, 3)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30), Search.int(3, 15)] = 9

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        augment: Callable[[Tensor], Tensor] = v2().RandAugment(self.operations, self.magnitude)
        with seeded(random):
            return augment(x_tchw)


class TrivialAugment(Augmentation):
    """One operation of any magnitude (Müller and Hutter, TrivialAugment, ICCV 2021)."""

    kind: Literal["trivial-augment"] = "trivial-augment"

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        augment: Callable[[Tensor], Tensor] = v2().TrivialAugmentWide()
        with seeded(random):
            return augment(x_tchw)
