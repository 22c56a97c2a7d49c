"""Events from scores: hysteresis, gaps, what stays silent, zones, and the end of a stream."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.core import ConfigError, ResultError
from foveate.core.config import build
from foveate.live.areas import Areas, contains
from foveate.live.events import Event, EventDetector, EventSettings
from live.steps import LABELS, WALL, run, seen, step

LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
SQUARE = [(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]


def detector(**settings: object) -> EventDetector:
    values = {"silent": ["idle"], **settings}
    return EventDetector(LABELS, build(EventSettings, values, "events"))


def test_an_event_is_announced_once_and_closed_once() -> None:
    found = run(detector(), [LOW] * 5 + [HIGH] * 10 + [LOW] * 10)
    first, last = found
    assert (first.state, first.revision, first.end) == ("provisional", 0, None)
    assert (last.state, last.revision, last.reason) == ("closed", 1, "score")
    assert first.id == last.id
    assert (last.start, last.end) == (1.0, 2.8)
    assert last.started_at == datetime.fromtimestamp(WALL + 1.0, UTC)
    assert last.seconds == pytest.approx(1.8)
    assert (last.label, last.index, last.box, last.zone) == ("walk", 0, None, None)


def test_between_the_thresholds_an_event_lasts_and_none_begins() -> None:
    assert [e.end for e in run(detector(), [HIGH] * 5 + [MIDDLE] * 20)] == [None, 4.8]
    assert run(detector(), [MIDDLE] * 30) == []


def test_an_event_began_where_its_score_rose_but_not_long_ago() -> None:
    rising = [LOW] * 3 + [MIDDLE] * 5 + [HIGH] * 5
    assert run(detector(), rising)[0].start == 0.6
    assert run(detector(lookback=0.0), rising)[0].start == 1.6
    event = run(detector(lookback=0.5), rising)[0]
    assert event.start == pytest.approx(1.1)
    assert event.started_at.timestamp() == pytest.approx(WALL + 1.1)


def test_a_short_gap_is_part_of_the_event_and_a_long_one_ends_it() -> None:
    short = run(detector(), [HIGH] * 5 + [LOW] * 4 + [HIGH] * 5)
    assert [(e.start, e.end) for e in short if e.end] == [(0.0, 2.6)]
    long = run(detector(), [HIGH] * 5 + [LOW] * 8 + [HIGH] * 5)
    assert [(e.start, e.end) for e in long if e.end] == [(0.0, 0.8), (2.6, 3.4)]


def test_an_event_shorter_than_the_minimum_is_never_given() -> None:
    assert run(detector(min_seconds=1.0), [HIGH] * 4 + [LOW] * 20) == []


def test_the_highest_score_is_kept_with_its_time() -> None:
    found = run(detector(), [0.7, 0.7, 0.7, 0.7, 0.95, 0.7])
    assert [(e.peak, e.peak_time) for e in found] == [(0.7, 0.0), (0.95, 0.8)]


def test_no_steps_for_too_long_end_an_event_at_the_last_one() -> None:
    one = detector(max_gap=2.0)
    for i in range(5):
        one.add(step(i / 5, HIGH))
    [closed] = one.add(step(10.0, HIGH))
    assert (closed.reason, closed.end) == ("gap", 0.8)
    assert [e.start for e in one.close()] == []  # the new one is too short so far


def test_a_long_event_is_divided() -> None:
    found = [e for e in run(detector(max_seconds=2.0), [HIGH] * 28) if e.end is not None]
    assert [e.reason for e in found] == ["length", "length", "stream"]
    assert all(e.seconds is not None and e.seconds <= 2.2 for e in found)


def test_a_new_connection_closes_the_events_of_the_old_one() -> None:
    one = detector()
    for i in range(5):
        one.add(step(i / 5, HIGH))
    [closed] = one.add(step(0.0, HIGH, epoch=2))
    assert (closed.reason, closed.epoch, closed.end) == ("stream", 1, 0.8)


def test_cameras_do_not_mix() -> None:
    one = detector()
    for i in range(5):
        one.add(step(i / 5, HIGH))
        assert one.add(step(i / 5, LOW, camera="yard")) == []
    assert [e.camera for e in one.end("gate")] == ["gate"]
    assert one.close() == []


def test_unknown_footage_and_none_are_silent() -> None:
    one = detector()
    unknown = [one.add(step(i / 5, HIGH, unknown=True)) for i in range(20)]
    assert not any(unknown)
    assert one.close() == []
    none = EventDetector(
        LABELS, EventSettings(start_threshold=0.1, end_threshold=0.05), none_below=0.2
    )
    low = {"walk": 0.15, "fall": 0.15, "idle": 0.15}
    assert not any(none.add(step(i / 5, scores=low)) for i in range(20))
    assert none.close() == []


def test_unknown_footage_ends_an_event() -> None:
    one = detector()
    for i in range(5):
        one.add(step(i / 5, HIGH))
    found = [e for i in range(5, 20) for e in one.add(step(i / 5, HIGH, unknown=True))]
    assert [(e.reason, e.end) for e in found] == [("score", 0.8)]


def test_a_class_has_its_own_thresholds() -> None:
    strict = detector(classes={"walk": {"start_threshold": 0.95}})
    assert run(strict, [HIGH] * 10) == []
    assert run(detector(classes={"fall": {"start_threshold": 0.95}}), [HIGH] * 10)


def test_smoothing_ignores_a_spike() -> None:
    scores = [LOW] * 5 + [HIGH] + [LOW] * 5
    assert run(detector(min_seconds=0.0), scores)
    assert run(detector(min_seconds=0.0, smooth=1.0), scores) == []
    assert run(detector(smooth=1.0), [LOW] * 5 + [HIGH] * 20)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"start_threshold": 0.3, "end_threshold": 0.5},
            "end_threshold (0.5) must not be greater than start_threshold (0.3)",
        ),
        ({"classes": {"walk": {"start_threshold": 0.3, "end_threshold": 0.5}}}, "classes.walk"),
        ({"start_treshold": 0.3}, "did you mean start_threshold"),
        ({"min_seconds": 9, "max_seconds": 5}, "max_seconds"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(EventSettings, values, "events")
    assert message in str(error.value)


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no class 'wakl'.*did you mean walk"):
        EventDetector(LABELS, EventSettings(silent=("wakl",)))


def test_only_objects_inside_a_zone_count_and_the_best_box_is_kept() -> None:
    one = EventDetector(LABELS)
    one.set_zones("gate", {"right": SQUARE})
    left, right, better = (0, 0, 40, 90, 0.99), (120, 0, 160, 90, 0.8), (121, 0, 161, 90, 0.9)
    assert not any(one.add(seen(i / 5, left)) for i in range(10))
    for i in range(10, 16):
        one.add(seen(i / 5, left, better if i == 13 else right))
    [closed] = one.close()
    assert (closed.zone, closed.start, closed.peak) == ("right", 2.0, 0.9)
    assert closed.box == [121, 0, 161, 90]


def test_a_detector_without_objects_ends_an_event() -> None:
    one = EventDetector(LABELS)
    for i in range(6):
        one.add(seen(i / 5, (0, 0, 9, 9, 0.9)))
    found = [e for i in range(6, 20) for e in one.add(seen(i / 5))]
    assert [(e.reason, e.end) for e in found] == [("score", 1.0)]


def test_zones_of_a_classifier_are_refused() -> None:
    one = EventDetector(LABELS)
    one.set_zones("gate", {"right": SQUARE})
    with pytest.raises(ConfigError, match="gate: zones need the boxes of a detector"):
        one.add(step(0.0, HIGH))


def test_polygons() -> None:
    assert contains(SQUARE, 0.75, 0.5)
    assert not contains(SQUARE, 0.25, 0.5)
    with pytest.raises(ConfigError, match="polygon without area"):
        build(Areas, {"zones": {"line": [(0, 0), (1, 1), (0.5, 0.5)]}}, "cams.yaml")
    with pytest.raises(ConfigError, match="at most 1"):
        build(Areas, {"masks": [[(0, 0), (200, 0), (200, 100)]]}, "cams.yaml")


def test_an_event_is_the_same_after_json() -> None:
    for event in run(detector(), [HIGH] * 5):
        assert Event.from_json(event.to_json()) == event
    with pytest.raises(ResultError):
        Event.from_json("{}")


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.floats(0, 1), max_size=80), st.floats(0, 2), st.floats(0, 2), st.floats(0, 1))
def test_events_are_in_order_closed_and_apart(
    scores: list[float], shortest: float, gap: float, smooth: float
) -> None:
    one = detector(min_seconds=shortest, min_gap=gap, smooth=smooth)
    found = run(one, scores)
    closed = [e for e in found if e.state == "closed"]
    assert [e.id for e in found if e.state == "provisional"] == [e.id for e in closed]
    for before, after in pairwise(closed):
        assert before.end is not None
        assert after.start - before.end >= gap - 1e-9
    for event in closed:
        assert event.seconds is not None
        assert event.seconds >= shortest - 1e-9
        assert event.start <= event.peak_time <= event.end
        assert event.peak >= 0.6
