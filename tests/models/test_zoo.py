"""The script of the model table on small networks, and its stored results."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from benchmarks import zoo
from benchmarks.record import RESULTS

from foveate.models import count_macs, registry

SMALL = (2, 32)


@pytest.fixture(scope="module")
def reference_network() -> torch.nn.Module:
    return registry.create_tiny("r3d").eval()


def test_a_row_has_counts_and_times(reference_network):
    settings = {"num_classes": 5}
    row = zoo.measure("tsm-online:test_resnet", reference_network, 1, settings, SMALL, (8, 32))
    model = registry.create("tsm-online:test_resnet", num_classes=5)
    assert row.parameters == sum(p.numel() for p in model.parameters())
    assert row.macs == count_macs(model, (1, 3, 2, 32, 32))
    assert row.ms > 0
    assert row.ratio > 0
    shifts = [v for k, v in model.initial_state(1, 32, 32).items() if k.startswith("shift")]
    assert row.state_bytes == 4 * (sum(v.numel() for v in shifts) + 96) + 8
    page = zoo.markdown({"rows": [asdict(row)]}, json.loads(ABOUT))
    assert "| `tsm-online:test_resnet` | 2 × 32² |" in page


def test_large_networks_are_counted_but_not_run(reference_network, monkeypatch):
    monkeypatch.setattr(zoo, "MOST_TIMED", 1)
    row = zoo.measure("tsn:test_resnet", reference_network, 1, None, SMALL)
    assert row.macs > 1
    assert row.ms is None


ABOUT = json.dumps(
    {
        "hardware": {"processor": "made up", "torch": "0"}, "commit": "0", "date": "2000-01-01",
        "protocol": "none",
    }
)  # fmt: skip


def test_the_page_has_the_stored_figures():
    about = json.loads((RESULTS / "zoo.json").read_text("utf-8"))
    assert zoo.DOCS.read_text("utf-8") == zoo.markdown(about["figures"], about)
    listed = {row["name"]: row for row in about["figures"]["rows"]}
    for name in ("r3d-18", "c3d", "tsn:mobilenetv2_100"):
        with torch.device("meta"):
            model = registry.create(name, num_classes=400)
        assert listed[name]["parameters"] == sum(p.numel() for p in model.parameters())
