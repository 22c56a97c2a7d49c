"""Checkpoints of TensorFlow's 3D ResNet-RS and R3D-50, as npz or safetensors of arrays.

Two ways of naming are understood: by layer (``group3/block5/temporal_conv/kernel``) and by the
path of the object in a checkpoint (``model/layer_with_weights-0/layer_with_weights-11/
_temporal_conv/kernel/.ATTRIBUTES/VARIABLE_VALUE``; a trainer's checkpoint has ``backbone/`` for the
first two). TensorFlow counts statistics the other way and keeps channels last; both are turned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from foveate.core.errors import ModelError, WeightsError
from foveate.models.registry import create
from foveate.models.resnet3drs import DEPTHS, GROUPS
from foveate.models.weights.importers.naming import TRAINERS, VALUE, check_settings, place
from foveate.models.weights.importers.registry import Imported, Outputs, importer

_LAYER = re.compile(r"layer_with_weights-(\d+)/(.+)")
_LEAVES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_DENSE = {
    "gate.dense": "self_gating/transformer_w",
    "se.reduce": "squeeze_excitation/se_reduce",
    "se.expand": "squeeze_excitation/se_expand",
}


@importer("tf_resnet3drs")
def tf_resnet3drs(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build the network whose arrays these are; see ``from_arrays``.

    Depth, classes and the type of stem are read from the arrays; the configuration must agree with
    them.

    Args:
        arrays: By names of either scheme. Other entries of a trainer (optimiser, counters) are
            ignored.
        **config: The original's arguments. ``stem_pool_temporal_stride`` defaults to 1.

    Raises:
        WeightsError: Not a network of the family, or one that does not match its configuration.
        ModelError: An unsupported configuration.
    """
    found = _by_layer(arrays)
    deep = "stem/conv1/kernel" in found
    blocks = tuple(len({n.split("/")[1] for n in found if n.startswith(f"{g}/")}) for g in GROUPS)
    depth = next((depth for depth, counts in DEPTHS.items() if counts == blocks), None)
    if depth is None:
        raise WeightsError(f"not a 3D ResNet-RS: {blocks} blocks")
    kernel = found.get("classifier/kernel")
    classes = 1 if kernel is None else int(kernel.shape[-1])
    settings = _settings(dict(config), depth, classes, deep)
    last = found.get("stem/conv2/kernel" if deep else "stem/conv0/kernel")
    if last is not None and last.shape[-1] != 64:
        settings["width"] = int(last.shape[-1])
    arch = f"resnet3d-rs-{depth}" if deep else "resnet3d-50"
    model = create(arch, num_classes=classes, **settings)
    place(model, found, _original, _turned)
    return Imported(model, _run, arch=arch, settings=settings)


def _run(net: Any, clip: torch.Tensor) -> Outputs:
    """Clips (N, T, H, W, 3) to logits (N, classes) and the maps of the groups (N, t, h, w, C)."""
    maps = net.maps(clip.permute(0, 4, 1, 2, 3))
    pooled = maps[GROUPS[-1]].mean((2, 3, 4))
    channels_last = {name: value.permute(0, 2, 3, 4, 1) for name, value in maps.items()}
    return {"logits": net.classify(pooled), **channels_last}


def _settings(config: dict[str, Any], depth: int, classes: int, deep: bool) -> dict[str, Any]:
    """Arguments of the builder; fixed ones and those known from the arrays are only checked.

    Raises:
        WeightsError: The arrays contradict it.
        ModelError: It is not supported.
    """
    seen = {"depth": depth, "num_classes": classes, "stem_type": "v1" if deep else "v0"}
    for key, value in seen.items():
        said = config.pop(key, value)
        if said != value:
            raise WeightsError(f"{key}={said!r}, but the arrays have {value!r}")
    pool = config.pop("stem_pool_temporal_stride", 1)
    if pool not in (1, 2):
        raise ModelError(f"stem_pool_temporal_stride={pool!r} is not supported, only 1 and 2")
    settings: dict[str, Any] = {} if pool == 1 else {"pool_stride": pool}
    drop = config.pop("stochastic_depth_drop_rate", None)
    if deep and drop is not None:
        settings["stochastic_depth"] = float(drop)
    ratio = config.pop("se_ratio", None)
    if deep and ratio is not None:
        settings["se_ratio"] = float(ratio)
    fixed = {
        "stem_conv_temporal_kernel_size": 5,
        "stem_conv_temporal_stride": 2,
        "norm_epsilon": 1e-5,
    }
    check_settings(config, fixed)
    return settings


# --- names --------------------------------------------------------------------------------------


def _original(name: str) -> str:
    """The original's name of a parameter or buffer."""
    path, leaf = name.rsplit(".", 1)
    if path == "classifier":
        return f"classifier/{'kernel' if leaf == 'weight' else 'bias'}"
    if path.startswith("stem."):
        layer = path.removeprefix("stem.")
        return f"stem/{layer}/{_leaf(layer, leaf)}"
    group, block, layer = path.split(".", 2)
    layer = _DENSE.get(layer, layer)
    return f"{group}/block{block}/{layer}/{_leaf(layer, leaf)}"


def _leaf(layer: str, leaf: str) -> str:
    if layer.startswith(("norm", "bn")):
        return _LEAVES.get(leaf, leaf)
    return "kernel" if leaf == "weight" else leaf


def _turned(name: str, value: torch.Tensor) -> torch.Tensor:
    """A kernel (..., in, out) as (out, in, ...); of a linear layer as (out, in)."""
    if not name.endswith(".weight") or value.ndim < 2:
        return value
    axes = range(value.ndim)
    value = value.permute(*axes[:-3:-1], *axes[:-2])
    dense = name.startswith("classifier") or any(f".{part}." in name for part in _DENSE)
    return value.flatten(1) if dense and value.shape[2:].numel() == 1 else value


def _by_layer(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays under the names of their layers; names that mean nothing keep theirs."""
    kept = {name: value for name, value in arrays.items() if not TRAINERS.match(name)}
    named = dict(_of_objects(kept))
    if len(named) < len(kept):
        raise WeightsError("two arrays of the checkpoint are the same variable")
    return named


def _of_objects(arrays: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    paths = {name: _path(name) for name in arrays}
    numbers = [path[0] for path in paths.values() if path and "/" not in path[1]]
    # The convolutions and norms of the stem come first, then the blocks, which contain layers.
    stem = max(numbers, default=-1) + 1
    inside = [path[0] for path in paths.values() if path and "/" in path[1]]
    starts = _starts(len(set(inside)))
    for name, path in paths.items():
        layer = name.removesuffix(VALUE)
        if path is not None and path[0] < 0:
            layer = f"classifier/{path[1]}"
        elif path is not None and "/" not in path[1]:
            kind = "bn" if path[0] % 2 else "conv"
            layer = f"stem/{kind}{path[0] // 2}/{path[1]}"
        elif path is not None and starts is not None:
            block = path[0] - stem
            group = max(i for i, start in enumerate(starts) if start <= max(block, 0))
            inner = re.sub(r"(^|/)_", r"\1", path[1])
            layer = f"group{group + 1}/block{block - starts[group]}/{inner}"
        yield layer, arrays[name]


def _path(name: str) -> tuple[int, str] | None:
    """Layer of the backbone (-1: the classifier) and what lies below it; None for other names."""
    path = name.removesuffix(VALUE)
    whole = re.sub(r"^model/", "", path)
    if whole in ("layer_with_weights-1/kernel", "layer_with_weights-1/bias"):
        return -1, whole.partition("/")[2]
    inner = re.sub(r"^(layer_with_weights-0|backbone)/(?=layer_with_weights-)", "", whole)
    match = _LAYER.fullmatch(inner) if inner != whole else None
    return (int(match[1]), match[2]) if match else None


def _starts(count: int) -> tuple[int, int, int, int] | None:
    """Index of each group's first block, by the total number of blocks (unique to a depth)."""
    for blocks in DEPTHS.values():
        if sum(blocks) == count:
            return 0, blocks[0], sum(blocks[:2]), sum(blocks[:3])
    return None
