"""What the executor of AdaMML must know of a network, without PyTorch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AdaMMLCard(BaseModel):
    """The facts of a network of AdaMML.

    Attributes:
        modalities: Of the networks, in order.
        seen: What the policy sees in place of each.
        weights: Of the modalities in the fusion.
        renormalise: Whether they are divided by the sum of those of what was used.
        classes: Number of outputs.
        columns: Times of a spectrogram.
        patch_side: Side in pixels of the modality `patch`.
        early: Modalities whose network has an early answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    method: Literal["adamml"] = "adamml"
    modalities: tuple[str, ...] = Field(min_length=1, max_length=8)
    seen: tuple[str, ...] = Field(min_length=1, max_length=8)
    weights: tuple[float, ...] = Field(min_length=1, max_length=8)
    renormalise: bool = False
    classes: int = Field(ge=1, le=100_000)
    columns: int = Field(ge=1, le=4096)
    patch_side: int = Field(ge=1, le=8192)
    early: tuple[str, ...] = ()
