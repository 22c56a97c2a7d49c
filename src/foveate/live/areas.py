"""Polygons of a camera: zones in which objects count, and masks that hide part of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from foveate.core.config import Config

Fraction = Annotated[float, Field(ge=0, le=1)]
Polygon = Annotated[list[tuple[Fraction, Fraction]], Field(min_length=3)]
"""Corners `(x, y)` in fractions of the width and height of the upright frame."""


class Areas(Config):
    """The polygons of one camera, as in a file of cameras.

    Corners are fractions of the frame, so they hold for a sub-stream and after a change of
    resolution.
    """

    zones: dict[str, Polygon] = Field(
        default_factory=dict, description="by name; objects elsewhere give no events"
    )
    masks: list[Polygon] = Field(
        default_factory=list, description="made black before the model and every file"
    )

    @model_validator(mode="after")
    def _have_area(self) -> Self:
        for name, polygon in (*self.zones.items(), *(("masks", one) for one in self.masks)):
            if abs(area(polygon)) < 1e-9:
                raise ValueError(f"{name}: a polygon without area")
        return self


def area(polygon: Sequence[tuple[float, float]]) -> float:
    """The signed area of a polygon (the shoelace formula)."""
    closed = [*polygon, polygon[0]]
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(closed)) / 2


def contains(polygon: Sequence[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a point is inside a polygon (even-odd rule)."""
    inside = False
    for (x1, y1), (x2, y2) in pairwise([*polygon, polygon[0]]):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside
