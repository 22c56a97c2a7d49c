"""Numbers of AutoVideo's networks, reproduced through the importer (tests marked shared)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from foveate.models.weights.importers import from_arrays

CASES = ("c3d", "i3d", "eco", "eco_full", "r3d", "r2p1d", "tsn", "tsm")
SLOW = ("c3d", "r2p1d", "i3d")  # more than two seconds each


def recipe(folder: Path, file: str = "weights.py") -> ModuleType:
    """The made-up weights' own module, loaded from where it lies."""
    found = importlib.util.spec_from_file_location("parity_weights", folder / file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def case_of(folder: Path, name: str) -> tuple[dict[str, Any], Any]:
    spec = json.loads((folder / name / "spec.json").read_text("utf-8"))
    return spec, np.load(folder / name / "expected.npz")


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES]
)
def test_parity(shared: Path, name: str) -> None:
    folder = shared / "parity"
    spec, want = case_of(folder, f"autovideo_{name}")
    weights = recipe(folder)
    state = weights.state_of(spec)
    network = from_arrays(spec["system"], state, **spec["original"]["arguments"])
    got = network(**weights.build_inputs(spec))
    assert set(got) == set(spec["outputs"])
    for output, bound in spec["outputs"].items():
        np.testing.assert_allclose(
            got[output].numpy(), want[output], rtol=bound["rtol"], atol=bound["atol"]
        )
    tensors = [t for t in network.model.state_dict().values() if t.is_floating_point()]
    counters = sum(name.endswith("num_batches_tracked") for name in state)
    assert sum(t.numel() for t in tensors) == spec["weights"]["count"] - counters
