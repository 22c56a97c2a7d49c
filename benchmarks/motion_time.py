"""Where motion patches save time and not only multiply-adds: end to end, by what a network costs.

    python -m benchmarks.motion_time [VIDEO or FOLDER] [--every N] [--rounds N] [--only NAME...]

One video, or every n-th of a folder, is recognised by networks of rising cost, freshly initialised
(time does not ask what they know), looked at whole, resized, and through the motion patch of the
library's defaults. Opening, decoding, measuring motion and choosing are in the time. CPU time of
the process, one thread, looks in turns within a round, medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import record

import foveate
from foveate.models import InputSpec, registry

VIDEO = Path(__file__).parents[1] / "examples" / "demo" / "cartwheel.mp4"
LOOKS = ("uniform", "resize", "motion-patch")
# What each network sees: as it is published, or, for image networks, eight frames of 224.
NETWORKS = {
    "movinet-a0-stream-lite": InputSpec(size=172, frames_per_second=5.0, clip_frames=10),
    "tsn:efficientnet_lite0": InputSpec(size=224, frames_per_second=4.0, clip_frames=8),
    "tsm:resnet50": InputSpec(size=224, frames_per_second=4.0, clip_frames=8),
    "s3d": InputSpec(size=224, frames_per_second=8.0, clip_frames=16),
    "r3d-18": InputSpec(size=112, frames_per_second=8.0, clip_frames=16),
}


def videos_of(path: Path, every: int) -> list[Path]:
    """The video itself, or every n-th one under a folder, by name."""
    return sorted(path.rglob("*.mp4"))[::every] if path.is_dir() else [path]


def measure(name: str, videos: Sequence[Path], rounds: int) -> dict[str, Any]:
    """CPU milliseconds a video and executed multiply-adds of every look on one network."""
    torch.manual_seed(0)
    network = registry.create(name, num_classes=10)
    labels = [str(number) for number in range(10)]
    recognisers = {
        look: foveate.load(network, labels=labels, input=NETWORKS[name], look=look, device="cpu")
        for look in LOOKS
    }
    spent: dict[str, list[float]] = {look: [] for look in LOOKS}
    macs: dict[str, int] = {}
    for number in range(rounds + 1):
        for look, recogniser in recognisers.items():
            started = time.process_time()
            macs[look] = sum(recogniser.predict(video).cost.macs for video in videos)
            if number:  # the first round warms up
                spent[look].append(1000 * (time.process_time() - started) / len(videos))
    whole = np.array(spent["uniform"])
    return {
        look: {
            "ms": round(float(np.median(spent[look])), 1),
            "ratio": round(float(np.median(np.array(spent[look]) / whole)), 3),
            "ratios": [round(float(r), 3) for r in np.array(spent[look]) / whole],
            "macs": macs[look] // len(videos),
            "clips_per_cpu_second": round(1000 / float(np.median(spent[look])), 2),
            "share_of_macs": round(macs[look] / macs["uniform"], 3),
        }
        for look in LOOKS
    }


def main() -> None:
    """Measure, print and write `results/motion_time.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, nargs="?", default=VIDEO)
    parser.add_argument("--every", type=int, default=1, help="take every n-th video of a folder")
    parser.add_argument("--name", default="motion_time", help="write results/NAME.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    videos = videos_of(options.video, options.every)
    figures = {}
    for name in options.only:
        figures[name] = measure(name, videos, options.rounds)
        for look, found in figures[name].items():
            print(name, look, {k: v for k, v in found.items() if k != "ratios"}, flush=True)
    protocol = (
        f"{options.video.name}, {len(videos)} files, {options.rounds} rounds after one to warm up; "
        "random weights; "
        "look of the defaults (four sevenths of the side), the resized frame at the same size; "
        "process CPU time from opening to the answer, one thread; ratios within a round, median"
    )
    record.write(options.name, protocol, options.rounds, figures)


if __name__ == "__main__":
    main()
