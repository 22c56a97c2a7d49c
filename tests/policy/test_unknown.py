"""The energy of logits, and the threshold below which footage is unknown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foveate.policy.unknown import ALARMS, energy, fit_threshold, roc_area


def test_the_energy_is_the_log_of_the_sum_of_exponentials() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 40
    assert energy(logits.numpy()) == pytest.approx(logits.double().logsumexp(-1).numpy())
    assert float(energy(np.array([1e5, 0.0]))) == pytest.approx(1e5)


@pytest.mark.parametrize("count", [19, 40, 200, 1000])
def test_few_new_clips_of_the_classes_are_called_unknown(count: int) -> None:
    random = np.random.default_rng(count)
    shares = []
    for _ in range(200):
        threshold = fit_threshold(random.normal(size=count), random.normal(-2, 1, 50))
        assert threshold is not None
        shares.append((random.normal(size=1000) < threshold).mean())
    assert np.mean(shares) < ALARMS + 0.01


@pytest.mark.parametrize("count", [2, 5, 11, 18])
def test_fewer_clips_give_a_lower_threshold(count: int) -> None:
    random = np.random.default_rng(count)
    for _ in range(50):
        known = random.normal(size=count)
        threshold = fit_threshold(known, [])
        assert threshold is not None
        assert threshold <= known.min()


def test_clips_far_below_leave_room_for_other_cameras() -> None:
    known = np.linspace(5, 6, 100)
    near, far = fit_threshold(known, np.full(9, 4.9)), fit_threshold(known, np.full(9, -5.0))
    assert near == pytest.approx((5.04 + 4.9) / 2, abs=0.01)
    assert far == pytest.approx(0.02, abs=0.01)


def test_no_threshold_where_nothing_can_be_told() -> None:
    random = np.random.default_rng(0)
    same = random.normal(size=100)
    assert fit_threshold(same, random.normal(size=100)) is None
    assert fit_threshold(same - 9, same) is None
    assert fit_threshold([1.0], [0.0]) is None


def test_the_roc_area_counts_pairs() -> None:
    assert roc_area([2, 3], [0, 1]) == 1
    assert roc_area([0, 3], [1, 2]) == 0.5
    assert roc_area([1], [1]) == 0.5
