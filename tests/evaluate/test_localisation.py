"""Temporal localisation against cases computed on paper."""

from __future__ import annotations

import numpy as np
import pytest

from foveate.core import ConfigError
from foveate.data.timelines import TimedLabel, Timeline
from foveate.evaluate.localisation import (
    ACTIVITYNET,
    AVERAGES,
    THUMOS,
    Localisation,
    localisation_of,
)
from foveate.evaluate.metrics import value_of


def ap(truth, said, tious=(0.5,), label="a") -> float:
    return value_of(Localisation(truth, said).average_precision(label, tious), len(truth))


def test_thresholds():
    assert THUMOS == (0.3, 0.4, 0.5, 0.6, 0.7)
    assert ACTIVITYNET == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_a_duplicate_is_a_false_positive():
    truth = [[(0, 10, "a"), (20, 30, "a")]]
    exact = (0, 10, "a", 0.9)
    # Right, duplicate, right: recall 1/2 at precision 1, recall 1 at 2/3.
    said = [[exact, (0, 10, "a", 0.8), (20, 30, "a", 0.7)]]
    assert ap(truth, said) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # The duplicate with the higher score takes the segment, the exact one is then false.
    assert ap([[(0, 10, "a")]], [[(0, 8, "a", 0.9), (0, 10, "a", 0.8)]]) == 1.0
    assert ap([[(0, 10, "a")]], [[(0, 8, "a", 0.9), exact]], (0.9,)) == pytest.approx(0.5)


def test_a_detection_takes_the_next_best_segment_that_is_free():
    truth = [[(0, 10, "a"), (2, 12, "a")]]
    # Both overlap the first best; the second one still overlaps the other by 8 of 12.
    assert ap(truth, [[(0, 10, "a", 0.9), (0, 10, "a", 0.8)]]) == 1.0


def test_precision_is_interpolated():
    # False, right, right of two: precision 1/2 then 2/3, interpolated to 2/3 throughout.
    truth = [[(0, 1, "a")], [(0, 1, "a")], [(5, 6, "b")]]
    said = [[(0, 1, "a", 0.8)], [(0, 1, "a", 0.7)], [(5, 6, "a", 0.9)]]
    assert ap(truth, said) == pytest.approx(2 / 3)


def test_an_overlap_of_exactly_the_threshold_counts():
    truth, said = [[(0, 10, "a")]], [[(0, 5, "a", 0.9)]]
    assert ap(truth, said, (0.5,)) == 1.0
    assert ap(truth, said, (0.55,)) == 0.0
    assert ap(truth, said, THUMOS) == pytest.approx(3 / 5)
    assert ap(truth, said, ACTIVITYNET) == pytest.approx(1 / 10)
    assert ap([[(0.1, 0.4, "a")]], [[(0.1, 0.31, "a", 1)]], (0.7,)) == 1.0


def test_empty_classes_and_videos():
    truth = [[(0, 10, "a")], []]
    found = Localisation(truth, [[(0, 10, "a", 0.9)], [(0, 1, "b", 0.99)]], ["a", "b"])
    assert value_of(found.mean_average_precision([0.5]), 2) == 1.0  # b has no true segment
    assert np.isnan(value_of(found.average_precision("b", [0.5]), 2))
    assert ap(truth, [[], []]) == 0.0  # true segments, none found
    missed = Localisation([[(0, 1, "a"), (2, 3, "b")]], [[(0, 1, "a", 0.5)]])
    assert value_of(missed.mean_average_precision([0.5]), 1) == 0.5
    none = Localisation([[]], [[]], ["a"])
    assert np.isnan(value_of(none.mean_average_precision([0.5]), 1))


def test_weights_on_videos_are_copies_of_videos():
    truth = [[(0, 10, "a")], [(0, 10, "a"), (20, 30, "b")], [(5, 6, "b")]]
    said = [
        [(0, 9, "a", 0.9), (0, 9, "b", 0.4)],
        [(2, 9, "a", 0.3), (20, 26, "b", 0.8)],
        [(5, 6, "b", 0.2), (0, 4, "a", 0.7)],
    ]
    once = Localisation(truth, said)
    counts = [2, 0, 3]
    copied = [
        Localisation(
            [t for t, n in zip(truth, counts, strict=True) for _ in range(n)],
            [s for s, n in zip(said, counts, strict=True) for _ in range(n)],
            ["a", "b"],
        )
    ][0]
    for tious in AVERAGES.values():
        weighted = once.mean_average_precision(tious)(np.array([counts], float))[0]
        assert weighted == pytest.approx(value_of(copied.mean_average_precision(tious), 5))


def test_imported_timelines_are_matched_by_name():
    truth = {"a/v_one.mp4": Timeline((TimedLabel(0, 10, "a"),)), "two.mp4": Timeline(())}
    said = {"one": Timeline((TimedLabel(0, 9, "a", 0.5),))}
    found = localisation_of(truth, said)
    assert value_of(found.mean_average_precision([0.5]), 2) == 1.0
    assert found.predicted == [[(0, 9, "a", 0.5)], []]
    with pytest.raises(ConfigError, match="predicted video 'three'"):
        localisation_of(truth, {"three": Timeline(())})
    with pytest.raises(ConfigError, match="without a score"):
        localisation_of(truth, {"one": truth["a/v_one.mp4"]})


def test_bad_timelines_are_one_line():
    with pytest.raises(ConfigError, match="1 true and 0 predicted"):
        Localisation([[]], [])
    with pytest.raises(ConfigError, match="'a' is empty"):
        Localisation([[(2, 2, "a")]], [[]])
