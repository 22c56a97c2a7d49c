"""Modalities that a recogniser of several of them chooses from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from foveate.primitives.base import Primitive, Search, kind_or_values


class Modality(Primitive):
    """Base of all modalities; the kind is the modality's name."""

    group: ClassVar[str] = "modalities"


class RGB(Modality):
    """Frames."""

    kind: Literal["rgb"] = "rgb"


class Patch(Modality):
    """Frames cut out where things move."""

    kind: Literal["patch"] = "patch"
    size: Annotated[int, Field(ge=16, le=1024), Search.int(32, 96, step=16)] = Field(
        64, description="side in pixels"
    )


class RGBDifference(Modality):
    """Differences of consecutive frames."""

    kind: Literal["rgbdiff"] = "rgbdiff"


class Flow(Modality):
    """Optical flow."""

    kind: Literal["flow"] = "flow"


class MotionVectors(Modality):
    """Motion vectors of the compressed file."""

    kind: Literal["mv"] = "mv"


class Sound(Modality):
    """Log-mel spectrograms of the sound track."""

    kind: Literal["sound"] = "sound"
    columns: Annotated[int, Field(ge=32, le=256), Search.int(32, 256, step=32)] = Field(
        64, description="times of a spectrogram; 256 as published"
    )
    backbone: str = Field("mobilenetv3_small_050", description="timm's name")


class YAMNet(Modality):
    """YAMNet's embedding of sound."""

    kind: Literal["yamnet"] = "yamnet"


# No entry points: the recipe of several modalities knows these.
AnyModality = Annotated[
    RGB | Patch | RGBDifference | Flow | MotionVectors | Sound | YAMNet,
    Field(discriminator="kind"),
    BeforeValidator(kind_or_values),
]
