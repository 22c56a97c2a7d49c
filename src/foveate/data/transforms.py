"""Training augmentation of whole clips: drawn once per clip, the same for all its frames.

Each transform is a function of frames (T, 3, H, W) uint8 and a generator; the same generator state
gives the same result, whatever process it runs in. `Augment` joins them for a loader. torchvision
does the work on pixels; it comes with the extra `train`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from foveate.core import ConfigError, MissingExtra
from foveate.data.prepare import Labels, Transform, shorter_side, to_tchw

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

Random = np.random.Generator


def resize_shorter(x_tchw: Tensor, random: Random | None = None, *, size: int) -> Tensor:
    """Scale so that the shorter side has `size` pixels (bilinear, antialiased)."""
    height, width = x_tchw.shape[-2:]
    wide, high = shorter_side((width, height), size)
    resized: Tensor = _v2().functional.resize(x_tchw, [high, wide], antialias=True)
    return resized


def centre_crop(x_tchw: Tensor, random: Random | None = None, *, size: int) -> Tensor:
    """The centre square of `size` pixels."""
    _check_fits(x_tchw, size)
    top, left = (x_tchw.shape[-2] - size) // 2, (x_tchw.shape[-1] - size) // 2
    return x_tchw[..., top : top + size, left : left + size]


def random_crop(x_tchw: Tensor, random: Random, *, size: int) -> Tensor:
    """A square of `size` pixels anywhere in the frame."""
    _check_fits(x_tchw, size)
    top = int(random.integers(x_tchw.shape[-2] - size + 1))
    left = int(random.integers(x_tchw.shape[-1] - size + 1))
    return x_tchw[..., top : top + size, left : left + size]


def random_resized_crop(
    x_tchw: Tensor,
    random: Random,
    *,
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """A rectangle of random area, shape and place, scaled to a square of `size` pixels.

    Szegedy et al., "Going deeper with convolutions" (CVPR 2015), section 6.

    Args:
        x_tchw: Frames.
        random: Draws area, shape and place.
        size: Side of the answer.
        scale: Least and greatest share of the frame's area.
        ratio: Least and greatest width by height.
    """
    height, width = x_tchw.shape[-2:]
    for _ in range(10):
        area = height * width * random.uniform(*scale)
        shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < high <= height:
            break
    else:
        wide = high = min(height, width)
    top, left = int(random.integers(height - high + 1)), int(random.integers(width - wide + 1))
    cut = x_tchw[..., top : top + high, left : left + wide]
    resized: Tensor = _v2().functional.resize(cut, [size, size], antialias=True)
    return resized


def flip(x_tchw: Tensor, random: Random, *, p: float = 1.0) -> Tensor:
    """Left and right exchanged, with probability `p`."""
    return x_tchw.flip(-1) if random.random() < p else x_tchw


def colour_jitter(x_tchw: Tensor, random: Random, *, strength: float = 0.4) -> Tensor:
    """Brightness, contrast and saturation changed by up to `strength`, hue by a tenth of that."""
    most = (strength, strength, strength, strength / 10)
    jitter: Callable[[Tensor], Tensor] = _v2().ColorJitter(*most)
    with _seeded(random):
        return jitter(x_tchw)


def grey(x_tchw: Tensor, random: Random | None = None) -> Tensor:
    """Colours taken out: the luma in all three channels."""
    pale: Tensor = _v2().functional.rgb_to_grayscale(x_tchw, 3)
    return pale


def rand_augment(
    x_tchw: Tensor, random: Random, *, operations: int = 2, magnitude: int = 9
) -> Tensor:
    """Operations with random choice and sign (Cubuk et al., RandAugment, NeurIPS 2020)."""
    augment: Callable[[Tensor], Tensor] = _v2().RandAugment(operations, magnitude)
    with _seeded(random):
        return augment(x_tchw)


# Contract: at p = 1 each changes something, draws once per clip, and repeats itself given a seed.
TRANSFORMS: dict[str, Callable[..., Tensor]] = {
    "resize_shorter": partial(resize_shorter, size=24),
    "centre_crop": partial(centre_crop, size=24),
    "random_crop": partial(random_crop, size=24),
    "random_resized_crop": partial(random_resized_crop, size=24),
    "flip": flip,
    "colour_jitter": colour_jitter,
    "grey": grey,
    "rand_augment": rand_augment,
}


@dataclass(frozen=True)
class Augment:
    """The transform of training; satisfies `prepare.Transform`.

    Args:
        size: Side of the square in pixels.
        scale: Least and greatest share of the frame's area that is cut out; None cuts a square of
            `size` pixels at a random place.
        decode: Shorter side of decoded frames, as a multiple of `size`.
        flip: Probability of exchanging left and right.
        mirror: For each class the class of its mirror image, None for classes that must not be
            flipped; empty if left and right mean nothing (see `mirrored_by_words`).
        colour: Strength of the colour jitter, 0 for none.
        operations: Operations of RandAugment, 0 for none.
        magnitude: Their magnitude, 0 to 30.
        ratio: Least and greatest width by height of what is cut out.
        grey: Probability of taking the colours out.
    """

    size: int
    scale: tuple[float, float] | None = (0.5, 1.0)
    decode: float = 1.25
    flip: float = 0.5
    mirror: tuple[int | None, ...] = ()
    colour: float = 0.0
    operations: int = 0
    magnitude: int = 9
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    grey: float = 0.0

    def __post_init__(self) -> None:
        """Refuse invalid settings; torchvision must be installed."""
        if self.size < 1 or self.decode < 1 or not 0 <= self.flip <= 1 or self.colour < 0:
            raise ConfigError(f"augmentation out of range: {self}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(f"scale {self.scale}: 0 < least <= greatest <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1] or not 0 <= self.grey <= 1:
            raise ConfigError(f"augmentation out of range: {self}")
        _v2()

    def decode_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """Somewhat larger than the square, so that crops vary."""
        return shorter_side(source, round(self.size * self.decode))

    def __call__(
        self, frames: Pixels, labels: Labels, random: Random | None
    ) -> tuple[Tensor, Labels]:
        """Draw once and treat all frames alike.

        Raises:
            ValueError: No generator: training needs one.
        """
        if random is None:
            raise ValueError("augmentation needs a generator; use prepare.Centre in evaluation")
        x_tchw = to_tchw(frames)
        if self.scale is None:
            x_tchw = random_crop(x_tchw, random, size=self.size)
        else:
            x_tchw = random_resized_crop(
                x_tchw, random, size=self.size, scale=self.scale, ratio=self.ratio
            )
        if random.random() < self.flip:
            mirrored = mirror_labels(labels, self.mirror)
            if mirrored is not None:
                x_tchw, labels = flip(x_tchw, random), mirrored
        if self.colour:
            x_tchw = colour_jitter(x_tchw, random, strength=self.colour)
        if self.grey and random.random() < self.grey:
            x_tchw = grey(x_tchw)
        if self.operations:
            x_tchw = rand_augment(
                x_tchw, random, operations=self.operations, magnitude=self.magnitude
            )
        return x_tchw, labels


@dataclass(frozen=True)
class EachView:
    """A transform that is drawn anew for each view of a clip; satisfies `prepare.Transform`.

    Args:
        one: What is done to a view; its frames are all treated alike.
        views: How many views the frames are, one after the other and equally long.
    """

    one: Transform
    views: int = 2

    def decode_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """As for one view."""
        return self.one.decode_size(source)

    def __call__(
        self, frames: Pixels, labels: Labels, random: Random | None
    ) -> tuple[Tensor, Labels]:
        """Draw once per view; the labels stay, since views of one clip may be mirrored apart.

        Raises:
            ValueError: The frames are not so many equal parts.
        """
        count, rest = divmod(len(frames), self.views)
        if rest:
            raise ValueError(f"{len(frames)} frames are not {self.views} views")
        parts = (frames[i * count : (i + 1) * count] for i in range(self.views))
        return torch.cat([self.one(part, labels, random)[0] for part in parts]), labels


def mirror_labels(labels: Labels, mirror: Sequence[int | None]) -> Labels | None:
    """The labels of the mirror image, None where a class has none."""
    if not mirror:
        return labels
    found = [mirror[label] for label in labels]
    return None if None in found else tuple(label for label in found if label is not None)


def mirrored_by_words(classes: Sequence[str], words: Mapping[str, str]) -> tuple[int | None, ...]:
    """For each class its mirror image, found by exchanging words in the names.

    Args:
        classes: Names of the classes.
        words: Which words to exchange, such as `{"left": "right"}`.

    Returns:
        Per class the index of the class whose name has the words exchanged; its own index where
        the name has none of the words; None where no class has that name: such clips are not
        flipped.
    """
    both = {a.casefold(): b.casefold() for pair in words.items() for a, b in (pair, pair[::-1])}
    split = [name.casefold().replace("_", " ").replace("-", " ").split() for name in classes]
    places = {tuple(parts): i for i, parts in enumerate(split)}
    return tuple(places.get(tuple(both.get(part, part) for part in parts)) for parts in split)


def _v2() -> Any:
    try:
        from torchvision.transforms import v2
    except ImportError:
        raise MissingExtra("torchvision", "train") from None
    return v2


@contextmanager
def _seeded(random: Random) -> Iterator[None]:
    """Let torchvision draw from a seed of ours; the global generator is left as it was."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(int(random.integers(2**63)))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def _check_fits(x_tchw: Tensor, size: int) -> None:
    if min(x_tchw.shape[-2:]) < size:
        raise ValueError(f"frames of {tuple(x_tchw.shape[-2:])} pixels have no square of {size}")
