"""How a recogniser is trained: one primitive per recipe, with the settings that matter most.

Fields that are None are left to the recipe; `settings` takes every other one of its settings.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from foveate.primitives.base import Primitive, Search

_Epochs = Annotated[int | None, Field(ge=0)]
_Factor = Annotated[float | None, Field(ge=0)]


class Training(Primitive):
    """Base of all trainings; the kind is the name of the recipe."""

    group: ClassVar[str] = "training"

    epochs: Annotated[int | None, Field(ge=1), Search.int(5, 50, log=True)] = None
    batch: Annotated[int | None, Field(ge=1), Search.choice(8, 16, 32)] = Field(
        None, description="clips in a step"
    )
    lr: Annotated[float | None, Field(gt=0), Search.float(1e-4, 1e-1, log=True)] = Field(
        None, description="learning rate"
    )
    weight_decay: Annotated[float | None, Field(ge=0), Search.float(1e-5, 0.1, log=True)] = None
    seed: Annotated[int, Field(ge=0)] = 0
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="further settings of the recipe"
    )

    def training_settings(self) -> dict[str, Any]:
        """The recipe's settings; without those left to it."""
        values = self.model_dump(mode="json", exclude={"kind", "settings"})
        given = {key: value for key, value in values.items() if value is not None}
        return given | self.settings


class Supervised(Training):
    """Supervised training on labelled clips."""

    kind: Literal["supervised"] = "supervised"
    freeze: Annotated[
        Literal["none", "backbone", "head-first"] | None, Search.choice("none", "head-first")
    ] = Field(None, description="what is not trained")
    optimizer: Annotated[
        Literal["adamw", "sgd", "rmsprop"] | None, Search.choice("adamw", "sgd")
    ] = None
    schedule: Literal["cosine", "constant", "multistep"] | None = None
    warmup: _Factor = Field(None, description="epochs of linear warm-up")
    backbone_lr: Annotated[float | None, Field(ge=0), Search.float(0.01, 1, log=True)] = Field(
        None, description="factor on lr before the head"
    )
    label_smoothing: Annotated[float | None, Field(ge=0, lt=1), Search.float(0, 0.2)] = None
    mixup: Annotated[float | None, Field(ge=0), Search.float(0, 0.5)] = Field(
        None, description="alpha; 0: none"
    )
    cutmix: Annotated[float | None, Field(ge=0), Search.float(0, 1)] = Field(
        None, description="alpha; 0: none"
    )
    ema: Annotated[float | None, Field(gt=0, lt=1)] = Field(
        None, description="decay of the averaged weights"
    )
    patience: Annotated[int | None, Field(ge=1)] = Field(
        None, description="epochs without a better score that end it"
    )
    workers: Annotated[int | None, Field(ge=0, le=64)] = Field(
        None, description="loading processes"
    )


class Distill(Supervised):
    """Supervised training with the logits of a trained model beside the labels."""

    kind: Literal["distill"] = "distill"  # type: ignore[assignment]
    teacher: str = Field(min_length=1, description="run folder or weights, of the same classes")
    temperature: Annotated[float | None, Field(gt=0, le=100), Search.float(1, 8)] = None
    share: Annotated[float | None, Field(ge=0, le=1), Search.float(0.1, 1)] = Field(
        None, description="weight of the teacher in the loss"
    )


class TemporalEnsemble(Supervised):
    """Two networks at half the frame rate that take turns at the frames."""

    kind: Literal["ensemble"] = "ensemble"  # type: ignore[assignment]


class AdaFocusTraining(Training):
    """Training of AdaFocus, end to end or in stages, and calibration of its exits."""

    kind: Literal["adafocus"] = "adafocus"
    freeze: Literal["none", "backbone"] | None = None
    stages: tuple[int, int, int, int] | None = Field(None, description="epochs of v1")
    glance_lr: _Factor = Field(None, description="factor on lr")
    policy_lr: _Factor = Field(None, description="factor on lr (v2, uni)")
    classifier_lr: _Factor = Field(None, description="factor on lr")
    calibration: Annotated[float | None, Field(ge=0, lt=0.5)] = None
    workers: Annotated[int | None, Field(ge=0, le=64)] = None


class AdaMMLTraining(Training):
    """Training of AdaMML: each modality by itself, then networks and policy."""

    kind: Literal["adamml"] = "adamml"
    policy_epochs: _Epochs = None
    warmup_epochs: _Epochs = None
    joint_epochs: _Epochs = None
    tune_epochs: _Epochs = None
    lambdas: tuple[float, ...] | None = Field(
        None, description="factors on the cost weights, one operating point each"
    )
    policy_lr: _Factor = None


class CompressedTraining(Training):
    """Training of a cascade of the compressed domain, distillation of its exits, calibration."""

    kind: Literal["compressed"] = "compressed"
    iframe_epochs: _Epochs = Field(None, description="of the network on key frames")
    head_epochs: _Epochs = None
    head_recipe: Literal["pkd", "pkd-own", "kd", "anti", "ce"] | None = None
    calibration: Annotated[float | None, Field(gt=0, lt=0.5)] = None


class DetectorTraining(Training):
    """Training of a detector on boxes."""

    kind: Literal["detector"] = "detector"
    per_video: Annotated[int | None, Field(ge=1)] = Field(
        None, description="annotated frames of a video in an epoch"
    )
    workers: Annotated[int | None, Field(ge=0, le=64)] = None


class LSTSTraining(DetectorTraining):
    """Training of a detector, then of what carries its features to other frames."""

    kind: Literal["lsts"] = "lsts"  # type: ignore[assignment]
    frame_epochs: _Epochs = Field(None, description="of the detector")
