"""Run folders: a trained model as a folder that can be copied, looked into and loaded.

``runs/1/model.safetensors`` holds the weights, ``runs/1/run.json`` everything that is needed to
use and to judge them: classes, preprocessing, protocol and figures, what the training started from
and on which data it ran. Neither file holds code. The training's own files (``checkpoints/``,
``log.jsonl``, ``log.csv``) lie beside them and are not needed for use.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from foveate.core.errors import FoveateError, WeightsError
from foveate.models.loaded import NETWORK, LoadedModel
from foveate.models.registry import create
from foveate.models.spec import Crop, InputSpec, Resize
from foveate.models.weights.builtin import CARD, WEIGHTS
from foveate.models.weights.convert import fill

if TYPE_CHECKING:
    import torch
    from torch import nn

FORMAT = 1
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
        """The specification as the rest of the house takes it."""
        return InputSpec(**self.model_dump())

    @classmethod
    def of(cls, spec: InputSpec) -> InputCard:
        """The saved form of a specification."""
        return cls(**{key: getattr(spec, key) for key in cls.model_fields})


class RunCard(_Strict):
    """What `run.json` says.

    Attributes:
        arch: Architecture in the registry.
        settings: Arguments of its builder, besides the number of classes.
        classes: Name of every output, in order.
        input: How frames are prepared.
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
        preset: The preset that the model is to be used with, None for the default one.
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

    format: Literal[1] = 1
    arch: str = Field(min_length=1, max_length=200)
    settings: dict[str, int | float | str | bool] = Field(default_factory=dict)
    classes: list[str] = Field(min_length=1, max_length=100_000)
    input: InputCard
    output: Literal["softmax", "sigmoid"] = "softmax"
    preset: dict[str, Any] | None = None
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


def read_run(path: str | os.PathLike[str]) -> RunCard:
    """Read and check `run.json`.

    Raises:
        WeightsError: No run folder, or a card that is damaged; one line says where.
    """
    file = Path(path) / CARD
    name = f"{Path(path).name}/{CARD}"
    try:
        data = _read(file, _MAX_CARD)
    except FileNotFoundError:
        cure = "a run folder has it once the training is over"
        raise WeightsError(f"{Path(path).name}: no {CARD} in this folder", cure) from None
    except OSError as error:
        raise WeightsError(f"{name}: cannot be read ({error.strerror})") from None
    try:
        return RunCard.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        said = f"{where}: {fault['msg']}" if where else "not JSON"
        raise WeightsError(f"{name}: {said}") from None


def load_run(path: str | os.PathLike[str]) -> LoadedModel:
    """Load a trained model from its run folder.

    Nothing that is named inside the folder is opened or run: the file names are fixed, the
    architecture must be a registered one, and every tensor must have the name and shape that the
    architecture gives it.

    Args:
        path: The folder.

    Raises:
        WeightsError: The folder is damaged or does not fit.
        ModelError: Its architecture is not known here.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    folder = Path(path)
    card = read_run(folder)
    name = f"{folder.name}/{WEIGHTS}"
    try:
        data = _read(folder / WEIGHTS, _MAX_WEIGHTS)
    except OSError as error:
        raise WeightsError(f"{name}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != card.sha256:
        cure = "copy the folder again; both files belong together"
        raise WeightsError(f"{name}: not the file that {CARD} describes", cure)
    try:
        tensors = parse(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(f"{name}: damaged ({str(error).splitlines()[0]})") from None
    model = _create(card, name)
    fill(model, tensors, name)
    return LoadedModel(
        name=str(folder),
        networks={NETWORK: model.eval()},
        labels=tuple(card.classes),
        input=card.input.spec(),
        output=card.output,
        card=card,
    )


def write_run(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    card: RunCard,
    half: bool = False,
) -> RunCard:
    """Write a model and its card; each file appears whole or not at all.

    Args:
        path: The folder; made if it is not there.
        tensors: Parameters and buffers by state-dict name.
        card: Its `sha256` and `size` are filled in here.
        half: Store floating-point numbers in half precision (loading widens them again).

    Returns:
        The card as it was written.

    Raises:
        FoveateError: The folder cannot be written; older files are left as they were.
    """
    import torch
    from safetensors.torch import save

    kept = {
        key: (value.half() if half and value.is_floating_point() else value)
        .detach().to("cpu", memory_format=torch.contiguous_format).contiguous()
        for key, value in tensors.items()
    }  # fmt: skip
    data = save(kept, metadata={"format": "foveate-run"})
    card = card.model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)})
    folder = Path(path)
    # The card goes last: until it is there, the folder does not claim to hold this model.
    replace_file(folder / WEIGHTS, data)
    replace_file(folder / CARD, f"{card.model_dump_json(indent=1)}\n".encode())
    return card


def replace_file(target: Path, data: bytes) -> None:
    """Put a file in place so that, whatever happens, there is the old one or the new one, whole.

    It is written beside the target under a name of its own, forced to the disk, renamed, and the
    folder is forced to the disk too.

    Raises:
        FoveateError: It cannot be written; an old file is left as it was.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
        sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            cure = "make room and go on from the last checkpoint" if full else None
            raise FoveateError(
                f"{target.name}: cannot be written ({error.strerror})", cure
            ) from None
        raise


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, where the system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows opens no folders
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _read(file: Path, most: int) -> bytes:
    """The bytes of a regular file that is not too long."""
    if not file.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file")
    if file.stat().st_size > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes")
    return file.read_bytes()


def _create(card: RunCard, name: str) -> nn.Module:
    try:
        return create(card.arch, num_classes=len(card.classes), **card.settings)
    except (TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{name}: {card.arch} cannot be built ({error})") from None
