"""What every result file states: commit, date, hardware, versions, protocol, n, seeds."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def hardware() -> dict[str, Any]:
    """Processor, cores in use, memory."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": round(memory / 1e9, 1), "gpu": None}


def commit() -> str:
    """The commit that was measured; `+` where the tree had changes."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def write(
    name: str, protocol: str, n: int, figures: dict[str, Any], seeds: tuple[int, ...] = ()
) -> Path:
    """Write `results/NAME.json` whole or not at all."""
    path = RESULTS / f"{name}.json"
    body = {
        "name": name,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": {p: version(p) for p in ("torch", "av", "numpy", "opencv-python-headless")},
        "python": platform.python_version(),
        "protocol": protocol,
        "n": n,
        "seeds": list(seeds),
        "figures": figures,
    }
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
