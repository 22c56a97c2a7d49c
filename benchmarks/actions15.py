"""The fifteen rendered actions: accuracy by camera regime, against chance and a single-frame model.

mocap15 is rendered, and has one recording per action: accuracy on it measures invariance to view,
speed, body and surroundings. Both models are trained by `recipes/actions15.yaml`; the second one
sees single frames (its answers are averaged over the frames of a clip), so that what it lacks is
motion. Test clips are answered for through the whole pipeline, as `foveate predict` does.

Run::

    foveate data make mocap15 data/mocap15 --clips 1200 --seed 1
    foveate train data/mocap15 --out runs/actions15 --config benchmarks/recipes/actions15.yaml
    foveate train data/mocap15 --out runs/frame --config benchmarks/recipes/actions15.yaml \
        --set frames=1
    python benchmarks/actions15.py data/mocap15 runs/actions15 --frame runs/frame [--json PATH]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.data import Dataset, read
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import interval
from foveate.evaluate.results import write_result
from foveate.evaluate.run import Evaluation, compare_runs, evaluate
from foveate.models.weights.run import read_run
from foveate.pipeline.loading import load

PROTOCOL = (
    "mocap15 (rendered, one recording per action), 1200 clips, seed 1: trained on train, best "
    "epoch by val; top-1 of whole clips through the pipeline (mean over "
    "windows of 2 s, by length); 95 % percentile bootstrap over "
    "groups (body and background); chance is 1/15"
)


def by_camera(found: Evaluation, dataset: Dataset) -> dict[str, Any]:
    """Top-1 with its interval for every camera regime, and over all."""
    camera = {dataset.name(r): r.tag("camera") or "?" for r in dataset.records}
    out = {}
    for regime in ("all", *sorted(set(camera.values()))):
        chosen = [p for p in found.answered() if regime in ("all", camera[p.name])]
        values = np.array([float(p.top[0][0] in p.truth) for p in chosen])
        within = interval(metrics.mean(values), len(values), [p.group for p in chosen])
        out[regime] = {
            "top1": within.value, "low": within.low, "high": within.high, "n": len(values),
            "groups": within.units,
        }  # fmt: skip
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="mocap15, as the docstring makes it")
    parser.add_argument("run", help="run folder or built-in weights")
    parser.add_argument("--frame", required=True, help="run folder of the single-frame model")
    parser.add_argument("--json", type=Path, help="write a result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = read(options.data)
    figures: dict[str, Any] = {"chance": 1 / len(dataset.classes)}
    tests: dict[str, Evaluation] = {}
    for name, run in (("clip", options.run), ("single frame", options.frame)):
        recogniser = load(run)
        for split in ("val", "test"):
            found = evaluate(recogniser, dataset, split)
            figures[f"{name}, {split}"] = by_camera(found, dataset)
            cost = {f: found.figure(f).value for f in ("macs-per-video", "seconds-per-video")}
            figures[f"{name}, {split}"] |= cost
        tests[name] = found
        if Path(run).is_dir():
            figures[f"{name}, trained from"] = read_run(run).started_from
    against = compare_runs(tests["clip"], tests["single frame"])
    figures["clip against single frame"] = against.sentence("clip", "single frame", "top1")
    for key, value in figures.items():
        print(key, value)
    if options.json is not None:
        n = tests["clip"].n
        write_result(options.json, "mocap15 actions", PROTOCOL, n, [0], figures)


if __name__ == "__main__":
    main()
