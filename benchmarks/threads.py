"""`predict` with one and two threads of the network, where idle threads spin and where they sleep.

OpenMP's threads wait for work by spinning unless `OMP_WAIT_POLICY=PASSIVE`; the command sets it,
unless the user did. Fresh processes in turn, the bundled clip, the second call in each.

    python -m benchmarks.threads [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.record import write

CLIP = Path(__file__).parents[1] / "examples" / "demo" / "cartwheel.mp4"
PROTOCOL = (
    "wall and CPU seconds of the second predict on the bundled clip in a fresh process, "
    "movinet-a0-stream-lite.actions15, torch, median of processes in turn; two cores on which "
    "other work ran"
)
_CHILD = """
import json, sys, time
import foveate
model = "movinet-a0-stream-lite.actions15"
recogniser = foveate.load(model, offline=True, threads=int(sys.argv[1]))
recogniser.predict(sys.argv[2])
wall, cpu = time.perf_counter(), time.process_time()
recogniser.predict(sys.argv[2])
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def main() -> None:
    """Measure, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    cases = {"one thread": (1, "ACTIVE"), "two, spinning": (2, ""), "two, sleeping": (2, "PASSIVE")}
    found: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (threads, policy) in cases.items():
            env = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
            env |= {"OMP_WAIT_POLICY": policy} if policy else {}
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(threads), str(CLIP)],
                capture_output=True, text=True, check=True, env=env,
            )  # fmt: skip
            found[name].append(json.loads(done.stdout))
    seconds = {
        name: dict(zip(("wall", "cpu"), map(statistics.median, zip(*v, strict=True)), strict=True))
        for name, v in found.items()
    }
    base = seconds["one thread"]["wall"]
    ratios = {name: value["wall"] / base for name, value in seconds.items()}
    print(write("threads", PROTOCOL, rounds, {"seconds": seconds, "wall_over_one_thread": ratios}))
    print(ratios)


if __name__ == "__main__":
    main()
