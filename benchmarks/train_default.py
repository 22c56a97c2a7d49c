"""The default training before and after a change: memory, minutes and accuracy on real clips.

    python -m benchmarks.train_default FIGHT_SURV --before OTHER_CHECKOUT/src [--epochs 30]

The command `foveate train` of two checkouts, each in a process of its own, on the 168 training
clips that the default split (seed 0) of the 240 clips leaves; one epoch of it for its memory, which
the first step reaches; and one epoch of the contrastive recipe on 22 clips. A measured case is
stored in `--parts` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import write

HERE = Path(__file__).parents[1] / "src"
FEW = 22  # clips of the contrastive case
CASES = ("supervised", "one-epoch", "contrastive")


def command(source: Path, *words: object) -> None:
    """Run `foveate` of a checkout with one thread; its progress is not shown."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "foveate", *map(str, words)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def processor_seconds() -> float:
    """User and system time of child processes that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(case: str, data: Path, source: Path, epochs: int) -> dict[str, Any]:
    """Train in child processes of this one; their processor time, peak memory and accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words: list[object] = ["--format", "folders", "--no-check", "--out", out]
        if case == "contrastive":
            few = Path(folder) / "videos" / "train"
            few.mkdir(parents=True)
            for path in sorted(data.rglob("*.mp4"))[:FEW]:
                (few / path.name).symlink_to(path)
            data = few.parent
            words = ["--recipe", "contrastive", "--no-check", "--out", out]
        if case != "supervised":
            epochs = 1
        before, began = processor_seconds(), time.perf_counter()
        command(source, "train", data, *words, "--set", f"epochs={epochs}")
        wall = time.perf_counter() - began
        spent = processor_seconds() - before
        timing = json.loads((out / "timing.jsonl").read_text("utf-8").splitlines()[-1])
        found = {
            "wall_s": wall,
            "cpu_s": spent,
            "epochs": timing["epochs"],
            "outcome": timing["outcome"],
            "figures": timing["figures"],
            "stages": timing.get("stages", {}),
        }
        if case == "supervised":
            report = Path(folder) / "test.json"
            command(source, "evaluate", data, "--format", "folders", "-m", out, "--json", report)
            answers = json.loads(report.read_text("utf-8"))["predictions"]
            right = sum(answer["top"][0][0] in answer["truth"] for answer in answers)
            found |= {"test_right": right, "test_clips": len(answers)}
        else:
            found["peak_mb"] = timing["peak_memory_mb"]
    return found


def main() -> None:
    """Measure every case that is not stored yet, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with a folder of clips per class")
    parser.add_argument("--before", type=Path, required=True, help="sources of another checkout")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--parts", type=Path, required=True, help="folder of measured cases")
    parser.add_argument("--only", help="measure this case only, such as before-supervised")
    options = parser.parse_args()
    sources = {"before": options.before, "after": HERE}
    names = [f"{when}-{case}" for when in sources for case in CASES]
    options.parts.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else names:
        part = options.parts / f"{name}.json"
        if not part.exists():
            when, _, case = name.partition("-")
            # Memory and time are summed over the children of a process, so each case has its own.
            if options.only is None:
                subprocess.run([sys.executable, "-m", "benchmarks.train_default", *sys.argv[1:],
                                "--only", name], check=True)  # fmt: skip
                continue
            found = measure(case, options.data.resolve(), sources[when], options.epochs)
            part.write_text(json.dumps(found), "utf-8")
            print(name, found, flush=True)
    if options.only is None:
        write(
            "train_default",
            f"foveate train with its defaults except epochs={options.epochs} (batches of 16) on "
            "168 clips of FS-4 (default split of 240 clips, seed 0; 36 for validation, 36 for "
            f"test), and one epoch of the recipe contrastive on {FEW} clips; one thread, two "
            "loading processes, low priority beside other load that changed (compare cpu_s, "
            "not wall_s); cpu_s is user + system time of "
            "all processes, peak_mb the largest resident set of the one that trains",
            168,
            {name: json.loads((options.parts / f"{name}.json").read_text()) for name in names},
            (0,),
        )  # fmt: skip


if __name__ == "__main__":
    main()
