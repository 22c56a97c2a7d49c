"""Intervals: deterministic, of the right width, by group, paired."""

from __future__ import annotations

import time

import numpy as np
import pytest

from foveate.core import ConfigError
from foveate.evaluate.bootstrap import (
    compare,
    compare_correct,
    draws,
    interval,
    sign_test,
    wilson,
)
from foveate.evaluate.metrics import mean, mean_class_accuracy
from foveate.evaluate.run import figure_of


def test_weights_are_counts_of_a_resample():
    weights = np.concatenate(list(draws(11, None, 50, 0)))
    assert weights.shape == (50, 11)
    assert (weights.sum(1) == 11).all()


def test_clips_of_a_group_come_and_go_together():
    groups = ["a", "b", "a", "c", "b"]
    weights = np.concatenate(list(draws(5, groups, 200, 0)))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()


def test_the_same_seed_gives_the_same_interval():
    values = mean(np.random.default_rng(0).random(60))
    assert interval(values, 60, seed=3) == interval(values, 60, seed=3)
    assert interval(values, 60, seed=3) != interval(values, 60, seed=4)


def test_coverage():
    """Of 95 % intervals about 95 % hold the truth; 300 trials make .91 to .98 plausible."""
    random, held = np.random.default_rng(0), 0
    for trial in range(300):
        found = interval(mean(random.random(80) < 0.7), 80, repeats=400, seed=trial)
        held += found.low <= 0.7 <= found.high
    assert 0.91 <= held / 300 <= 0.985


def test_groups_widen_the_interval():
    """Twenty groups of twenty equal clips hold twenty facts, not four hundred."""
    right = np.repeat(np.arange(20) % 2, 20).astype(float)
    groups = np.repeat(np.arange(20), 20).tolist()
    alone, grouped = interval(mean(right), 400), interval(mean(right), 400, groups)
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)
    assert (grouped.units, grouped.unit, grouped.rough) == (20, "group", False)


def test_paired_differences_are_seen_where_unpaired_ones_drown():
    random = np.random.default_rng(0)
    first = (random.random(400) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first)[:12]] = 0
    found = compare(mean(first), mean(second), 400)
    assert found.found
    assert found.difference == pytest.approx(0.03)
    assert "higher than b" in found.sentence("a", "b", "top1")
    alone = interval(mean(first), 400)
    assert alone.low < second.mean()


def test_no_difference_is_said_as_such():
    right = (np.random.default_rng(0).random(50) < 0.5).astype(float)
    found = compare(mean(right), mean(right[::-1].copy()), 50)
    assert not found.found
    assert "no difference found" in found.sentence("a", "b", "top1")


def test_many_samples_fit_into_memory_and_time():
    started = time.perf_counter()
    interval(mean(np.ones(20_000)), 20_000, repeats=1000)
    assert time.perf_counter() - started < 10


def test_nothing_to_resample():
    with pytest.raises(ConfigError, match="no samples"):
        interval(mean(np.ones(0)), 0)
    with pytest.raises(ConfigError, match="groups"):
        interval(mean(np.ones(3)), 3, ["a"])


def test_all_right_is_not_certain():
    found = interval(mean(np.ones(12)), 12, proportion=True)
    # Wilson's lower end at n of n is n / (n + z^2).
    assert (found.value, found.high, found.method) == (1.0, 1.0, "Wilson")
    assert found.low == pytest.approx(12 / (12 + 1.959964**2), abs=1e-6)
    grouped = interval(mean(np.ones(12)), 12, ["a", "b", "c"] * 4, proportion=True)
    assert grouped.low == pytest.approx(3 / (3 + 1.959964**2), abs=1e-6)
    assert interval(mean(np.arange(12) % 2), 12, proportion=True).method == "percentile bootstrap"
    assert interval(mean(np.full(12, 7.0)), 12).low == 7.0  # a cost is no proportion


def test_wilson_against_published_values():
    # Newcombe 1998, table I: 81 of 263 and 15 of 148, method 3.
    assert np.round(wilson(81 / 263, 263), 4).tolist() == [0.2553, 0.3662]
    assert np.round(wilson(15 / 148, 148), 4).tolist() == [0.0624, 0.1605]


@pytest.mark.parametrize("groups", [None, [k // 2 for k in range(12)]])
def test_all_right_gives_the_same_interval_for_every_accuracy(groups):
    right, labels = np.ones(12), np.arange(12) % 3
    figures = [
        figure_of(name, statistic, 12, groups)
        for name, statistic in [
            ("top1@video", mean(right)),
            ("mean-class-accuracy@video", mean_class_accuracy(right, labels)),
        ]
    ]
    units = 12 if groups is None else 6
    for figure in figures:
        assert (figure.method, figure.high) == ("Wilson", 1.0)
        assert figure.low == pytest.approx(wilson(1.0, units)[0])


@pytest.mark.parametrize(("wins", "losses", "p"), [(0, 0, 1), (6, 0, 1 / 32), (8, 2, 112 / 1024)])
def test_the_sign_test_is_the_binomial_one(wins, losses, p):
    assert sign_test(wins, losses) == sign_test(losses, wins) == pytest.approx(p)


def test_equal_answers_leave_an_interval():
    right = np.ones(12)
    found = compare_correct(right, right)
    assert (found.difference, found.p, found.method, found.found) == (0.0, 1.0, "Wilson", False)
    assert found.high == -found.low == pytest.approx(1.959964**2 / (12 + 1.959964**2), abs=1e-6)
    assert "McNemar's exact test: p = 1" in found.sentence("a", "b", "top1")


def test_all_differences_in_one_direction():
    found = compare_correct(np.ones(12), np.zeros(12))
    assert (found.difference, found.high, found.p) == (1.0, 1.0, 2 / 2**12)
    assert found.found
    few = compare_correct(np.ones(4), np.zeros(4), ["a", "a", "b", "b"])
    assert (few.units, few.p, few.found) == (2, 0.5, False)
    assert "exact sign test over groups: p = 0.5" in few.sentence("a", "b", "top1")
