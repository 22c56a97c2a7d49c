"""Inputs of the record of results: clips, small networks, run folders in format 1.

Everything follows from constants in this file, and nothing here imports how the library loads or
runs a network: run folders are written as plain JSON and safetensors in the format of the first
version, so loading them also proves that old folders can still be read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from clips import encode

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "cartwheel.mp4"
SHAPES = Path(__file__).with_name("run_shapes.json")  # folder → network → tensor → shape
SHARED = ("samples/carving_ice.mp4", "fight-surv/fight/fi001.mp4")
ARRAY_RATE = 10.0  # frames per second of the array
BITEXACT = {"fflags": "+bitexact"}  # Matroska otherwise writes a random identifier
CLASSES = tuple(f"class {i}" for i in range(7))
# Biases with which no class of the cascade wins on every clip: random weights alone would have it
# leave at the first exit always. The negative median of the logits of every exit over the clips.
BIASES = {
    "mv": [
        (-2.6, 0, -0.2, -0.7), (1.7, -4.1, -1.7, 0.1),
        (-2.3, 1.4, -0.4, 2.2), (-0.7, 0.1, 0.3, -0.9),
    ],
    "iframe": [
        (-1.9, -0.4, 0.3, -1.9), (2, -3.6, -3, 0.1),
        (-4.1, 2.6, -2.3, 3.2), (1.1, -0.6, -1.8, 0),
    ],
    "residual": [
        (-3.2, 0.1, -0.4, -1), (2.2, -5.3, -2.4, 0.3),
        (-3.4, 2.4, -0.7, 3.5), (0.2, -0.5, -0.2, -1.1),
    ],
}  # fmt: skip
PLACES = ("layer1", "layer2", "layer3", "final")  # of the exits of every network


# --- clips --------------------------------------------------------------------------------


def scene(number: int, size: tuple[int, int], seed: int = 5) -> np.ndarray:
    """A textured square that crosses a textured picture, faster and faster, and begins again."""
    random = np.random.default_rng(seed)
    width, height = size
    coarse = random.integers(60, 180, (-(-height // 4), -(-width // 4), 3))
    out = coarse.repeat(4, 0).repeat(4, 1)[:height, :width]
    side = max(12, height // 4)
    square = random.integers(0, 256, (side // 2, side // 2, 3)).repeat(2, 0).repeat(2, 1)
    left = round((width - len(square)) * (number % 50 / 50) ** 2)
    top = height // 2 - number % 7
    out[top : top + len(square), left : left + len(square)] = square
    return out.astype(np.uint8)


def cut(number: int, size: tuple[int, int]) -> np.ndarray:
    """Two scenes: the second is brighter and moves the other way."""
    if number < 45:
        return scene(number, size)
    return 255 - scene(number, size, 8)[:, ::-1] // 2


def pauses(number: int, size: tuple[int, int]) -> np.ndarray:
    """Motion, nothing for two seconds, motion again (at 12 frames per second)."""
    return scene(min(number, 24) if number < 48 else number - 24, size)


def clips() -> dict[str, Any]:
    """Name → what is recognised: bytes of a file, a path, or an array of frames."""
    h264 = {"x264-params": "scenecut=0:threads=1", "threads": "1"}
    p_only = {**h264, "refs": "1", "weightp": "0", "sc_threshold": "0"}
    one = {"threads": "1"}  # the bytes must not depend on the number of cores
    uneven = [0.04 * i + 0.011 * (i % 3) for i in range(60)]
    mpeg = encode("mpegts", "mpeg2video", 60, size=(128, 96), draw=scene, options=one, gop=10)
    return {
        "cut": encode(
            "mp4", "libx264", 100, size=(160, 120), gop=25, bframes=2, draw=cut, options=h264,
            mux=BITEXACT,
        ),
        "long": encode(
            "avi", "mpeg4", 76, size=(96, 64), rate=12, draw=pauses, options=one, mux=BITEXACT
        ),
        "short": encode(
            "webm", "libvpx-vp9", 10, size=(96, 64), draw=scene, options=one, mux=BITEXACT
        ),
        "groups": encode(
            "matroska", "libx264", 72, size=(128, 96), draw=scene, options=p_only, mux=BITEXACT
        ),
        "turned": encode(
            "mp4", "libx265", 60, size=(112, 80), rotation=90, times=uneven, draw=scene,
            mux=BITEXACT,
        ),
        "truncated": mpeg[: len(mpeg) * 6 // 10],
        "array": np.stack([scene(2 * i, (80, 64)) for i in range(25)]),
        "text": b"This is no video. " * 20,
        "cartwheel": DEMO,
    }  # fmt: skip


def digest(source: Any) -> str:
    """sha256 of a clip's bytes."""
    if isinstance(source, Path):
        source = source.read_bytes()
    return hashlib.sha256(source if isinstance(source, bytes) else source.tobytes()).hexdigest()


# --- networks -----------------------------------------------------------------------------


class FrameNetwork(nn.Module):
    """A custom module whose frames meet only in a mean of logits (B, classes)."""

    mixes_frames = False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 24, 5, stride=3)
        self.head = nn.Linear(24, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (B, 3, T, H, W) to logits (B, classes)."""
        maps = functional.relu(self.conv(x.transpose(1, 2).flatten(0, 1)))
        return self.head(maps.mean((2, 3))).unflatten(0, (x.shape[0], -1)).mean(1)


class MixingNetwork(nn.Module):
    """A custom module whose convolution goes over time; says nothing of mixing frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 24, (3, 5, 5), stride=(1, 3, 3), padding=(1, 0, 0))
        self.head = nn.Linear(24, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips (B, 3, T, H, W) to logits (B, classes)."""
        return self.head(functional.relu(self.conv(x)).amax(2).mean((2, 3)))


def seeded(module: nn.Module, scale: float = 1.0) -> nn.Module:
    """The module in evaluation mode with weights that depend on their names and shapes only."""
    shapes = {name: tuple(x.shape) for name, x in module.state_dict().items()}
    module.load_state_dict(tensors(shapes, scale))
    return module.eval()


def tensors(shapes: dict[str, Iterable[int]], scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Weights, biases and statistics of normalisation by state-dict name."""
    made = {}
    for name, given in shapes.items():
        shape = tuple(given)
        random = np.random.default_rng(crc32(name.encode())).standard_normal(shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        kind = name.rpartition(".")[2]
        if kind == "num_batches_tracked":
            made[name] = torch.tensor(1)
            continue
        if kind == "running_var" or (kind == "weight" and len(shape) == 1):
            random = 1 + 0.1 * random
        elif kind in ("bias", "running_mean"):
            random = 0.1 * random
        else:
            random = random * scale * (2 / fan_in) ** 0.5
        made[name] = torch.from_numpy(np.asarray(random, np.float32))
    return made


# --- run folders of format 1 --------------------------------------------------------------


def write_runs(folder: Path) -> dict[str, str]:
    """Write one run folder per kind of network; kind → its path."""
    shapes = json.loads(SHAPES.read_text("utf-8"))
    for kind, arch in (
        ("tsn", "tsn:test_resnet"),
        ("tsm", "tsm:test_efficientnet"),
        ("tsm-online", "tsm-online:test_resnet"),
    ):
        size = {"size": 48, "frames_per_second": 4.0, "clip_frames": 8}
        _write_run(folder / kind, tensors(shapes[kind]), arch, CLASSES, size)
    _write_cascade(folder / "cascade", shapes["cascade"])
    return {kind: str(folder / kind) for kind in shapes}


def _write_run(
    folder: Path,
    weights: dict[str, torch.Tensor],
    arch: str,
    classes: tuple[str, ...],
    input: dict[str, Any],
) -> str:
    """`model.safetensors` and `run.json`; sha256 of the weights."""
    folder.mkdir()
    data = save(weights, metadata={"format": "foveate-run"})
    (folder / "model.safetensors").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    card = {
        "format": 1, "arch": arch, "classes": list(classes), "input": input, "sha256": sha256,
        "size": len(data),
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(card), "utf-8")
    return sha256


def _write_cascade(folder: Path, shapes: dict[str, dict[str, Any]]) -> None:
    """Three networks with exits behind each stage, and `cascade.json` beside them.

    The costs in the tables are made up; only budgets go by them.
    """
    weights = {
        f"{modality}.{name}": x
        for modality, named in shapes.items()
        for name, x in tensors(named).items()
    }
    for modality, rows in BIASES.items():
        for place, row in zip(PLACES, rows, strict=True):
            head = "network" if place == "final" else f"heads.{place}"
            weights[f"{modality}.{head}.classifier.bias"] += torch.tensor(row)
    size = {"size": 64, "frames_per_second": 3 / 2.4, "clip_frames": 3}
    sha256 = _write_run(folder, weights, "coviar-cascade", CLASSES[:4], size)
    orders = {}
    for name, order in (
        ("measured", ("mv", "iframe", "residual")),
        ("published", ("residual", "mv", "iframe")),
    ):
        exits = [f"{modality}.{place}" for modality in order for place in PLACES]
        count = len(exits)
        rows = [np.arange(1, n + 1) / np.arange(1, n + 1).sum() for n in range(1, count + 1)]
        table = [
            {
                "threshold": threshold,
                "accuracy": 0.5 + 0.4 * threshold,
                "macs": 1e6 + 1e8 * threshold,
                "seconds": 0.001 + 0.1 * threshold,
                "exits": [count - at if at < 2 else 0 for at in range(count)],
            }
            for threshold in (0.3, 0.4, 0.5, 0.7, 0.9)
        ]
        orders[name] = {
            "order": list(order),
            "wise": {
                "exits": exits,
                "weights": [row.tolist() for row in rows],
                "temperatures": [0.3 - 0.02 * at for at in range(count)],
            },
            "table": table,
            "default": 0.9,
        }
    card = {
        "format": 1,
        "sha256": sha256,
        "networks": {
            modality: {"backbone": "test_resnet", "stages": list(PLACES[:-1]), "heads": "light"}
            for modality in shapes
        },
        "orders": orders,
        "calibrated_on": 20,
        "stage_seconds": {},
        "macs": {},
    }
    (folder / "cascade.json").write_text(json.dumps(card), "utf-8")


CUSTOM: dict[str, Callable[[], nn.Module]] = {
    "frames": lambda: seeded(FrameNetwork(), 2.0),
    "mixing": lambda: seeded(MixingNetwork(), 2.0),
}
