"""The benchmark of a step runs and its sums are correct."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from foveate.models import registry

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "step_time.py"


@pytest.fixture(scope="module")
def step_time():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("step_time", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_measures_and_prints(step_time):
    threads = torch.get_num_threads()
    model = registry.create_tiny("movinet-a0-stream-lite")
    result = step_time.measure(model, (24, 20), rounds=2, chunks=(1, 3))
    assert torch.get_num_threads() == threads
    assert set(result["times"]) == {"plain step 1", "step 1", "step 3", "features 1"}
    for name, kinds in result["times"].items():
        assert 0 < kinds["min"] <= kinds["median"]
        ratio = result["ratios"][name]["min"]["practical"]
        assert ratio == pytest.approx(kinds["min"] / result["floors"]["min"]["practical"])
    assert "step 3" in step_time.table(result)
    json.dumps(result)


def test_depthwise_part_of_the_published_network(step_time):
    model = registry.create("movinet-a0-stream-lite")
    spatial = 24 * 25 * 43**2 + 3 * 80 * 9 * 22**2 + 112 * 9 * 11**2 + 6 * 184 * 9 * 11**2
    spatial += (384 * 9 + (280 + 280 + 344) * 25) * 6**2
    temporal = 3 * 80 * 3 * 22**2 + (2 * 184 * 5 + 4 * 184 * 3 + 112 * 3) * 11**2
    temporal += 384 * 5 * 6**2
    assert step_time.depthwise_macs(model, (172, 172)) == spatial + temporal
