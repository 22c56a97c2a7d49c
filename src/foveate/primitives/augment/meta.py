"""Transforms of transforms: in which order, how often, which of them, and on what part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from foveate.primitives.augment.base import (
    Labels,
    Mirror,
    Probability,
    Random,
    Transform,
    array,
    to_uint8,
)
from foveate.primitives.augment.geometry import Mirroring
from foveate.primitives.base import Search, union

if TYPE_CHECKING:
    from torch import Tensor

    AnyTransform = Transform

Count = Annotated[int, Field(ge=0, le=32), Search.int(0, 4)]


class Meta(Transform):
    """Base of transforms that apply other ones, `transforms`."""

    transforms: tuple[AnyTransform, ...] = Field(min_length=1)

    def __init__(self, *transforms: Transform, **values: Any) -> None:
        if not type(self).__pydantic_complete__:
            # Entry points are loaded as late as possible: their packages import this one.
            type(self).model_rebuild(_types_namespace={"AnyTransform": union("transforms")})
        super().__init__(**({"transforms": transforms} if transforms else {}), **values)

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        return self.apply_labelled(x_tchw, (), random, ())[0]

    def require(self) -> None:
        for one in self.children():
            one.require()

    def children(self) -> tuple[Transform, ...]:
        """The transforms that it may apply."""
        return self.transforms


class Identity(Transform):
    """Leave the frames as they are; a choice for `one-of`."""

    kind: Literal["identity"] = "identity"

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        return x_tchw

    def require(self) -> None:
        pass


class Sequential(Meta):
    """Apply all transforms, one after the other."""

    kind: Literal["sequential"] = "sequential"
    shuffle: bool = Field(False, description="in an order that is drawn")

    def apply_labelled(
        self, x_tchw: Tensor, labels: Labels, random: Random, mirror: Mirror
    ) -> tuple[Tensor, Labels]:
        order = random.permutation(len(self.transforms)) if self.shuffle else None
        return in_turn(self.transforms, order, x_tchw, labels, random, mirror)


class Sometimes(Meta):
    """Apply the transforms with probability `p`, else others or none."""

    kind: Literal["sometimes"] = "sometimes"
    p: Probability = 0.5
    otherwise: tuple[AnyTransform, ...] = ()

    def apply_labelled(
        self, x_tchw: Tensor, labels: Labels, random: Random, mirror: Mirror
    ) -> tuple[Tensor, Labels]:
        chosen = self.transforms if random.random() < self.p else self.otherwise
        return in_turn(chosen, None, x_tchw, labels, random, mirror)

    def children(self) -> tuple[Transform, ...]:
        return (*self.transforms, *self.otherwise)


class OneOf(Meta):
    """Apply one of the transforms, all equally probable."""

    kind: Literal["one-of"] = "one-of"

    def apply_labelled(
        self, x_tchw: Tensor, labels: Labels, random: Random, mirror: Mirror
    ) -> tuple[Tensor, Labels]:
        order = [random.integers(len(self.transforms))]
        return in_turn(self.transforms, order, x_tchw, labels, random, mirror)


class SomeOf(Meta):
    """Apply some of the transforms, chosen anew for each clip."""

    kind: Literal["some-of"] = "some-of"
    least: Count = 1
    most: Count = Field(2, description="at most as many as there are")
    shuffle: bool = Field(False, description="in an order that is drawn, not in theirs")

    def apply_labelled(
        self, x_tchw: Tensor, labels: Labels, random: Random, mirror: Mirror
    ) -> tuple[Tensor, Labels]:
        most = min(max(self.least, self.most), len(self.transforms))
        count = int(random.integers(min(self.least, most), most + 1))
        order = random.permutation(len(self.transforms))[:count]
        order = order if self.shuffle else np.sort(order)
        return in_turn(self.transforms, order, x_tchw, labels, random, mirror)


class Part(Meta):
    """Base of transforms whose result is taken for a part of the pixels only."""

    def apply(self, x_tchw: Tensor, random: Random) -> Tensor:
        changed = in_turn(self.transforms, None, x_tchw, (), random, ())[0]
        return self.join(x_tchw, changed, random)

    def apply_labelled(
        self, x_tchw: Tensor, labels: Labels, random: Random, mirror: Mirror
    ) -> tuple[Tensor, Labels]:
        return self.apply(x_tchw, random), labels

    def join(self, x_tchw: Tensor, changed: Tensor, random: Random) -> Tensor:
        """Frames of both."""
        raise NotImplementedError

    @field_validator("transforms")
    @classmethod
    def _keep_places(cls, transforms: tuple[Transform, ...]) -> tuple[Transform, ...]:
        for one in walk(transforms):
            if one.sets_size or isinstance(one, Mirroring):
                raise ValueError(f"{one.kind} moves pixels: it cannot be a part of frames")
        return transforms


class WithChannels(Part):
    """Apply the transforms to one of the channels red, green and blue, or to two."""

    kind: Literal["with-channels"] = "with-channels"
    count: Annotated[int, Field(ge=1, le=2), Search.int(1, 2)] = 1

    def join(self, x_tchw: Tensor, changed: Tensor, random: Random) -> Tensor:
        out = x_tchw.clone()
        for channel in random.permutation(3)[: self.count]:
            out[:, channel] = changed[:, channel]
        return out


class Blend(Part):
    """Blend the frames with what the transforms make of them, with a mask."""

    kind: Literal["blend"] = "blend"
    mask: Annotated[
        Literal["uniform", "pixels", "noise", "horizontal", "vertical", "checkerboard"],
        Search.choice("uniform", "pixels", "noise", "horizontal", "vertical", "checkerboard"),
    ] = Field(
        "uniform",
        description="uniform weight, drawn per pixel, smooth noise, linear gradients, or cells",
    )
    cells: Annotated[int, Field(ge=2, le=64), Search.int(2, 16)] = Field(
        8, description="of noise and checkerboard, along a side"
    )

    def join(self, x_tchw: Tensor, changed: Tensor, random: Random) -> Tensor:
        alpha = array(self._mask(x_tchw, random), x_tchw)
        if self.mask == "noise":
            import torch

            alpha = torch.nn.functional.interpolate(
                alpha[None, None], x_tchw.shape[-2:], mode="bicubic"
            )[0, 0].clamp_(0, 1)
        return to_uint8(x_tchw.float().lerp(changed.float(), alpha))

    def _mask(self, x_tchw: Tensor, random: Random) -> Any:
        """Weights of the changed frames, 0 to 1, that broadcast to (H, W)."""
        height, width = x_tchw.shape[-2:]
        if self.mask == "uniform":
            return random.uniform(0.1, 1)
        if self.mask == "pixels":
            return random.random((height, width))
        if self.mask == "noise":
            return random.random((self.cells, self.cells))
        if self.mask == "checkerboard":
            rows = np.arange(height)[:, None] * self.cells // height
            columns = np.arange(width) * self.cells // width
            return (rows + columns + random.integers(2)) % 2
        slope = np.linspace(0, 1, width if self.mask == "horizontal" else height)
        slope = slope if random.integers(2) else slope[::-1]
        return slope if self.mask == "horizontal" else slope[:, None]


def in_turn(
    transforms: tuple[Transform, ...],
    order: Any,
    x_tchw: Tensor,
    labels: Labels,
    random: Random,
    mirror: Mirror,
) -> tuple[Tensor, Labels]:
    """Apply transforms one after the other.

    Args:
        transforms: All of them.
        order: Their places in the order of application, None for their own.
        x_tchw: Frames (T, 3, H, W) uint8.
        labels: Indices of the clip's classes.
        random: Draws.
        mirror: See `Transform.apply_labelled`.
    """
    for one in transforms if order is None else [transforms[int(place)] for place in order]:
        x_tchw, labels = one.apply_labelled(x_tchw, labels, random, mirror)
    return x_tchw, labels


def walk(transforms: tuple[Transform, ...]) -> list[Transform]:
    """All transforms, those within others included."""
    found: list[Transform] = []
    for one in transforms:
        found += [one, *(walk(one.children()) if isinstance(one, Meta) else [])]
    return found
