"""Formatting of numbers, also where rounding changes the prefix."""

from __future__ import annotations

import math

import pytest

from foveate.core import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (49_700_000, "49.7 M"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (9_995, "10.0 k"),
        (1.5, "1.50"),
        (-2_500, "-2.50 k"),
        (3e18, "3.00 E"),
        (3e24, "3.00e+24"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_si(value: float, text: str) -> None:
    assert units.si(value) == text


def test_multiply_adds_are_called_macs() -> None:
    assert units.macs(49_700_000) == "49.7 M MACs"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (512, "512 B"), (8_412_000, "8.41 MB"), (2e9, "2.00 GB")]
)
def test_size(value: float, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.00042, "420 µs"),
        (0.0123, "12.3 ms"),
        (0.9996, "1.00 s"),
        (1.234, "1.23 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (math.nan, "–"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 0, "0:00"),
        (5.2, 1, "0:05.2"),
        (59.96, 1, "1:00.0"),
        (3723, 0, "1:02:03"),
        (-0.01, 0, "0:00"),
        (-5, 0, "-0:05"),
        (math.inf, 1, "–"),
    ],
)
def test_clock(value: float, digits: int, text: str) -> None:
    assert units.clock(value, digits) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0 %"),
        (0.0001, "<0.1 %"),
        (0.873, "87.3 %"),
        (0.99999, "99.9 %"),
        (1.0, "100.0 %"),
        (math.nan, "–"),
    ],
)
def test_percent_shows_0_and_100_only_for_exact_values(value: float, text: str) -> None:
    assert units.percent(value) == text


@pytest.mark.parametrize(("value", "length"), [(-1, 0), (0.5, 0.5), (7, 1), (math.nan, 0)])
def test_a_bar_has_a_length_for_any_score(value: float, length: float) -> None:
    assert units.share(value) == length
