"""Schedules as functions of the step."""

from __future__ import annotations

import pytest

from foveate.core import ConfigError
from foveate.train.kit.schedule import make_schedule


def test_a_warm_up_rises_in_a_line_to_the_full_rate() -> None:
    factor = make_schedule("constant", 10, 4)
    assert [factor(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_cosine_falls_from_one_to_its_floor() -> None:
    factor = make_schedule("cosine", 12, 2, floor=0.1)
    assert factor(2) == pytest.approx(1.0)
    assert factor(7) == pytest.approx(0.55)
    assert factor(12) == pytest.approx(0.1)
    falling = [factor(step) for step in range(2, 13)]
    assert falling == sorted(falling, reverse=True)
    assert factor(99) == pytest.approx(0.1)


def test_milestones_multiply() -> None:
    factor = make_schedule("multistep", 10, milestones=(0.5, 0.8))
    values = [factor(step) for step in range(10)]
    assert values == pytest.approx([1.0] * 5 + [0.1] * 3 + [0.01] * 2)


@pytest.mark.parametrize(
    "settings",
    [{"total": 0}, {"total": 5, "warmup": 6}, {"total": 5, "milestones": (1.5,)}],
)
def test_what_cannot_be_meant(settings: dict) -> None:
    with pytest.raises(ConfigError):
        make_schedule("multistep", **settings)
