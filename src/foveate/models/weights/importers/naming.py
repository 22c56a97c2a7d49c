"""From original names to ours: every array finds its place, or is listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foveate.core.errors import WeightsError

if TYPE_CHECKING:
    from torch import nn


class MisfitError(WeightsError):
    """Arrays that are missing, left over or of the wrong shape.

    Args:
        source: What to call the origin.
        faults: One entry per name.
    """

    def __init__(self, source: str, faults: list[str]) -> None:
        super().__init__(f"{source} does not fit ({len(faults)} names): {', '.join(faults)}")
        self.faults = faults


# Old checkpoints lack BatchNorm's call counter; it is no weight and starts at zero.
_COUNTER = "num_batches_tracked"


def place(
    model: nn.Module,
    arrays: Mapping[str, Any],
    original: Callable[[str], str] = str,
    change: Callable[[str, torch.Tensor], torch.Tensor] | None = None,
    source: str = "the checkpoint",
) -> None:
    """Fill a network with the arrays of another project, all of them and nothing else.

    Args:
        model: Receives the values in its own dtype and memory format.
        arrays: NumPy arrays or tensors by original name.
        original: Gives the original's name for the name of a parameter or buffer of ours.
        change: Called with (our name, array) to bring an array into our layout.
        source: What to call the origin in errors.

    Raises:
        MisfitError: Arrays missing, left over or of the wrong shape; all are listed, by their
            original names.
    """
    own = model.state_dict(keep_vars=True)
    faults: list[str] = []
    values: dict[str, torch.Tensor] = {}
    used: set[str] = set()
    for name, tensor in own.items():
        theirs = original(name)
        if theirs in used:
            raise WeightsError(f"{source}: two parameters take {theirs!r}")
        used.add(theirs)
        if theirs not in arrays:
            if not name.endswith(_COUNTER):
                faults.append(f"missing {theirs} {tuple(tensor.shape)}")
            continue
        value = _tensor(arrays[theirs])
        if change is not None:
            value = change(name, value)
        if value.shape != tensor.shape:
            faults.append(f"{theirs} is {tuple(value.shape)}, not {tuple(tensor.shape)}")
        values[name] = value
    faults += [f"unused {name} {tuple(arrays[name].shape)}" for name in arrays if name not in used]
    if faults:
        raise MisfitError(source, faults)
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)


def _tensor(value: Any) -> torch.Tensor:
    """An array as a tensor; one that may not be written to is copied, as torch asks."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()
    return torch.as_tensor(value)


def without_prefix(arrays: Mapping[str, Any], prefix: str = "module.") -> dict[str, Any]:
    """Return the arrays with a prefix that all names share taken off, as wrappers add it."""
    if arrays and all(name.startswith(prefix) for name in arrays):
        return {name.removeprefix(prefix): value for name, value in arrays.items()}
    return dict(arrays)
