"""Parsing of budgets."""

from __future__ import annotations

import pytest

from foveate.core import Budget, ConfigError
from foveate.core.budget import parse_budget


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("3fps", {"frames_per_second": 3.0}),
        (" 0.5 FPS ", {"frames_per_second": 0.5}),
        ("100MMAC/s", {"macs_per_second": 100e6}),
        ("1.5e9macs/s", {"macs_per_second": 1.5e9}),
        ("2ms/frame", {"ms_per_frame": 2.0}),
        ("5GMAC", {"macs_per_answer": 5e9}),
        ("20ms", {"ms_per_answer": 20.0}),
        ("50MMAC/s,3fps", {"macs_per_second": 50e6, "frames_per_second": 3.0}),
    ],
)
def test_units_and_prefixes(text: str, fields: dict[str, float]) -> None:
    assert parse_budget(text) == fields
    assert Budget(**parse_budget(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", "budget fast: not understood (use 100MMAC/s"),
        ("", "budget : not understood"),
        ("3fps,", "budget 3fps,: not understood"),
        ("3 parsecs", "not understood"),
        ("0fps", "budget 0fps: must be positive"),
        ("1.2.3fps", "budget 1.2.3fps: 1.2.3 is not a number"),
    ],
)
def test_invalid_budgets_are_rejected(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_budget(text)
    assert said in str(caught.value)
