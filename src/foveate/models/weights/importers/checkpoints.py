"""`foveate weights import`: a foreign checkpoint as a run folder of this machine.

What is imported becomes an ordinary run folder under a name in the cache, so that everything that
opens a trained model opens it too.
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
from foveate.models.weights.importers.naming import MisfitError, ValuesError
from foveate.models.weights.importers.registry import Imported, from_arrays, systems
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run
from foveate.models.weights.table import input_of

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
# What the published recipes fed these networks; a run card can be edited where it was different.
_GREY = (0.5, 0.5, 0.5)
_INPUTS = {
    "c3d": InputSpec(112, 16.0, 16, mean=_GREY, resize_to=128),
    "i3d": InputSpec(224, 25.0, 64, mean=_GREY, std=_GREY, resize_to=256),
    "r3d": InputSpec(112, 16.0, 16),
    "r2plus1d": InputSpec(112, 16.0, 16),
}
_INPUTS |= {f"resnet3d-rs-{depth}": InputSpec(256, RATE, 32) for depth in DEPTHS}
_INPUTS["resnet3d-50"] = InputSpec(256, RATE, 32)
# MMAction2 gives C3D grey values of 0..255 less the mean picture of Sports-1M.
_INPUTS["mmaction c3d"] = InputSpec(
    112, 16.0, 16, mean=(104 / 255, 117 / 255, 128 / 255), std=(1 / 255,) * 3, resize_to=128
)
_SEGMENTS = InputSpec(
    224, 4.0, 16, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize_to=256
)


def folder_of(name: str) -> Path:
    """Where weights imported under a name lie.

    Raises:
        WeightsError: The name could not be one of a folder.
    """
    if not _NAME.fullmatch(name):
        raise WeightsError(
            f"{name!r} is no name for weights", "use lower-case letters, digits, dots and hyphens"
        )
    return cache_folder() / "imported" / name


def recognise(arrays: dict[str, Any], config: dict[str, Any]) -> tuple[str, Imported]:
    """Find the system that understands some arrays, by trying all.

    Raises:
        WeightsError: None does. The line names the system that most arrays fit, and what differs.
        ModelError: One does, but not with that configuration.
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
        some = ", ".join(list(arrays)[:4]) or "none"
        raise WeightsError(
            f"no importer takes these arrays (the first names: {some})",
            f"there are importers for {', '.join(systems())}",
        )
    raise misfits[nearest].as_nearest(nearest, len(arrays))


def _fits(system: str, arrays: dict[str, Any]) -> bool:
    """Whether a system takes the arrays without a configuration."""
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
    """Import a checkpoint and keep it as a run folder.

    Args:
        path: The file.
        name: Under which it can be loaded afterwards.
        system: One of ``systems()``; found by trying when None.
        config: Arguments with which the original built its network.
        labels: One per class; numbers when None.
        licence: SPDX identifier, if its owner states one.

    Returns:
        The folder and its card.

    Raises:
        WeightsError: The file holds no network that is known here, or a name is wrong.
        ModelError: The network is of a kind that is not run on videos.
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
        raise ModelError(f"{system}: these networks answer for no video by themselves")
    model: Any = network.model
    if getattr(model, "channels", 3) != 3:
        raise ModelError(
            f"{path.name}: this network takes optical flow, {model.channels} channels, and "
            "recognisers are given RGB",
            "use it from Python: foveate.models.weights.importers.from_arrays",
        )
    count = int(model.classifier.out_features)
    if labels is not None:
        _check_labels(labels, count)
    arch = network.arch.partition(":")[0]
    spec = _INPUTS.get(f"{system} {arch}") or _INPUTS.get(arch) or input_of(network.arch)
    card = RunCard(
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


def _check_labels(labels: tuple[str, ...], count: int) -> None:
    """Labels are one per class, none of them empty or given twice."""
    if len(labels) != count:
        raise WeightsError(f"{len(labels)} labels for {count} classes")
    for at, label in enumerate(labels):
        if not label.strip():
            raise WeightsError(f"label {at + 1} is empty")
        if label in labels[:at]:
            raise WeightsError(
                f"label {at + 1}, {label!r}, is also label {labels.index(label) + 1}"
            )
