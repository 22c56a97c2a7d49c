"""Kills a training again and again and checks that it ends as if nothing had happened.

A small run over encoded clips (real loader, drawn windows, crops, flips, mixup, dropout, EMA) is
killed with SIGKILL at random moments and inside saves (half a file written, file written but not
renamed, renamed but the folder not yet on the disk), resumed each time, and left to end. Weights,
optimiser, log and random states must then be those of the unbroken run, bit by bit.

Run: ``python benchmarks/resume.py [--kills N] [--seed S] [--json PATH]``. POSIX only (it forks).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from foveate.core import files
from foveate.data import Dataset
from foveate.evaluate.results import write_result
from foveate.primitives.augment import Augment, RandomResizedCrop
from foveate.train.kit.checkpoint import Checkpoints
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from train import tiny_motion

PHASES = ("half", "written", "synced", "renamed")
KILLS_PER_RUN = 4
WORKERS = (0, 2)


def main_of_child(
    folder: Path, data: Dataset, workers: int, before: Callable[[], None] | None
) -> None:
    """Train in this process, from the start or from where it was killed."""
    torch.set_num_threads(1)
    tiny_motion.enter()
    if before is not None:
        before()
    config = tiny_motion.config(save_every=2, augment="light", workers=workers)
    run_recipe(supervised.RECIPE, config, data, folder, resume=(folder / "training.json").is_file())


def child(
    folder: Path, data: Dataset, workers: int, before: Callable[[], None] | None = None
) -> int:
    """Start a training; its process number."""
    number = os.fork()
    if number:
        return number
    try:
        main_of_child(folder, data, workers, before)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def killer(save: int, phase: str) -> Callable[[], None]:
    """Make this process kill itself in a phase of its n-th save of a checkpoint."""
    state = {"saves": 0}
    sync, replace = os.fsync, os.replace

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write(target: Path, data: bytes) -> None:
        if target.parent.name == "checkpoints":
            state["saves"] += 1
            if state["saves"] == save:
                if phase == "half":
                    half = target.with_name(f".{target.name}.half.partial")
                    half.write_bytes(data[: len(data) // 2])
                    die()
                os.fsync = lambda n: die() if phase == "written" else sync(n)  # type: ignore
                os.replace = (  # type: ignore
                    lambda a, b: die() if phase == "synced" else (replace(a, b), die())
                )
        real(target, data)

    real = files.replace_file

    def arm() -> None:
        from foveate.train.kit import checkpoint

        checkpoint.replace_file = write

    return arm


def finish(number: int) -> bool:
    """Wait for a process; whether it came to its end. An error of its own ends everything."""
    _, status = os.waitpid(number, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a training failed by itself, not by a kill")
    return os.WIFEXITED(status)


def broken_run(
    folder: Path, data: Dataset, workers: int, kills: int, seconds: float, dice: random.Random
) -> list[dict[str, Any]]:
    """One run with that many kills; how each of them fell."""
    deaths: list[dict[str, Any]] = []
    while len(deaths) < kills:
        if dice.random() < 0.5:
            save, phase = dice.randint(1, 3), dice.choice(PHASES)
            number, how = child(folder, data, workers, killer(save, phase)), f"save {phase}"
            killed = not finish(number)
        else:
            number, how = child(folder, data, workers), "time"
            time.sleep(dice.uniform(0.0, seconds))
            os.kill(number, signal.SIGKILL)
            killed = not finish(number)
        lines = folder / "log.jsonl"
        step = len(lines.read_bytes().splitlines()) if lines.is_file() else 0
        if not killed:
            break  # it was done before the blow fell: nothing is left to kill
        deaths.append({"how": how, "log_rows": step})
    if not finish(child(folder, data, workers)):
        raise SystemExit(f"a run could not be resumed after {deaths}")
    return deaths


def fingerprint(folder: Path) -> dict[str, Any]:
    """Everything that must not differ."""
    kept = Checkpoints(folder / "checkpoints")
    saved = kept.load(kept.steps()[-1])
    return {
        "weights": (folder / "model.safetensors").read_bytes(),
        "log.jsonl": (folder / "log.jsonl").read_bytes(),
        "log.csv": (folder / "log.csv").read_bytes(),
        "tensors": {k: v.numpy().tobytes() for k, v in sorted(saved.tensors.items())},
        "values": json.dumps(saved.values, sort_keys=True),
    }


def measure(kills: int, seed: int, folder: Path, counts: Sequence[int] = WORKERS) -> dict[str, Any]:
    """Kill until there were `kills` deaths for each number of workers; compare every run.

    Returns:
        ``kills``, ``runs``, ``equal`` (runs that ended with the same bits), ``in_save``,
        ``different`` (what differed, empty if nothing did), ``by`` (kinds of death).
    """
    # What the first step would load is loaded here once, and the children get it with the fork.
    import_module("torch._dynamo")
    size = tiny_motion.config().size or 16
    Augment(size, (RandomResizedCrop(size),))
    data = tiny_motion.on_disk(folder / "clips")
    dice = random.Random(seed)
    unbroken: dict[int, dict[str, Any]] = {}
    deaths: list[dict[str, Any]] = []
    runs = equal = 0
    different: list[str] = []
    for workers in counts:
        whole = folder / f"whole-{workers}"
        started = time.perf_counter()
        if not finish(child(whole, data, workers)):
            raise SystemExit("the unbroken run failed")
        seconds = time.perf_counter() - started
        unbroken[workers] = fingerprint(whole)
        had = len(deaths)
        while len(deaths) - had < kills:
            runs += 1
            broken = folder / f"broken-{runs}"
            wanted = min(KILLS_PER_RUN, kills - (len(deaths) - had))
            deaths += broken_run(broken, data, workers, wanted, seconds, dice)
            found = fingerprint(broken)
            differ = [k for k, v in unbroken[workers].items() if found[k] != v]
            different += [f"run {runs}, {workers} workers: {name}" for name in differ]
            equal += not differ
            shutil.rmtree(broken)
    first = unbroken[counts[0]]
    for workers, found in unbroken.items():
        differ = [k for k in ("weights", "log.jsonl") if found[k] != first[k]]
        different += [f"{workers} workers against {counts[0]}: {name}" for name in differ]
    kinds = [death["how"] for death in deaths]
    return {
        "kills": len(deaths),
        "runs": runs,
        "equal": equal,
        "in_save": sum(kind.startswith("save") for kind in kinds),
        "different": different,
        "by": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "log_rows_at_death": [death["log_rows"] for death in deaths],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="Exact resume after SIGKILL")
    parser.add_argument("--kills", type=int, default=20, help="for each number of workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write a result file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="foveate-resume-"))
    try:
        result = measure(options.kills, options.seed, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=1))
    if options.json:
        protocol = (
            "tiny MoViNet on 24 encoded clips, 9 steps, AdamW, EMA, mixup, dropout, drawn windows, "
            "crops and flips, checkpoint every 2 steps; SIGKILL at random moments and in four "
            "phases of a save; 0 and 2 loading processes; weights, optimiser, log and random "
            "states compared bit by bit with the unbroken run"
        )
        write_result(
            options.json, "exact resume", protocol, result["kills"], [options.seed], result
        )
    return 0 if not result["different"] and result["equal"] == result["runs"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
