"""Reading foreign files as named arrays: safetensors, npz without objects, tensors-only pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from foveate.core.errors import WeightsError

MOST_BYTES = 8_000_000_000
# Keys under which trainers keep the state of the network, the averaged one last.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")


def read_arrays(path: Path) -> dict[str, Any]:
    """Read the named arrays of a checkpoint.

    Args:
        path: ``.safetensors``, ``.npz``, or a file of torch (``.pth``, ``.pt``, ``.tar``, ...).

    Returns:
        Arrays or tensors by the names in the file; where a trainer wrapped the network's state
        in a dictionary, only that state.

    Raises:
        WeightsError: Not such a file; or it holds more than tensors and plain values, which would
            mean running its code.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    if not path.is_file() or size > MOST_BYTES:
        raise WeightsError(f"{path.name}: no file, or larger than {MOST_BYTES:,} bytes")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return _npz(path)
    return read_torch(path, path.name)


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path.name}: no safetensors file ({_line(error)})") from error


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise WeightsError(f"{path.name}: no plain npz file ({_line(error)})") from error


def read_torch(source: Path | BinaryIO, name: str) -> dict[str, Any]:
    """Read a file of ``torch.save`` without running anything of it.

    Args:
        source: Its path, or the open file.
        name: What to call it in errors.

    Raises:
        WeightsError: It holds more than tensors and plain values, or is no such file.
    """
    import pickle  # for the name of its error only

    import torch

    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{name}: holds more than tensors, so it is not opened ({_line(error)})",
            "save its state_dict alone, best as safetensors, where you trust it",
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise WeightsError(f"{name}: no checkpoint ({_line(error)})") from error
    return _unwrapped(found, name)


def _unwrapped(found: Any, name: str) -> dict[str, Any]:
    """The state of the network, out of what a trainer put around it."""
    import torch

    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{name}: a {type(found).__name__}, not tensors by name")
    odd = [str(key) for key, value in found.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise WeightsError(f"{name}: no tensors under {', '.join(odd[:8])}")
    return {str(key): value for key, value in found.items()}


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
