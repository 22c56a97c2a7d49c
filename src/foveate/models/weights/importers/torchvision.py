"""Checkpoints of torchvision's video networks, under torchvision's names."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

from foveate.core.errors import ModelError
from foveate.models.registry import create
from foveate.models.weights.importers.files import read_torch
from foveate.models.weights.importers.naming import (
    check_settings,
    classes_of,
    place,
    unknown_network,
)
from foveate.models.weights.importers.registry import Imported, Outputs, importer

# Name of the head of each network.
HEADS = {
    "r3d-18": "fc", "mc3-18": "fc", "r2plus1d-18": "fc", "s3d": "classifier.1",
    "mvit-v2-s": "head.1", "swin3d-t": "head", "swin3d-s": "head", "swin3d-b": "head",
}  # fmt: skip


@importer("torchvision")
def torchvision(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build one of torchvision's video networks; see ``from_arrays``.

    Args:
        arrays: By torchvision's names.
        **config: ``name``, torchvision's name of the builder (``r3d_18``); inferred
            from the arrays if it is not given.
    """
    name = config.pop("name", None) or name_of(arrays)
    if name is None:
        raise unknown_network("torchvision", arrays)
    arch = str(name).replace("_", "-")
    if arch not in HEADS:
        raise ModelError(f"torchvision's {name!r} is not supported", f"name= {', '.join(HEADS)}")
    classes = classes_of(arrays, f"{HEADS[arch]}.weight", config)
    check_settings(config)
    model = create(arch, num_classes=classes)
    place(model, arrays, lambda own: original_name(own, arch), _flat)

    def run(net: Any, clip: torch.Tensor) -> Outputs:
        return {"logits": net(clip)}

    return Imported(model, run, arch=arch)


def name_of(arrays: Mapping[str, Any]) -> str | None:
    """Recognise a network of torchvision by its arrays; None if it is not supported."""

    def shape(name: str) -> tuple[int, ...]:
        return tuple(getattr(arrays.get(name), "shape", ()))

    if shape("layer1.0.conv1.0.0.weight"):
        return "r2plus1d_18"
    if second := shape("layer2.0.conv1.0.weight"):
        return "mc3_18" if second[2:3] == (1,) else "r3d_18"
    if shape("features.0.0.0.weight") and shape("classifier.1.weight"):
        return "s3d"
    if shape("conv_proj.weight") and shape("pos_encoding.class_token"):
        return "mvit_v2_s"
    if patches := shape("patch_embed.proj.weight"):
        deep = bool(shape("features.4.17.norm1.weight"))
        return "swin3d_t" if not deep else "swin3d_s" if patches[0] == 96 else "swin3d_b"
    return None


def original_name(own: str, arch: str) -> str:
    """torchvision's name of a parameter."""
    if own.startswith("classifier."):
        return own.replace("classifier", HEADS[arch], 1)
    return own.removeprefix("trunk.")


def _flat(own: str, value: torch.Tensor) -> torch.Tensor:
    """S3D's head is a 1x1x1 convolution."""
    return value.flatten(1) if own == "classifier.weight" else value


def import_torchvision(arch: str, data: bytes, source: str) -> dict[str, Any]:
    """Read a published file as arrays by state-dict names, for the table of weights.

    Raises:
        WeightsError: Not such a file.
    """
    found = read_torch(io.BytesIO(data), source)
    head = f"{HEADS[arch]}."
    arrays = {}
    for name, value in found.items():
        ours = f"trunk.{name}"
        if name.startswith(head):
            ours = f"classifier.{name.removeprefix(head)}"
        arrays[ours] = _flat(ours, value).numpy()
    return arrays
