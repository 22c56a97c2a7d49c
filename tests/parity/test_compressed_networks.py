"""Numbers of CoViAR's and PKD's networks, reproduced through the importers (marked shared)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_autovideo import case_of, recipe

from foveate.models.weights.importers import from_arrays


@pytest.mark.shared
@pytest.mark.parametrize("name", ["coviar_r50_r18_r18", "pkd_exits"])
def test_parity(shared: Path, name: str) -> None:
    folder = shared / "parity"
    spec, want = case_of(folder, name)
    weights = recipe(folder)
    state = weights.state_of(spec)
    network = from_arrays(spec["system"], state, **spec["original"]["arguments"])
    got = network(**weights.build_inputs(spec))
    assert set(got) == set(spec["outputs"])
    for output, bound in spec["outputs"].items():
        np.testing.assert_allclose(
            got[output].numpy(), want[output], rtol=bound["rtol"], atol=bound["atol"]
        )
