"""`foveate weights import`: convert a checkpoint of another project to a run folder.

The run folder has a name in the cache folder, and can be used like any trained model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from foveate.core.errors import FoveateError, ModelError, WeightsError
from foveate.core.files import cache_folder
from foveate.models.loaded import NETWORK
from foveate.models.registry import split_backbone
from foveate.models.resnet3drs import DEPTHS, RATE
from foveate.models.spec import InputSpec
from foveate.models.weights.importers.files import read_arrays
from foveate.models.weights.importers.naming import (
    MisfitError,
    ValuesError,
    unwrapped,
    without_prefix,
)
from foveate.models.weights.importers.registry import Imported, from_arrays, systems
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run
from foveate.models.weights.table import input_of

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
# Inputs of the published recipes; a run card can be edited if they differ.
_GREY = (0.5, 0.5, 0.5)
_INPUTS = {
    "c3d": InputSpec(112, 16.0, 16, mean=_GREY, resize_to=128),
    "i3d": InputSpec(224, 25.0, 64, mean=_GREY, std=_GREY, resize_to=256),
    "r3d": InputSpec(112, 16.0, 16),
    "r2plus1d": InputSpec(112, 16.0, 16),
}
_INPUTS |= {f"resnet3d-rs-{depth}": InputSpec(256, RATE, 32) for depth in DEPTHS}
_INPUTS["resnet3d-50"] = InputSpec(256, RATE, 32)
# The input of MMAction2's C3D is 0..255 minus the mean colour of Sports-1M.
_INPUTS["mmaction c3d"] = InputSpec(
    112, 16.0, 16, mean=(104 / 255, 117 / 255, 128 / 255), std=(1 / 255,) * 3, resize_to=128
)
_SEGMENTS = InputSpec(
    224, 4.0, 16, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize_to=256
)
_CLIP = 10.0  # seconds of a window; AdaFocus spreads its frames over clips of any length


def folder_of(name: str) -> Path:
    """The run folder of imported weights.

    Raises:
        WeightsError: The name is not valid.
    """
    if not _NAME.fullmatch(name):
        raise WeightsError(
            f"{name!r} is not a valid name of weights",
            "use lower-case letters, digits, dots and hyphens",
        )
    return cache_folder() / "imported" / name


def recognise(arrays: dict[str, Any], config: dict[str, Any]) -> tuple[str, Imported]:
    """Find the system that arrays belong to, by trying all.

    Raises:
        WeightsError: None fits. The error names the nearest system, and the differences.
        ModelError: One fits, but not with that configuration.
    """
    misfits: dict[str, MisfitError] = {}
    for system in systems():
        try:
            return system, from_arrays(system, arrays, **config)
        except ValuesError:
            raise
        except MisfitError as error:
            misfits[system] = error
        except FoveateError as error:
            if config and _fits(system, arrays):
                kind = WeightsError if isinstance(error, WeightsError) else ModelError
                raise kind(f"{system}: {error.cause}", error.hint) from None
    nearest = max(
        misfits, key=lambda s: (misfits[s].fitting, -len(misfits[s].faults)), default=None
    )
    if nearest is None or 2 * misfits[nearest].fitting < len(arrays):
        arrays = unwrapped(arrays)
        top = next(iter(arrays), "").partition(".")[0]
        inner = without_prefix(arrays, f"{top}.")
        if inner.keys() != arrays.keys():
            return recognise(inner, config)  # the network is a part of another one
        some = ", ".join(list(arrays)[:4]) or "none"
        raise WeightsError(
            f"no importer fits these arrays (the first names: {some})",
            f"there are importers for {', '.join(systems())}",
        )
    raise misfits[nearest].as_nearest(nearest, len(arrays))


def _fits(system: str, arrays: dict[str, Any]) -> bool:
    """Whether a system accepts the arrays without a configuration."""
    try:
        from_arrays(system, arrays)
    except FoveateError:
        return False
    return True


def import_file(
    path: Path,
    name: str,
    *,
    system: str | None = None,
    config: dict[str, Any] | None = None,
    labels: tuple[str, ...] | None = None,
    licence: str | None = None,
) -> tuple[Path, RunCard]:
    """Import a checkpoint as a run folder.

    Args:
        path: The checkpoint.
        name: The name to load it by.
        system: One of ``systems()``; None tries all.
        config: Arguments of the original's network.
        labels: One per class; None for numbers.
        licence: SPDX identifier, if one is stated.

    Returns:
        The folder and its card.

    Raises:
        WeightsError: The file contains no known network, or a name is not valid.
        ModelError: The network cannot classify videos by itself.
    """
    folder = folder_of(name)
    notes: list[str] = []
    arrays = read_arrays(path, notes)
    settings = dict(config or {})
    try:
        if system is None:
            system, network = recognise(arrays, settings)
        else:
            network = from_arrays(system, arrays, **settings)
    except MisfitError as error:
        nearest = error.as_nearest(str(system), len(arrays))
        raise WeightsError(f"{path.name}: {nearest.cause}") from None
    except FoveateError as error:
        kind = WeightsError if isinstance(error, WeightsError) else ModelError
        raise kind(f"{path.name}: {error.cause}", error.hint) from None
    if not network.arch:
        raise ModelError(f"{system}: these networks cannot classify videos by themselves")
    model: Any = network.model
    if getattr(model, "channels", 3) != 3:
        raise ModelError(
            f"{path.name}: the input of this network is optical flow of {model.channels} channels, "
            "but recognisers provide RGB",
            "use it from Python: foveate.models.weights.importers.from_arrays",
        )
    glancing = hasattr(model, "glance_frames")  # AdaFocus
    count = int(model.num_classes if glancing else model.classifier.out_features)
    if labels is not None:
        _check_labels(path.name, labels, count)
    arch = network.arch.partition(":")[0]
    spec = _INPUTS.get(f"{system} {arch}") or _INPUTS.get(arch) or input_of(network.arch)
    if glancing:
        spec = _glancing_input(model)
    card = RunCard(
        method="adafocus" if glancing else NETWORK,
        networks={NETWORK: NetworkCard(arch=network.arch, settings=network.settings)},
        classes=list(labels or (f"class {i}" for i in range(count))),
        input=InputCard.of(spec or _SEGMENTS),
        recipe="import",
        configuration={"system": system, **settings},
        protocol="imported; not measured here",
        started_from=path.name,
        licence=licence,
        notice=f"Imported from {path.name} of {system}"
        + (f" over {backbone}" if (backbone := split_backbone(network.arch)) else "")
        + "".join(f"; {note}" for note in notes),
    )
    return folder, write_run(folder, {NETWORK: model}, card)


def _glancing_input(model: Any) -> InputSpec:
    """The published frames of an AdaFocus network, over the whole of clips of ten seconds."""
    if not model.per_frame:  # candidates; without a choice of frames all of them are focused on
        frames = 3 * model.focuses if model.focuses else 12
    else:
        frames = len(getattr(model.classifier, "heads", range(16)))
    return InputSpec(
        model.size, frames / _CLIP, frames, mean=_SEGMENTS.mean, std=_SEGMENTS.std,
        resize_to=round(model.size * 256 / 224),
    )  # fmt: skip


def _check_labels(file: str, labels: tuple[str, ...], count: int) -> None:
    """Raise WeightsError unless labels are one per class, not empty and distinct."""
    if len(labels) != count:
        raise WeightsError(f"{file}: {len(labels)} labels for {count} classes")
    for at, label in enumerate(labels):
        if not label.strip():
            raise WeightsError(f"{file}: label {at + 1} is empty")
        if label in labels[:at]:
            raise WeightsError(
                f"{file}: label {at + 1}, {label!r}, is also label {labels.index(label) + 1}"
            )
