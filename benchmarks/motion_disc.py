"""Does the window hold a disc that crosses the picture, as a user gets it: through `predict`.

    python -m benchmarks.motion_disc [--name NAME] [--seeds 101 102 ...] [--tracks auto tube ...]

The disc scenes of `motion_scenes`, encoded by x264 with its defaults, clips of 2 and 6 s, looked at
by a streaming network, a 2D and a (2+1)D network with the default look. The networks have random
weights except MoViNet-A0; windows do not depend on weights. `stream` is the same through
`Recogniser.stream`, which knows no later frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from benchmarks import record
from benchmarks.motion_scenes import CAMERAS, SIZE, contains, encoded, scene

import foveate
from foveate.models import InputSpec, registry
from foveate.pipeline.recogniser import Recogniser

RATE = 25
SECONDS = (2, 6)
NETWORKS: dict[str, InputSpec | None] = {
    "movinet-a0-stream-lite.actions15": None,
    "tsn:efficientnet_lite0": InputSpec(size=224, frames_per_second=4.0, clip_frames=8),
    "r2plus1d-18": InputSpec(size=112, frames_per_second=8.0, clip_frames=16),
}
ONLINE = "stream"


def recogniser_of(name: str, look: dict[str, Any]) -> Recogniser:
    """A network under a motion patch; with random weights where it has no published ones."""
    spec = NETWORKS[name]
    chosen = {"name": "motion-patch", **look}
    if spec is None:
        return foveate.load(name, look=chosen)
    torch.manual_seed(0)
    network = registry.create(name, num_classes=2)
    return foveate.load(network, labels=["a", "b"], input=spec, look=chosen, device="cpu")


def windows_of(results: Iterable[Any]) -> tuple[Any, Any]:
    """(N,) seconds and (N, 4) boxes of all frames that were looked at."""
    steps = [step for result in results for step in result.trace.steps]
    times = [time for step in steps for time in step.frames]
    return np.array(times), np.array([box for step in steps for box in step.boxes])


def clip_shares(recogniser: Recogniser, seconds: int, seed: int, online: bool) -> dict[str, Any]:
    """By camera: the share of frames whose window holds the disc, and the windows' extent."""
    found = {}
    for camera in CAMERAS:
        clip = scene(camera, seconds * RATE, seed)
        data = encoded(clip.frames, "x264")
        results = recogniser.stream(data) if online else [recogniser.predict(data)]
        times, boxes = windows_of(results)
        inside = contains(boxes, clip.boxes[np.round(times * RATE).astype(int)])
        extent = (boxes[:, 2] - boxes[:, 0]).mean() / min(SIZE)
        found[camera] = float(inside.mean()), float(extent)
    return found


def measure(
    networks: Sequence[str], tracks: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Network, seconds and track → by camera the mean over seeds, and the lowest seed."""
    table: dict[str, dict[str, Any]] = {}
    for name in networks:
        for track in tracks:
            online = track == ONLINE
            recogniser = recogniser_of(name, {} if online else {"track": track})
            if online and NETWORKS[name] is not None:
                continue
            for seconds in SECONDS:
                rows = [clip_shares(recogniser, seconds, seed, online) for seed in seeds]
                table[f"{name}, {seconds} s, {track}"] = {
                    camera: {
                        "contains": round(float(np.mean([row[camera][0] for row in rows])), 3),
                        "lowest_seed": round(min(row[camera][0] for row in rows), 3),
                        "extent": round(float(np.mean([row[camera][1] for row in rows])), 3),
                    }
                    for camera in CAMERAS
                }
                print(f"{name}, {seconds} s, {track}", [
                    tuple(one.values()) for one in table[f"{name}, {seconds} s, {track}"].values()
                ], flush=True)  # fmt: skip
    return table


def main() -> None:
    """Measure, print, and write a result file if it has a name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104])
    parser.add_argument("--tracks", nargs="+", default=["auto"])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--name", help="write results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(options.networks, options.tracks, options.seeds)
    if options.name:
        protocol = (
            f"disc scenes {SIZE[0]}x{SIZE[1]}, 25 frames/s, x264 with its defaults; default look "
            "(codec vectors) through predict, or stream; share of frames whose window holds the "
            "disc's box (2 px slack), mean over seeds and lowest seed; extent: mean side of the "
            "windows by the frame's shorter side"
        )
        record.write(options.name, protocol, len(options.seeds), figures, tuple(options.seeds))


if __name__ == "__main__":
    main()
