"""Accuracy against multiply-adds of every look, zero-shot: a trained run, only its input changes.

Give it a run folder of `foveate train` and a data folder of `foveate data make mocap15` (or any
folder with `clips.csv` of path, label, split). Every look sees the same clips; differences are
paired, with a 95 % bootstrap interval over clips (over groups, where the table has a `group`).
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import foveate
import record
from foveate.core import Budget, Window
from foveate.pipeline.presets import edit, resolve
from foveate.pipeline.recogniser import assemble
from foveate.policy.motion import Seen
from foveate.policy.motion.fields import camera_speed

LOOKS = ("uniform", "resize", "centre", "random", "rwf-crop", "mocrop", "mv-patch", "motion-patch")
RANDOM_SEEDS = 5
DRAWS = 2000


def clips_of(data: Path, split: str, most: int) -> list[dict[str, str]]:
    """Rows of `clips.csv` of one split, at most so many, evenly chosen."""
    with (data / "clips.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split", split) == split]
    if not rows:
        raise SystemExit(f"{data.name}: no clips of the split {split}")
    return [rows[i * len(rows) // most] for i in range(most)] if len(rows) > most else rows


def run_look(run: str, spec: dict[str, Any], data: Path, rows: list[dict[str, str]]) -> Any:
    """Per clip: right or wrong, MACs, whether the look fell back; and seconds in all."""
    recogniser = assemble(edit(resolve(run)[1], {"look": spec}))
    right, macs, fell = [], [], []
    started = time.process_time()
    for row in rows:
        result = recogniser.predict(data / row["path"])
        right.append(result.labels[0].label == row["label"])
        macs.append(result.cost.macs)
        fell.append(np.mean([step.fallback for step in result.trace.steps]))
    return np.array(right, float), np.array(macs), np.array(fell), time.process_time() - started


def paired(difference: Any, groups: Any) -> dict[str, float]:
    """Mean of a paired difference with its interval from a bootstrap over groups."""
    random = np.random.default_rng(0)
    names, at = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(at, difference), np.bincount(at)
    draws = random.integers(0, len(names), (DRAWS, len(names)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": round(float(difference.mean()), 4), "low": round(float(low), 4),
            "high": round(float(high), 4)}  # fmt: skip


def camera_of(path: Path) -> float:
    """Median speed of the camera in a clip, in pixels per frame."""
    look = foveate.looks.MotionPatch()
    with foveate.Video(path) as video:
        times = look.times(Window(0.0, video.info.duration or 2.0), Budget())
        motion = video.motion(times)
        seen = Seen(motion.field, motion.valid, cell=motion.cell)
        return float(np.median(camera_speed(seen)))


def measure(run: str, data: Path, rows: list[dict[str, str]], size: int | None) -> dict[str, Any]:
    """All looks on the same clips; motion patches compared with each of the others."""
    answers: dict[str, Any] = {}
    for name in LOOKS:
        spec: dict[str, Any] = {"name": name}
        if size is not None and name != "uniform":
            spec["size"] = size
        if name != "random":
            answers[name] = run_look(run, spec, data, rows)
            continue
        several = [run_look(run, {**spec, "seed": s}, data, rows) for s in range(RANDOM_SEEDS)]
        answers[name] = tuple(np.mean([one[i] for one in several], 0) for i in range(4))
    groups = np.array([row.get("group") or row["path"] for row in rows])
    speed = np.array([camera_of(data / row["path"]) for row in rows])
    moving = np.argsort(np.argsort(speed, kind="stable")) >= len(speed) // 2
    right, full = answers["motion-patch"][0], float(answers["uniform"][1].mean())
    return {
        name: {
            "accuracy": round(float(a[0].mean()), 4),
            "accuracy, camera at rest": round(float(a[0][~moving].mean()), 4),
            "accuracy, camera moving": round(float(a[0][moving].mean()), 4),
            "macs per clip": int(a[1].mean()),
            "share of the full view's macs": round(float(a[1].mean()) / full, 3),
            "fallback": round(float(a[2].mean()), 3),
            "clips per cpu second": round(len(rows) / max(float(a[3]), 1e-9), 2),
            "motion-patch less this": paired(right - a[0], groups),
        }
        for name, a in answers.items()
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Accuracy of looks on a trained run, zero-shot")
    parser.add_argument("run", help="run folder of `foveate train`, or a model with weights")
    parser.add_argument("data", type=Path, help="folder with clips.csv")
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--size", type=int, help="side shown to the network; a third of its work")
    parser.add_argument("--name", help="write results/NAME.json")
    options = parser.parse_args()
    rows = clips_of(options.data, options.split, options.clips)
    figures = measure(options.run, options.data, rows, options.size)
    for name, row in figures.items():
        less = row["motion-patch less this"]
        print(
            f"{name:14} {row['accuracy']:.3f}  {row['macs per clip'] / 1e6:9.1f} MMACs  "
            f"fallback {row['fallback']:.2f}  motion-patch less this: {less['mean']:+.3f} "
            f"[{less['low']:+.3f}, {less['high']:+.3f}]"
        )
    if options.name:
        protocol = (
            f"zero-shot: the run was trained on whole frames; split {options.split}; clip-level "
            "top-1; paired bootstrap over groups; random: mean of five seeds; strata: halves by "
            "the median speed of the dominant affine motion"
        )
        record.write(options.name, protocol, len(rows), figures, tuple(range(RANDOM_SEEDS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
