"""The published state dict of FastestDet."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

from foveate.models.fastestdet import FastestDet
from foveate.models.weights.importers.files import read_torch
from foveate.models.weights.importers.naming import place
from foveate.models.weights.importers.registry import Imported, Outputs, importer

_NAMES = {
    "stem": "backbone.first_conv",
    "stages.0": "backbone.stage2",
    "stages.1": "backbone.stage3",
    "stages.2": "backbone.stage4",
    "reduce": "SPP.Conv1x1.conv1x1",
    "pyramid.0": "SPP.S1",
    "pyramid.1": "SPP.S2",
    "pyramid.2": "SPP.S3",
    "join": "SPP.output",
    "shared": "detect_head.conv1x1.conv1x1",
    "objectness": "detect_head.obj_layers.conv5x5",
    "box": "detect_head.reg_layers.conv5x5",
    "classes": "detect_head.cls_layers.conv5x5",
}


def _original(own: str) -> str:
    prefix = next(name for name in _NAMES if own.startswith(f"{name}."))
    rest = own.removeprefix(prefix)
    for ours, theirs in ((".main.", ".branch_main."), (".projection.", ".branch_proj.")):
        rest = rest.replace(ours, theirs)
    return _NAMES[prefix] + rest


@importer("fastestdet")
def fastestdet(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build FastestDet from its state dict; see ``from_arrays``.

    Args:
        arrays: By the published names.
        **config: ``num_classes`` and other arguments of `FastestDet`.
    """
    model = FastestDet(**config)
    place(model, arrays, _original)

    def run(net: Any, image: torch.Tensor) -> Outputs:
        return {"output": net.head(net.high(net.low(image.flip(1))))}

    return Imported(model, run, inputs=("image",), arch="fastestdet", settings=config)


def import_fastestdet(data: bytes, source: str) -> dict[str, Any]:
    """The arrays of a published file under the names of `FastestDet`.

    Raises:
        WeightsError: A damaged file, or one of another network.
    """
    model = fastestdet(read_torch(io.BytesIO(data), source)).model
    return {name: value.numpy() for name, value in model.state_dict().items()}
