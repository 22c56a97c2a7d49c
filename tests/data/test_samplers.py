"""Samplers give ascending times inside the clip, and nothing but the generator decides them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.core import Window
from foveate.data import samplers
from foveate.media import modalities
from foveate.policy.looks.frames import grid

SAMPLERS = {
    "segments": partial(samplers.segments, count=8),
    "window": partial(samplers.window, count=8, rate=4.0),
    "windows": partial(samplers.windows, count=8, rate=4.0, views=3),
    "whole": partial(samplers.whole, rate=5.0),
}


@settings(max_examples=40, deadline=None)
@given(start=st.floats(0, 50), length=st.floats(0.02, 500), seed=st.integers(0, 9))
@pytest.mark.parametrize("name", SAMPLERS)
def test_times_ascend_inside_the_clip(name: str, start: float, length: float, seed: int) -> None:
    sampling, end = SAMPLERS[name], start + length
    for random in (None, np.random.default_rng(seed)):
        for view in samplers.as_views(sampling(start, end, random)):
            assert list(view) == sorted(view)
            assert start <= view[0] + 1e-9
            assert view[-1] < end
            assert name == "whole" or len(view) == 8
    again = [sampling(start, end, np.random.default_rng(seed)) for _ in range(2)]
    assert again[0] == again[1]


def test_segments_are_centred_in_evaluation_and_jittered_in_training() -> None:
    assert samplers.segments(1.0, 5.0, count=4) == (1.5, 2.5, 3.5, 4.5)
    drawn = samplers.segments(1.0, 5.0, np.random.default_rng(0), count=4)
    assert drawn != samplers.segments(1.0, 5.0, count=4)
    assert [int(t) for t in drawn] == [1, 2, 3, 4]


def test_a_window_keeps_its_rate_or_sees_a_short_clip_whole() -> None:
    assert samplers.window(0.0, 10.0, count=4, rate=2.0) == (4.0, 4.5, 5.0, 5.5)
    starts = [
        samplers.window(0.0, 10.0, np.random.default_rng(i), count=4, rate=2.0)[0]
        for i in range(200)
    ]
    assert 0 <= min(starts) < 0.5
    assert 7.5 < max(starts) <= 8.0
    assert samplers.window(0.0, 1.0, count=4, rate=2.0) == (0.0, 0.25, 0.5, 0.75)


def test_windows_go_from_the_first_to_the_last_place() -> None:
    views = samplers.windows(0.0, 10.0, count=2, rate=1.0, views=3)
    assert views == ((0.0, 1.0), (4.0, 5.0), (8.0, 9.0))
    assert samplers.windows(0.0, 10.0, count=2, rate=1.0, views=1) == ((4.0, 5.0),)


def test_whole_is_what_prediction_looks_at() -> None:
    for end in (0.1, 1.0, 2.04, 9.99):
        assert samplers.whole(0.0, end, rate=5.0) == grid(Window(0.0, end), 5.0)
    assert len(samplers.whole(0.0, 99.0, rate=5.0, most=50)) == 50


def test_stacks_add_the_frames_that_follow() -> None:
    assert modalities.stacks((0.5, 1.0), 0, 0.1, 2.0) == (0.5, 1.0)
    assert modalities.stacks((0.5,), 2, 0.1, 2.0) == pytest.approx((0.5, 0.6, 0.7))
    assert modalities.stacks((1.95,), 2, 0.1, 2.0) == pytest.approx((1.75, 1.85, 1.95))
    assert modalities.stacks((0.1,), 5, 0.1, 0.3)[0] == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: samplers.segments(1.0, 1.0, count=3),
        lambda: samplers.segments(0.0, 1.0, count=0),
        lambda: samplers.window(0.0, 1.0, count=3, rate=0.0),
        lambda: samplers.windows(0.0, 1.0, count=3, rate=1.0, views=0),
        lambda: samplers.whole(2.0, 1.0, rate=1.0),
    ],
)
def test_nonsense_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"clip from|must be positive"):
        call()  # type: ignore[operator]
