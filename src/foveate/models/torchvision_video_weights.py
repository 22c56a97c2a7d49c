"""Published weights of torchvision's video networks; plain data, see ``weights/table.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from foveate.models.spec import InputSpec
from foveate.models.weights.table import WeightEntry, WeightFile, register_weights

# From torchvision's documentation: name, first digits of the sha256, megabytes, top-1,
# frames per second, frames, size, shorter side before the crop.
_KINETICS_MEAN, _KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_GREY_MEAN, _GREY_STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
_TORCHVISION = (
    ("r3d_18", "b3b3357e", 127.359, 63.200, 15.0, 16, 112, 128, _KINETICS_MEAN, _KINETICS_STD),
    ("mc3_18", "a90a0ba3", 44.672, 63.960, 15.0, 16, 112, 128, _KINETICS_MEAN, _KINETICS_STD),
    ("r2plus1d_18", "91a641e6", 120.318, 67.463, 15.0, 16, 112, 128,
     _KINETICS_MEAN, _KINETICS_STD),
    ("s3d", "d76dad2f", 31.972, 68.368, 15.0, 128, 224, 256, _KINETICS_MEAN, _KINETICS_STD),
    ("mvit_v2_s", "ae3be167", 131.884, 80.757, 7.5, 16, 224, 256, _GREY_MEAN, _GREY_STD),
    ("swin3d_t", "7615ae03", 121.543, 77.715, 15.0, 32, 224, 256, _IMAGENET_MEAN, _IMAGENET_STD),
    ("swin3d_s", "da41c237", 218.288, 79.521, 15.0, 32, 224, 256, _IMAGENET_MEAN, _IMAGENET_STD),
    ("swin3d_b", "24f7c7c6", 364.134, 79.427, 15.0, 32, 224, 256, _IMAGENET_MEAN, _IMAGENET_STD),
)  # fmt: skip
_Triple = tuple[float, float, float]


def _reader(arch: str) -> Callable[[bytes, str], dict[str, Any]]:
    def read(data: bytes, source: str) -> dict[str, Any]:
        from foveate.models.weights.importers.torchvision import import_torchvision

        return import_torchvision(arch, data, source)

    return read


def _labels() -> tuple[str, ...]:
    from foveate.models.torchvision_video import kinetics_labels

    return kinetics_labels()


def _entry(
    name: str, digits: str, megabytes: float, top1: float, rate: float, frames: int,
    size: int, shorter: int, mean: _Triple, std: _Triple,
) -> WeightEntry:  # fmt: skip
    """The entry of one of torchvision's networks."""
    arch = name.replace("_", "-")
    stem = f"{name}_1k" if name == "swin3d_b" else name
    file = WeightFile(
        f"{stem}-{digits}.pth",
        math.ceil(megabytes * 2**20 * 1.01),
        digits,
        (f"https://download.pytorch.org/models/{stem}-{digits}.pth",),
    )
    return WeightEntry(
        name=f"{arch}.k400",
        arch=arch,
        num_classes=400,
        file=file,
        read=_reader(arch),
        labels=_labels,
        licence="BSD-3-Clause",
        input=InputSpec(size, rate, frames, mean=mean, std=std, resize_to=shorter),
        protocol=f"Kinetics-400; clips of {frames} frames at {rate:g}/s, five per video, "
        f"centre crop of {size} after the shorter side is {shorter}",
        accuracy=f"{top1:g} % top-1 on Kinetics-400, torchvision's figure",
        note="torchvision's weights; the licence is the library's, none is stated for the file. "
        "Only the first eight digits of its sha256 are published.",
    )


for _row in _TORCHVISION:
    register_weights(_entry(*_row))
