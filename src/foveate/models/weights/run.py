"""Run folders: a trained model as a folder that can be copied, inspected and loaded.

``runs/1/model.safetensors`` has the weights, ``runs/1/run.json`` everything that is needed to use
and to evaluate them: the networks and how they are combined, classes, preprocessing, protocol and
metrics, initial weights and digests of the data. A model of several networks is stored like one of
a single network: each is a named part, and its tensors are named ``PART.NAME``. Neither file
contains code. Files of the training (``checkpoints/``, ``log.jsonl``, ``log.csv``) are in the same
folder and not needed to load the model.

Folders of format 1 are still read: there the tensors of a single network have no prefix, and a
cascade has a third file, ``cascade.json``.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
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
from foveate.models.registry import ModelEntry, create, entry, split_name
from foveate.models.spec import Crop, InputSpec, Resize
from foveate.models.weights.builtin import CARD, WEIGHTS, run_folder
from foveate.models.weights.exported import ExportCard
from foveate.models.weights.table import find, input_of

if TYPE_CHECKING:
    import torch
    from torch import nn

_CASCADE_ARCH, _CASCADE_CARD = "coviar-cascade", "cascade.json"  # of format 1
_MAX_CARD = 4_000_000  # bytes
_MAX_WEIGHTS = 4_000_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputCard(_Strict):
    """An `InputSpec` in JSON, with bounds that limit the memory that it needs."""

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
        """The `InputSpec` for transforms and pipelines."""
        return InputSpec(**self.model_dump())

    @classmethod
    def of(cls, spec: InputSpec) -> InputCard:
        """The card of an `InputSpec`."""
        return cls(**{key: getattr(spec, key) for key in cls.model_fields})


Part = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class NetworkCard(_Strict):
    """How one network is built.

    Attributes:
        arch: Architecture in the registry, with its backbone if it takes one.
        settings: Arguments of its builder, as JSON. `num_classes` defaults to the number of classes
            of the run.
        input: How its input is prepared, None if as for the whole run.
    """

    arch: str = Field(min_length=1, max_length=200)
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    input: InputCard | None = None


class UnknownCard(_Strict):
    """When footage is called `unknown`: like none of the clips that the model was trained on.

    Attributes:
        mean: Of each channel of the pooled features over training clips; float32, little-endian,
            in base64.
        spread: Their standard deviations, likewise.
        limit: Distance (see `policy.unknown`) beyond which footage is unknown.
        training: Training clips behind mean and spread.
        clips: Validation clips behind the limit.
        alarms: Share of them that is called unknown.
        generated: Generated clips that show none of the classes.
        found: Share of them that is called unknown.
        roc_area: Area under the ROC curve between the two.
    """

    mean: str = Field(max_length=1_000_000)
    spread: str = Field(max_length=1_000_000)
    limit: float = Field(gt=0)
    training: int = Field(ge=0)
    clips: int = Field(ge=0)
    alarms: float = Field(ge=0, le=1)
    generated: int = Field(0, ge=0)
    found: float = Field(0.0, ge=0, le=1)
    roc_area: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> UnknownCard:
        mean, spread = self.arrays()
        if not len(mean) or len(mean) != len(spread) or not np.isfinite(mean).all():
            raise ValueError("mean: not as many finite values as spread")
        if not (np.isfinite(spread) & (spread > 0)).all():
            raise ValueError("spread: must be positive and finite")
        return self

    def arrays(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(channels,) float32 mean and spread."""
        try:
            mean, spread = (
                np.frombuffer(base64.b64decode(text, validate=True), "<f4")
                for text in (self.mean, self.spread)
            )
        except ValueError:
            raise ValueError("mean and spread: not float32 in base64") from None
        return mean, spread

    @classmethod
    def of(cls, mean: Any, spread: Any, **values: Any) -> UnknownCard:
        """The card of mean and spread as arrays."""
        texts = [
            base64.b64encode(np.asarray(one, "<f4").tobytes()).decode() for one in (mean, spread)
        ]
        return cls(mean=texts[0], spread=texts[1], **values)


class RunCard(_Strict):
    """The content of `run.json`.

    Attributes:
        method: How the networks are combined; `network` for a single network, which has that name
            too.
        networks: Networks by the name of the part.
        classes: Names of the outputs, in order.
        input: How frames are prepared.
        output: `softmax` for exclusive classes, `sigmoid` for independent ones.
        preset: The preset to use the model with, None for the default one.
        calibration: Calibration of the method's policies; checked by the method.
        unknown: When footage is called `unknown`, None for never.
        recipe: Name of the recipe that trained it.
        configuration: Configuration of the recipe.
        protocol: How the metrics were measured, in one line.
        figures: Metric (with the protocol in its name) → value.
        digests: Digests of the data by name of the split.
        sha256: Digest of the weights file.
        size: Size of the weights file in bytes.
        started_from: Initial weights of the training, None for random ones.
        licence: SPDX identifier of the weights, None if it is not stated.
        notice: Notices that must accompany them.
        commit: Commit of the code that trained it.
        date: When it was written, ISO 8601.
        exported: Graphs of the networks, for a model that was exported; it has no weights file.
    """

    format: Literal[2] = 2
    method: Part = NETWORK
    networks: dict[Part, NetworkCard] = Field(min_length=1, max_length=64)
    classes: list[str] = Field(min_length=1, max_length=100_000)
    input: InputCard
    output: Literal["softmax", "sigmoid"] = "softmax"
    preset: dict[str, Any] | None = None
    calibration: dict[str, Any] = Field(default_factory=dict)
    unknown: UnknownCard | None = None
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
    exported: ExportCard | None = None

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
                raise ValueError("networks: the method 'network' has one network, named 'network'")
            if "num_classes" in self.networks[NETWORK].settings:
                raise ValueError("networks.network.settings: num_classes is given by the classes")
        return self

    @property
    def network(self) -> NetworkCard:
        """The card of the only network.

        Raises:
            ModelError: There are several.
        """
        if len(self.networks) != 1:
            raise ModelError(f"has several networks: {', '.join(self.networks)}")
        return next(iter(self.networks.values()))


def read_run(path: str | os.PathLike[str]) -> RunCard:
    """Read and check `run.json`.

    Raises:
        WeightsError: Not a run folder, or a damaged card; the error says where.
    """
    return _read_card(Path(path))[0]


def declared(model: str) -> ModelEntry | None:
    """The registry entry of a model's architecture, found without loading the model.

    Args:
        model: A run folder, weights, or an architecture.

    Returns:
        None for anything else, and for a run folder of several networks.
    """
    folder = run_folder(model)
    try:
        return entry(split_name(model)[0] if folder is None else read_run(folder).network.arch)
    except ModelError:
        return None


def declared_input(model: str) -> InputSpec | None:
    """The input of a model, found without loading it.

    Args:
        model: A run folder, weights, or an architecture.

    Returns:
        None for an architecture of which none is known.

    Raises:
        ModelError: No such model.
    """
    folder = run_folder(model)
    if folder is not None:
        return read_run(folder).input.spec()
    return find(model).input if split_name(model)[1] is not None else input_of(model)


def load_run(path: str | os.PathLike[str]) -> LoadedModel:
    """Load a trained model from its run folder.

    Nothing outside the folder is opened, and no code of it is run: file names are fixed,
    architectures must be registered, and every tensor must have the name and shape that its
    architecture expects.

    Args:
        path: The folder.

    Raises:
        WeightsError: The folder is damaged or does not fit.
        ModelError: Unknown architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    folder = Path(path)
    card, prefixed = _read_card(folder)
    if card.exported is not None:
        raise WeightsError(
            f"{folder.name}: an exported model, which has graphs and no weights",
            f"use the model that it was made from: {card.exported.source}",
        )
    name = f"{folder.name}/{WEIGHTS}"
    try:
        data = _read(folder / WEIGHTS, _MAX_WEIGHTS)
    except OSError as error:
        raise WeightsError(f"{name}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != card.sha256:
        hint = "copy the folder again; both files belong together"
        raise WeightsError(f"{name}: does not match {CARD}", hint)
    try:
        tensors = parse(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError):
        raise WeightsError(f"{name}: damaged, not a safetensors file") from None
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


def fill(
    module: nn.Module | Mapping[str, torch.Tensor],
    arrays: Mapping[str, Any],
    source: str = "the file",
) -> None:
    """Copy arrays to parameters and buffers, strictly: names and shapes must match.

    Args:
        module: The module, which keeps its dtype and memory format; or tensors by name.
        arrays: NumPy arrays or tensors by state-dict name.
        source: Name of the source in errors.

    Raises:
        WeightsError: Missing or unexpected names, or other shapes; the error lists them.
    """
    import torch

    own = module if isinstance(module, Mapping) else module.state_dict()
    faults = [f"missing {name}" for name in own if name not in arrays]
    faults += [f"unused {name}" for name in arrays if name not in own]
    for name in own.keys() & arrays.keys():
        have, want = tuple(arrays[name].shape), tuple(own[name].shape)
        if have != want:
            faults.append(f"{name} is {have}, not {want}")
    if faults:
        more = f" and {len(faults) - 12} more" if len(faults) > 12 else ""
        raise WeightsError(f"{source} does not fit: {', '.join(sorted(faults)[:12])}{more}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.as_tensor(arrays[name]))


def write_run(
    path: str | os.PathLike[str],
    networks: Mapping[str, nn.Module | Mapping[str, torch.Tensor]],
    card: RunCard,
    half: bool = False,
) -> RunCard:
    """Write a model and its card; each file is written atomically.

    Args:
        path: The folder; created if it is missing.
        networks: By the name of the part, as in the card: modules or state dicts.
        card: Its `sha256` and `size` are set by this function.
        half: Store floating-point numbers in half precision (they are converted back when they are
            loaded).

    Returns:
        The written card.

    Raises:
        ValueError: The card has other networks.
        FoveateError: The folder cannot be written; old files are unchanged.
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
    text = card_text(card, folder.name)
    # The card is written last: a folder without it is not a run folder.
    replace_file(folder / WEIGHTS, data)
    replace_file(folder / CARD, text)
    return card


def card_text(card: RunCard, folder: str) -> bytes:
    """The content of `run.json`.

    Raises:
        WeightsError: It is too large to be read again.
    """
    text = f"{card.model_dump_json(indent=1)}\n".encode()
    if len(text) > _MAX_CARD:
        raise WeightsError(f"{folder}/{CARD}: would be larger than {_MAX_CARD} bytes")
    return text


def _read_card(folder: Path) -> tuple[RunCard, bool]:
    """The card of a folder of either format, and whether the tensors have prefixes."""
    name = f"{folder.name}/{CARD}"
    if not (folder / CARD).exists():
        hint = "a run folder has it once an epoch is over"
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
    """Convert a card of format 1, and its `cascade.json`, to format 2."""
    card = {**card, "format": 2}
    arch, settings = card.pop("arch", None), card.pop("settings", {})
    if arch != _CASCADE_ARCH:
        return {**card, "networks": {NETWORK: {"arch": arch, "settings": settings}}}
    cascade, name = _read_json(folder / _CASCADE_CARD), f"{folder.name}/{_CASCADE_CARD}"
    if cascade.pop("sha256", None) != card.get("sha256"):
        hint = "copy the folder again; its files belong together"
        raise WeightsError(f"{name}: does not match {CARD}", hint)
    parts = cascade.pop("networks", None)
    if not isinstance(parts, dict) or not all(isinstance(one, dict) for one in parts.values()):
        raise WeightsError(f"{name}: networks: not a mapping of networks")
    cascade.pop("format", None)
    networks = {
        part: {"arch": "coviar-exits", "settings": {**one, "modality": part}}
        for part, one in parts.items()
    }
    return {**card, "method": "cascade", "networks": networks, "calibration": cascade}


def _read_json(file: Path) -> dict[str, Any]:
    """Read the object in a JSON file of a run folder."""
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
    """Read a regular file of limited size."""
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
    """Build a network, randomly initialised."""
    settings: dict[str, Any] = dict(card.settings)
    settings.pop("pretrained", None)  # the weights are in the folder: nothing is downloaded
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
