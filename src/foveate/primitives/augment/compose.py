"""The transform of training: a list of transforms between decoded frames and those of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from foveate.core import ConfigError, FoveateError, InputSpec
from foveate.data.prepare import Centre, Labels, shorter_side, to_tchw
from foveate.primitives.augment.base import Random, Transform, describe
from foveate.primitives.augment.geometry import (
    CentreCrop,
    Flip,
    RandomCrop,
    Resize,
    ResizeShorter,
    SizeTransform,
)
from foveate.primitives.augment.meta import in_turn, walk

if TYPE_CHECKING:
    from torch import Tensor

    from foveate.core.loop import Pixels

_SOURCES = ((320, 240), (240, 320))  # sizes for which a list is tried before the training
_TRIALS = 4


@dataclass(frozen=True)
class Augment:
    """Transforms in their order, drawn once per clip; satisfies `prepare.Transform`.

    If none of them sets the size, frames are first prepared as in prediction.

    Args:
        size: Side in pixels of the square that must come out, of the network's input.
        transforms: What is applied.
        mirror: For each class the class of its mirror image, None for classes that must not be
            flipped; empty if left and right mean nothing (see `mirrored_by_words`).
        decode: Shorter side of decoded frames, as a multiple of the size of a crop that comes
            first; after `resize` and `resize-shorter` exactly what they say.
        centre: What is cut out where no transform sets the size; None: the centre square.
        shown: Side in pixels of the squares that a look shows; None for decoded frames.

    Raises:
        ConfigError: Frames do not come out as squares of `size` pixels.
        MissingExtra: torchvision, or what a transform needs, is not installed.
    """

    size: int
    transforms: tuple[Transform, ...]
    mirror: tuple[int | None, ...] = ()
    decode: float = 1.25
    centre: Centre | None = None
    shown: int | None = None

    def __post_init__(self) -> None:
        """Try the transforms on frames of one pixel value."""
        if self.size < 1 or not self.decode >= 1:
            raise ConfigError(f"augmentation out of range: {self}")
        for one in self.transforms:
            one.require()
        for source in _SOURCES:
            width, height = (self.shown,) * 2 if self.shown else self.decode_size(source)
            frames = np.zeros((1, height, width, 3), np.uint8)
            for seed in range(_TRIALS):
                try:
                    self(frames, (), np.random.default_rng(seed))
                except FoveateError:
                    raise
                except Exception as error:  # of torchvision, albumentations or another package
                    raise ConfigError(
                        f"transforms: {describe(self.transforms)}: {error}, "
                        f"of frames of {height} x {width} pixels"
                    ) from None

    def first(self) -> Centre | None:
        """What comes before the transforms, None if one of them sets the size."""
        sized = any(one.sets_size for one in walk(self.transforms))
        return None if sized else self.centre or Centre(self.size)

    def decode_size(self, source: tuple[int, int]) -> tuple[int, int]:
        """As the first transform that sets the size needs it."""
        if (centre := self.first()) is not None:
            return centre.decode_size(source)
        first = next((one for one in self.transforms if isinstance(one, SizeTransform)), None)
        if first is None:
            return shorter_side(source, round(self.size * self.decode))
        return first.decode_size(source, self.decode)

    def __call__(
        self, frames: Pixels, labels: Labels, random: Random | None
    ) -> tuple[Tensor, Labels]:
        """Draw once and treat all frames alike.

        Raises:
            ValueError: No generator (training needs one), or frames of another size come out.
        """
        if random is None:
            raise ValueError("augmentation needs a generator; use prepare.Centre in evaluation")
        centre = self.first()
        x_tchw = to_tchw(frames) if centre is None else centre(frames, labels)[0]
        x_tchw, labels = in_turn(self.transforms, None, x_tchw, labels, random, self.mirror)
        height, width = x_tchw.shape[-2:]
        if (height, width) != (self.size, self.size):
            raise ValueError(
                f"{height} x {width} pixels come out, but the network takes "
                f"{self.size} x {self.size}"
            )
        return x_tchw, labels


def compose(
    transforms: Sequence[Transform], size: int, mirror: tuple[int | None, ...] = ()
) -> Augment:
    """The transform of training that applies all of a list; see `Augment`."""
    return Augment(size, tuple(transforms), mirror)


def mirrors(transforms: Sequence[Transform]) -> bool:
    """Whether left and right may be exchanged."""
    return any(isinstance(one, Flip) and one.p > 0 for one in walk(tuple(transforms)))


def input_of(transforms: Sequence[Transform], spec: InputSpec) -> InputSpec:
    """What a network that is trained with the transforms sees in evaluation and prediction.

    Crops are taken from the centre, after the same scaling; everything else is left out.

    Args:
        transforms: Of training.
        spec: Of the network otherwise.
    """
    for one in transforms:
        if isinstance(one, Resize):
            spec = replace(spec, size=one.size, resize="squash", crop="none", resize_to=None)
        elif isinstance(one, ResizeShorter):
            spec = replace(
                spec, size=one.size, resize="shorter side", crop="centre", resize_to=None
            )
        elif isinstance(one, (CentreCrop, RandomCrop)):
            before = spec.resize_to or spec.size
            spec = replace(
                spec, size=one.size, crop="centre",
                resize_to=before if before > one.size else None,
            )  # fmt: skip
        elif isinstance(one, SizeTransform):
            spec = replace(spec, size=one.size, resize_to=None)
    return spec
