"""A tiny published model for tests of everything above the networks.

`publish` writes a small `.tflite` and its labels; `enter` puts them into the table of weights of
this process. So the real path runs (find, check, convert, fold, recognise) with no download.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from litefile import MoViNetFile
from nontrivial import randomise

from foveate.models import registry
from foveate.models.spec import InputSpec
from foveate.models.weights import table
from foveate.pipeline import presets

ARCH = "tiny-lite"
NAME = f"{ARCH}.test"
SPEC = InputSpec(size=32, frames_per_second=5.0, clip_frames=10)
CLASSES = 7
LABELS = tuple(f"class {i}" for i in range(CLASSES))


def publish(folder: Path) -> None:
    """Write the weights and labels of the tiny model into a folder."""
    model = randomise(registry.create_tiny("movinet-a0-stream-lite"))
    data = MoViNetFile(model, (32, 32), quantised=True).tobytes()
    (folder / "tiny.tflite").write_bytes(data)
    (folder / "tiny.txt").write_text("".join(f"{label}\n" for label in LABELS), "utf-8")


def enter(folder: Path) -> None:
    """Enter the published files into this process, and use no network."""
    files = []
    for name in ("tiny.tflite", "tiny.txt"):
        content = (folder / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        files.append(table.WeightFile(name, len(content), digest, ("https://x.invalid/",)))
    published = table.find("movinet-a0-stream-lite.k600")
    entry = replace(
        published, name=NAME, arch=ARCH, num_classes=CLASSES, file=files[0],
        labels=files[1], input=SPEC,
    )  # fmt: skip
    tiny = registry.entry("movinet-a0-stream-lite")

    def build(num_classes: int = CLASSES):
        return tiny.build(**{**tiny.tiny, "num_classes": num_classes})

    registry._ENTRIES[ARCH] = registry.ModelEntry(ARCH, build, streaming=True)
    table._ENTRIES = {NAME: entry}
    presets.Preset.model_fields["model"].default = NAME
    presets.Preset.model_rebuild(force=True)
    os.environ["FOVEATE_WEIGHTS"] = str(folder)
    os.environ["FOVEATE_CACHE"] = str(folder / "cache")
    os.environ["FOVEATE_OFFLINE"] = "1"
