"""Bases of transforms: what they are called with, and how torchvision and albumentations are used.

A transform maps the frames of a clip, (T, 3, H, W) uint8, to frames of the same kind. Everything
random is drawn once per clip from the generator that it is given, so all frames are treated alike,
and the same state of the generator gives the same frames in every process. Noise is drawn once,
too: it is a fixed pattern over the clip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from foveate.core.lazy import import_extra
from foveate.primitives.base import Primitive, Search

if TYPE_CHECKING:
    from torch import Tensor

Random = np.random.Generator
Labels = tuple[int, ...]
Mirror = tuple[int | None, ...]
Probability = Annotated[float, Field(ge=0, le=1), Search.float(0, 1)]
Share = Annotated[float, Field(gt=0, le=1), Search.float(0.02, 0.5)]


class Transform(Primitive):
    """Base of all transforms of clips.

    Attributes:
        sets_size: Whether frames leave with another size.
    """

    group: ClassVar[str] = "transforms"
    sets_size: ClassVar[bool] = False

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        """Transform frames (T, 3, H, W) uint8; the frames that were given stay as they are."""
        raise NotImplementedError

    def build(self) -> Callable[[Tensor, Random], Tensor]:
        """The transform as a function of frames and a generator.

        Raises:
            MissingExtra: A package that it needs is not installed.
        """
        self.require()
        return self.apply

    def apply_labelled(
        self, x_tchw: Tensor, labels: Labels, random: Random, mirror: Mirror
    ) -> tuple[Tensor, Labels]:
        """Transform frames, and say which labels they then have.

        Args:
            x_tchw: Frames (T, 3, H, W) uint8.
            labels: Indices of the clip's classes.
            random: Draws.
            mirror: For each class that of its mirror image, None where there is none; empty if
                left and right mean nothing.
        """
        return self.apply(x_tchw, random), labels

    def require(self) -> None:
        """Refuse what cannot run here.

        Raises:
            MissingExtra: A package is not installed.
        """
        functional()

    def describe(self) -> str:
        """The kind, and the settings that differ from their defaults."""
        fields = type(self).model_fields
        values = {key: getattr(self, key) for key in fields if key != "kind"}
        own = [f"{k}={_text(v)}" for k, v in values.items() if v != fields[k].default]
        return f"{self.kind}({', '.join(own)})" if own else self.kind


class Augmentation(Transform):
    """Base of transforms that are applied to a clip with probability `p`."""

    p: Probability = 1.0

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        """Change the frames with probability `p`."""
        return self.change(x_tchw, random) if random.random() < self.p else x_tchw

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        """Change the frames."""
        raise NotImplementedError


class Albumentation(Augmentation):
    """Base of transforms that albumentations does; it draws once for all `images` of a call."""

    def change(self, x_tchw: Tensor, random: Random) -> Tensor:
        """Change the frames with the seed that is drawn."""
        import torch

        made = self.make(albumentations())
        made.set_random_seed(int(random.integers(2**31)))
        frames = np.ascontiguousarray(x_tchw.permute(0, 2, 3, 1).numpy())
        return torch.from_numpy(made(images=frames)["images"]).permute(0, 3, 1, 2)

    def make(self, package: Any) -> Any:
        """The transform of albumentations, with its own probability 1.

        Args:
            package: The module `albumentations`.
        """
        raise NotImplementedError

    def require(self) -> None:
        """albumentations must be installed.

        Raises:
            MissingExtra: It is not.
        """
        super().require()
        albumentations()


def functional() -> Any:
    """`torchvision.transforms.v2.functional`.

    Raises:
        MissingExtra: torchvision is not installed.
    """
    return v2().functional


def v2() -> Any:
    """`torchvision.transforms.v2`.

    Raises:
        MissingExtra: torchvision is not installed.
    """
    return import_extra("torchvision.transforms.v2", "train")


def albumentations() -> Any:
    """The module `albumentations`.

    Raises:
        MissingExtra: It is not installed.
    """
    # Its import asks a server for a newer version otherwise.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    return import_extra("albumentations", "augment")


@contextmanager
def seeded(random: Random) -> Iterator[None]:
    """Let torchvision draw from a seed of `random`; the global generator is left as it was."""
    import torch

    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(int(random.integers(2**63)))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def to_uint8(x: Tensor) -> Tensor:
    """Values rounded and clipped to bytes."""
    import torch

    return x.round_().clamp_(0, 255).to(torch.uint8)


def array(random_values: Any, x_tchw: Tensor) -> Tensor:
    """What NumPy drew, as a float32 tensor on the device of the frames."""
    import torch

    return torch.as_tensor(np.asarray(random_values, np.float32), device=x_tchw.device)


def one_picture(x_tchw: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of pictures to all frames as one, so that its statistics are the clip's.

    A histogram of each frame would make brightness flicker.
    """
    count, channels, height, width = x_tchw.shape
    joined = x_tchw.transpose(0, 1).reshape(channels, count * height, width)
    return function(joined).reshape(channels, count, height, width).transpose(0, 1)


def each_frame(x_tchw: Tensor, function: Any) -> Tensor:
    """Apply a function of OpenCV to every frame (H, W, 3)."""
    import torch

    frames = np.ascontiguousarray(x_tchw.permute(0, 2, 3, 1).numpy())
    return torch.from_numpy(np.stack([function(x) for x in frames])).permute(0, 3, 1, 2)


def describe(transforms: Sequence[Transform]) -> str:
    """Transforms in their order with the settings that differ from their defaults, in one line."""
    return ", ".join(one.describe() for one in transforms)


def _text(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Transform):
        return f"[{describe(value)}]"
    return str(value)
