"""Numbers of CoViAR's and PKD's networks, reproduced through the importers (marked shared)."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.cases import compare


@pytest.mark.shared
@pytest.mark.parametrize("name", ["coviar_r50_r18_r18", "pkd_exits"])
def test_parity(shared: Path, name: str) -> None:
    compare(shared, name)
