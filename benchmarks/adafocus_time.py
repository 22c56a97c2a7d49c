"""AdaFocus on a CPU: patches in one batch against the original's loop, and exits that are executed.

* The loop of the released code of V1: after one glance over all frames, it goes frame by frame; the
  policy's choice is read sample by sample to slice the patch, and the focus network and the
  classifier run on one frame of each clip. Here all patches of a clip pass in one batch.
* A video is recognised with each exit deciding in turn, and with none. A skipped stage costs what
  it costs where all run, decoding included; saved is the difference of whole recognitions.

Published networks (MobileNetV2 at 224 pixels, ResNet-50 at 128, 16 frames) with random weights, on
which no time depends. All times are process CPU time of one thread, in interleaved rounds.

Run: `OMP_NUM_THREADS=1 python -m benchmarks.adafocus_time [--rounds 5] [--dry]`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks import record
from torch import Tensor

from foveate.core import Budget, Evidence, InputSpec, More
from foveate.media import VideoWriter
from foveate.models import create
from foveate.pipeline import ledger, scheduler
from foveate.pipeline.adafocus import AdaFocusExecutor
from foveate.pipeline.recogniser import Recogniser
from foveate.policy import Context
from foveate.policy.looks.adafocus import AdaFocusSpec
from foveate.policy.stopping import ByExit

CLASSES, FRAMES, SIZE, PATCH = 200, 16, 224, 128
GOALS = {"batched": 1.5, "saved": 0.9}
CHUNK = 4  # patches between two exits
SECONDS, RATE, SHAPE = 8, 25, (640, 360)


def original_v1(net: Any, clips: Tensor) -> Tensor:
    """Logits (B, classes) after the last frame, in the order of the released code's loop.

    Args:
        net: AdaFocus V1.
        clips: (B, T, 3, S, S).
    """
    batch, count = clips.shape[:2]
    maps = net.glance.net.forward_features(clips.flatten(0, 1)).unflatten(0, (batch, count))
    glance = maps.mean((3, 4))
    policy = state = None
    for at in range(count):
        scores, _, policy = net.policy(maps[:, at : at + 1], policy)
        corners = net.corners(scores[:, 0].argmax(-1))
        patches = []
        for sample in range(batch):
            row, column = int(corners[sample, 0].item()), int(corners[sample, 1].item())
            patches.append(clips[sample, at, :, row : row + PATCH, column : column + PATCH])
        focus = net.focus.net(torch.stack(patches))
        both = torch.cat([glance[:, at], focus], 1).unsqueeze(1)
        logits, state = net.classifier(both, state)
    last: Tensor = logits[:, -1]
    return last


def by_rounds(jobs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of jobs in turns, after one call of each that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            if number:
                times[name].append(time.process_time() - began)
    return times


def batched(rounds: int, batch: int) -> dict[str, Any]:
    """The original's loop and one batch of patches, V1."""
    torch.manual_seed(0)
    net = create("adafocus-v1", num_classes=CLASSES, patch=PATCH, size=SIZE).eval()
    clips = torch.rand(batch, FRAMES, 3, SIZE, SIZE)
    with torch.inference_mode():
        first, second = original_v1(net, clips), net(clips.transpose(1, 2))
        assert torch.allclose(first, second, atol=1e-3 * float(first.abs().max()))
        times = by_rounds(
            {
                "loop": lambda: original_v1(net, clips),
                "batched": lambda: net(clips.transpose(1, 2)),
            },
            rounds,
        )
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratios = [a / b for a, b in zip(times["loop"], times["batched"], strict=True)]
    return {
        "batch": batch,
        "seconds_per_clip": {name: value / batch for name, value in middle.items()},
        "ratio": middle["loop"] / middle["batched"],
        "ratio_of_rounds": [min(ratios), max(ratios)],
    }


def video(path: Path) -> None:
    """A textured square that crosses a textured, panning background."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (90, 200, 3)).astype(np.uint8)
    wide = cv2.resize(small, (1600, SHAPE[1]), interpolation=cv2.INTER_CUBIC)
    square = cv2.resize(small[:30, :30], (120, 120), interpolation=cv2.INTER_NEAREST)
    writer = VideoWriter(path, SHAPE, RATE)
    for number in range(SECONDS * RATE):
        frame = wide[:, 2 * number : 2 * number + SHAPE[0]].copy()
        left = 5 * number % (SHAPE[0] - 120)
        frame[100:220, left : left + 120] = square
        writer.write(frame, number / RATE)
    writer.close()


class Noted:
    """Never decides, and notes the ledger at every exit."""

    eager = True

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.ledger: Any = None

    def __call__(self, evidence: Evidence, budget: Budget) -> More:
        self.seconds[evidence.exit] = self.ledger.cost().seconds
        return More()


def recognised(recogniser: Recogniser, path: Path, decide: Any) -> tuple[float, Any]:
    """Seconds and ledger of one recognition."""
    plan = replace(recogniser.plan, decide=decide)
    session = recogniser.opener(path, None, plan)()
    if isinstance(decide, Noted):
        decide.ledger = session.ledger
    for outcome in scheduler.schedule(recogniser.executor, iter([lambda: session]), 1):
        if outcome.error is not None:
            raise outcome.error
    cost = session.ledger.cost()
    return cost.seconds, cost


def exits(arch: str, rounds: int, path: Path, **settings: Any) -> dict[str, Any]:
    """What stopping at each exit saves, and what the stages behind it cost."""
    torch.manual_seed(0)
    net: Any = create(arch, num_classes=CLASSES, patch=PATCH, size=SIZE, **settings).eval()
    frames = 3 * FRAMES if net.focuses else FRAMES
    spec = InputSpec(SIZE, frames / SECONDS, frames, resize_to=256)
    look = AdaFocusSpec(chunk=CHUNK, order="forward").build(Context(spec, network=net))
    recogniser = Recogniser(
        AdaFocusExecutor(net, spec), [str(n) for n in range(CLASSES)], look=look, window=SECONDS
    )
    names = look.exits[:-1]
    skipped: dict[str, list[float]] = {name: [] for name in names}
    saved: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, Any] = {}
    whole: list[float] = []
    for number in range(rounds + 1):
        noted = Noted()
        full, cost = recognised(recogniser, path, noted)
        costs["all"] = cost
        for name in names:
            early, costs[name] = recognised(recogniser, path, ByExit({name: 0.0}))
            if number:
                skipped[name].append(full - noted.seconds[name])
                saved[name].append(full - early)
        if number:
            whole.append(full)
    rows = {
        name: {
            "skipped_seconds": statistics.median(skipped[name]),
            "saved_seconds": statistics.median(saved[name]),
            "share": sum(saved[name]) / sum(skipped[name]),
            "macs": costs[name].macs,
            "frames_decoded": costs[name].frames_decoded,
        }
        for name in names
    }
    stages = {stage.name: stage.seconds for stage in costs["all"].stages}
    return {
        "arch": arch,
        "seconds": statistics.median(whole),
        "macs": costs["all"].macs,
        "frames_decoded": costs["all"].frames_decoded,
        "stage_seconds": stages,
        "exits": rows,
        "least_share": min(row["share"] for row in rows.values()),
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    # The ledger counts the CPU time of this process: others share the machine.
    clock = SimpleNamespace(perf_counter=time.process_time, monotonic=time.monotonic)
    ledger.time = scheduler.time = clock  # type: ignore[attr-defined]
    figures: dict[str, Any] = {"goals": GOALS}
    figures["batched"] = [batched(given.rounds, batch) for batch in (1, 4)]
    print(figures["batched"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        video(path)
        figures["exits"] = [
            exits(arch, given.rounds, path) for arch in ("adafocus-v1", "uni-adafocus")
        ]
    for one in figures["exits"]:
        print(one)
    if not given.dry:
        protocol = (
            f"AdaFocus V1 and Uni-AdaFocus, {CLASSES} classes, MobileNetV2 at {SIZE} pixels, "
            f"ResNet-50 at {PATCH}, {FRAMES} focus frames, random weights, float32, one thread, "
            f"process CPU time, {given.rounds} interleaved rounds; exits every {CHUNK} patches on "
            f"one generated H.264 video of {SECONDS} s, {SHAPE[0]}x{SHAPE[1]}, frames in order"
        )
        record.write("adafocus_time", protocol, given.rounds, figures)


if __name__ == "__main__":
    main()
