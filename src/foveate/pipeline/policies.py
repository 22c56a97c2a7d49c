"""From the specifications of a preset to the policies that the loop runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, cast

from foveate.core import ConfigError, Decide, Look
from foveate.models.registry import ModelEntry, is_streaming, mixes_frames
from foveate.models.spec import InputSpec
from foveate.pipeline.glance import Glance
from foveate.pipeline.presets import (
    SIZED_BY_MOTION,
    ConfidentSpec,
    GroupsSpec,
    KeyframesFirstSpec,
    LookSpec,
    PatchSpec,
    Preset,
)
from foveate.policy import (
    ActivationPatch,
    AtEnd,
    CentrePatch,
    Confident,
    KeyframesFirst,
    MoCropPatch,
    MotionPatch,
    PatchLook,
    RandomPatch,
    Resize,
    RwfCrop,
    Uniform,
)

Output = Literal["softmax", "sigmoid"]


def fit_look(look: Look, spec: InputSpec, module: Any, device: Any = "cpu") -> Look:
    """Tell a look that chooses windows what the model's own view is and whether it mixes frames.

    A module says with `mixes_frames` whether it does; one that says nothing is taken to. A look
    that goes by a network's activation and has none glances with this one.

    Raises:
        ConfigError: The module cannot take what the look shows, or gives no maps of places where
            the look needs some.
    """
    if not isinstance(look, PatchLook):
        return look
    if isinstance(look, ActivationPatch) and look.features is None:
        side = min(look.glance, spec.size)
        look = replace(look, features=Glance(module, spec, device, side), glance=side)
    if is_streaming(module):
        _refuse_uneven(look, type(module).__name__)
    mixes = mixes_frames(module)
    return look.fitted(spec.size, spec.frames_per_second, aligned=mixes)


def look_for(look: LookSpec, spec: InputSpec, entry: ModelEntry | None) -> Look:
    """A look for a model that is not there: its input and its registry entry say enough.

    Raises:
        ConfigError: The model cannot take what the look shows.
    """
    made = make_look(look, spec.frames_per_second, spec.size)
    if not isinstance(made, PatchLook):
        return made
    if entry is not None and entry.streaming:
        _refuse_uneven(made, entry.name)
    mixes = entry.mixes_frames if entry is not None else True
    return made.fitted(spec.size, spec.frames_per_second, aligned=mixes)


def _refuse_uneven(look: Look, name: str) -> None:
    """Streaming networks count time in frames: uneven ones would change its pace."""
    if isinstance(look, MotionPatch) and look.sampling == "motion":
        raise ConfigError(
            f"look.sampling=motion: {name} takes frames at an even rate, one after another",
            "leave it at uniform, or take a network of whole clips",
        )


def make_look(look: Preset | LookSpec, model_rate: float, model_size: int = 224) -> Look:
    """The look that a preset, or its specification, stands for."""
    spec = look.look if isinstance(look, Preset) else look
    if isinstance(spec, GroupsSpec):
        raise ConfigError("groups are looked at by a cascade, not by a single network")
    rate = spec.rate or model_rate
    if isinstance(spec, PatchSpec):
        return make_patch(spec, rate, model_size)
    if isinstance(spec, KeyframesFirstSpec):
        return KeyframesFirst(rate, spec.chunk, spec.least)
    return Uniform(rate, spec.chunk)


def make_patch(spec: PatchSpec, rate: float, model_size: int) -> PatchLook:
    """The look that a patch specification stands for."""
    if spec.extent == "auto" and spec.name not in SIZED_BY_MOTION:
        raise ConfigError(
            f"look.extent=auto: {spec.name} measures no motion to size its window by",
            "give a share of the frame's shorter side, such as 0.5",
        )
    # A side of four sevenths is a third of the area (128 of 224); whole steps of 16 pixels.
    third = max(16, round(model_size * 4 / 7 / 16) * 16)
    common: dict[str, Any] = {
        "size": spec.size or third, "rate": rate, "frame": model_size, "chunk": spec.chunk,
        "extent": spec.extent,
    }  # fmt: skip
    if spec.name in ("motion-patch", "mv-patch"):
        vectors = spec.name == "mv-patch" and spec.motion == PatchSpec().motion
        return MotionPatch(
            **common,
            motion="mv_affine" if vectors else spec.motion,
            track=spec.track,
            source=spec.source,
            gate=spec.gate,
            sampling=spec.sampling,
            candidates=spec.candidates,
            lasting=spec.lasting,
        )
    if spec.name in ("random", "rwf-crop"):
        kind: Any = RandomPatch if spec.name == "random" else RwfCrop
        return cast(PatchLook, kind(**common, seed=spec.seed))
    plain: Any = {
        "resize": Resize, "centre": CentrePatch, "mocrop": MoCropPatch,
        "activation-patch": ActivationPatch,
    }[spec.name]  # fmt: skip
    return cast(PatchLook, plain(**common))


def make_decide(preset: Preset, output: Output = "softmax") -> Decide:
    """The decision that a preset specifies, for classes that exclude each other or not."""
    if isinstance(preset.decide, ConfidentSpec):
        return Confident(preset.decide.threshold, output=output)
    return AtEnd()
