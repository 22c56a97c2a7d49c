"""Published .tflite MobileNets: their convolutions, de-quantised, in order of execution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.mobilenet_folded import FoldedMobileNet
from foveate.models.weights.importers.naming import place
from foveate.models.weights.importers.registry import Imported, Outputs, importer
from foveate.models.weights.importers.tflite import read_tflite

VARIANTS: dict[str, dict[str, Any]] = {
    "mobilenet-v1-025": {"version": 1, "width": 0.25},
    "mobilenet-v2": {"version": 2},
}


def read_convolutions(data: bytes, source: str = "the file") -> dict[str, Any]:
    """Read the kernels and biases of all convolutions of a .tflite file in order of execution.

    Args:
        data: The whole file.
        source: Its name in errors.

    Returns:
        ``conv{i}.weight`` (out, in / groups, kh, kw) and ``conv{i}.bias`` (out,), float32.

    Raises:
        WeightsError: A damaged file, or a kernel of another shape.
    """
    graph = read_tflite(data, source)
    arrays: dict[str, Any] = {}
    for operator in graph.operators:
        convolution = graph.convolution(operator)
        if convolution is not None:
            name = f"conv{len(arrays) // 2}"
            arrays[f"{name}.weight"], arrays[f"{name}.bias"] = convolution
    return arrays


class ImageClassifier(nn.Module):
    """A folded MobileNet with the classifier of its file."""

    def __init__(self, backbone: FoldedMobileNet, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.num_features, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of images (N, 3, H, W) in -1..1."""
        logits: torch.Tensor = self.classifier(self.backbone(image))
        return logits


@importer("mobilenet-tflite")
def mobilenet_tflite(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build a folded MobileNet with its image classifier; see ``from_arrays``.

    Args:
        arrays: From ``read_convolutions``.
        **config: ``name``, a key of ``VARIANTS``.
    """
    name = config.pop("name", "mobilenet-v2")
    if name not in VARIANTS or config:
        raise ModelError(f"no MobileNet {name!r} {config or ''}", f"known: {', '.join(VARIANTS)}")
    backbone = FoldedMobileNet(**VARIANTS[name])
    order = {f"backbone.{own}": f"conv{i}" for i, (own, _) in enumerate(backbone.convolutions())}
    head = f"conv{len(order)}"
    classes = int(arrays[f"{head}.weight"].shape[0]) if f"{head}.weight" in arrays else 1001
    model = ImageClassifier(backbone, classes)

    def original(own: str) -> str:
        layer, leaf = own.rsplit(".", 1)
        return f"{order.get(layer, head)}.{leaf}"

    def change(own: str, value: torch.Tensor) -> torch.Tensor:
        return value[:, :, 0, 0] if own == "classifier.weight" and value.ndim == 4 else value

    place(model, arrays, original, change)

    def run(net: Any, image: torch.Tensor) -> Outputs:
        features = net.backbone(image)
        return {"logits": net.classifier(features), "feature": features}

    return Imported(model, run, inputs=("image",))
