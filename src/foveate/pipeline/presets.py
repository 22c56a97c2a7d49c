"""Presets: typed specifications of look + model + decide, to be printed, edited and saved.

This module loads no torch, so that the command can print a configuration at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from foveate.core import Budget, ModelError, WeightsError
from foveate.core.config import Config, build, nearest
from foveate.models.weights.builtin import CARD, WEIGHTS, built_in, imported, run_folder
from foveate.models.weights.run import read_run
from foveate.models.weights.table import find, names


class UniformSpec(Config):
    """Frames at an even rate."""

    name: Literal["uniform"] = "uniform"
    rate: float | None = Field(None, gt=0, le=240, description="frames/s; None: the model's own")
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")


class KeyframesFirstSpec(Config):
    """Key frames first, the frames between only while undecided."""

    name: Literal["keyframes-first"] = "keyframes-first"
    rate: float | None = Field(None, gt=0, le=240, description="frames/s; None: the model's own")
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")
    least: int = Field(2, ge=1, description="key frames that a first look needs")


PatchName = Literal[
    "motion-patch", "mv-patch", "resize", "centre", "random", "rwf-crop", "mocrop",
    "activation-patch",
]  # fmt: skip

SIZED_BY_MOTION = ("motion-patch", "mv-patch", "mocrop")  # those that extent=auto can be asked of


class PatchSpec(Config):
    """A window of each frame: where things move, or what that is compared with."""

    name: PatchName = "motion-patch"
    rate: float | None = Field(None, gt=0, le=240, description="frames/s; None: the model's own")
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")
    size: int | None = Field(
        None, ge=16, le=1024, description="side shown to the network; None: a third of its work"
    )
    motion: str = Field("affine_diff", description="saliency: a key of policy.motion.METHODS")
    track: Literal["auto", "frame", "viterbi", "tube", "ema", "one-euro"] = "auto"
    source: Literal["auto", "vectors", "flow"] = Field("auto", description="of the motion")
    extent: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] | None = Field(
        0.5, description="side of the window by the frame's shorter side; None: size / model's"
    )
    gate: float = Field(0.1, ge=0, le=1, description="excess capture below which: whole frame")
    sampling: Literal["uniform", "motion"] = Field(
        "uniform", description="of the frames; motion: equal shares of it between them (MGSampler)"
    )
    candidates: int = Field(
        2, ge=1, le=32, description="times more frames that sampling=motion measures"
    )
    lasting: float = Field(
        0.0, ge=0, le=10, description="seconds in which what moves must stay to count in full"
    )
    seed: int = Field(0, ge=0, description="of random windows")


class GroupsSpec(Config):
    """Groups of pictures of the compressed file, one modality after the other (cascades)."""

    name: Literal["groups"] = "groups"
    order: Literal["measured", "published"] = Field(
        "measured", description="cheapest modality first, or residual, vectors, key frames"
    )


class AtEndSpec(Config):
    """Decide when the window is over."""

    name: Literal["at-end"] = "at-end"


class ConfidentSpec(Config):
    """Stop as soon as the best class is likely enough."""

    name: Literal["confident"] = "confident"
    threshold: float = Field(0.9, gt=0, le=1, description="softmax probability of the best class")


class CalibratedSpec(Config):
    """Stop at the exit that is sure enough by the calibration in the run folder (cascades)."""

    name: Literal["calibrated"] = "calibrated"
    threshold: float | None = Field(
        None, ge=0, le=1.1, description="of the probability; None: by budget, or the run's default"
    )


class BudgetSpec(Config):
    """What may be spent; see `core.Budget`."""

    macs_per_second: float | None = Field(None, gt=0)
    ms_per_frame: float | None = Field(None, gt=0)
    frames_per_second: float | None = Field(None, gt=0)
    macs_per_answer: float | None = Field(None, gt=0)
    ms_per_answer: float | None = Field(None, gt=0)

    def value(self) -> Budget:
        """The budget as the loop takes it."""
        return Budget(**self.model_dump())


LookSpec = Annotated[
    UniformSpec | KeyframesFirstSpec | PatchSpec | GroupsSpec, Field(discriminator="name")
]
DecideSpec = Annotated[AtEndSpec | ConfidentSpec | CalibratedSpec, Field(discriminator="name")]


class Preset(Config):
    """A method: which model looks at what, and when it stops."""

    model: str = Field(
        "movinet-a0-stream-lite.k600", description="ARCH.TAG of the weights, or a run folder"
    )
    look: LookSpec = UniformSpec()
    decide: DecideSpec = AtEndSpec()
    budget: BudgetSpec = BudgetSpec()
    window: float | None = Field(
        None, gt=0, description="seconds decided on together; None: the model's clip length"
    )
    cut_threshold: float = Field(
        0.5, ge=0, le=1, description="histogram distance that counts as a scene cut; 1: never"
    )
    top_k: int = Field(5, ge=1)
    none_below: float = Field(0.2, ge=0, le=1, description="segments scoring lower are `none`")


PRESETS: dict[str, Preset] = {
    "motion-patch-movinet-a0-stream-lite": Preset(look=PatchSpec()),
    "keyframes-movinet-a0-stream-lite": Preset(
        look=KeyframesFirstSpec(), decide=ConfidentSpec(threshold=0.9)
    ),
    "early-movinet-a0-stream-lite": Preset(
        look=UniformSpec(chunk=5), decide=ConfidentSpec(threshold=0.9)
    ),
}


def resolve(model: str) -> tuple[str | None, Preset]:
    """The preset that `model` names: one of its own name, or the default one around a model
    (a run folder, weights that come with the package, or weights of the table).

    Returns:
        The name of the preset (None for a plain model) and the preset.

    Raises:
        ModelError: None of these.
        WeightsError: A run folder whose card is damaged.
    """
    folder = run_folder(model)
    if folder is not None:
        card = read_run(folder)
        if card.method == "cascade":
            return None, Preset(model=model, look=GroupsSpec(), decide=CalibratedSpec())
        # A model that was trained on patches is used on the same ones, if nobody says otherwise.
        own = {k: v for k, v in (card.preset or {}).items() if k != "model"}
        return None, edit(Preset(model=model), own, f"{folder.name}/{CARD}: preset")
    if model in PRESETS:
        return model, PRESETS[model]
    if Path(model).exists():
        raise ModelError(f"{model}: no trained model", f"a run folder has {CARD} and {WEIGHTS}")
    try:
        return None, Preset(model=find(model).name)
    except WeightsError:
        known = [*PRESETS, *names(), *built_in(), *imported()]
        guess = nearest(model, known)
        cure = f"did you mean {guess}?" if guess else f"known: {', '.join(known)}"
        raise ModelError(f"there is no model or preset {model!r}", cure) from None


def edit(preset: Preset, changes: dict[str, Any], source: str = "configuration") -> Preset:
    """The preset with some fields changed; nested mappings change nested fields.

    Raises:
        ConfigError: An unknown key or a value out of range.
    """
    values = preset.model_dump()
    for key, value in changes.items():
        known = values.get(key)
        if (
            isinstance(known, dict)
            and isinstance(value, dict)
            and value.get("name", known.get("name")) == known.get("name")
        ):
            value = {**known, **value}
        values[key] = value
    return build(Preset, values, source)
