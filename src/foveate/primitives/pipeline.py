"""Pipelines: everything from labelled videos to a recogniser, as one typed, frozen value.

A pipeline is translated to a recipe with its settings, which trains it, and to fields of the preset
with which its run folder is used. It is read from and written to YAML or JSON; it holds no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    model_validator,
)

from foveate.core import InputSpec
from foveate.core.config import Config, build, read_yaml, to_yaml
from foveate.core.files import replace_file
from foveate.policy.budget import BudgetSpec
from foveate.policy.build import ALIASES, DECISIONS, LOOKS, AnyDecide, AnyLook
from foveate.policy.looks.base import LookSpec
from foveate.policy.looks.frames import UniformSpec
from foveate.primitives.augment.base import Transform
from foveate.primitives.augment.compose import input_of
from foveate.primitives.base import Search, registered
from foveate.primitives.recognisers import MoViNet, Network
from foveate.primitives.samplers import Uniform
from foveate.primitives.training import Supervised
from foveate.primitives.unions import AnyRecogniser, AnySampler, AnyTraining, AnyTransform

VERSION: Literal[1] = 1
# Version → what makes a mapping of the next version of one of this version.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


class Engine(Config):
    """What runs the network in prediction.

    Attributes:
        name: See `foveate.load`.
        precision: See `foveate.load`.
    """

    name: Annotated[
        Literal["torch", "onnxruntime", "openvino", "litert", "auto"],
        Search.choice("torch", "onnxruntime", "openvino"),
    ] = "torch"
    precision: Literal["fp32", "bf16", "int8"] | None = Field(
        None, description="None: what the model has"
    )


def _named(value: Any) -> Any:
    """Files name a look by its kind, like every part of a pipeline; presets by its name."""
    if isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, Mapping) and "kind" in value:
        value = dict(value)
        name = value.pop("kind")
        value = {"name": ALIASES.get(name, name) if isinstance(name, str) else name, **value}
    return value


def _kinded(value: Any, dump: SerializerFunctionWrapHandler) -> Any:
    found = dump(value)
    if not isinstance(found, dict):
        return found
    name = found.pop("name", None)
    return {"kind": name, **found}


_BY_KIND = (BeforeValidator(_named), WrapSerializer(_kinded))


class Pipeline(Config):
    """A whole method as data: what is trained on what, and how it is used afterwards.

    >>> Pipeline(recogniser={"kind": "tsm", "backbone": "resnet18"}).recogniser.backbone
    'resnet18'
    """

    tag: ClassVar[str | None] = "kind"

    version: Literal[1] = Field(VERSION, description="of this format")
    sampler: AnySampler = Field(Uniform(), description="the frames of a clip")
    look: Annotated[AnyLook | None, *_BY_KIND] = Field(
        None, description="what is shown of them; None: what the recogniser needs (whole frames)"
    )
    transforms: tuple[AnyTransform, ...] | None = Field(
        None,
        description="pre-processing and augmentation in their order; sizes hold for prediction, "
        "too; None: those of the recipe",
    )
    recogniser: AnyRecogniser = Field(
        MoViNet(), description="the network, or the method of several networks"
    )
    stopping: Annotated[AnyDecide | None, *_BY_KIND] = Field(
        None, description="when enough was seen; None: the recogniser's own rule"
    )
    budget: BudgetSpec = Field(BudgetSpec(), description="what prediction may spend")
    engine: Engine = Field(Engine(), description="what runs the network in prediction")
    training: AnyTraining = Field(
        Supervised(), description="recipe and settings; the recogniser's own if not given"
    )

    @model_validator(mode="before")
    @classmethod
    def _migrated(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = migrate(values)
        if "training" not in values:
            recogniser = values.get("recogniser")
            kind = recogniser.get("kind") if isinstance(recogniser, Mapping) else recogniser
            known = registered("recognisers").get(kind) if isinstance(kind, str) else recogniser
            if recipes := getattr(known, "recipes", None):
                values["training"] = {"kind": recipes[0]}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Pipeline:
        kind, recipes = self.recogniser.kind, self.recogniser.recipes
        if self.training.kind not in recipes:
            raise ValueError(
                f"training.kind: {self.training.kind} does not train {kind}; "
                f"possible: {', '.join(recipes)}"
            )
        for name in ("sampler", "transforms"):
            default = type(self).model_fields[name].default
            if name not in self.recogniser.takes and getattr(self, name) != default:
                raise ValueError(f"{name}: {kind} has its own; leave it out")
        look = self._training_look()
        if type(self.sampler) is not Uniform and (look or not isinstance(self.recogniser, Network)):
            chooser = kind if look is None else look.name
            raise ValueError(f"sampler.kind: {chooser} chooses the times of frames; use uniform")
        return self

    def _training_look(self) -> LookSpec | None:
        """The look that the network is trained on, None for whole frames."""
        look = self.look
        trained = look is not None and look.trains and "look" in self.recogniser.takes
        return look if trained and not isinstance(look, UniformSpec) else None

    @classmethod
    def read(cls, path: str | Path) -> Pipeline:
        """Read a pipeline from a YAML or JSON file.

        Raises:
            ConfigError: The path of the first fault in it, with the nearest valid name.
        """
        return build(cls, read_yaml(Path(path)), str(path))

    def write(self, path: str | Path) -> None:
        """Write the pipeline as JSON if the name ends so, else as YAML.

        Raises:
            FoveateError: The file cannot be written.
        """
        text = self.to_json() if str(path).endswith(".json") else self.to_yaml()
        replace_file(Path(path), text.encode())

    def to_yaml(self) -> str:
        """All settings as YAML."""
        return to_yaml(self)

    def to_json(self) -> str:
        """All settings as JSON."""
        return f"{self.model_dump_json(indent=1)}\n"

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of a pipeline, for editors and forms."""
        schema = cls.model_json_schema()
        for spec in (*LOOKS.values(), *DECISIONS.values()):
            one = schema["$defs"][spec.__name__]
            name = one["properties"].pop("name")
            one["properties"] = {"kind": {**name, "title": "Kind"}, **one["properties"]}
        for field in ("look", "stopping"):
            for one in schema["properties"][field]["anyOf"]:
                if "discriminator" in one:
                    one["discriminator"]["propertyName"] = "kind"
        return schema

    @property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of the canonical JSON of all settings.

        Keys are sorted, there are no spaces, and numbers are written as Python's `repr` does: the
        same on every machine.
        """
        values = self.model_dump(mode="json")
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def settings(self) -> dict[str, Any]:
        """Settings of the recipe `training.kind`; those that are not set are left out."""
        values = self.recogniser.training_settings()
        if "sampler" in self.recogniser.takes:
            sampler = self.sampler
            sampled = {"frames": sampler.frames, "rate": getattr(sampler, "rate", None)}
            if sampler.spans:  # the recipe sets the rate by the length of the clips
                values.pop("rate", None)
            values |= {key: value for key, value in sampled.items() if value is not None}
            if type(sampler) is not Uniform:
                values["sampler"] = sampler.model_dump(mode="json")
        if (look := self._training_look()) is not None:
            values["look"] = look.model_dump(mode="json")
        if self.transforms is not None:
            values["augment"] = [one.model_dump(mode="json") for one in self.transforms]
        return values | self.training.training_settings()

    def preset(self) -> dict[str, Any]:
        """Fields of the preset with which the trained model is used; see `foveate.Preset`."""
        given: dict[str, Any] = {"look": self.look, "decide": self.stopping}
        if self.budget != BudgetSpec():
            given["budget"] = self.budget
        if self.engine != Engine():
            given |= {"engine": self.engine.name, "precision": self.engine.precision}
        return {
            key: value.model_dump(mode="json") if isinstance(value, Config) else value
            for key, value in given.items()
            if value is not None
        }

    def describe(self) -> str:
        """What the pipeline does, a line per part."""
        recogniser, training, sampler = self.recogniser, self.training, self.sampler
        own, own_rule = f"as the recipe {training.kind} does", "the recogniser's own"
        lines = {
            "sampler": described(sampler) if "sampler" in recogniser.takes else own,
            "look": own_rule if self.look is None else described(self.look),
            "transforms": own if self.transforms is None else _listed(self.transforms),
            "prediction": self._shown(),
            "recogniser": described(recogniser),
            "stopping": own_rule if self.stopping is None else described(self.stopping),
            "budget": described(self.budget) if self.budget != BudgetSpec() else "none",
            "engine": described(self.engine),
            "recipe": described(training),
            "digest": self.digest[:12],
        }
        return "\n".join(f"{name + ':':12}{text}" for name, text in lines.items())

    def __str__(self) -> str:
        return self.describe()

    def _shown(self) -> str:
        """How frames are scaled and cropped in prediction."""
        look = self._training_look()
        if look is not None:
            return f"what {look.name} shows"
        plain = InputSpec(1, 1.0, 1)
        spec = input_of(self.transforms or (), plain)
        if spec == plain:
            return "scaled to the recogniser's size, its centre square"
        side = spec.resize_to or spec.size
        how = f"{side} x {side}" if spec.resize == "squash" else f"a shorter side of {side}"
        return f"scaled to {how}, the centre square of {spec.size}"


def migrate(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping of a pipeline of an earlier version as one of this version.

    Args:
        values: With its `version`; without one, of this version.

    Raises:
        ValueError: The version is newer than this one, or none.
    """
    values = dict(values)
    version = values.get("version", VERSION)
    while isinstance(version, int) and version in MIGRATIONS:
        values = {**MIGRATIONS[version](values), "version": version + 1}
        version += 1
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        hint = "; a newer foveate wrote it" if newer else ""
        raise ValueError(f"version: there is no {version!r}, this is {VERSION}{hint}")
    return values


def described(part: Config) -> str:
    """The kind of a part, and its settings that differ from their defaults."""
    tag = next((key for key in ("kind", "name") if key in type(part).model_fields), "")
    changed = part.model_dump(mode="json", exclude={tag}, exclude_defaults=True)
    settings = ", ".join(f"{key}={value}" for key, value in changed.items())
    kind = str(getattr(part, tag, ""))
    return f"{kind} ({settings})" if kind and settings else kind or settings


def _listed(transforms: Sequence[Transform]) -> str:
    return ", then ".join(one.describe() for one in transforms) or "nothing"
