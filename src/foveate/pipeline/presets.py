"""Presets: typed specifications of look + model + decide, to be printed, edited and saved.

This module loads no torch, so that the command can print a configuration at once.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field

from foveate.core import ModelError, WeightsError
from foveate.core.config import Config, build, nearest
from foveate.media.decoding import Decoding
from foveate.models.registry import is_architecture
from foveate.models.weights.builtin import (
    CARD,
    WEIGHTS,
    built_in,
    imported,
    refuse_checkpoint,
    run_folder,
)
from foveate.models.weights.run import read_run
from foveate.models.weights.table import find, names
from foveate.pipeline.methods import method_of
from foveate.policy.budget import BudgetSpec
from foveate.policy.build import ALIASES, LOOKS, AnyDecide, AnyLook
from foveate.policy.looks.frames import KeyframesFirstSpec, UniformSpec
from foveate.policy.looks.patches import MotionPatchSpec
from foveate.policy.stopping import AtEndSpec, ConfidentSpec


class Preset(Config):
    """A method: which model looks at what, and when it stops."""

    model: str = Field(
        "movinet-a0-stream-lite.k600", description="ARCH.TAG of the weights, or a run folder"
    )
    look: AnyLook = UniformSpec()
    decide: AnyDecide = AtEndSpec()
    budget: BudgetSpec = BudgetSpec()
    engine: str | None = Field(
        None, description="torch, onnxruntime, openvino, litert or auto; None: torch"
    )
    precision: str | None = Field(None, description="fp32, bf16 or int8; None: the model's")
    window: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="seconds decided on together; None: the model's clip length",
    )
    memory: str | None = Field(
        None,
        description="MoViNet streams: what is remembered from window to window until a scene cut: "
        "cumulative, exponential:HALF_LIFE or segments:COUNT:LENGTH, in frames; None: nothing",
    )
    cut_threshold: float = Field(
        0.5, ge=0, le=1, description="histogram distance that counts as a scene cut; 1: never"
    )
    top_k: int = Field(5, ge=1)
    none_below: float = Field(0.2, ge=0, le=1, description="segments scoring lower are `none`")
    min_score: float = Field(0.5, ge=0, le=1, description="detections scoring lower are left out")
    decode: Decoding = Field(Decoding(), description="what the decoder of a file may leave out")
    track: bool = Field(False, description="give each detected object a number over time")
    unknown: bool = Field(
        True, description="footage unlike the training clips is `unknown` (trained models)"
    )


PRESETS: dict[str, Preset] = {
    "motion-patch-movinet-a0-stream-lite": Preset(look=MotionPatchSpec()),
    "keyframes-movinet-a0-stream-lite": Preset(
        look=KeyframesFirstSpec(), decide=ConfidentSpec(threshold=0.9)
    ),
    "early-movinet-a0-stream-lite": Preset(
        look=UniformSpec(chunk=5), decide=ConfidentSpec(threshold=0.9)
    ),
}


def resolve(model: str) -> tuple[str | None, Preset]:
    """The preset that `model` names: its own name, the file of a pipeline, or a model (a run
    folder, weights that come with the package, or weights of the table), around which it is made.

    Returns:
        The name of the preset (None for a plain model) and the preset.

    Raises:
        ModelError: None of these, or a pipeline without weights.
        ConfigError: A pipeline with a fault.
        WeightsError: A run folder whose card is damaged.
    """
    if model.endswith((".yaml", ".yml", ".json")) and os.path.isfile(model):
        return os.path.basename(model), _of_pipeline(model)
    folder = run_folder(model)
    if folder is not None:
        card = read_run(folder)
        method = method_of(card.method, model)
        defaults = dict(method.defaults)
        if not card.calibration:
            defaults.pop("decide", None)
        preset = edit(Preset(model=model), defaults)
        # A model that was trained on patches is used on the same ones, if nobody says otherwise.
        own = {k: v for k, v in (card.preset or {}).items() if k != "model"}
        return None, edit(preset, _known(own), f"{folder.name}/{CARD}: preset")
    if model in PRESETS:
        return model, PRESETS[model]
    if not model:
        raise ModelError("an empty name is not a model", f"known: {', '.join(built_in())}")
    refuse_checkpoint(model)
    if os.path.lexists(model):
        raise ModelError(f"{model}: no trained model", f"a run folder has {CARD} and {WEIGHTS}")
    try:
        entry = find(model)
        return None, edit(Preset(model=entry.name), dict(method_of(entry.method, model).defaults))
    except WeightsError:
        if is_architecture(model):
            raise ModelError(
                f"{model}: an architecture without weights",
                f"train it: foveate train VIDEOS --model {model} --out RUN",
            ) from None
        known = [*PRESETS, *names(), *built_in(), *imported()]
        guess = nearest(model, known)
        hint = f"did you mean {guess}?" if guess else f"known: {', '.join(known)}"
        raise ModelError(f"there is no model or preset {model!r}", hint) from None


def _of_pipeline(path: str) -> Preset:
    """How a pipeline's weights are used; nothing is trained.

    Raises:
        ConfigError: A fault in the file.
        ModelError: Its recogniser has no weights.
    """
    from foveate.primitives.pipeline import Pipeline
    from foveate.primitives.recognisers import Model, Network

    pipeline = Pipeline.read(path)
    network = pipeline.recogniser
    if not isinstance(network, Network) or not (network.weights or isinstance(network, Model)):
        raise ModelError(
            f"{path}: its recogniser {network.kind} has no weights",
            f"train it: foveate fit VIDEOS --pipeline {path} --out RUN",
        )
    return edit(resolve(network.model())[1], pipeline.preset(), path)


def edit(preset: Preset, changes: dict[str, Any], source: str = "configuration") -> Preset:
    """The preset with some fields changed; nested mappings change nested fields.

    Raises:
        ConfigError: An unknown key or a value out of range.
    """
    values = preset.model_dump()
    for key, value in changes.items():
        known = values.get(key)
        if key == "look" and isinstance(value, dict) and str(value.get("name")) in ALIASES:
            value = {**value, "name": ALIASES[value["name"]]}
        if (
            isinstance(known, dict)
            and isinstance(value, dict)
            and value.get("name", known.get("name")) == known.get("name")
        ):
            value = {**known, **value}
        values[key] = value
    return build(Preset, values, source)


def _known(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved preset without settings that its look does not have.

    Run folders of version 0.1 hold the settings of all patch looks for each of them.
    """
    look = saved.get("look")
    if not isinstance(look, dict) or look.get("name") not in LOOKS:
        return saved
    kind = LOOKS[look["name"]]
    own = {key: value for key, value in look.items() if key in kind.model_fields}
    return {**saved, "look": own}
