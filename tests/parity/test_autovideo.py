"""Numbers of AutoVideo's networks, reproduced through the importer (tests marked shared)."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.cases import compare

CASES = ("c3d", "i3d", "eco", "eco_full", "r3d", "r2p1d", "tsn", "tsm")
SLOW = ("c3d", "r2p1d", "i3d")  # more than two seconds each


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES]
)
def test_parity(shared: Path, name: str) -> None:
    network, state, spec = compare(shared, f"autovideo_{name}")
    tensors = [t for t in network.model.state_dict().values() if t.is_floating_point()]
    counters = sum(name.endswith("num_batches_tracked") for name in state)
    assert sum(t.numel() for t in tensors) == spec["weights"]["count"] - counters
