"""Settings of the recipe `adafocus`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foveate.core import FoveateError
from foveate.models.backbones_weights import BACKBONES, find_file
from foveate.train.config import TrainingConfig
from foveate.train.videos import Strength

Variant = Literal["v1", "v2", "uni"]

_Epochs = Annotated[int, Field(ge=1)]

SMALL = "efficientnet_lite0.imagenet_lite0"


class AdaFocusConfig(TrainingConfig):
    """Settings of the recipe `adafocus`."""

    free_on_resume: ClassVar = TrainingConfig.free_on_resume | {"timed"}

    variant: Variant = Field(
        "v2", description="v1: three stages with PPO; v2: end to end; uni: frames and windows"
    )
    model: str = Field("", description="run folder of this variant to start from; empty: backbones")
    glance: str | None = Field(
        None,
        description="backbone, or run folder of a tsn; None: EfficientNet-Lite0 if installed",
    )
    focus: str | None = Field(None, description="likewise")
    initial: None = None
    backbone_lr: None = None
    freeze: Literal["none", "backbone"] = Field(
        "none", description="backbone: glance and focus networks are not trained"
    )
    frames: int = Field(8, ge=2, le=256, description="to focus on; uni has three times as many")
    size: int = Field(192, ge=32, le=1024, description="side of the frames in pixels")
    glance_size: int = Field(96, ge=32, le=1024, description="side of what the glance is shown")
    patch: int = Field(96, ge=16, le=1024, description="side of what the focus is shown")
    actions: int = Field(25, ge=4, le=400, description="places of v1's grid, a square")
    hidden: int = Field(256, ge=8, le=8192, description="width of recurrent states (v1, v2)")
    pooled: int = Field(1024, ge=8, le=16384, description="width of pooled features (v2, uni)")
    dropout: float = Field(0.2, ge=0, lt=1, description="before the classifier's outputs")
    epochs: int = Field(15, ge=1, description="of v2 and uni")
    stages: tuple[Annotated[int, Field(ge=0)], _Epochs, _Epochs, _Epochs] = Field(
        (5, 5, 50, 10),
        description="epochs of v1: networks alone (0: skip), random patches, policy, fine-tuning",
    )
    tune: Literal["classifier", "focus"] = Field(
        "classifier", description="last stage of v1: the classifier alone, or the focus too"
    )
    batch: int = Field(16, ge=2)
    lr: float = Field(2e-4, gt=0, description="of the focus, in batches of 16; scaled with `batch`")
    glance_lr: float = Field(0.5, ge=0, description="factor on lr")
    policy_lr: float = Field(5.0, ge=0, description="factor on lr (v2, uni)")
    classifier_lr: float = Field(5.0, ge=0, description="factor on lr; for all outputs")
    ppo_lr: float = Field(3e-4, gt=0, description="of v1's policy, in batches of 16; likewise")
    discount: float = Field(0.7, ge=0, le=1, description="of later rewards (v1)")
    ppo_clip: float = Field(0.2, gt=0, description="of the ratio of probabilities (v1)")
    value_weight: float = Field(0.5, ge=0, description="of the error of returns (v1)")
    entropy: float = Field(0.01, ge=0, description="weight of the policy's entropy (v1)")
    draws: int = Field(128, ge=1, le=4096, description="Monte-Carlo draws of frames (uni)")
    extent: float = Field(1.0, ge=0, description="weight that draws windows to the frame (uni)")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: Strength = "light"
    patience: int | None = Field(None, ge=1, description="epochs without a better score; None: all")
    calibration: float = Field(
        0.2, ge=0, lt=0.5,
        description="share of the training clips for the exits only; 0: those it was trained on",
    )  # fmt: skip
    chunk: int = Field(2, ge=1, description="patches between two exits that are calibrated")
    timed: int = Field(8, ge=0, description="calibration files on which exits are timed")

    def backbone(self, part: Literal["glance", "focus"]) -> str:
        """Backbone or run folder of a network; if none is named, what is installed."""
        named = self.glance if part == "glance" else self.focus
        return named or default_backbone()


def default_backbone() -> str:
    """EfficientNet-Lite0 with image weights if they are installed, else with random ones."""
    try:
        find_file(BACKBONES[SMALL])
    except FoveateError:
        return SMALL.partition(".")[0]
    return SMALL
