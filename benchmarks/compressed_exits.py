"""What a cascade that stops early saves, against what the stages that it skipped cost.

Every file is recognised with a threshold that lets exits decide, and with one that none reaches, in
turns. A skipped stage (reading a modality from the file, an exit's part of a network with what it
takes to prepare its input) costs what it costs on average where it runs; saved is the difference of
whole recognitions. Were exits only chosen afterwards, nothing would be saved.

Run: `OMP_NUM_THREADS=1 python -m benchmarks.compressed_exits RUN [--clips 60] [--dry]` on the run
folder of `foveate train --recipe compressed`. All times are process CPU time of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from benchmarks import record

from foveate.core import FoveateError
from foveate.data import DataRequest, open_labelled
from foveate.evaluate.bootstrap import interval
from foveate.models.weights.run import read_run
from foveate.pipeline import ledger, scheduler
from foveate.pipeline.loading import load
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.reducers import ClassReducer
from foveate.policy.calibration import Calibration
from foveate.policy.operating import NEVER
from foveate.train.run_state import read_training

GOAL = 0.9
ROUNDS = 5
_OVERHEAD = ("network-", "policy", "head")  # counted by exit, or no stage that can be skipped


def by_cpu_time() -> None:
    """Let the ledger count the CPU time of this process: others share the machine."""
    clock = SimpleNamespace(perf_counter=time.process_time)
    ledger.time = scheduler.time = clock  # type: ignore[attr-defined]


def recognised(recogniser: Recogniser, path: Path) -> tuple[float, dict[str, float], str]:
    """Seconds of the whole recognition, of its stages, and the exit that decided."""
    began = time.process_time()
    session = next(recogniser.sessions([path]))
    spent = time.process_time() - began
    if isinstance(session, FoveateError):
        raise SystemExit(str(session))
    assert isinstance(session.reducer, ClassReducer)
    stages = {
        stage.name: stage.seconds
        for stage in session.ledger.cost().stages
        if not stage.name.startswith(_OVERHEAD)
    }
    exits = {name: part.seconds for name, part in session.parts.items() if name != "head"}
    return spent, {**stages, **exits}, str(session.reducer.windows[-1].exit)


def measure(folder: Path, order: str, thresholds: Sequence[float], paths: Sequence[Path]) -> Any:
    """For each threshold what was saved, what was skipped, and their ratio."""

    def made(threshold: float) -> Recogniser:
        return load(
            str(folder),
            look={"name": "groups", "order": order},
            decide={"name": "calibrated", "threshold": threshold},
            window=3600.0,  # one window a file, so that files are comparable
        )

    whole, eager = made(NEVER), {threshold: made(threshold) for threshold in thresholds}
    for recogniser in (whole, *eager.values()):
        recognised(recogniser, paths[0])  # the first calls of everything are slower
    full: list[list[float]] = []
    stages: list[dict[str, float]] = []  # medians of a file's rounds
    rows: dict[float, list[list[tuple[float, set[str], str]]]] = {t: [] for t in thresholds}
    for path in paths:
        full.append([])
        parts_of: list[dict[str, float]] = []
        for t in thresholds:
            rows[t].append([])
        for _ in range(ROUNDS):
            spent, parts, _ = recognised(whole, path)
            full[-1].append(spent)
            parts_of.append(parts)
            for t, recogniser in eager.items():
                spent, parts, exit = recognised(recogniser, path)
                rows[t][-1].append((spent, set(parts), exit))
        stages.append(
            {name: float(np.median([parts[name] for parts in parts_of])) for name in parts_of[0]}
        )
    means = {name: float(np.mean([parts[name] for parts in stages])) for name in stages[0]}
    return {
        "stage_ms": {name: 1000 * value for name, value in means.items()},
        "full_ms": 1000 * float(np.mean(full)),
        "thresholds": {f"{t:.4g}": _saved(full, rows[t], means) for t in thresholds},
    }


def _saved(
    full: list[list[float]], rows: list[list[tuple[float, set[str], str]]], means: dict[str, float]
) -> dict[str, Any]:
    saved = np.array(
        [np.median(a) - np.median([s for s, _, _ in b]) for a, b in zip(full, rows, strict=True)]
    )
    skipped = np.array(
        [sum(v for name, v in means.items() if name not in row[0][1]) for row in rows]
    )
    exits = [row[0][2] for row in rows]
    if not skipped.sum():
        return {"exits": {exit: exits.count(exit) for exit in sorted(set(exits))}, "ratio": None}
    ratio = interval(
        lambda w: (w @ saved) / np.maximum(w @ skipped, 1e-9), len(saved), repeats=2000
    )
    return {
        "exits": {exit: exits.count(exit) for exit in sorted(set(exits))},
        "saved_ms": 1000 * float(saved.mean()),
        "skipped_ms": 1000 * float(skipped.mean()),
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "goal_met": bool(ratio.value >= GOAL),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--clips", type=int, default=60, help="test files that are recognised")
    parser.add_argument("--dry", action="store_true", help="write no result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    by_cpu_time()
    dataset = open_labelled(DataRequest.of(read_training(options.run).origin)).subset("test")
    records = dataset.records[:: max(1, len(dataset) // options.clips)][: options.clips]
    paths = [r.path for r in records]
    card = Calibration.read(read_run(options.run).calibration, options.run.name)
    figures: dict[str, Any] = {"goal": GOAL}
    for order, chosen in card.orders.items():
        middle = chosen.table[len(chosen.table) // 2].threshold
        thresholds = sorted({0.0, middle, chosen.default} - {NEVER})
        figures[order] = {
            "order": list(chosen.order), "default": chosen.default,
            **measure(options.run, order, thresholds, paths),
        }  # fmt: skip
        for threshold, found in figures[order]["thresholds"].items():
            print(order, threshold, found, flush=True)
    if not options.dry:
        protocol = (
            f"{len(paths)} test files, each {ROUNDS} times with exits and {ROUNDS} times without, "
            "in turns, one window a file; process CPU time of one thread, the median of each "
            "file's rounds; a skipped stage counts what it costs on average over files; 95 % "
            "percentile bootstrap over files"
        )
        print(f"written: {record.write('compressed_exits', protocol, len(paths), figures).name}")


if __name__ == "__main__":
    main()
