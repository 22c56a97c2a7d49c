"""Distances of features from those of the training clips, and when they are unknown."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.policy.unknown import Familiar, fit_familiar, roc_area

CHANNELS = 40


def clips(seed: int, count: int, offset: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Features of so many clips; every channel has a scale of its own."""
    random = np.random.default_rng(seed)
    own = np.geomspace(0.1, 10, CHANNELS)
    return own * (offset + scale * random.normal(size=(count, CHANNELS)) + 3)


def test_the_distance_is_in_standard_deviations_of_each_channel() -> None:
    familiar = Familiar(np.array([1.0, 10.0]), np.array([1.0, 5.0]), 2.0)
    assert familiar.distance(np.array([[1.0, 10.0], [2.0, 10.0], [3.0, 20.0]])) == pytest.approx(
        [0.0, 0.5, 4.0]
    )
    assert familiar.unknown(np.array([3.0, 20.0]))
    assert not familiar.unknown(np.array([3.0, 10.0]))


@pytest.mark.parametrize("count", [5, 11, 40, 200])
def test_few_clips_of_the_classes_are_unknown_and_most_others_are(count: int) -> None:
    alarms, found = [], []
    for seed in range(40):
        familiar = fit_familiar(
            clips(seed, 300), clips(100 + seed, count), clips(200 + seed, 20, 2.0)
        )
        assert familiar is not None
        alarms.append(np.mean([familiar.unknown(x) for x in clips(300 + seed, 50)]))
        found.append(np.mean([familiar.unknown(x) for x in clips(400 + seed, 50, 2.5)]))
    assert np.mean(alarms) < 0.03
    assert np.mean(found) > 0.9


def test_other_clips_far_away_leave_room_for_other_cameras() -> None:
    known = clips(0, 200), clips(1, 50)
    near, far = (fit_familiar(*known, clips(2, 20, offset)) for offset in (0.8, 30.0))
    assert near is not None
    assert far is not None
    assert far.limit > 5 * near.limit
    assert far.limit < far.distance(clips(2, 20, 30.0)).min()


def test_no_limit_where_nothing_can_be_told() -> None:
    assert fit_familiar(clips(0, 200), clips(1, 50), clips(2, 50, scale=0.1)) is None
    assert fit_familiar(clips(0, 1), clips(1, 50), clips(2, 50, 9.0)) is None
    assert fit_familiar(clips(0, 200), clips(1, 1), clips(2, 50, 9.0)) is None
    assert fit_familiar(clips(0, 200), clips(1, 50), np.zeros((0, CHANNELS))) is not None


def test_channels_that_do_not_vary_are_finite() -> None:
    x = clips(0, 50)
    x[:, 0] = 7
    familiar = fit_familiar(x, x, clips(2, 9, 30.0))
    assert familiar is not None
    assert np.isfinite(familiar.distance(clips(3, 9))).all()
    still = np.ones((9, CHANNELS))
    same = fit_familiar(still, still, clips(2, 9))
    assert same is not None
    assert not same.unknown(still[0])


def test_the_roc_area_counts_pairs() -> None:
    assert roc_area([2, 3], [0, 1]) == 1
    assert roc_area([0, 3], [1, 2]) == 0.5
    assert roc_area([1], [1]) == 0.5
