"""Published weights of MoViNets; plain data, see ``weights/table.py``."""

from __future__ import annotations

from typing import Any

from foveate.models.spec import InputSpec
from foveate.models.weights.table import WeightEntry, WeightFile, register_weights

_TFHUB = "tensorflow/lite-model/movinet/a0/stream/kinetics-600/classification/tflite/int8/1"
_FLUTTER = (
    "https://raw.githubusercontent.com/tensorflow/flutter-tflite/"
    "7045e30722790910e5735b43d3f7e18a25008e6b"
)
_TF_MODELS = "https://raw.githubusercontent.com/tensorflow/models"
_K600_LABELS = "official/projects/movinet/files/kinetics_600_labels.txt"


def _read(data: bytes, source: str) -> dict[str, Any]:
    from foveate.models.weights.importers.movinet_tflite import import_movinet_tflite

    return import_movinet_tflite(data, source)


register_weights(
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
        read=_read,
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
    )
)
