"""Inputs of saliency methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MotionInput:
    """The evidence of motion at T times; a method names the parts that it needs.

    Arrays or tensors; K is how many neighbouring pictures were read around each time.

    Attributes:
        field: (T, K, h, w, 2) or (T, h, w, 2) displacement per frame, x to the right and y down.
        valid: (T, K, h, w) or (T, h, w) where the field is known; everywhere if None.
        grey: (T, 2, h, w) a grey picture at each time and the one after it.
        features: (T, 2, C, h, w) an early feature map of both, or (T, C, h, w) a late one of each.
        cell: Pixels of the source (x, y) that one place of the map covers; fields are in pixels of
            the source.
        exclude: (T, h, w) places that must not vote for the camera's motion, such as the window
            that was chosen before.
    """

    field: Any = None
    valid: Any = None
    grey: Any = None
    features: Any = None
    cell: tuple[float, float] = (1.0, 1.0)
    exclude: Any = None

    def fields(self) -> tuple[Floats, Mask]:
        """The field as (T, K, h, w, 2) float32 and where it is known, (T, K, h, w)."""
        if self.field is None:
            raise ValueError("this method needs a motion field")
        field = as_array(self.field)
        field = field if field.ndim == 5 else field[:, None]
        if field.ndim != 5 or field.shape[-1] != 2:
            raise ValueError(f"a field must be (T, h, w, 2) or (T, K, h, w, 2), not {field.shape}")
        if self.valid is None:
            return field, np.ones(field.shape[:-1], bool)
        return field, np.asarray(as_array(self.valid) != 0).reshape(field.shape[:-1])

    def greys(self) -> Floats:
        """The grey pictures as (T, 2, h, w) float32."""
        if self.grey is None:
            raise ValueError("this method needs pairs of grey pictures")
        grey = as_array(self.grey)
        if grey.ndim != 4 or grey.shape[1] != 2:
            raise ValueError(f"grey pictures must be (T, 2, h, w), not {grey.shape}")
        return grey

    def activations(self, dimensions: int) -> Floats:
        """The features, with that many axes."""
        if self.features is None:
            raise ValueError("this method needs features of a network")
        features = as_array(self.features)
        if features.ndim != dimensions:
            raise ValueError(f"features must have {dimensions} axes, not {features.shape}")
        return features

    def outside(self, shape: tuple[int, ...]) -> Mask | None:
        """The complement of `exclude`, (T, 1, h, w): places used to estimate camera motion."""
        if self.exclude is None:
            return None
        return np.asarray(as_array(self.exclude) == 0).reshape(shape[0], 1, *shape[2:4])


def as_array(values: Any) -> Floats:
    """Arrays and tensors of any device as float32 in memory."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values, np.float32)
