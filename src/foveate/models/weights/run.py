"""Run folders: a trained model as a folder that can be copied, looked into and loaded.

``runs/1/model.safetensors`` holds the weights, ``runs/1/run.json`` everything that is needed to
use and to judge them: the networks and what joins them, classes, preprocessing, protocol and
figures, what the training started from and on which data it ran. A model of several networks is
stored like one of a single network: each has a name, its part, and its tensors are named
``PART.NAME``. Neither file holds code. The training's own files (``checkpoints/``, ``log.jsonl``,
``log.csv``) lie beside them and are not needed for use.

Folders of format 1 are still read: there a single network's tensors have no prefix, and a cascade
has a third file, ``cascade.json``.
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from foveate.core.config import fault_of
from foveate.core.errors import ModelError, WeightsError
from foveate.core.files import replace_file
from foveate.models.loaded import NETWORK, LoadedModel
from foveate.models.registry import create, entry
from foveate.models.spec import Crop, InputSpec, Resize
from foveate.models.weights.builtin import CARD, WEIGHTS
from foveate.models.weights.convert import fill

if TYPE_CHECKING:
    import torch
    from torch import nn

_CASCADE_ARCH, _CASCADE_CARD = "coviar-cascade", "cascade.json"  # of format 1
_MAX_CARD = 4_000_000  # bytes
_MAX_WEIGHTS = 4_000_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputCard(_Strict):
    """An `InputSpec` as it is saved, with bounds on what may be asked of memory."""

    size: int = Field(ge=8, le=4096)
    frames_per_second: float = Field(gt=0, le=1000)
    clip_frames: int = Field(ge=1, le=100_000)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Resize = "shorter side"
    crop: Crop = "centre"
    resize_to: int | None = Field(None, ge=8, le=8192)

    @field_validator("std")
    @classmethod
    def _positive(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError("must be positive")
        return std

    def spec(self) -> InputSpec:
        """The specification as transforms and pipelines take it."""
        return InputSpec(**self.model_dump())

    @classmethod
    def of(cls, spec: InputSpec) -> InputCard:
        """The saved form of a specification."""
        return cls(**{key: getattr(spec, key) for key in cls.model_fields})


Part = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class NetworkCard(_Strict):
    """How one network is built.

    Attributes:
        arch: Architecture in the registry, with its backbone if it takes one.
        settings: Arguments of its builder, plain JSON. The number of classes is the run's where
            it is not among them.
        input: How what it takes is prepared, None where that is said for the whole run.
    """

    arch: str = Field(min_length=1, max_length=200)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    input: InputCard | None = None


class RunCard(_Strict):
    """What `run.json` says.

    Attributes:
        method: What joins the networks; `network` where there is one, which is called so too.
        networks: By the name of the part.
        classes: Name of every output, in order.
        input: How frames are prepared.
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
        preset: The preset that the model is to be used with, None for the default one.
        calibration: What the method's policies were fitted to; checked by the method.
        recipe: Which recipe trained it.
        configuration: That recipe's configuration.
        protocol: How the figures were measured, in one line.
        figures: Metric (with its protocol in its name) → value.
        digests: Of the data of each split, by its name.
        sha256: Of the weights file.
        size: Bytes of the weights file.
        started_from: What the training started from, None for random weights.
        licence: SPDX identifier of the weights, None if the owner has not said.
        notice: What must be said with them.
        commit: Of the code that trained it.
        date: When it was written, ISO 8601.
    """

    format: Literal[2] = 2
    method: Part = NETWORK
    networks: dict[Part, NetworkCard] = Field(min_length=1, max_length=64)
    classes: list[str] = Field(min_length=1, max_length=100_000)
    input: InputCard
    output: Literal["softmax", "sigmoid"] = "softmax"
    preset: dict[str, Any] | None = None
    calibration: dict[str, Any] = Field(default_factory=dict)
    recipe: str = ""
    configuration: dict[str, Any] = Field(default_factory=dict)
    protocol: str = ""
    figures: dict[str, float] = Field(default_factory=dict)
    digests: dict[str, str] = Field(default_factory=dict)
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    size: int = Field(0, ge=0)
    started_from: str | None = None
    licence: str | None = None
    notice: str = ""
    commit: str = ""
    date: str = ""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[str]) -> list[str]:
        if not all(classes) or len(set(classes)) < len(classes):
            raise ValueError("empty or repeated names")
        return classes

    @model_validator(mode="after")
    def _one_network(self) -> RunCard:
        if self.method == NETWORK:
            if list(self.networks) != [NETWORK]:
                raise ValueError("networks: the method 'network' has one, which is called so too")
            if "num_classes" in self.networks[NETWORK].settings:
                raise ValueError("networks.network.settings: num_classes is that of the classes")
        return self

    @property
    def network(self) -> NetworkCard:
        """The card of the only network.

        Raises:
            ModelError: There are several.
        """
        if len(self.networks) != 1:
            raise ModelError(f"not one network but several: {', '.join(self.networks)}")
        return next(iter(self.networks.values()))


def read_run(path: str | os.PathLike[str]) -> RunCard:
    """Read and check `run.json`.

    Raises:
        WeightsError: No run folder, or a card that is damaged; one line says where.
    """
    return _read_card(Path(path))[0]


def load_run(path: str | os.PathLike[str]) -> LoadedModel:
    """Load a trained model from its run folder.

    Nothing that is named inside the folder is opened or run: the file names are fixed, the
    architectures must be registered ones, and every tensor must have the name and shape that its
    architecture gives it.

    Args:
        path: The folder.

    Raises:
        WeightsError: The folder is damaged or does not fit.
        ModelError: An architecture is not known here.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    folder = Path(path)
    card, prefixed = _read_card(folder)
    name = f"{folder.name}/{WEIGHTS}"
    try:
        data = _read(folder / WEIGHTS, _MAX_WEIGHTS)
    except OSError as error:
        raise WeightsError(f"{name}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != card.sha256:
        hint = "copy the folder again; both files belong together"
        raise WeightsError(f"{name}: not the file that {CARD} describes", hint)
    try:
        tensors = parse(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(f"{name}: damaged ({str(error).splitlines()[0]})") from None
    if not prefixed:
        tensors = {f"{NETWORK}.{key}": value for key, value in tensors.items()}
    networks = {
        part: _create(one, len(card.classes), f"{folder.name}/{CARD}: networks.{part}")
        for part, one in card.networks.items()
    }
    fill(_state_of(networks), tensors, name)
    return LoadedModel(
        name=str(folder),
        networks={part: network.eval() for part, network in networks.items()},
        labels=tuple(card.classes),
        input=card.input.spec(),
        output=card.output,
        method=card.method,
        card=card,
    )


def write_run(
    path: str | os.PathLike[str],
    networks: Mapping[str, nn.Module | Mapping[str, torch.Tensor]],
    card: RunCard,
    half: bool = False,
) -> RunCard:
    """Write a model and its card; each file appears whole or not at all.

    Args:
        path: The folder; made if it is not there.
        networks: By the name of the part, as in the card: modules, or their parameters and buffers
            by state-dict name.
        card: Its `sha256` and `size` are filled in here.
        half: Store floating-point numbers in half precision (loading widens them again).

    Returns:
        The card as it was written.

    Raises:
        ValueError: The card is of other networks.
        FoveateError: The folder cannot be written; older files are left as they were.
    """
    import torch
    from safetensors.torch import save

    if networks.keys() != card.networks.keys():
        raise ValueError(f"networks {sorted(networks)}, but a card of {sorted(card.networks)}")
    kept = {
        key: (value.half() if half and value.is_floating_point() else value)
        .detach().to("cpu", memory_format=torch.contiguous_format).contiguous()
        for key, value in _state_of(networks).items()
    }  # fmt: skip
    data = save(kept, metadata={"format": "foveate-run"})
    card = card.model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})
    folder = Path(path)
    text = f"{card.model_dump_json(indent=1)}\n".encode()
    if len(text) > _MAX_CARD:  # it could not be read again
        raise WeightsError(f"{folder.name}/{CARD}: would be larger than {_MAX_CARD} bytes")
    # The card goes last: until it is there, the folder does not claim to hold this model.
    replace_file(folder / WEIGHTS, data)
    replace_file(folder / CARD, text)
    return card


def _read_card(folder: Path) -> tuple[RunCard, bool]:
    """The card of a folder of either format, and whether its tensors have prefixes."""
    name = f"{folder.name}/{CARD}"
    if not (folder / CARD).exists():
        hint = "a run folder has it once the training is over"
        raise WeightsError(f"{folder.name}: no {CARD} in this folder", hint)
    data = _read_json(folder / CARD)
    old = data.get("format", 1) == 1
    if old:
        data = _from_format_1(data, folder)
    try:
        card = RunCard.model_validate(data)
    except ValidationError as error:
        raise WeightsError(f"{name}: {fault_of(error)}") from None
    return card, not old or card.method != NETWORK


def _from_format_1(card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a card of format 1 says, and the `cascade.json` beside it, as one of format 2."""
    card = {**card, "format": 2}
    arch, settings = card.pop("arch", None), card.pop("settings", {})
    if arch != _CASCADE_ARCH:
        return {**card, "networks": {NETWORK: {"arch": arch, "settings": settings}}}
    cascade, name = _read_json(folder / _CASCADE_CARD), f"{folder.name}/{_CASCADE_CARD}"
    if cascade.pop("sha256", None) != card.get("sha256"):
        hint = "copy the folder again; its files belong together"
        raise WeightsError(f"{name}: not of the weights that {CARD} describes", hint)
    parts = cascade.pop("networks", None)
    if not isinstance(parts, dict) or not all(isinstance(one, dict) for one in parts.values()):
        raise WeightsError(f"{name}: networks: not how each is built")
    cascade.pop("format", None)
    networks = {
        part: {"arch": "coviar-exits", "settings": {**one, "modality": part}}
        for part, one in parts.items()
    }
    return {**card, "method": "cascade", "networks": networks, "calibration": cascade}


def _read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a run folder."""
    name = f"{file.parent.name}/{file.name}"
    try:
        data = from_json(_read(file, _MAX_CARD), allow_inf_nan=False)
    except OSError as error:
        raise WeightsError(f"{name}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise WeightsError(f"{name}: not JSON") from None
    if not isinstance(data, dict):
        raise WeightsError(f"{name}: not an object")
    return data


def _read(file: Path, most: int) -> bytes:
    """The bytes of a regular file that is not too long."""
    if not file.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file")
    if file.stat().st_size > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes")
    return file.read_bytes()


def _state_of(
    networks: Mapping[str, nn.Module | Mapping[str, torch.Tensor]],
) -> dict[str, torch.Tensor]:
    """Parameters and buffers of all networks by `PART.NAME`."""
    return {
        f"{part}.{name}": value
        for part, network in networks.items()
        for name, value in (
            network.items() if isinstance(network, Mapping) else network.state_dict().items()
        )
    }


def _create(card: NetworkCard, classes: int, where: str) -> nn.Module:
    """Build a network, freshly initialised."""
    settings: dict[str, Any] = dict(card.settings)
    settings.pop("pretrained", None)  # the weights are those of the folder: nothing is fetched
    try:
        if "num_classes" in inspect.signature(entry(card.arch).build).parameters:
            settings.setdefault("num_classes", classes)
        return create(card.arch, **settings)
    except ModelError as error:
        raise ModelError(f"{where}: {error.cause}", error.hint) from None
    except (
        TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError,
        AssertionError,
    ) as error:  # fmt: skip
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{where}: {card.arch} cannot be built ({said})") from None
