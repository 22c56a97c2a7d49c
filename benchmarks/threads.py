"""`predict` with one and two threads of the network, where idle threads spin and where they sleep.

OpenMP's threads wait for work by spinning unless `OMP_WAIT_POLICY=PASSIVE`; the command and
`foveate.load(threads=2)` set it, unless the user did or PyTorch was imported before. Fresh
processes in turn, the bundled clip, several calls in each; without and with two other processes
that keep both cores busy. `auto` is `--threads auto`, which measured once before. Beside it,
OpenCV's optical flow with one and two of its threads.

    python -m benchmarks.threads [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.record import write

CLIP = Path(__file__).parents[1] / "examples" / "demo" / "cartwheel.mp4"
PROTOCOL = (
    "wall and CPU seconds of predict on the bundled clip in a fresh process after a first call, "
    "movinet-a0-stream-lite.actions15, torch, and milliseconds of DIS optical flow of 256x256 "
    "pixels in OpenCV; median over processes, in turn, of the median over calls; two cores on "
    "which other work ran; busy: and on which two loops ran, too"
)
# Threads of the network, and what is imported first: before PyTorch is imported foveate sets the
# policy, afterwards it is that of OpenMP, to spin.
CASES = {
    "one thread": ("1", "foveate"),
    "two, spinning": ("2", "torch"),
    "two, sleeping": ("2", "foveate"),
    "auto": ("auto", "foveate"),
}
_CHILD = """
import importlib, json, statistics, sys, time
importlib.import_module(sys.argv[3])
import foveate

threads = sys.argv[1] if sys.argv[1] == "auto" else int(sys.argv[1])
model = "movinet-a0-stream-lite.actions15"
recogniser = foveate.load(model, offline=True, threads=threads)

def timed(call, count):
    call()
    found = []
    for _ in range(count):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return [statistics.median(column) for column in zip(*found)]

print(json.dumps(timed(lambda: recogniser.predict(sys.argv[2]), 5)))
"""
_FLOW = """
import json, statistics, time
import cv2, numpy as np

random = np.random.default_rng(0)
first = cv2.GaussianBlur(random.integers(0, 256, (256, 256), np.uint8), (0, 0), 3)
second = np.roll(first, 3, 1)
flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
found = {1: [], 2: []}
for _ in range(40):
    for threads, rows in found.items():
        cv2.setNumThreads(threads)
        wall, cpu = time.perf_counter(), time.process_time()
        flow.calc(first, second, None)
        rows.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
print(json.dumps([[statistics.median(column) for column in zip(*rows)] for rows in found.values()]))
"""


@contextmanager
def load(loops: int) -> Iterator[None]:
    """Other processes that keep this many cores busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def child(code: str, *arguments: str, **environment: str) -> Any:
    """What a fresh process prints, with no settings of threads but these."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=True, env=env | environment,
    )  # fmt: skip
    return json.loads(done.stdout)


def medians(rows: list[list[float]]) -> dict[str, float]:
    """Wall and CPU time."""
    return dict(zip(("wall", "cpu"), map(statistics.median, zip(*rows, strict=True)), strict=True))


def main() -> None:
    """Measure, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        child(_CHILD, "auto", str(CLIP), "foveate", FOVEATE_CACHE=cache)  # measures, and remembers
        remembered = json.loads((Path(cache) / "engines.json").read_text("utf-8"))
        figures["auto_chose"] = int(next(iter(remembered.values())))
        for name, loops in (("as it was", 0), ("busy", 2)):
            found: dict[str, list[list[float]]] = {case: [] for case in CASES}
            flows = []
            with load(loops):
                for _ in range(rounds):
                    for case, (threads, first) in CASES.items():
                        found[case].append(
                            child(_CHILD, threads, str(CLIP), first, FOVEATE_CACHE=cache)
                        )
                    flows.append(child(_FLOW))
            seconds = {case: medians(rows) for case, rows in found.items()}
            base = seconds["one thread"]["wall"]
            one, two = (medians(list(rows)) for rows in zip(*flows, strict=True))
            figures[name] = {
                "seconds": seconds,
                "wall_over_one_thread": {k: v["wall"] / base for k, v in seconds.items()},
                "flow_ms": {"one thread": one, "two threads": two},
            }
            print(name, figures[name]["wall_over_one_thread"], figures[name]["flow_ms"], flush=True)
    print(write("threads", PROTOCOL, rounds, figures))


if __name__ == "__main__":
    main()
