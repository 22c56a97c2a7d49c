"""The saliency family by name: what a method needs, what its noise is, how it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foveate.core import ConfigError
from foveate.core.config import nearest
from foveate.policy.motion import fields, pictures
from foveate.policy.motion.combine import NOISE, fuse, history, prepare
from foveate.policy.motion.inputs import Floats, MotionInput

Need = Literal["field", "vectors", "grey", "field+grey", "features"]
Noise = Literal["pixels", "gradient", "median", "none"]
_GRADIENT = 0.06  # pixels of displacement per place of the map
_SLOW = 0.15  # places per frame, beyond the noise, at which `articulated` is halved


@dataclass(frozen=True)
class Method:
    """One way to make a map.

    Attributes:
        name: Its name.
        need: The part of `MotionInput` that it reads; `vectors` stands for a field of the codec's.
        noise: How its noise floor is known: in pixels, in pixels per place, or as the median of
            the map itself (pictures and features have no natural unit).
        compute: Makes the raw map (T, h, w).
        compensates: Whether a moving camera over a scene at rest leaves nothing.
    """

    name: str
    need: Need
    noise: Noise
    compute: Callable[[MotionInput], Floats]
    compensates: bool = False


def _history(seen: MotionInput) -> Floats:
    return history(_floored(METHODS["flow_affine"], seen))


def _fused(seen: MotionInput) -> Floats:
    return fuse(_floored(METHODS["flow_affine"], seen), _floored(METHODS["mb"], seen))


def _vectors_residual(seen: MotionInput) -> Floats:
    """`mv_resid`: compensated vectors and computed residual, each by its own mean."""
    parts = [fields.vectors_affine(seen), pictures.residual(seen)]
    return np.asarray(sum(p / max(float(p.mean()), 1e-6) for p in parts), np.float32)


def _articulated(seen: MotionInput) -> Floats:
    """`articulated`: what the field leaves unexplained, less where a place moves fast on its own.

    A rigid thing that slides through the picture is explained by its motion; limbs are not. What
    is left of it at its edges grows with its speed, so that speed is divided out.
    """
    left = _floored(METHODS["residual"], seen)
    speed = fields.less_affine(seen) / max(float(np.mean(seen.cell)), 1e-6)
    return np.asarray(left / (1 + np.maximum(speed - NOISE, 0) / _SLOW), np.float32)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("fd", "grey", "median", pictures.difference),
        Method("fd_comp", "grey", "median", pictures.difference_compensated),
        Method("affine_diff", "field+grey", "median", pictures.difference_affine, True),
        Method("flow", "field", "pixels", fields.magnitude),
        Method("flow_mean", "field", "pixels", fields.less_mean),
        Method("flow_median", "field", "pixels", fields.less_median),
        Method("flow_affine", "field", "pixels", fields.less_affine, True),
        Method("flow_homog", "field", "pixels", fields.less_homography, True),
        Method("mb", "field", "gradient", fields.boundaries, True),
        Method("div_curl_shear", "field", "gradient", fields.div_curl_shear, True),
        Method("mv", "vectors", "pixels", fields.vectors),
        Method("mv_affine", "vectors", "pixels", fields.vectors_affine, True),
        Method("residual", "field+grey", "median", pictures.residual),
        Method("articulated", "field+grey", "none", _articulated),
        Method("mv_resid", "field+grey", "median", _vectors_residual),
        Method("mhi", "field", "none", _history, True),
        Method("feat_diff", "features", "median", pictures.feature_difference),
        Method("act", "features", "none", pictures.activation),
        Method("fuse", "field", "none", _fused, True),
    )
}


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: Unknown name; the message gives the nearest one.
    """
    if name not in METHODS:
        guess = nearest(name, METHODS)
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(METHODS)}"
        raise ConfigError(f"no motion saliency {name!r}", hint)
    return METHODS[name]


def saliency(name: str, seen: MotionInput, *, root: bool = False) -> Floats:
    """The map of a method, cleaned by `prepare`.

    Args:
        name: A key of `METHODS`.
        seen: With the part that the method needs.
        root: Draw the root of the cleaned map.

    Returns:
        (T, h, w) float32, not negative.

    Raises:
        ConfigError: No such method.
        ValueError: What it needs is missing or has the wrong shape.
    """
    chosen = method(name)
    shape = _empty_shape(seen, chosen)
    return _floored(chosen, seen, root) if shape is None else np.zeros(shape, np.float32)


def _empty_shape(seen: MotionInput, chosen: Method) -> tuple[int, int, int] | None:
    """Shape of the result where there are no frames, else None."""
    if chosen.need == "features":
        part, last = seen.features, None
    elif chosen.need == "grey":
        part, last = seen.grey, None
    else:
        part, last = seen.field, -1
    if part is None or len(part):
        return None
    height, width = tuple(part.shape)[:last][-2:]
    return 0, int(height), int(width)


def _floored(chosen: Method, seen: MotionInput, root: bool = False) -> Floats:
    raw = chosen.compute(seen)
    if chosen.noise == "median":
        level = np.median(raw, (1, 2)) if raw.size else np.zeros(len(raw), np.float32)
        return prepare(raw, 2 * np.asarray(level, np.float32), root=root)
    unit = 1.0 if chosen.need == "vectors" else max(float(np.mean(seen.cell)), 1e-6)
    floor = {"pixels": NOISE * unit, "gradient": _GRADIENT * unit, "none": 0.0}[chosen.noise]
    return prepare(raw, floor, root=root)
