"""Checkpoints of CoViAR (arXiv 1712.00636) and of PKD (arXiv 2407.02713).

The releases have one file per modality. Arrays of several modalities have the prefixes ``iframe.``,
``mv.`` and ``residual.``; those of one need no prefix, since the vector network has two input
channels and the I-frame network has no BatchNorm at the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from foveate.core.errors import WeightsError
from foveate.models.coviar import MODALITIES, CompressedNet, ExitNetwork, Modality, fuse
from foveate.models.weights.importers.autovideo import resnet_of
from foveate.models.weights.importers.naming import (
    check_settings,
    classes_of,
    place,
    unknown_network,
    without_prefix,
)
from foveate.models.weights.importers.registry import Imported, Outputs, importer

Parts = dict[Modality, dict[str, Any]]


@importer("coviar")
def coviar(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build CoViAR's networks; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments: ``num_class``, ``num_segments``, ``base_models``.
    """
    parts = _parts(arrays)
    nets = nn.ModuleDict()
    for modality, own in parts.items():
        net = _network(modality, own, "base_model.", config)
        place(net, own, lambda name: _network_name(name, "base_model.", ""))
        nets[modality] = net

    def run(model: Any, **inputs: torch.Tensor) -> Outputs:
        found: Outputs = {}
        scores: dict[Modality, torch.Tensor] = {}
        for modality in parts:
            logits = model[modality].classify(model[modality].features(_clip(inputs[modality])))
            found[f"{modality}_segment_logits"] = logits
            found[f"{modality}_logits"] = scores[modality] = logits.mean(1)
        if len(scores) == len(MODALITIES):
            found["fused_2_1_1"] = fuse(scores)
        return found

    return Imported(nets, run, tuple(parts))


@importer("pkd")
def pkd(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build networks with PKD's internal classifiers; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments: ``num_class``, ``num_segments``.
    """
    parts = _parts(arrays)
    nets = nn.ModuleDict()
    for modality, own in parts.items():
        net = _network(modality, own, "net.base_model.", config)
        depth = _backbone(own, "net.base_model.")
        model = ExitNetwork(net, ("layer1", "layer2", "layer3"), "paper", depth)
        place(model, own, _exit_name)
        nets[modality] = model

    def run(model: Any, **inputs: torch.Tensor) -> Outputs:
        return {
            f"{modality}_exit{number}": logits
            for modality in parts
            for number, (_, logits) in enumerate(
                model[modality].segment_logits(_clip(inputs[modality])), start=1
            )
        }

    return Imported(nets, run, tuple(parts))


def _parts(arrays: Mapping[str, Any]) -> Parts:
    """The arrays of each modality, without common prefixes."""
    arrays = without_prefix(arrays)
    parts: Parts = {
        modality: without_prefix(
            {
                name.removeprefix(f"{modality}."): value
                for name, value in arrays.items()
                if name.startswith(f"{modality}.")
            }
        )
        for modality in MODALITIES
    }
    parts = {modality: own for modality, own in parts.items() if own}
    if parts and sum(map(len, parts.values())) == len(arrays):
        return parts
    stem = next((v for n, v in arrays.items() if n.endswith("base_model.conv1.weight")), None)
    if parts or stem is None:
        raise unknown_network("CoViAR", arrays)
    if stem.shape[1] == 2:
        return {"mv": dict(arrays)}
    plain = not any("data_bn." in name for name in arrays)
    return {"iframe" if plain else "residual": dict(arrays)}


def _network(
    modality: Modality, arrays: Mapping[str, Any], prefix: str, config: Mapping[str, Any]
) -> CompressedNet:
    head = f"{prefix}fc.weight"
    if head not in arrays:
        raise WeightsError(f"{modality}: no {head}")
    left = dict(config)
    classes = classes_of(arrays, head, left)
    named = left.pop("base_models", {}).get(modality)
    # The number of averaged segments changes no weights.
    check_settings(left, free=("num_segments",))
    backbone = _backbone(arrays, prefix)
    if named not in (None, backbone):
        raise WeightsError(f"{modality}: the arrays are those of a {backbone}, not a {named}")
    return CompressedNet(modality, backbone, classes)


def _backbone(arrays: Mapping[str, Any], prefix: str) -> str:
    return resnet_of(name.removeprefix(prefix) for name in arrays)


def _network_name(name: str, prefix: str, outer: str) -> str:
    if name.startswith("classifier."):
        return f"{prefix}fc.{name.removeprefix('classifier.')}"
    if name.startswith("data_bn."):
        return outer + name
    return prefix + name.removeprefix("backbone.")


def _exit_name(name: str) -> str:
    if name.startswith("network."):
        return _network_name(name.removeprefix("network."), "net.base_model.", "net.")
    _, stage, part = name.split(".", 2)
    number = stage.removeprefix("layer")
    kind = "classifier" if part.startswith("classifier.") else "features"
    return f"IC{number}_{kind}.{part.partition('.')[2]}"


def _clip(segments: torch.Tensor) -> torch.Tensor:
    """Segments (B, S, C, H, W) of the original as (B, C, S, H, W)."""
    return segments.transpose(1, 2)
