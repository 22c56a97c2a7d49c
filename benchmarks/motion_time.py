"""Where motion patches save time and not only multiply-adds: end to end, by what a network costs.

    python -m benchmarks.motion_time [VIDEO or FOLDER] [--every N] [--rounds N] [--only NAME...]
        [--engines ENGINE...] [--name NAME] [--add]

One video, or every n-th of a folder, is recognised by networks of rising cost with random weights
(time does not ask what they know), looked at whole, resized, through the motion patch of the
library's defaults (forced), and through `auto`, whose measuring is over before the first round that
counts. Opening, decoding, measuring motion and choosing are in the time. CPU time of the process,
one thread, looks in turns within a round, medians.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks import record

import foveate
from foveate.models import InputSpec, registry
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run

VIDEO = Path(__file__).parents[1] / "examples" / "demo" / "cartwheel.mp4"
LOOKS = ("uniform", "resize", "motion-patch", "auto")
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


def run_folder(name: str, folder: Path) -> str:
    """A run folder of a network with random weights, so that every engine can take it."""
    torch.manual_seed(0)
    network = registry.create(name, num_classes=10)
    card = RunCard(
        networks={"network": NetworkCard(arch=name)},
        classes=[str(number) for number in range(10)],
        input=InputCard.of(NETWORKS[name]),
    )
    write_run(folder, {"network": network}, card)
    return str(folder)


def measure(
    name: str, videos: Sequence[Path], rounds: int, engine: str = "torch"
) -> dict[str, Any]:
    """CPU milliseconds a video and executed multiply-adds of every look on one network."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_folder(name, Path(folder) / "run")
        recognisers = {
            look: foveate.load(run, look=look, device="cpu", engine=engine, threads=1)
            for look in LOOKS
        }
        return _measured(recognisers, videos, rounds)


def _measured(recognisers: Any, videos: Sequence[Path], rounds: int) -> dict[str, Any]:
    spent: dict[str, list[float]] = {look: [] for look in LOOKS}
    macs: dict[str, int] = {}
    for number in range(rounds + 1):
        for look, recogniser in recognisers.items():
            started = time.process_time()
            macs[look] = sum(recogniser.predict(video).cost.macs for video in videos)
            if number:  # the first round warms up
                spent[look].append(1000 * (time.process_time() - started) / len(videos))
    whole = np.array(spent["uniform"])
    better = np.minimum(whole, spent["motion-patch"])
    return {
        look: {
            "ms": round(float(np.median(spent[look])), 1),
            "ratio": round(float(np.median(np.array(spent[look]) / whole)), 3),
            "clips_per_cpu_second_over_uniform": round(
                float(np.median(whole / np.array(spent[look]))), 3
            ),
            "over_the_better": round(float(np.median(np.array(spent[look]) / better)), 3),
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
    parser.add_argument("--engines", nargs="+", default=["torch"])
    parser.add_argument("--add", action="store_true", help="keep what is recorded of the others")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    videos = videos_of(options.video, options.every)
    path = record.RESULTS / f"{options.name}.json"
    figures: dict[str, Any] = {}
    if options.add and path.exists():
        figures = json.loads(path.read_text("utf-8"))["figures"]
    # What `auto` measures here is not kept for later predictions.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FOVEATE_CACHE"] = cache
        for name in options.only:
            for engine in options.engines:
                found = measure(name, videos, options.rounds, engine)
                key = name if engine == "torch" else f"{name}, {engine}"
                figures[key] = {"files": len(videos), "rounds": options.rounds, **found}
                for look in LOOKS:
                    shown = {k: v for k, v in found[look].items() if k != "ratios"}
                    print(key, look, shown, flush=True)
                _write(options, figures)


def _write(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    protocol = (
        f"{options.video.name}, every n-th file (their number is in the table), rounds after one "
        "to warm up; random weights; look of the defaults (four sevenths of the side), forced; the "
        "resized frame at the same size; auto measures in the round before; process CPU time from "
        "opening to the answer, one thread; ratios within a round, median"
    )
    record.write(options.name, protocol, options.rounds, figures)


if __name__ == "__main__":
    main()
