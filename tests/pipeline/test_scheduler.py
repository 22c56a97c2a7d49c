"""Many sources in flight: nobody waits for a slow one, nobody falls with a bad one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from executing import Counted

from foveate.core import Evidence, MediaError, NotYet, Selection
from foveate.media import ArrayVideo
from foveate.pipeline.presets import Preset
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.scheduler import Outcome, schedule
from foveate.policy import TimedLook, Uniform
from tiny_weights import SPEC

RATE = 25.0
STEP = 1 / SPEC.frames_per_second
POLL = 0.005


class Brightness:
    """Sees how bright frames are and answers with their mean; satisfies `core.Executor`."""

    parts = ("network",)
    head = "head"
    persistent = False

    def input(self, part):
        return SPEC

    def stage(self, part):
        return part

    def batch_key(self, part, views, state):
        return part, views["rgb"].array.shape[1:] if part == "network" else None

    def cost(self, part, views, state):
        return 1

    def run(self, part, views, states):
        if part == "head":
            means = [sum(state) / len(state) / 255 for state in states]
            return list(states), [Evidence({"final": np.array([m, 1 - m])}) for m in means]
        seen = [view["rgb"].array.mean((2, 3, 4)).ravel().tolist() for view in views]
        after = [(state or []) + new for state, new in zip(states, seen, strict=True)]
        return after, [Evidence() for _ in views]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1


class Watched(ArrayVideo):
    """An array that knows whether it was closed."""

    def __init__(self, name: str, seconds: float, tone: int = 90) -> None:
        frames = np.full((round(seconds * RATE), 32, 32, 3), tone, np.uint8)
        frames[:] += np.arange(len(frames), dtype=np.uint8)[:, None, None, None] % 100
        super().__init__(frames, RATE, name)
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Live(Watched):
    """A camera: each frame is there as soon as the clock says so, and a little later."""

    def __init__(self, name: str, seconds: float, clock: Clock, late: float = 0.0) -> None:
        super().__init__(name, seconds)
        self.clock, self.late, self.asked = clock, late, 0

    def frames(self, times: Sequence[float], size=None):
        self.asked += 1
        if times[-1] + self.late > self.clock.now:
            raise NotYet(times[-1])
        return super().frames(times, size)


def recogniser(executor=None, look=None) -> Recogniser:
    preset = Preset(model="brightness", cut_threshold=1.0)
    look = look or Uniform(SPEC.frames_per_second, chunk=1)
    return Recogniser(
        executor or Brightness(), ("light", "dark"), look=look, window=2.0, preset=preset
    )


def streamed(
    sources: Sequence[Watched], clock: Clock, executor=None, max_wait: float = 0.0, look=None
) -> Iterator[tuple[str, str, float, Outcome]]:
    """What happens to streams, as it does: name, kind, time and outcome."""
    given = recogniser(executor, look)
    plan = replace(given.plan, every_step=True)
    openers = (given.opener(source, None, plan) for source in sources)
    for outcome in schedule(
        given.executor, openers, None, max_wait=max_wait, clock=clock, sleep=clock.sleep
    ):
        name = sources[outcome.position].name
        yield name, outcome.kind, clock.now, outcome


# --- live sources -------------------------------------------------------------------------


def test_a_source_that_has_not_come_so_far_holds_up_nobody() -> None:
    clock = Clock()
    live, stored = Live("live", 1.0, clock), Watched("stored", 1.8)
    events = [(name, kind, now) for name, kind, now, _ in streamed([live, stored], clock)]
    # What is stored is over before the second frame of the camera is there.
    assert [now for name, _, now in events if name == "stored"] == [0.0] * 10
    steps = [now for name, kind, now in events if (name, kind) == ("live", "step")]
    assert steps == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8], abs=POLL)
    assert events[-1][:2] == ("live", "end")
    # The clock is left to run only while there is nothing to do, and the question is repeated,
    # until at one second there is no further frame.
    assert clock.slept == pytest.approx(1.0 / POLL, abs=5)
    assert live.asked > 100
    assert live.closed
    assert stored.closed


def test_asking_again_changes_no_answer() -> None:
    def answers(sources, clock):
        return [
            (outcome.session.reducer.current.tolist(), outcome.session.steps[-1].frames)
            for _, kind, _, outcome in streamed(sources, clock)
            if kind == "step"
        ]

    clock = Clock()
    waited = answers([Live("live", 3.0, clock, late=0.33)], clock)
    assert len(waited) == 15
    assert clock.now == pytest.approx(3.0 + 0.33, abs=2 * POLL)
    assert waited == answers([Watched("stored", 3.0)], Clock())


def test_a_policy_may_wait_too() -> None:
    clock = Clock()

    class Patient(TimedLook):
        """Shows the last frame of a window once a second has passed."""

        def next(self, sample, window, memory, evidence, budget):
            if memory:
                return None, memory
            if clock.now < 1.0:
                raise NotYet
            return Selection.of_frames([window.start + 0.4]), True

    sources = [Watched("a", 1.0), Watched("b", 1.0)]
    events = [(name, kind, now) for name, kind, now, _ in streamed(sources, clock, look=Patient())]
    assert [(name, kind) for name, kind, _ in events] == [
        (name, kind) for name in "ab" for kind in ("step", "end")
    ]
    assert [now for *_, now in events] == pytest.approx([1.0] * 4, abs=POLL)


@pytest.mark.parametrize(
    ("max_wait", "sizes"), [(0.0, {1}), (0.02, {1}), (0.1, {2})], ids=["none", "short", "enough"]
)
def test_frames_wait_for_those_of_other_sources(max_wait, sizes) -> None:
    clock, counted = Clock(), Counted(Brightness())
    sources = [Live("prompt", 1.0, clock), Live("late", 1.0, clock, late=0.05)]
    steps = [
        (name, now)
        for name, kind, now, _ in streamed(sources, clock, counted, max_wait)
        if kind == "step"
    ]
    assert {n for _, n in counted.calls} == sizes
    assert len(steps) == 10
    for name in ("prompt", "late"):
        taken = [now for one, now in steps if one == name]
        # Together both are answered when the late one is there; else no frame waits longer than
        # it may, for all parts of the model together.
        due = 0.05 if sizes == {2} else max_wait + (0.05 if name == "late" else 0.0)
        assert taken == pytest.approx([i * STEP + due for i in range(5)], abs=2 * POLL)


def test_nobody_waits_where_all_are_there() -> None:
    clock, counted = Clock(), Counted(Brightness())
    sources = [Watched("a", 1.0), Watched("b", 1.0)]
    assert len(list(streamed(sources, clock, counted, max_wait=9.0))) == 12
    assert clock.now == 0.0
    assert {n for _, n in counted.calls} == {2}


# --- order and reading ahead --------------------------------------------------------------


def test_answers_come_in_the_order_of_the_sources() -> None:
    lengths = [3.0, 0.4, 1.0, 0.2, 5.0, 0.6, 0.2]
    sources = [Watched(f"source {i}", seconds) for i, seconds in enumerate(lengths)]
    sources[3].frames = _fails
    for batch in (1, 2, 3, 7, 50):
        results = list(recogniser().predict_many(sources, batch=batch))
        assert [result.source for result in results] == [source.name for source in sources]
        assert [result.ok for result in results] == [i != 3 for i in range(7)]
        assert [r.duration for r in results if r.ok] == [s for i, s in enumerate(lengths) if i != 3]
        assert results[3].error.message == "source 3: torn"


def _fails(times, size=None):
    raise MediaError("source 3: torn")


@pytest.mark.parametrize("batch", [1, 3])
def test_no_more_sources_are_opened_ahead_than_a_few_batches(batch) -> None:
    taken: list[int] = []

    def sources():
        for number in range(100):
            taken.append(number)
            yield Watched(f"source {number}", 30.0 if number == 2 else 0.2)

    given, ahead = 0, []
    for _ in recogniser().predict_many(sources(), batch=batch):
        given += 1
        ahead.append(len(taken) - given)
    assert given == 100
    # Behind the long one answers pile up, but not without end.
    assert max(ahead) <= 4 * batch
    assert max(ahead) >= (0 if batch == 1 else 2 * batch)


def test_sources_share_calls_up_to_the_batch() -> None:
    counted = Counted(Brightness())
    sources = [Watched(f"source {i}", 1.0) for i in range(7)]
    list(recogniser(counted).predict_many(sources, batch=3))
    sizes = [n for part, n in counted.calls if part == "network"]
    assert sum(sizes) == 7 * 5
    assert max(sizes) == 3
    assert len(sizes) <= 3 * 5 + 3


# --- endings ------------------------------------------------------------------------------


def test_who_leaves_early_closes_all_sources() -> None:
    clock = Clock()
    sources = [Watched("a", 9.0), Watched("b", 9.0)]
    events = streamed(sources, clock)
    next(events)
    assert [source.closed for source in sources] == [False, False]
    events.close()
    assert [source.closed for source in sources] == [True, True]


def test_a_source_that_was_opened_and_never_begun_is_closed() -> None:
    good = Watched("good", 1.0)
    results = recogniser().stream_many([good, b"hello there"])
    first = next(results)
    assert not first.ok
    assert not good.closed
    results.close()
    assert good.closed


def test_a_failing_call_ends_one_source_and_closes_it() -> None:
    counted = Counted(
        Brightness(), refuses=lambda views: "rgb" in views and views["rgb"].array.max() > 250
    )
    sources = [Watched("a", 1.0), Watched("bad", 1.0, tone=254), Watched("b", 1.0)]
    results = list(recogniser(counted).predict_many(sources, batch=3))
    assert [result.ok for result in results] == [True, False, True]
    assert results[1].error.kind == "internal"
    assert "the device gave up" in results[1].error.message
    assert [source.closed for source in sources] == [True] * 3
    # Work that was done in vain is charged to nobody twice.
    assert [r.cost.stage("network").macs for r in results if r.ok] == [5, 5]


def test_a_request_that_no_call_can_take_ends_its_source_alone() -> None:
    class Strange(TimedLook):
        """Asks for a part without what it takes, of one source."""

        def next(self, sample, window, memory, evidence, budget):
            if memory or window.start:
                return None, memory
            if sample.info.name == "bad":
                return Selection({}, "network"), True
            return Selection.of_frames([window.start]), True

    sources = [Watched("a", 1.0), Watched("bad", 1.0), Watched("b", 1.0)]
    results = list(recogniser(look=Strange()).predict_many(sources, batch=3))
    assert [result.ok for result in results] == [True, False, True]
    assert results[1].error.kind == "internal"
    assert [source.closed for source in sources] == [True] * 3
