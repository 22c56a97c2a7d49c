"""Map original names to names of this package, and list every array that does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foveate.core.errors import ModelError, WeightsError

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
    """Arrays that are missing, unexpected or of the wrong shape.

    Args:
        source: Name of the source.
        faults: One entry per name; the message has the first of them.
        fitting: Number of arrays with a name of the network.
        network: Name of the network.
    """

    def __init__(
        self, source: str, faults: list[str], fitting: int = 0, network: str = "network"
    ) -> None:
        super().__init__(f"{source} does not fit ({len(faults)} names): {_some(faults)}")
        self.faults = faults
        self.fitting = fitting
        self.network = network

    def as_nearest(self, system: str, count: int) -> WeightsError:
        """The error for arrays that fit no system, if this one is the nearest.

        Args:
            system: Name of the system.
            count: Number of arrays.
        """
        differ = "1 array differs" if len(self.faults) == 1 else f"{len(self.faults)} differ"
        return WeightsError(
            f"nearest is the {self.network} of {system}, which has {self.fitting} of the {count} "
            f"names; {differ}: {_some(self.faults)}"
        )


class ValuesError(WeightsError):
    """Arrays that fit, but have invalid values."""


def _some(faults: list[str]) -> str:
    """The first entries, and the number of the others."""
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return ", ".join(faults[:_SHOWN]) + more


# Old checkpoints lack the counter of BatchNorm, which starts at zero.
_COUNTER = "num_batches_tracked"
# Prefixes of all names by wrappers: parallel, compiled and averaged networks, trainers.
_WRAPPERS = frozenset(["module", "_orig_mod", "model", "net", "network", "recognizer"])
_AVERAGED = frozenset(["ema", "ema_model", "model_ema", "ema_net", "net_ema", "averaged_model"])
# Parts of names by wrappers of modules inside the network.
_INSIDE = re.compile(
    r"(?:^|(?<=\.))(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\."
)
# Other entries of wrappers: counters of averages, and losses of trainers.
_COUNTS = frozenset(["n_averaged", "steps", "num_updates", "initted", "step"])
_LOSSES = re.compile(r"(criterion|loss|loss_fn|losses)(\.|$)|(train|val|test)_\w+\.")


def place(
    model: nn.Module,
    arrays: Mapping[str, Any],
    original: Callable[[str], str] = str,
    change: Callable[[str, torch.Tensor], torch.Tensor] | None = None,
    source: str = "the checkpoint",
) -> None:
    """Load the arrays of another project into a network, strictly.

    Args:
        model: The network, which keeps its dtype and memory format.
        arrays: NumPy arrays or tensors by original name.
        original: Maps a state-dict name of the network to the original's name.
        change: Called with (name, array) to convert an array to the layout of the network.
        source: Name of the source in errors.

    Raises:
        MisfitError: Arrays that are missing, unexpected or of the wrong shape; `faults` lists all
            by their original names.
        ValuesError: Invalid values: not finite, negative variances, integers instead of
            floating-point numbers.
    """
    own = model.state_dict(keep_vars=True)
    faults: list[str] = []
    values: dict[str, torch.Tensor] = {}
    used: set[str] = set()
    for name, tensor in own.items():
        theirs = original(name)
        if theirs in used:
            raise WeightsError(f"{source}: two parameters map to {theirs!r}")
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
            f"{source} has invalid values: {_some(wrong)}",
            "it is damaged, or its training diverged",
        )
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)


def _unusable(name: str, value: torch.Tensor, into: torch.Tensor) -> str | None:
    """Why values are invalid; None if they are valid."""
    if not into.is_floating_point():
        return None
    if not value.is_floating_point():
        return f"{str(value.dtype).removeprefix('torch.')} instead of floating-point numbers"
    value = value.to(into.dtype)  # finite values may overflow in a narrower dtype
    if not bool(value.isfinite().all()):
        odd = int((~value.isfinite()).sum())
        return f"{odd} of {value.numel()} not finite"
    if name.endswith("running_var") and bool((value < 0).any()):
        return "a negative variance"
    return None


def _tensor(value: Any) -> torch.Tensor:
    """An array as a tensor; read-only arrays are copied, as torch requires."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()
    found = torch.as_tensor(value)
    if found.is_quantized:
        return found.dequantize()
    return found.to_dense() if found.layout != torch.strided else found


def unknown_network(project: str, arrays: Mapping[str, Any]) -> WeightsError:
    """The error for arrays that are not of a network of a project."""
    some = ", ".join(list(arrays)[:4]) or "none"
    return WeightsError(f"not a network of {project} (the first names: {some})")


def classes_of(arrays: Mapping[str, Any], head: str, config: dict[str, Any]) -> int:
    """Number of classes of a head; 1 without a head, so that `place` lists all differences.

    Args:
        arrays: By original name.
        head: Name of the weights of the head.
        config: The original's arguments; the number of classes is removed.

    Raises:
        WeightsError: The configuration has another number.
    """
    shape = tuple(getattr(arrays.get(head), "shape", ()))
    found = max(1, int(shape[0])) if len(shape) > 1 else 1
    for key in ("num_classes", "num_class", "n_classes"):
        given = config.pop(key, found)
        if given != found and head in arrays:
            raise WeightsError(f"{key}={given}, but {head} has {found} rows")
    return found


def check_settings(
    config: Mapping[str, Any], fixed: Mapping[str, Any] | None = None, free: tuple[str, ...] = ()
) -> None:
    """Reject unknown and unsupported settings.

    Args:
        config: The remaining arguments of the original.
        fixed: The only supported value of each of these.
        free: Arguments without effect at inference.

    Raises:
        ModelError: The error names the argument.
    """
    fixed = fixed or {}
    for key, value in config.items():
        if key not in fixed and key not in free:
            raise ModelError(f"unknown argument {key!r} of the original")
        if key in fixed and value != fixed[key]:
            raise ModelError(f"{key}={value!r} is not supported, only {fixed[key]!r}")


def without_prefix(arrays: Mapping[str, Any], prefix: str = "module.") -> dict[str, Any]:
    """Return the arrays without a prefix that all names share, such as that of a wrapper."""
    if arrays and all(name.startswith(prefix) for name in arrays):
        return {name.removeprefix(prefix): value for name, value in arrays.items()}
    return dict(arrays)


def unwrapped(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's own arrays, without the additions of wrappers and trainers.

    Prefixes that all names share are removed (``module.``, ``_orig_mod.``, ``model.``, ...), in any
    order, and those of wrapped modules inside the network (checkpointed, sharded or compiled); also
    counters of averages, losses, and averaged copies of the network. If there is only
    an averaged copy, it is the network.
    """
    found = {_INSIDE.sub("", str(name)): value for name, value in arrays.items()}
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
    # Some trainers store the average of `a.b` as a buffer `ema_a_b` of the network.
    shadows = {f"ema_{name.replace('.', '_')}" for name in found}
    return {name: value for name, value in found.items() if name not in shadows}


_STAGES = (1, 2, 3, 4, 3, 3, 1)  # blocks of MobileNetV2's stages


def mobilenetv2_name(name: str, apart: bool) -> str:
    """The name of a parameter of timm's MobileNetV2 in torchvision's and in TSM's code.

    Args:
        name: Of timm, such as ``blocks.1.0.conv_dw.weight``.
        apart: Whether each layer counts (as in TSM's code); else convolution and BatchNorm count
            as one (torchvision).

    Returns:
        From ``features.`` on; names of other networks as they are.
    """
    name = name.replace(".layer.", ".net.")  # behind a shift
    if found := re.fullmatch(r"(conv_stem|bn1|conv_head|bn2)\.(.+)", name):
        layer, leaf = found.groups()
        index = 0 if layer in ("conv_stem", "bn1") else 18
        return f"features.{index}.{int(layer.startswith('bn'))}.{leaf}"
    found = re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+?)\.(.+)", name)
    if found is None:
        return name
    stage, block, layer, leaf = int(found[1]), int(found[2]), found[3], found[4]
    index = 1 + sum(_STAGES[:stage]) + block
    order = ["conv_dw", "bn1", "conv_pw", "bn2"] if stage == 0 else [
        "conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3",
    ]  # fmt: skip
    at = order.index(layer)
    if apart:
        place = str(at + at // 2)  # an activation follows each BatchNorm but the last
    elif at < len(order) - 2:
        place = f"{at // 2}.{at % 2}"
    else:
        place = str(len(order) // 2 - 1 + at % 2)
    return f"features.{index}.conv.{place}.{leaf}"
