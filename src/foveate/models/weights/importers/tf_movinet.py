"""MoViNets of TensorFlow's model garden, as npz or safetensors of arrays.

Two ways of naming are understood: by layer (``block0_layer0/bneck/expansion/conv3d/kernel``) and by
the path of the object in a checkpoint (``model/layer_with_weights-0/layer_with_weights-1/
_expansion/_conv/kernel/.ATTRIBUTES/VARIABLEVALUE``; a trainer's checkpoint has ``backbone/`` for
the first two, one of the backbone alone has neither). All forms of the depthwise kernels are read:
``3d``, ``2plus1d`` and ``3d_2plus1d``, which holds the numbers of the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from foveate.core.errors import ModelError, WeightsError
from foveate.models.movinet import MoViNet, MoViNetStream
from foveate.models.movinet import movinet as build
from foveate.models.movinet_config import (
    TABLES,
    MoViNetConfig,
    options_of,
    pool_name,
    released,
    slot_name,
)
from foveate.models.weights.importers.movinet import in_calls, table_of
from foveate.models.weights.importers.naming import TRAINERS, VALUE, check_settings, place
from foveate.models.weights.importers.registry import Imported, Outputs, importer

_OBJECT = re.compile(
    r"(?:model/)?(?:layer_with_weights-0/|backbone/)?layer_with_weights-(\d+)/(_.+)"
)
_DENSE = re.compile(r"(?:model/)?layer_with_weights-1/_(head|classifier)/(.+)")
_ROLES = (
    ("/se_reduce/", "squeeze.reduce"),
    ("/se_expand/", "squeeze.expand"),
    ("/pos_encoding/", "squeeze.position"),
    ("/skip/", "skip_project"),
    ("/expansion/", "expansion"),
    ("/projection/", "projection"),
    ("/feature/", "feature"),
)
_LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_NAMES = {"swish": "swish", "hard_swish": "hard-swish", "relu6": "relu6"}
_GATES = {"sigmoid": "sigmoid", "hard_sigmoid": "hard-sigmoid"}
_SQUEEZE = {"none": "none", "3d": "mean", "2plus3d": "mean+frame"}


@importer("tf_movinet")
def tf_movinet(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build the network whose arrays these are; see ``from_arrays``.

    Args:
        arrays: By either kind of name. A trainer's own entries (optimiser, counters) are let pass.
        **config: The original's arguments. What is not given is as in the released network of this
            kind; what the arrays tell must agree.

    Raises:
        WeightsError: No network of the family, or one that does not fit its own configuration.
        ModelError: A configuration that is not supported.
    """
    kept = {name: value for name, value in arrays.items() if not TRAINERS.match(name)}
    named, table = _by_layer(kept)
    found: dict[str, Any] = {}
    for name, value in named.items():
        key = _ours(name)
        if key in found:
            raise WeightsError("two arrays of the checkpoint are the same variable")
        found[key] = _turned(key, name, np.asarray(value))
    made, classes = _settings(dict(config), table, named, found)
    model = build(made, classes)
    place(model, found)
    kind = "stream" if made.causal else "base"
    arch = f"movinet-{table}-stream" if made.causal else f"movinet-{table}"
    return Imported(model, _run, arch=arch, settings=options_of(made, released(table, kind)))


def _settings(
    config: dict[str, Any], table: str, named: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[MoViNetConfig, int]:
    """The network's configuration and its number of classes.

    Raises:
        WeightsError: The arrays say otherwise than the configuration.
        ModelError: It is not supported.
    """
    factored = any("feature_temporal" in name for name in found)
    reduce = found.get("blocks.block0_layer0.squeeze.reduce.weight")
    wide = TABLES[table].blocks[0].layers[0].expanded
    seen_squeeze = "none" if reduce is None else "2plus3d" if reduce.shape[1] == 2 * wide else "3d"
    bias = found.get("classifier.bias")
    classes = 1 if bias is None else len(bias)
    seen: dict[str, Any] = {
        "model_id": table,
        "num_classes": classes,
        "se_type": seen_squeeze,
        "use_positional_encoding": any("position_scale" in name for name in found),
    }
    for key, value in seen.items():
        said = config.pop(key, value)
        if said != value:
            raise WeightsError(f"{key}={said!r}, but the arrays have {value!r}")
    conv = config.pop("conv_type", "2plus1d" if factored else "3d")
    if conv not in ("3d", "2plus1d", "3d_2plus1d"):
        raise ModelError(f"conv_type={conv!r} is not supported")
    if (conv != "3d") != factored:
        raise WeightsError(f"conv_type={conv!r}, but the arrays say otherwise")
    causal = bool(config.pop("causal", seen_squeeze == "2plus3d"))
    made = released(table, "stream" if causal else "base")
    made = replace(
        made,
        conv="2plus1d" if factored else "3d",
        squeeze=_SQUEEZE[seen_squeeze],
        positions=seen["use_positional_encoding"],
    )
    for key, ours, known in (
        ("activation", "activation", _NAMES),
        ("gating_activation", "gate", _GATES),
        ("classifier_activation", "head_activation", _NAMES),
    ):
        if key in config:
            value = config.pop(key)
            if value not in known:
                raise ModelError(f"{key}={value!r} is not supported")
            chosen: dict[str, Any] = {ours: known[value]}
            made = replace(made, **chosen)
    check_settings(config)
    return made, classes


# --- names --------------------------------------------------------------------------------------


def _by_layer(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The arrays under the names of their layers, and the table that has such layers."""
    objects = {name: _OBJECT.fullmatch(name.removesuffix(VALUE)) for name in arrays}
    widths: dict[tuple[int, int], int] = {}
    for name, value in arrays.items():
        match = re.match(r"block(\d+)_layer(\d+)/.*expansion/.*gamma$", name)
        inside = objects[name]
        if match:
            widths[int(match[1]), int(match[2])] = len(value)
        elif inside and inside[2] == "_expansion/_batch_norm/gamma":
            widths[int(inside[1]), 0] = len(value)
    table = table_of(None, tuple(width for _, width in sorted(widths.items())))
    places = [
        f"block{b}_layer{i}"
        for b, stage in enumerate(TABLES[table].blocks)
        for i in range(len(stage.layers))
    ]
    layers = ["stem", *places, "head"]
    named = {}
    for name, value in arrays.items():
        match, dense = objects[name], _DENSE.fullmatch(name.removesuffix(VALUE))
        if dense:
            named[f"classifier_head/{dense[1]}/{dense[2]}"] = value
        elif match and int(match[1]) < len(layers):
            inner = match[2].replace("/_", "/").removeprefix("_")
            inner = inner.replace("attention/", "se/").replace(
                "skip/projection", "skip/skip_project"
            )
            if inner == "mobile_bottleneck/rezero/scale":
                inner = "scale"
            named[f"{layers[int(match[1])]}/{inner}"] = value
        else:
            named[name] = value
    return named, table


def _ours(name: str) -> str:
    """Our name of a variable; one that means nothing keeps its own."""
    top, _, rest = name.partition("/")
    leaf = name.rpartition("/")[2]
    if top == "classifier_head":
        role = rest.partition("/")[0]
        where = {"head": "classifier_head", "classifier": "classifier"}.get(role)
    elif top in ("stem", "head"):
        where = {"stem": "stem", "head": "head_project"}[top]
    elif top.startswith("block") and rest == "scale":
        return f"blocks.{top}.rezero"
    else:
        role = next((ours for word, ours in _ROLES if word in f"/{rest}"), "")
        where = f"blocks.{top}.{role}" if role else None
    if where is None:
        return name
    if where.endswith("squeeze.position"):
        return f"{where}_scale"
    if "temporal" in rest:
        where += "_temporal"
    if leaf in _LEAVES:
        return f"{where}_norm.{_LEAVES[leaf]}"
    return f"{where}.{'bias' if leaf == 'bias' else 'weight'}"


def _turned(key: str, name: str, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A kernel (..., in, out) as (out, in, ...), without the axes that our layer lacks."""
    if value.ndim < 4:
        return value
    last = (-2, -1) if name.endswith("depthwise_kernel") else (-1, -2)
    value = np.moveaxis(value, last, (0, 1))
    if ".squeeze." in key or key.startswith("classifier"):
        return value.reshape(value.shape[:2]) if value[0, 0].size == 1 else value
    if value.ndim == 5 and value.shape[2] == 1:
        return value[:, :, 0]
    if value.ndim == 5 and "_temporal" in key and value.shape[4] == 1:
        return value[..., 0]
    return value


# --- outputs ------------------------------------------------------------------------------------


def _run(net: MoViNet, clip: torch.Tensor) -> Outputs:
    """Clips (N, T, H, W, 3): logits and maps (N, T, H', W', C); causal: states after T steps."""
    batch, frames, *_ = clip.shape
    x = clip.permute(0, 4, 1, 2, 3)
    outputs: Outputs = {}
    start = net.state_before(x)
    for name, y in net.maps(x, start, {}):
        outputs[name] = y.permute(0, 2, 3, 1).unflatten(0, (batch, frames))
    outputs["head"] = outputs["head"].mean((1, 2, 3), keepdim=True)
    if not isinstance(net, MoViNetStream):
        return outputs | {"logits": net(x)}
    half = -(-frames // 2)
    split = [half, frames - half] if frames > 1 else [frames]
    outputs["logits_clip"] = in_calls(net, x, [frames])[0]
    outputs["logits_split"] = torch.stack(in_calls(net, x, split))
    logits, state = [], start
    for frame in x.split(1, 2):
        answer, state = net.step(frame, state)
        logits.append(answer)
    return outputs | _states(net, state) | {"logits_frames": torch.stack(logits)}


def _states(net: MoViNet, state: Mapping[str, torch.Tensor]) -> Outputs:
    """A state under the original's names and in its shapes."""
    count = state["head/frames"][:1].to(torch.int32)
    outputs: Outputs = {}
    for name, layer in net.layers():
        if layer.keys:
            slots = [state[slot_name(name, i)] for i in range(len(layer.keys))]
            outputs[f"state_{name}_stream_buffer"] = torch.stack(slots, 1)
        if layer.squeeze is not None:
            outputs[f"state_{name}_pool_buffer"] = state[pool_name(name)][:, None, None, None]
            outputs[f"state_{name}_pool_frame_count"] = count
            if layer.squeeze.position_scale is not None:
                outputs[f"state_{name}_pos_enc_frame_count"] = count
    outputs["state_head_pool_buffer"] = state["head/sum"][:, None, None, None]
    outputs["state_head_pool_frame_count"] = count
    return outputs
