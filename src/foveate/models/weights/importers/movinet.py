"""MoViNets of the common PyTorch port (Atze00/MoViNet-pytorch), by its state dict.

Networks of whole clips (``conv_type="3d"``) and causal ones (``"2plus1d"``), with TensorFlow's
padding or with the port's own (``tf_like=False``), which is tuned for the published sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from foveate.core.errors import WeightsError
from foveate.models.movinet import MoViNet, MoViNetStream
from foveate.models.movinet import movinet as build
from foveate.models.movinet_config import TABLES, MoViNetConfig, options_of, released
from foveate.models.weights.importers.naming import check_settings, place
from foveate.models.weights.importers.registry import Imported, Outputs, checksums, importer

_PARTS = {
    "expansion": "expand.conv_1",
    "feature": "deep.conv_1",
    "feature_temporal": "deep.conv_2",
    "projection": "project.conv_1",
    "skip_project": "res.1.conv_1",
    "squeeze.reduce": "se.fc1.conv_1",
    "squeeze.expand": "se.fc2.conv_1",
}
_OUTSIDE = {
    "stem": "conv1.conv_1",
    "head_project": "conv7.conv_1",
    "classifier_head": "classifier.0.conv_1",
    "classifier": "classifier.3.conv_1",
}


@importer("movinet")
def movinet(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build the network whose arrays these are; see ``from_arrays``.

    Args:
        arrays: The port's state dict.
        **config: The port's arguments: ``cfg`` (A0 to A5; found in the arrays if it is not given),
            ``causal``, ``conv_type`` and ``tf_like``; others must agree with the arrays.

    Raises:
        WeightsError: No network of the family, or one that does not fit its own configuration.
        ModelError: A configuration that is not supported.
    """
    config = dict(config)
    table = table_of(config.pop("cfg", None), _widths(arrays))
    kernel = "conv3d" if "conv1.conv_1.conv3d.weight" in arrays else "conv2d"
    conv = config.pop("conv_type", "3d" if kernel == "conv3d" else "2plus1d")
    if (conv == "2plus1d") != (kernel == "conv2d") or conv not in ("3d", "2plus1d"):
        raise WeightsError(f"conv_type={conv!r}, but the arrays are {kernel} kernels")
    reduce = arrays.get(f"blocks.b0_l0.se.fc1.conv_1.{kernel}.weight")
    wide = TABLES[table].blocks[0].layers[0].expanded
    doubled = reduce is not None and reduce.shape[1] == 2 * wide
    causal = bool(config.pop("causal", doubled))
    if causal != doubled:
        raise WeightsError(f"causal={causal}, but squeeze-excitation says otherwise")
    head = arrays.get(f"classifier.3.conv_1.{kernel}.bias")
    classes = 1 if head is None else len(head)
    if config.pop("num_classes", classes) != classes:
        raise WeightsError(f"the arrays have {classes} classes")
    made = _config(table, causal, conv, bool(config.pop("tf_like", False)))
    check_settings(config, free=("pretrained",))
    model = build(made, classes)
    place(model, arrays, lambda name: _original(name, kernel), _shaped)
    kind = "stream" if made.causal else "base"
    arch = f"movinet-{table}-stream" if made.causal else f"movinet-{table}"
    return Imported(model, _run, arch=arch, settings=options_of(made, released(table, kind)))


def _config(table: str, causal: bool, conv: str, tf_like: bool) -> MoViNetConfig:
    """The port's choices: they go with the kind of kernel, not with the direction of time."""
    made = released(table, "stream" if conv == "2plus1d" else "base")
    gate = "hard-sigmoid-0.2" if conv == "2plus1d" else "sigmoid"
    return replace(
        made,
        causal=causal,
        squeeze="mean+frame" if causal else "mean",
        gate=gate,
        head_activation="swish",
        positions=False,
        padding="same" if tf_like else "symmetric",
    )


def table_of(name: str | None, widths: tuple[int, ...]) -> str:
    """The key of ``TABLES`` whose layers have these expanded widths.

    Raises:
        WeightsError: None has, or another than was named.
    """
    for key, table in TABLES.items():
        if widths == tuple(layer.expanded for stage in table.blocks for layer in stage.layers):
            if name is not None and name.lower() != key:
                raise WeightsError(f"the arrays are MoViNet-{key.upper()}'s, not {name}'s")
            return key
    raise WeightsError(f"no MoViNet has layers of these {len(widths)} widths: {widths}")


def _widths(arrays: Mapping[str, Any]) -> tuple[int, ...]:
    found = []
    for name, value in arrays.items():
        if name.endswith(".expand.conv_1.norm.weight"):
            block, _, layer = name.split(".")[1].partition("_")
            found.append((int(block[1:]), int(layer[1:]), len(value)))
    return tuple(width for *_, width in sorted(found))


def _original(name: str, kernel: str) -> str:
    """The port's name of a parameter or buffer of ours."""
    path, leaf = name.rsplit(".", 1) if "." in name else ("", name)
    if path.startswith("blocks."):
        _, layer, *inner = name.split(".")
        prefix = "blocks." + layer.replace("block", "b").replace("layer", "l")
        if inner == ["rezero"]:
            return f"{prefix}.alpha"
        role, norm = _without_norm(".".join(inner[:-1]))
        part = f"{prefix}.{_PARTS[role]}"
    else:
        role, norm = _without_norm(path)
        part = _OUTSIDE[role]
    return f"{part}.{'norm' if norm else kernel}.{leaf}"


def _without_norm(role: str) -> tuple[str, bool]:
    return role.removesuffix("_norm"), role.endswith("_norm")


def _shaped(name: str, value: torch.Tensor) -> torch.Tensor:
    """A kernel without the axes of size one that our layer does not have."""
    dense = ".squeeze." in name or name.startswith("classifier")
    if not name.endswith(".weight") or value.ndim < 4:
        return value
    if dense:
        return value.flatten(2).squeeze(2) if value[0, 0].numel() == 1 else value
    return value.squeeze(2) if value.ndim == 5 and value.shape[2] == 1 else value


def _run(net: MoViNet, clip: torch.Tensor) -> Outputs:
    """Clips (B, 3, T, H, W): logits and what the maps are checked by; causal: by call, too."""
    batch, _, frames, *_ = clip.shape
    maps = {}
    for name, y in net.maps(clip, net.state_before(clip), {}):
        maps[name] = y.unflatten(0, (batch, frames)).transpose(1, 2)
    outputs = {"logits": net(clip), "stem_checksum": checksums(maps["stem"])}
    for b, stage in enumerate(net.config.blocks):
        last = maps[f"block{b}_layer{len(stage.layers) - 1}"]
        outputs[f"b{b}_checksum"] = checksums(last)
    outputs["head_checksum"] = checksums(maps["head"])
    if isinstance(net, MoViNetStream):
        calls = [1, 1]  # then twice as many each time, as far as they go
        while sum(calls) < frames:
            calls.append(min(sum(calls), frames - sum(calls)))
        outputs["logits_after_each_subclip"] = torch.stack(in_calls(net, clip, calls), 1)
        outputs["logits_after_each_frame"] = torch.stack(in_calls(net, clip, [1] * frames), 1)
    return outputs


def in_calls(net: MoViNetStream, clip: torch.Tensor, calls: list[int]) -> list[torch.Tensor]:
    """Logits (B, classes) after each of several calls of so many frames, from an empty state."""
    state = net.initial_state(len(clip), *clip.shape[3:])
    found = []
    for piece in clip.split(calls, 2):
        logits, state = net.step(piece, state)
        found.append(logits)
    return found
