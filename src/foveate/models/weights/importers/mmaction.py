"""Checkpoints of MMAction2: TSN and TSM over ResNets, and C3D.

Its networks group every convolution with its norm (``conv1.conv``, ``conv1.bn``), and the head is
separate (``cls_head.fc_cls``). Its I3D and R(2+1)D differ from those of this package (inflated
ResNets; separated convolutions also in the shortcut) and are not supported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from foveate.core.errors import WeightsError
from foveate.models.registry import create
from foveate.models.weights.importers.autovideo import resnet_of, shift_settings
from foveate.models.weights.importers.naming import (
    check_settings,
    classes_of,
    place,
    unknown_network,
)
from foveate.models.weights.importers.registry import Imported, Outputs, importer

HEAD = "cls_head.fc_cls"


@importer("mmaction")
def mmaction(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build TSN, TSM or C3D; see ``from_arrays``.

    The network is recognised by its names, the number of classes by its head. Inputs are
    ``inputs``: frames
    (B, T, 3, H, W) for TSN and TSM, a clip (B, 3, T, H, W) for C3D, normalised as in the original.

    Args:
        arrays: By original name.
        **config: ``num_classes`` and ``shift_place``, if given, must agree; ``shift_div``.

    Raises:
        WeightsError: Arrays of another network.
        ModelError: An unsupported configuration.
    """
    if not any(name.startswith(("backbone.", f"{HEAD}.")) for name in arrays):
        raise unknown_network("MMAction2", arrays)
    classes = classes_of(arrays, f"{HEAD}.weight", config)
    shifts = shift_settings(arrays, config)
    check_settings(config)
    if "backbone.conv1a.conv.weight" in arrays:
        return _c3d(arrays, classes)
    return _segments(arrays, classes, shifts)


def _c3d(arrays: Mapping[str, Any], classes: int) -> Imported:
    def original(name: str) -> str:
        name = name.removeprefix("convs.")
        if name.startswith("classifier."):
            return name.replace("classifier", HEAD)
        # Single convolutions have a letter too: conv1a, conv2a.
        name = re.sub(r"^(conv\d)\.", r"\1a.", name)
        return "backbone." + re.sub(r"^(conv\w+)\.", r"\1.conv.", name)

    model = create("c3d", num_classes=classes)
    place(model, arrays, original)

    def run(net: Any, inputs: torch.Tensor) -> Outputs:
        return {"logits": net(inputs)}

    return Imported(model, run, ("inputs",), arch="c3d")


def _segments(arrays: Mapping[str, Any], classes: int, shifts: dict[str, Any]) -> Imported:
    first = arrays.get("backbone.conv1.conv.weight")
    if first is None or getattr(first, "ndim", 0) != 4:
        raise WeightsError("a network of MMAction2, but not TSN, TSM or C3D")
    shifted = "shift_place" in shifts or any(".conv1.conv.net." in name for name in arrays)
    arch, settings = ("tsm", shifts) if shifted else ("tsn", {})
    backbone = resnet_of([_plain(name) for name in arrays])
    model = create(arch, num_classes=classes, backbone=backbone, **settings)
    place(model, arrays, _original)

    def run(net: Any, inputs: torch.Tensor) -> Outputs:
        return {"logits": net(inputs.transpose(1, 2))}

    return Imported(model, run, ("inputs",), arch=f"{arch}:{backbone}", settings=settings)


def _original(name: str) -> str:
    """The original's name of a parameter."""
    name = name.replace("classifier.", f"{HEAD}.")
    name = name.replace("downsample.0.", "downsample.conv.").replace(
        "downsample.1.", "downsample.bn."
    )
    name = re.sub(r"\.(\d+)\.layer\.", r".\1.net.", name)
    name = re.sub(r"\bconv(\d)\.layer\.", r"conv\1.conv.net.", name)
    name = re.sub(r"\bconv(\d)\.(?!conv\.|layer\.)", r"conv\1.conv.", name)
    return re.sub(r"\bbn(\d)\.", r"conv\1.bn.", name)


def _plain(name: str) -> str:
    """A name without its prefix, as in torchvision's ResNets."""
    return name.removeprefix("backbone.")
