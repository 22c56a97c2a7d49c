"""Frame policies and decisions: deterministic, inside the window, within the budget."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.core import Budget, ConfigError, Evidence, More, Stop, Window
from foveate.media import ArrayVideo
from foveate.policy import (
    AtEnd,
    Confident,
    KeyframesFirst,
    MotionPatch,
    Spent,
    Uniform,
    resolve,
)
from foveate.policy.cuts import distances, signature

WINDOW = Window(2.0, 12.0)
LOOKS = [Uniform(5.0), Uniform(3.7, chunk=3), KeyframesFirst(5.0), KeyframesFirst(4.0, least=1)]


class Keys(ArrayVideo):
    """A source with key frames at given times."""

    def __init__(self, *times: float) -> None:
        super().__init__(np.zeros((300, 4, 4, 3), np.uint8), 25.0)
        self.times = times

    def keyframes(self) -> tuple[float, ...]:
        return self.times


def looks_of(look, sample, budget=None):
    """All selections of one window."""
    chosen, memory = [], None
    for _ in range(1000):
        selection, memory = look.next(sample, WINDOW, memory, None, budget or Budget())
        if selection is None:
            return chosen
        chosen.append(selection)
    raise AssertionError("a look that never ends")


def times_of(selections):
    return [t for selection in selections for t in selection.times]


@pytest.mark.parametrize("look", LOOKS, ids=repr)
def test_every_look_is_deterministic_ordered_and_inside_the_window(look) -> None:
    sample = Keys(0.0, 2.5, 5.0, 7.5, 11.9, 12.0)
    chosen = looks_of(look, sample)
    assert chosen == looks_of(look, sample)
    for selection in chosen:
        assert list(selection.times) == sorted(selection.times)
        assert all(WINDOW.start <= t < WINDOW.end for t in selection.times)


def test_uniform_is_the_model_s_rate_in_chunks() -> None:
    chosen = looks_of(Uniform(5.0, chunk=8), Keys())
    assert [len(c.times) for c in chosen] == [8] * 6 + [2]
    assert np.allclose(np.diff(times_of(chosen)), 0.2)


def test_keyframes_come_first_then_the_grid_anew() -> None:
    first, *rest = looks_of(KeyframesFirst(5.0), Keys(0.0, 2.5, 5.0, 12.5))
    assert first.times == (2.5, 5.0)
    assert not first.dense
    assert not first.restart
    assert rest[0].restart
    assert not any(r.restart for r in rest[1:])
    assert len(times_of(rest)) == 50


def test_where_every_frame_is_a_key_frame_the_first_look_still_saves() -> None:
    first = looks_of(KeyframesFirst(5.0), Keys(*np.arange(0, 20, 0.04)))[0]
    assert len(first.times) == 25  # half of the fifty of the grid
    assert first.times[-1] - first.times[0] > 9


def test_too_few_keyframes_give_the_grid_at_once() -> None:
    first = looks_of(KeyframesFirst(5.0, least=3), Keys(2.5, 5.0))[0]
    assert first.times[0] == WINDOW.start
    assert not first.restart


@settings(max_examples=60, deadline=None)
@given(rate=st.floats(0.1, 30), cap=st.floats(0.1, 30), keys=st.integers(0, 60))
def test_no_look_exceeds_the_budget_in_frames(rate, cap, keys) -> None:
    sample = Keys(*np.linspace(2.0, 11.9, keys))
    allowed = max(1.0, cap * 10.0)
    for look in (Uniform(rate), KeyframesFirst(rate)):
        count = len(times_of(looks_of(look, sample, Budget(frames_per_second=cap))))
        assert 1 <= count <= allowed + 1e-6


def test_budget_in_macs_and_milliseconds_becomes_a_rate() -> None:
    spent = Spent(macs_per_view=10, macs_per_answer=20, view_seconds=0.01, decode_seconds=0.05)
    in_macs = resolve(Budget(macs_per_second=32), spent, 25.0, 10.0)
    assert in_macs.frames_per_second == pytest.approx((32 - 2) / 10)
    in_time = resolve(Budget(ms_per_frame=4), spent, 25.0, 10.0)
    assert in_time.frames_per_second == pytest.approx((0.1 - 0.05) / 0.01)
    both = resolve(Budget(macs_per_second=32, frames_per_second=1.5), spent, 25.0, 10.0)
    assert both.frames_per_second == 1.5


def test_budget_never_leaves_a_window_blind_and_no_budget_limits_nothing() -> None:
    spent = Spent(macs_per_view=10**9, view_seconds=100.0, decode_seconds=9.0)
    assert resolve(Budget(macs_per_second=1), spent, 25.0, 10.0).frames_per_second == 0.1
    assert resolve(Budget(ms_per_frame=1), spent, 25.0, 10.0).frames_per_second == 0.1
    unknown = resolve(Budget(ms_per_frame=1), Spent(1), 25.0, 10.0)
    assert unknown.frames_per_second is None


def evidence(*logits: float) -> Evidence:
    return Evidence({"early": np.zeros(len(logits)), "final": np.array(logits)})


def test_confident_reads_the_last_exit() -> None:
    sure = Confident(0.9)(evidence(10.0, 0.0, 0.0), Budget())
    assert isinstance(sure, Stop)
    unsure = Confident(0.9)(evidence(1.0, 0.0, 0.0), Budget())
    assert isinstance(unsure, More)
    assert unsure.gate == pytest.approx(math.e / (math.e + 2))
    assert isinstance(AtEnd()(evidence(99.0, 0.0), Budget()), More)


def test_cuts_are_told_from_motion_light_and_noise() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (6, 6, 3)).repeat(24, 0).repeat(24, 1).astype(np.uint8)
    other = rng.integers(0, 256, (6, 6, 3)).repeat(24, 0).repeat(24, 1).astype(np.uint8)
    moved = np.roll(scene, 6, 1)
    noisy = np.clip(moved + rng.normal(0, 6, moved.shape), 0, 255).astype(np.uint8)
    chain = signature(np.stack([scene, moved, noisy, other]))
    d = distances(chain, None)
    assert d[0] == 0
    assert max(d[1:3]) < 0.5 < d[3] <= 1
    assert distances(chain[3:], chain[2:3]) == pytest.approx([d[3]])


def test_bodies_are_told_by_pictures_alone() -> None:
    with pytest.raises(ConfigError, match=r"^look\.subject=bodies: not with .*mv_affine"):
        MotionPatch(motion="mv_affine", subject="bodies")
