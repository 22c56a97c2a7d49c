"""Cases of the originals' numbers, which lie in the shared folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from foveate.models.weights.importers import from_arrays
from foveate.models.weights.importers.registry import Imported


def recipe(folder: Path, file: str = "weights.py") -> ModuleType:
    """The made-up weights' own module, loaded from where it lies."""
    found = importlib.util.spec_from_file_location("parity_weights", folder / file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def compare(shared: Path, name: str) -> tuple[Imported, dict[str, Any], dict[str, Any]]:
    """Import a case and compare all of its outputs; returns network, arrays and specification."""
    folder = shared / "parity"
    spec = json.loads((folder / name / "spec.json").read_text("utf-8"))
    want, weights = np.load(folder / name / "expected.npz"), recipe(folder)
    state = weights.state_of(spec)
    assert weights.state_digest(state) == spec["weights"]["sha256"]
    network = from_arrays(spec["system"], state, **spec["original"]["arguments"])
    got = network(**weights.build_inputs(spec))
    assert set(got) == set(spec["outputs"])
    for key, output in spec["outputs"].items():
        assert tuple(got[key].shape) == want[key].shape, key
        if output.get("compare") == "equal":
            assert (got[key].numpy() == want[key]).all(), key
        else:
            np.testing.assert_allclose(
                got[key].numpy(), want[key], rtol=output["rtol"], atol=output["atol"], err_msg=key
            )
    return network, state, spec
