"""The twin of benchmarks/motion_tokens.py: a small network, one round, one epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import motion_tokens

from clips import encode


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for split in ("train", "test"):
        for label in ("one", "two"):
            path = root / split / label / "a.mp4"
            path.parent.mkdir(parents=True)
            path.write_bytes(encode(frames=55, size=(96, 64), gop=10))
    return root


def test_shares_of_tokens_cost_shares_of_the_work(data: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(motion_tokens, "VIT", "test_vit")
    monkeypatch.setattr(motion_tokens, "VIT_SIDE", 64)
    found = motion_tokens.times_of([data / "test" / "one" / "a.mp4"], rounds=1)
    assert list(found) == ["full", "motion-tokens 0.5", "motion-tokens 0.25"]
    shares = [row["macs_share_of_full"] for row in found.values()]
    assert shares[0] == 1
    # 4 and 8 of 16 patches, and the class token
    assert shares[1:] == pytest.approx([9 / 17, 5 / 17], abs=0.03)
    assert all(0 < row["network_ms"] < row["predict_ms"] for row in found.values())


def test_every_look_is_trained_and_has_equal_multiply_adds(data: Path, monkeypatch: Any) -> None:
    for name, value in {"CLASSES": ("one", "two"), "EPOCHS": 1, "BATCH": 2, "DRAWS": 2}.items():
        monkeypatch.setattr(motion_tokens, name, value)
    torch.manual_seed(0)
    *_, (table, count) = motion_tokens.accuracy_of(data, [0])
    assert count == 2
    orders = ("resize", *motion_tokens.ORDERS)
    assert set(table) == {"full", *orders, *(f"{order}, trained on full" for order in orders)}
    assert len({table[order]["mmacs"] for order in orders}) == 1
    assert table["full"]["mmacs"] > 4 * table["motion"]["mmacs"]
    assert all(row["low"] <= row["top1"] <= row["high"] for row in table.values())
