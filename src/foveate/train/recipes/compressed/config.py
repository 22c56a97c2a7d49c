"""Settings of the recipe `compressed`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from foveate.core import FoveateError
from foveate.models.backbones_weights import BACKBONES, find_file
from foveate.models.coviar import SETS, Modality, Style
from foveate.train.config import RecipeConfig

TEACHING: tuple[Modality, ...] = ("mv", "residual", "iframe")  # the order of distillation
CALIBRATION = "calibration"  # the split that no network is trained on
LONGEST = 10.0  # seconds of a window


class CompressedConfig(RecipeConfig):
    """Settings of the recipe `compressed`."""

    free_on_resume: ClassVar = frozenset({"cache", "timed"})

    iframe: str | None = Field(
        None,
        description="backbone on key frames, or a video network such as "
        "movinet-a0-stream-lite.k600; None: EfficientNet-Lite0 if installed",
    )
    mv: str = Field(SETS["small"]["mv"], description="backbone on motion vectors")
    residual: str = Field(SETS["small"]["residual"], description="backbone on residuals")
    size: int = Field(112, ge=32, le=1024, description="side of the networks' input in pixels")
    segments: int = Field(3, ge=1, le=64, description="groups of pictures classified in a clip")
    drawn: int = Field(1, ge=1, le=64, description="groups of a clip in a step of training")
    groups: int = Field(12, ge=1, le=1000, description="groups of a video that are stored")
    places: int = Field(2, ge=1, le=64, description="residuals of a group that are stored")
    cache: str | None = Field(None, description="folder of the stored files; None: the run folder")
    epochs: int = Field(60, ge=1, description="of the networks on vectors and residuals")
    iframe_epochs: int = Field(10, ge=1, description="of the network on key frames")
    batch: int = Field(16, ge=2)
    lr: float = Field(2e-3, gt=0, description="of AdamW; a tenth for pretrained backbones")
    weight_decay: float = Field(0.05, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    dropout: float = Field(0.2, ge=0, lt=1, description="before the networks' final classifiers")
    flip: bool = Field(True, description="mirror half of the clips")
    heads: Style = Field("light", description="type of the classifiers inside the networks")
    exits: int = Field(3, ge=1, le=16, description="classifiers inside each network")
    head_recipe: str = Field("pkd", description="pkd, pkd-own, kd, anti or ce; see pkd.ORDERS")
    head_epochs: int = Field(60, ge=3)
    head_views: int = Field(2, ge=1, le=16, description="of each clip on which heads are trained")
    head_lr: float = Field(5e-3, gt=0)
    temperature: float = Field(1.0, gt=0, le=100, description="of distillation")
    hard_weight: float = Field(0.0, ge=0, description="of the labels in distillation")
    calibration: float = Field(0.2, gt=0, lt=0.5, description="share of the training clips")
    l1: float = Field(0.0, ge=0, description="penalty on the weights of exits")
    nonnegative: bool = Field(True, description="weights of exits are not negative")
    timed: int = Field(24, ge=1, description="calibration files on which stages are timed")
    seed: int = Field(0, ge=0)
    train_split: str = "train"
    val_split: str = "val"

    def backbone(self, modality: Modality) -> str:
        """The backbone of a network; of key frames, if none is named, what is installed."""
        if modality != "iframe":
            return self.mv if modality == "mv" else self.residual
        return self.iframe or default_iframe()


def default_iframe() -> str:
    """EfficientNet-Lite0 with image weights if they are installed, else a small network."""
    name = SETS["small"]["iframe"]
    try:
        find_file(BACKBONES[name])
    except FoveateError:
        return SETS["small"]["mv"]
    return name
