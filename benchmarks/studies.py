"""Studies of pipelines on small mocap15 data: TPE and NSGA-II against random draws.

    foveate data make mocap15 data/mocap15 --clips 1200 --seed 1
    nice python -m benchmarks.studies data/mocap15 --work studies/benchmark

Two objectives: accuracy on validation clips up, executed multiply-adds per video down. The
backbone is frozen, and most of the space is how it is used: frames, rate, size, what is shown of a
frame, and when to stop. Per seed, the study of each sampler has the same number of trials. A
pipeline that any of the studies has measured is not measured again: its values and its seconds are
those of the first time.

The hypervolume is the area that the front of a study dominates, of accuracy times the logarithm of
the multiply-adds between the cheapest and the most expensive trial of all studies, as a share of
the largest possible.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.record import write

from foveate.core.files import replace_file
from foveate.data import Dataset, read
from foveate.data.labelled import only_classes
from foveate.search import pipelines
from foveate.search.study import (
    INTERRUPTED,
    Limits,
    Runner,
    StudySettings,
    Trial,
    best_of,
    open_study,
    read_trials,
)
from foveate.search.study_trials import Job, Report

CLASSES = ("backflip", "cartwheel", "crawl", "dance_a", "dance_b")  # the first in the alphabet
PER_CLASS = {"train": 16, "val": 8}
SEEDS = (0, 1, 2)
SAMPLERS = ("tpe", "nsga2", "random")
SPACE: dict[str, Any] = {
    "recogniser": {
        "kind": "movinet", "table": "a0", "form": "stream-lite", "weights": "k600", "dropout": 0,
    },
    "sampler": {"kind": "uniform", "frames": [4, 8, 12], "rate": [5, 10]},
    "look": {
        "kind": ["uniform", "motion-patch"],
        "uniform": {"chunk": [2, 4], "rate": None},
        "motion-patch": {"size": [64, 96], "chunk": 4, "rate": None},
    },
    "stopping": {"kind": "confident", "threshold": [0.4, 0.6, 0.8, 0.9, 1.0]},
    "engine": {"name": "torch"},
    "training": {
        "kind": "supervised", "freeze": "backbone", "epochs": 30, "batch": 16,
        "lr": [0.001, 0.003, 0.01, 0.03], "weight_decay": 0.01, "optimizer": "adamw",
        "label_smoothing": 0, "backbone_lr": None, "mixup": 0, "cutmix": 0, "workers": 0,
        "settings": [{"size": 64}, {"size": 96}],
    },
}  # fmt: skip


def measure(job: Job, report: Report) -> dict[str, Any]:
    """The objective function of `foveate search`, or what it gave in another of the studies."""
    text = json.dumps([job.values, job.context["digest"]], sort_keys=True)
    known = job.study.parent / "measured" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    if known.is_file():
        found: dict[str, Any] = json.loads(known.read_text("utf-8"))
        return {**found, "saved_seconds": found["spent"], "again": True}
    began = time.monotonic()
    # All studies share trainings and features, as the trials of one do.
    found = pipelines.measure(replace(job, study=job.study.parent), report)
    found["spent"] = time.monotonic() - began
    replace_file(known, json.dumps(found).encode())
    return found


def chosen(folder: Path) -> Dataset:
    """The first clips of five classes; no test clips."""
    left = {(split, name): n for split, n in PER_CLASS.items() for name in CLASSES}
    records = []
    for record in only_classes(read(folder), CLASSES).records:
        key = (str(record.split), record.labels[0])
        if left.get(key, 0) > 0:
            left[key] -= 1
            records.append(record)
    return replace(only_classes(read(folder), CLASSES), records=tuple(records))


def study(dataset: Dataset, work: Path, sampler: str, seed: int, trials: int) -> list[Trial]:
    """Run one study, or continue with it."""
    folder = work / f"{sampler}-{seed}"
    space = pipelines.space_of(SPACE)
    settings = StudySettings(
        objectives=("accuracy", "macs"), sampler=sampler, seed=seed, space=space.to_dict(),
        context={"data": {}, "digest": dataset.digest(), "device": "cpu", "threads": 1,
                 "offline": True},
    )  # type: ignore[arg-type]  # fmt: skip
    open_study(folder, settings)
    Runner(folder, settings, space, measure, Limits(trials)).run()
    return [one for one in read_trials(folder, settings) if one.state != INTERRUPTED]


def seconds_of(trial: Trial) -> float:
    """What a trial costs in a study by itself: one of known parameters costs nothing."""
    return 0.0 if trial.same_as is not None else float(trial.values.get("spent", trial.seconds))


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats."""
    settings = StudySettings(objectives=("accuracy", "macs"))
    return list(best_of(tuple(trials), settings))


def hypervolume(trials: Sequence[Trial], low: float, high: float) -> float:
    """Share of accuracy times log-cost that the front of some trials dominates."""
    area, cheapest = 0.0, 1.0
    for one in front(trials):  # the most accurate and most expensive first
        across = (math.log(one.values["macs"]) - math.log(low)) / (math.log(high) - math.log(low))
        area += one.values["accuracy"] * max(0.0, cheapest - across)
        cheapest = min(cheapest, across)
    return area


def within(trials: Sequence[Trial], seconds: float) -> list[Trial]:
    """The first trials that together take no longer."""
    ends = np.cumsum([seconds_of(one) for one in trials])
    return [one for one, end in zip(trials, ends, strict=True) if end <= seconds]


def main() -> None:
    """Run the studies, and write the result after every seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    given = parser.parse_args()
    dataset = chosen(given.data)
    given.work.mkdir(parents=True, exist_ok=True)
    replace_file(given.work / pipelines.DATA, pipelines._DATASET.dump_json(dataset))
    found: dict[int, dict[str, list[Trial]]] = {}
    for seed in SEEDS:
        found[seed] = {s: study(dataset, given.work, s, seed, given.trials) for s in given.samplers}
        record(found, given.trials, len(dataset.subset("val")))


def record(found: dict[int, dict[str, list[Trial]]], trials: int, clips: int) -> None:
    """Write `results/studies.json`."""
    every = [t for studies in found.values() for one in studies.values() for t in one]
    costs = [t.values["macs"] for t in every if t.state == "complete"]
    low, high = min(costs), max(costs)
    rows = []
    for seed, studies in found.items():
        equal = min(sum(map(seconds_of, one)) for one in studies.values())
        row: dict[str, Any] = {"seed": seed, "equal_seconds": round(equal, 1)}
        for sampler, one in studies.items():
            best = front(one)
            row[sampler] = {
                "trials": len(one),
                "failed": sum(t.state == "failed" for t in one),
                "repeated": sum(t.same_as is not None for t in one),
                "seconds": round(sum(map(seconds_of, one)), 1),
                "trials_within_equal_seconds": len(within(one, equal)),
                "hypervolume_equal_trials": round(hypervolume(one, low, high), 4),
                "hypervolume_equal_seconds": round(hypervolume(within(one, equal), low, high), 4),
                "front": [
                    {name: t.values[name] for name in ("accuracy", "low", "high", "macs")}
                    | {"parameters": t.parameters}
                    for t in best
                ],
            }
        rows.append(row)

    def mean(sampler: str, name: str) -> float:
        return round(statistics.mean(row[sampler][name] for row in rows), 4)

    names = ("hypervolume_equal_trials", "hypervolume_equal_seconds")
    measured = [t for t in every if t.state == "complete" and not t.values.get("again")
                and t.same_as is None]  # fmt: skip
    shared = {
        "trials": len(every),
        "measured": len(measured),
        "seconds": round(sum(t.values["spent"] for t in measured), 1),
        "saved_by_trainings_and_features": round(sum(t.saved for t in measured), 1),
    }
    write(
        "studies",
        f"mocap15 rendered, {len(CLASSES)} classes, {PER_CLASS['train']} training and "
        f"{PER_CLASS['val']} validation clips a class; MoViNet A0 stream (Kinetics-600) with a "
        f"frozen backbone; {trials} trials a study; accuracy with its 95 % interval on validation "
        "clips, executed MACs per video; hypervolume of accuracy times log MACs between the "
        "cheapest and the most expensive trial; seconds on a machine with much other load; a "
        "pipeline that another study had measured was not measured again",
        clips,
        {
            "seeds": rows, "macs": [low, high], "shared": shared,
            "means": {
                one: {name: mean(one, name) for name in names} for one in found[SEEDS[0]]
            },
        },
        tuple(found),
    )  # fmt: skip


if __name__ == "__main__":
    main()
