"""CPU time of every transform per clip: which ones a loading process can afford.

Clips of 16 frames of 160 x 120 pixels of the bundled video; each transform with its defaults at
p = 1, those of other transforms left out. The time of the process on one thread counts, so that
other work on the machine changes little; the median of draws from several seeds.

    python -m benchmarks.transforms_time
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks.record import write

from foveate.media import Video
from foveate.primitives.augment.base import Augmentation
from foveate.primitives.augment.geometry import SizeTransform
from foveate.primitives.augment.meta import Meta
from foveate.primitives.base import registered

CLIP = Path(__file__).parents[1] / "examples" / "demo" / "cartwheel.mp4"
FRAMES, SIZE, SEEDS = 16, (160, 120), 9


def main() -> None:
    """Measure all transforms, print them with the slowest first, and write the result."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with Video(str(CLIP)) as video:
        frames = video.frames([i / 5 for i in range(FRAMES)], size=SIZE).pixels
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)
    found: dict[str, float] = {}
    for kind, cls in registered("transforms").items():
        if issubclass(cls, Meta):
            continue
        settings: dict[str, Any] = {"size": 96} if issubclass(cls, SizeTransform) else {}
        if issubclass(cls, Augmentation):
            settings["p"] = 1.0
        found[kind] = milliseconds(cls(**settings), clip)
    for kind, value in sorted(found.items(), key=lambda one: -one[1]):
        print(f"{kind:22} {value:8.2f} ms")
    protocol = (
        f"clips of {len(clip)} frames of {SIZE[0]} x {SIZE[1]} pixels; process time on one thread, "
        f"median of {SEEDS} draws after one that is not counted; defaults, p = 1, size 96"
    )
    write(
        "transforms_time", protocol, len(found),
        {"milliseconds": {kind: round(value, 3) for kind, value in found.items()}},
        tuple(range(SEEDS)),
    )  # fmt: skip


def milliseconds(transform: Any, clip: torch.Tensor) -> float:
    """Median process time of a transform of a clip."""
    apply, times = transform.build(), []
    for seed in (0, *range(SEEDS)):
        random = np.random.default_rng(seed)
        began = time.process_time()
        apply(clip, random)
        times.append(time.process_time() - began)
    return 1000 * statistics.median(times[1:])


if __name__ == "__main__":
    main()
