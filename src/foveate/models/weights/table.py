"""The table of pretrained weights: what exists, whose it is, where it lies, how to feed it.

Plain data: reading it imports neither torch nor numpy and opens no file.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal

from foveate.core.errors import WeightsError
from foveate.models.spec import InputSpec


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Attributes:
        name: File name, in the cache and in the folders of ``FOVEATE_WEIGHTS``.
        size: Bytes; a download never writes more.
        sha256: Hexadecimal digest of the content; its first eight digits where the owner
            publishes no more. The size is then an upper bound.
        addresses: Where its owner publishes it, tried in order.
    """

    name: str
    size: int
    sha256: str
    addresses: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the whole digest and the exact size are known."""
        return len(self.sha256) == 64

    def matches(self, digest: str) -> bool:
        """Whether a content with that sha256 is the published one."""
        return digest == self.sha256 if self.whole else digest.startswith(self.sha256)


@dataclass(frozen=True)
class WeightEntry:
    """One set of pretrained weights.

    Attributes:
        name: ``ARCH.TAG`` as users type it.
        arch: Architecture in the registry.
        num_classes: Outputs of the published classifier.
        file: The weights.
        labels: Text file, line i is the name of class i; None where an installed package
            knows them (torchvision).
        licence: SPDX identifier, as stated where the file was published.
        input: How frames are prepared.
        protocol: Dataset and how its owner meant the model to be used.
        accuracy: Published accuracy and whose figure it is; never ours.
        note: What a user must know before relying on it.
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
    """

    name: str
    arch: str
    num_classes: int
    file: WeightFile
    labels: WeightFile | None
    licence: str
    input: InputSpec
    protocol: str
    accuracy: str
    note: str
    output: Literal["softmax", "sigmoid"] = "softmax"

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """Everything that has to be fetched."""
        return (self.file,) if self.labels is None else (self.file, self.labels)


_TFHUB = "tensorflow/lite-model/movinet/a0/stream/kinetics-600/classification/tflite/int8/1"
_FLUTTER = (
    "https://raw.githubusercontent.com/tensorflow/flutter-tflite/"
    "7045e30722790910e5735b43d3f7e18a25008e6b"
)
_TF_MODELS = "https://raw.githubusercontent.com/tensorflow/models"
_K600_LABELS = "official/projects/movinet/files/kinetics_600_labels.txt"

ENTRIES: tuple[WeightEntry, ...] = (
    WeightEntry(
        name="movinet-a0-stream-lite.k600",
        arch="movinet-a0-stream-lite",
        num_classes=600,
        file=WeightFile(
            name="movinet_a0_stream_k600_int8.tflite",
            size=3_276_048,
            sha256="6125b36e2485eeb5cc1fd6206cf5e5d70235593fbc84610d1dce97fe3aa9c2ac",
            addresses=(
                f"https://tfhub.dev/{_TFHUB}?lite-format=tflite",
                f"https://storage.googleapis.com/tfhub-lite-models/{_TFHUB}.tflite",
                f"{_FLUTTER}/example/movinet/assets/movinet_int8.tflite",
            ),
        ),
        labels=WeightFile(
            name="kinetics600_labels.txt",
            size=9_209,
            sha256="8dfca4202520ea8291ce0242ef33b006d0a0772b409663c090a2876bc1978dcf",
            addresses=(
                f"{_TF_MODELS}/f8af2291cced43fc9f1d9b41ddbf772ae7b0d7d2/{_K600_LABELS}",
                f"{_TF_MODELS}/master/{_K600_LABELS}",
            ),
        ),
        licence="Apache-2.0",
        input=InputSpec(size=172, frames_per_second=5.0, clip_frames=50),
        protocol="Kinetics-600; centre crop 172x172, RGB 0..1, 5 frames/s, 10 s clips",
        accuracy="65 % top-1 on Kinetics-600 for the int8 file, its owner's figure",
        note=(
            "Kinetics-600 weights by Google, int8, de-quantised to float32 by this project. "
            "A network without squeeze-excite and with ReLU6, smaller than the A0 of the "
            "paper and less accurate."
        ),
    ),
)

# torchvision's video networks, by what its own documentation states of them: name, first digits
# of the sha256, megabytes, top-1, frames per second, frames, size, shorter side before the crop.
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


def _torchvision(
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
        labels=None,
        licence="BSD-3-Clause",
        input=InputSpec(size, rate, frames, mean=mean, std=std, resize_to=shorter),
        protocol=f"Kinetics-400; clips of {frames} frames at {rate:g}/s, five a video, "
        f"centre crop of {size} after the shorter side is {shorter}",
        accuracy=f"{top1:g} % top-1 on Kinetics-400, torchvision's figure",
        note="torchvision's weights; the licence is the library's, none is stated for the file. "
        "Only the first eight digits of its sha256 are published.",
    )


ENTRIES += tuple(_torchvision(*row) for row in _TORCHVISION)


def names() -> list[str]:
    """Return the names of all sets of weights, sorted."""
    return sorted(entry.name for entry in ENTRIES)


def find(name: str) -> WeightEntry:
    """Return the entry of a set of weights.

    Args:
        name: ``ARCH.TAG``, or ``ARCH`` alone when it has exactly one set.

    Raises:
        WeightsError: No such set; the error names the nearest one.
    """
    matches = [e for e in ENTRIES if e.name == name] or [e for e in ENTRIES if e.arch == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise WeightsError(f"{name!r} has several weights: {', '.join(e.name for e in matches)}")
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
    raise WeightsError(f"there are no weights {name!r}", f"did you mean {near[0]!r}?")
