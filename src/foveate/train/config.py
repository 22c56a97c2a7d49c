"""Settings that recipes have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from foveate.core.config import Config


class RecipeConfig(Config):
    """Base of every recipe's configuration."""

    free_on_resume: ClassVar[frozenset[str]] = frozenset()
    """Settings that may differ when a run is resumed, because they change nothing before it."""


class TrainingConfig(RecipeConfig):
    """What can be set in every recipe that trains one network."""

    free_on_resume: ClassVar = frozenset(
        {"workers", "save_every", "report_to", "epochs", "patience"}
    )

    model: str = Field(
        "movinet-a0-stream-lite.k600", description="weights, a run folder, or an architecture"
    )
    settings: dict[str, int | float | bool | str] = Field(
        default_factory=dict, description="arguments of the architecture's builder, such as dropout"
    )
    initial: str | None = Field(
        None, description="run folder of the network of whole clips that a -stream one starts from"
    )
    freeze: Literal["none", "backbone", "head-first"] = Field(
        "none",
        description="what is not trained; head-first: the backbone until the head is trained",
    )
    frames: int | None = Field(
        None, ge=1, le=10_000, description="in a clip; None: as many as fit, at most the model's"
    )
    rate: float | None = Field(None, gt=0, le=240, description="frames/s; None: the model's")
    size: int | None = Field(None, ge=8, le=4096, description="pixels; None: the model's")
    epochs: int = Field(30, ge=1)
    batch: int = Field(16, ge=1, description="clips in a step, over all processes")
    accumulate: int | None = Field(
        None, ge=1, description="pieces in which a batch is computed; None: as memory requires"
    )
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    backbone_lr: float | None = Field(
        None,
        ge=0,
        description="factor on lr before the head; None: 0.1, or 1 for random weights",
    )
    schedule: Literal["cosine", "constant", "multistep"] = "cosine"
    milestones: tuple[float, ...] = Field((), description="multistep: fractions of the training")
    warmup: float = Field(1.0, ge=0, description="epochs of linear warm-up")
    weight_decay: float = Field(0.01, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient")
    clip_each: bool = Field(False, description="clip every tensor by itself")
    flip: bool = Field(True, description="mirror half of the clips")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights")
    # YAML, in which settings are written, reads a bare off as no.
    amp: Annotated[
        Literal["auto", "off", "bf16", "fp16"],
        BeforeValidator(lambda value: "off" if value is False else value),
    ] = "auto"
    patience: int | None = Field(
        5,
        ge=1,
        description="epochs without a better score that end it; None: no early stopping",
    )
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints")
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0, le=64, description="loading processes")
    train_split: str = "train"
    val_split: str = "val"
    deterministic: bool = True
    report_to: Literal["none", "tensorboard", "wandb"] = Field(
        "none", description="also log to this service; an extra of the package"
    )
