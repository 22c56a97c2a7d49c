"""`foveate weights import`: a foreign checkpoint as a run folder of this machine.

What is imported becomes an ordinary run folder under a name in the cache, so that everything that
opens a trained model opens it too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from foveate.core.errors import FoveateError, ModelError, WeightsError
from foveate.models.loaded import NETWORK
from foveate.models.registry import split_backbone
from foveate.models.resnet3drs import DEPTHS, RATE
from foveate.models.spec import InputSpec
from foveate.models.weights.importers import Imported, MisfitError, from_arrays, systems
from foveate.models.weights.importers.files import read_arrays
from foveate.models.weights.resolve import cache_folder
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
        WeightsError: None does. Where most names fit one of them, the error lists the others.
    """
    errors: dict[str, FoveateError] = {}
    for system in systems():
        try:
            return system, from_arrays(system, arrays, **config)
        except FoveateError as error:
            errors[system] = error
    # One fault alone says only that a name by which a network is known is not there.
    misfits = [
        error
        for error in errors.values()
        if isinstance(error, MisfitError) and 1 < len(error.faults) <= len(arrays)
    ]
    if misfits:
        raise min(misfits, key=lambda error: len(error.faults))
    told = "; ".join(f"{system}: {error.cause[:120]}" for system, error in errors.items())
    raise WeightsError(f"no importer takes these arrays ({told})", "say which with --system")


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
        ModelError: The network cannot classify video by itself.
    """
    folder = folder_of(name)
    arrays = read_arrays(path)
    settings = dict(config or {})
    if system is None:
        system, network = recognise(arrays, settings)
    else:
        network = from_arrays(system, arrays, **settings)
    if not network.arch:
        raise ModelError(f"{system}: these networks answer for no video by themselves")
    model: Any = network.model
    count = int(model.classifier.out_features)
    if labels is not None and len(labels) != count:
        raise WeightsError(f"{len(labels)} labels for {count} classes")
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
        + (f" over {backbone}" if (backbone := split_backbone(network.arch)) else ""),
    )
    return folder, write_run(folder, {NETWORK: model}, card)
