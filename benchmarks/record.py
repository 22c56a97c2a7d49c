"""Where the results of the benchmarks lie, and the versions that each of them states."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from foveate.evaluate.results import write_result

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "av", "numpy", "opencv-python-headless")


def write(
    name: str, protocol: str, n: int, figures: Mapping[str, Any], seeds: tuple[int, ...] = ()
) -> Path:
    """Write `results/NAME.json`, whole or not at all; see `foveate.evaluate.results`."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    versions = {package: version(package) for package in PACKAGES}
    write_result(path, name, protocol, n, seeds, {**figures, "versions": versions})
    return path
