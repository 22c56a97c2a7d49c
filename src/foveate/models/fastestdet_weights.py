"""Published weights of FastestDet; plain data, see ``weights/table.py``."""

from __future__ import annotations

from typing import Any

from foveate.models.spec import InputSpec
from foveate.models.weights.table import WeightEntry, WeightFile, register_weights

_GITHUB = "https://raw.githubusercontent.com/dog-qiuqiu/FastestDet/main"


def _read(data: bytes, source: str) -> dict[str, Any]:
    from foveate.models.weights.importers.fastestdet import import_fastestdet

    return import_fastestdet(data, source)


register_weights(
    WeightEntry(
        name="fastestdet.coco",
        arch="fastestdet",
        num_classes=80,
        file=WeightFile(
            name="fastestdet_coco.pth",
            size=1_157_945,
            sha256="7f688d478ee474c82dbdb9c10e0ede2f8f3cf5d603f0825d2efd925eb561d05e",
            addresses=(f"{_GITHUB}/weights/weight_AP05:0.253207_280-epoch.pth",),
        ),
        read=_read,
        labels=WeightFile(
            name="coco80_labels.txt",
            size=625,
            sha256="634a1132eb33f8091d60f2c346ababe8b905ae08387037aed883953b7329af84",
            addresses=(f"{_GITHUB}/configs/coco.names",),
        ),
        licence="BSD-3-Clause",
        input=InputSpec(352, 25.0, 1, resize="squash", crop="none"),
        protocol="COCO 2017; whole frame squashed to 352x352, 0..1",
        accuracy="25.3 % mAP50 and 13.0 % mAP on COCO val2017, its owner's figures",
        method="detector",
        note="A detector of .25 M parameters by its author (dog-qiuqiu).",
    )
)
