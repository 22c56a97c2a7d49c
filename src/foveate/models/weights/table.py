"""The table of pretrained weights: what exists, whose it is, where it lies, how to feed it.

Plain data: reading it imports neither torch nor numpy and opens no file.
"""

from __future__ import annotations

import difflib
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
        sha256: Hexadecimal digest of the content.
        addresses: Where its owner publishes it, tried in order.
    """

    name: str
    size: int
    sha256: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class WeightEntry:
    """One set of pretrained weights.

    Attributes:
        name: ``ARCH.TAG`` as users type it.
        arch: Architecture in the registry.
        num_classes: Outputs of the published classifier.
        file: The weights.
        labels: Text file, line i is the name of class i.
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
    labels: WeightFile
    licence: str
    input: InputSpec
    protocol: str
    accuracy: str
    note: str
    output: Literal["softmax", "sigmoid"] = "softmax"


_TFHUB = "tensorflow/lite-model/movinet/a0/stream/kinetics-600/classification/tflite/int8/1"
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
