"""Fuzz the command: folders of seeded mutants through `foveate predict`, as a user would run it.

    python benchmarks/fuzz_command.py --mutants 2000 [--record]

Each folder is one process of the command over the tiny model of the tests. Every file must give one
JSON line; the exit code must be 0 or 1; nothing on standard error may be a traceback or an internal
error; what fails costs one line there. Exit code 1 if any of that is broken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import record
from fuzz_media import TESTS, seeds

FOLDER = 250  # files in one run
PATIENCE = 300.0  # seconds for one run


def fill(folder: Path, first: int, count: int) -> None:
    """Write so many mutants, with endings that `foveate predict FOLDER` takes for videos."""
    from mutate import mutate

    clips = list(seeds().items())
    for seed in range(first, first + count):
        name, data = clips[seed % len(clips)]
        mutant = mutate(data, clips[seed // 7 % len(clips)][1], seed)
        (folder / f"{seed:08d}-{name}.mp4").write_bytes(mutant)


def run(weights: Path, folder: Path, count: int) -> tuple[Counter[str], list[str]]:
    """One run of the command: what became of the files, and what was broken."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "app" / "launch.py"), str(weights), "predict", str(folder),
         "--json", "-", "--quiet"],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    results: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    counts = Counter("recognised" if r["ok"] else r["error"]["kind"] for r in results)
    errors = done.stderr.splitlines()
    broken = [line for line in errors if not line.startswith("foveate: ")]
    broken += [r["error"]["message"] for r in results if not r["ok"] and "internal" in str(r)]
    if len(results) != count:
        broken.append(f"{len(results)} results of {count} files")
    failed = sum(not r["ok"] for r in results)
    if len(errors) != failed:
        broken.append(f"{len(errors)} lines of errors for {failed} failed files")
    if done.returncode != (1 if failed else 0):
        broken.append(f"exit code {done.returncode}")
    return counts, broken


def main() -> int:
    """Read the options, run the folders, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--mutants", type=int, default=FOLDER, help="how many in all")
    parser.add_argument("--record", action="store_true", help="write results/fuzz_command.json")
    options = parser.parse_args()
    sys.path.append(str(TESTS / "models"))
    import tiny_weights

    total: Counter[str] = Counter()
    broken: list[dict[str, Any]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        weights = Path(name) / "weights"
        weights.mkdir()
        tiny_weights.publish(weights)
        for first in range(options.seed, options.seed + options.mutants, FOLDER):
            count = min(FOLDER, options.seed + options.mutants - first)
            with tempfile.TemporaryDirectory(dir=name) as folder:
                fill(Path(folder), first, count)
                try:
                    counts, wrong = run(weights, Path(folder), count)
                except subprocess.TimeoutExpired:
                    counts, wrong = Counter(), [f"took longer than {PATIENCE:g} s"]
            total += counts
            broken += [{"first": first, "what": line[:300]} for line in wrong]
    report = {
        "mutants": options.mutants,
        "counts": dict(sorted(total.items())),
        "broken": broken,
        "wall_seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(report, indent=1))
    if options.record:
        protocol = (
            f"seeded mutants of {len(seeds())} small clips in folders of {FOLDER}, each folder one "
            "`foveate predict FOLDER --json -` over a tiny model; broken: a hang, a missing "
            "result, an exit code other than 0 or 1, a traceback, an internal error, more than one "
            "line for a file"
        )
        record.write("fuzz_command", protocol, options.mutants, report, (options.seed,))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
