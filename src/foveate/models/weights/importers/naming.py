"""From original names to ours: every array finds its place, or is listed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foveate.core.errors import WeightsError

if TYPE_CHECKING:
    from torch import nn

# Of TensorFlow's checkpoints: what ends the path of a variable, and what a trainer keeps besides
# the network (counters, settings, the optimiser's own arrays).
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
TRAINERS = re.compile(
    r"optimizer/|save_counter|global_step|_CHECKPOINTABLE_OBJECT_GRAPH|.*/\.OPTIMIZER_SLOT/"
)
_SHOWN = 8  # faults of a line


class MisfitError(WeightsError):
    """Arrays that are missing, left over or of the wrong shape.

    Args:
        source: What to call the origin.
        faults: One entry per name; the line gives the first of them.
        fitting: How many arrays have a name that the network has too.
        network: What they were to fill.
    """

    def __init__(
        self, source: str, faults: list[str], fitting: int = 0, network: str = "network"
    ) -> None:
        super().__init__(f"{source} does not fit ({len(faults)} names): {_some(faults)}")
        self.faults = faults
        self.fitting = fitting
        self.network = network

    def as_nearest(self, system: str, count: int) -> WeightsError:
        """The error of arrays that fit no system, of which this one comes nearest.

        Args:
            system: Its name.
            count: How many arrays there are.
        """
        differ = "1 array differs" if len(self.faults) == 1 else f"{len(self.faults)} differ"
        return WeightsError(
            f"nearest is the {self.network} of {system}, which has {self.fitting} of the {count} "
            f"names; {differ}: {_some(self.faults)}"
        )


class ValuesError(WeightsError):
    """Arrays that fit, but hold values that no working network has."""


def _some(faults: list[str]) -> str:
    """The first faults, and how many more there are."""
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return ", ".join(faults[:_SHOWN]) + more


# Old checkpoints lack BatchNorm's call counter; it is no weight and starts at zero.
_COUNTER = "num_batches_tracked"
# What wrappers put in front of all names: parallel, compiled and averaged networks, trainers.
_WRAPPERS = frozenset(["module", "_orig_mod", "model", "net", "network", "recognizer"])
_AVERAGED = frozenset(["ema", "ema_model", "model_ema", "ema_net", "net_ema", "averaged_model"])
# What wrappers keep among the arrays: how often an average was taken, and a trainer's losses.
_COUNTS = frozenset(["n_averaged", "steps", "num_updates", "initted", "step"])
_LOSSES = re.compile(r"(criterion|loss|loss_fn|losses)(\.|$)|(train|val|test)_\w+\.")


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
        MisfitError: Arrays missing, left over or of the wrong shape; `faults` lists all, by their
            original names.
        ValuesError: Values that no network works with: not finite, negative variances, whole
            numbers in place of fractions.
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
        raise MisfitError(source, faults, len(used & set(arrays)), type(model).__name__)
    wrong = [
        f"{original(name)} ({why})"
        for name, value in values.items()
        if (why := _unusable(name, value, own[name])) is not None
    ]
    if wrong:
        raise ValuesError(
            f"{source} holds values that no network works with: {_some(wrong)}",
            "it is damaged, or its training diverged",
        )
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)


def _unusable(name: str, value: torch.Tensor, into: torch.Tensor) -> str | None:
    """Why values would give scores that mean nothing; None where they are fine."""
    if not into.is_floating_point():
        return None
    if not value.is_floating_point():
        return f"{str(value.dtype).removeprefix('torch.')}, not fractions"
    value = value.to(into.dtype)  # what is finite in double precision may not be here
    if not bool(value.isfinite().all()):
        odd = int((~value.isfinite()).sum())
        return f"{odd} of {value.numel()} not finite"
    if name.endswith("running_var") and bool((value < 0).any()):
        return "a negative variance"
    return None


def _tensor(value: Any) -> torch.Tensor:
    """An array as a tensor; one that may not be written to is copied, as torch asks."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()
    found = torch.as_tensor(value)
    if found.is_quantized:
        return found.dequantize()
    return found.to_dense() if found.layout != torch.strided else found


def rows_of(arrays: Mapping[str, Any], head: str) -> int:
    """Number of classes of a head; 1 without one, so that `place` lists all that differs."""
    shape = tuple(getattr(arrays.get(head), "shape", ()))
    return max(1, int(shape[0])) if len(shape) > 1 else 1


def without_prefix(arrays: Mapping[str, Any], prefix: str = "module.") -> dict[str, Any]:
    """Return the arrays with a prefix that all names share taken off, as wrappers add it."""
    if arrays and all(name.startswith(prefix) for name in arrays):
        return {name.removeprefix(prefix): value for name, value in arrays.items()}
    return dict(arrays)


def unwrapped(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's own arrays, without what wrappers and trainers put around them.

    Prefixes that all names share are taken off (``module.``, ``_orig_mod.``, ``model.``, ...), in
    any order; so are counters of averages, losses, and averaged copies beside the network. Where
    there is nothing but an averaged copy, that is the network.
    """
    found = {str(name): value for name, value in arrays.items()}
    while True:
        inner = {n: v for n, v in found.items() if n not in _COUNTS and not _LOSSES.match(n)}
        tops = {name.partition(".")[0] for name in inner}
        main, averaged = tops & _WRAPPERS, tops & _AVERAGED
        if tops != main | averaged or not all("." in name for name in inner):
            break
        if not tops or (len(tops) > 1 and len(main) != 1):
            break
        top = f"{next(iter(main or tops))}."
        found = {n.removeprefix(top): v for n, v in inner.items() if n.startswith(top)}
    # Some trainers keep the average of `a.b` as a buffer `ema_a_b` of the network itself.
    shadows = {f"ema_{name.replace('.', '_')}" for name in found}
    return {name: value for name, value in found.items() if name not in shadows}
