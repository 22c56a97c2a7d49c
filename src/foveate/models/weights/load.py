"""Load a model by name: find its weights, check, convert and load them.

Converted weights are cached as safetensors, by the sha256 of their source and the version of the
importers. If the cache cannot be read or written, the weights are converted again.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.core.errors import FoveateError, WeightsError
from foveate.core.files import cache_folder, replace_file
from foveate.models.loaded import NETWORK, LoadedModel
from foveate.models.registry import create
from foveate.models.weights.builtin import run_folder
from foveate.models.weights.resolve import Progress, locate
from foveate.models.weights.run import fill, load_run
from foveate.models.weights.table import WeightEntry, WeightFile, find

if TYPE_CHECKING:
    import torch
    from torch import nn

# Increased when an importer returns other numbers or names, so that weights are converted again.
VERSION = 1
_CHECKSUM = "crc32"


def load(
    name: str,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    num_classes: int | None = None,
) -> LoadedModel:
    """Return a model with its weights.

    Args:
        name: A run folder, or ``ARCH.TAG``, for example ``movinet-a0-stream-lite.k600``.
        offline: Do not use the network.
        progress: Called with (bytes so far, bytes in total) during a download.
        num_classes: For weights of the table, another number of outputs: the classifier is then
            randomly initialised, all other layers are pretrained, and there are no labels.

    Raises:
        WeightsError: Weights that are unknown, missing, damaged or do not fit.
    """
    folder = run_folder(name)
    if folder is not None:
        return replace(load_run(folder), name=name)
    entry = find(name)
    tensors = converted(entry, offline=offline, progress=progress)
    if num_classes is None or num_classes == entry.num_classes:
        model = _unset(entry.arch, entry.num_classes)
        labels = read_labels(entry, offline=offline, progress=progress)
    else:
        model = create(entry.arch, num_classes=num_classes)
        own = model.state_dict()
        tensors.update({k: v for k, v in own.items() if k.startswith("classifier.")})
        labels = ()
    fill(model, tensors, entry.file.name)
    return LoadedModel(
        name=entry.name,
        networks={NETWORK: model.eval()},
        labels=labels,
        input=entry.input,
        output=entry.output,
        method=entry.method,
        entry=entry,
    )


def _unset(arch: str, num_classes: int) -> nn.Module:
    """Build a model without random initialisation, which takes most of the time of loading."""
    from torch.overrides import TorchFunctionMode

    class NoDraws(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            given = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return given["tensor"] if "tensor" in given else args[0]
            return func(*args, **given)

    with NoDraws():
        return create(arch, num_classes=num_classes)


def read_labels(
    entry: WeightEntry, *, offline: bool = False, progress: Progress | None = None
) -> tuple[str, ...]:
    """Return the names of an entry's classes, in order.

    Raises:
        WeightsError: The file is missing or has another number of lines.
    """
    if not isinstance(entry.labels, WeightFile):
        return entry.labels()
    path = locate(entry.labels, offline=offline, progress=progress)
    labels = tuple(path.read_text(encoding="utf-8").splitlines())
    if len(labels) != entry.num_classes:
        raise WeightsError(f"{path}: {len(labels)} labels for {entry.num_classes} classes")
    return labels


def converted(
    entry: WeightEntry, *, offline: bool = False, progress: Progress | None = None
) -> dict[str, torch.Tensor]:
    """Return an entry's parameters by name, from the cache or converted."""
    kept = cache_folder() / f"{entry.name}-{entry.file.sha256[:16]}-v{VERSION}.safetensors"
    tensors = _read_kept(kept)
    if tensors is not None:
        return tensors
    import torch

    source = locate(entry.file, offline=offline, progress=progress)
    arrays = entry.read(source.read_bytes(), source.name)
    tensors = {key: torch.from_numpy(array.copy()) for key, array in arrays.items()}
    _keep(kept, tensors)
    return tensors


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    """A checksum over names and values: it detects damage, not manipulation."""
    value = 0
    for key in sorted(tensors):
        value = zlib.crc32(key.encode(), value)
        value = zlib.crc32(tensors[key].numpy().tobytes(), value)
    return f"{value:08x}"


def _read_kept(path: Path) -> dict[str, torch.Tensor] | None:
    """Return cached tensors, None if there are none or they are damaged."""
    if not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            expected = (stored.metadata() or {}).get(_CHECKSUM)
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError):
        return None
    return tensors if _checksum(tensors) == expected else None


def _keep(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write converted tensors to the cache; errors are ignored."""
    from safetensors.torch import save

    with suppress(FoveateError):
        replace_file(path, save(tensors, metadata={_CHECKSUM: _checksum(tensors)}))
