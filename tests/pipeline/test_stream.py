"""Streams: one Result per step, equal to the whole, and many streams at once."""

from collections import defaultdict

import numpy as np
import pytest
from executing import Counted, clip_view, frame_macs, head_macs

from clips import encode, picture
from foveate.core import MediaError, Result, Selection
from foveate.media import ArrayVideo
from foveate.pipeline.scheduler import execute
from foveate.pipeline.session import InferenceRequest
from foveate.policy import TimedLook


def test_stream_ends_where_predict_ends(make) -> None:
    data = encode(frames=50)
    recogniser = make()
    steps = list(recogniser.stream(data))
    whole = recogniser.predict(data)
    assert len(steps) == 10
    assert [s.index for s in steps[-1].labels] == [s.index for s in whole.labels]
    assert steps[-1].labels[0].score == pytest.approx(whole.labels[0].score, rel=1e-4)
    assert [r.trace.steps[0].time for r in steps] == pytest.approx([i * 0.2 for i in range(10)])


def test_each_step_carries_its_own_cost(make, executor) -> None:
    steps = list(make().stream(encode(frames=50)))
    one = frame_macs(executor, 32) + head_macs(executor)
    assert {r.cost.macs for r in steps} == {one}
    assert steps[0].cost.stage("open").calls == 1
    assert all(r.cost.stage("open").calls == 0 for r in steps[1:])


def test_state_begins_anew_after_each_window(make) -> None:
    data = encode(frames=75)  # 3 s, windows of 2 s
    recogniser = make(top_k=100)
    steps = list(recogniser.stream(data))
    second = list(recogniser.stream(encode(frames=25, first=50)))
    scores = [{s.index: s.score for s in r.labels} for r in (steps[9], second[0], steps[10])]
    for index, score in scores[2].items():
        weights = 1.8, 1e-6  # seconds of the window before, and of one frame seen
        mean = (weights[0] * scores[0][index] + weights[1] * scores[1][index]) / sum(weights)
        assert score == pytest.approx(mean, abs=0.02)


def test_a_window_begun_is_answered_with_the_one_before_until_it_is_whole(make) -> None:
    steps = list(make().stream(encode(frames=100)))  # 4 s, windows of 2 s
    spans = [(r.segments[0].start, r.segments[0].end) for r in steps]
    assert spans[9] == pytest.approx((0.0, 1.8))
    assert spans[10] == pytest.approx((0.0, 2.0))
    assert spans[18] == pytest.approx((0.0, 3.6))
    assert spans[19] == pytest.approx((2.0, 3.8))


def test_two_streams_interleaved_do_not_disturb_each_other(make) -> None:
    recogniser = make()
    a, b = encode(frames=40), encode(frames=40, first=100)
    alone = [list(recogniser.stream(x)) for x in (a, b)]
    first, second = recogniser.stream(a), recogniser.stream(b)
    mixed = [[], []]
    for _ in range(8):
        mixed[0].append(next(first))
        mixed[1].append(next(second))
    for one, other in zip(alone, mixed, strict=True):
        assert [r.labels for r in one] == [r.labels for r in other]


def test_a_stream_left_early_releases_its_file(make, tmp_path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(encode(frames=40))
    stream = make().stream(path)
    next(stream)
    stream.close()
    path.unlink()


def test_streams_of_different_age_share_a_batch(executor) -> None:
    class Charged:
        """Notes what it is charged."""

        def __init__(self) -> None:
            self.charges = []

        def charge(self, part, macs, seconds) -> None:
            self.charges.append((part, macs, seconds))

    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3)).astype(np.uint8)
    (old,), _ = executor.run("network", [clip_view(pixels[0, :3])], [None])
    (new,), _ = executor.run("network", [clip_view(pixels[1, :1])], [None])
    asked = [
        (Charged(), InferenceRequest("network", clip_view(one[3:]), state))
        for one, state in zip(pixels, (old, new), strict=True)
    ]
    counted = Counted(executor)
    looked = execute(counted, asked)
    heads = [
        (charged, InferenceRequest("head", {}, reply.state))
        for (charged, _), reply in zip(asked, looked, strict=True)
    ]
    answers = execute(counted, heads)
    assert counted.calls == [("network", 2), ("head", 2)]
    for (charged, request), answer in zip(asked, answers, strict=True):
        states, _ = executor.run("network", [request.views], [request.state])
        _, (alone,) = executor.run("head", [{}], states)
        assert answer.evidence.logits["final"] == pytest.approx(alone.logits["final"], abs=1e-5)
        parts = [(part, macs) for part, macs, _ in charged.charges]
        assert parts == [("network", frame_macs(executor, 32)), ("head", head_macs(executor))]
        assert [seconds > 0 for _, _, seconds in charged.charges] == [True, True]
    # A call is shared evenly.
    first, second = (charged.charges for charged, _ in asked)
    assert [seconds for *_, seconds in first] == [seconds for *_, seconds in second]


# --- many at once -------------------------------------------------------------------------


def files(folder, **sources: bytes) -> list[str]:
    """Sources in files, so that results can be told apart by their names."""
    paths = []
    for name, data in sources.items():
        path = folder / f"{name}.mp4"
        path.write_bytes(data)
        paths.append(str(path))
    return paths


def by_source(results) -> dict[str, list[Result]]:
    found = defaultdict(list)
    for result in results:
        found[result.source].append(result)
    return found


def assert_same_steps(found: list[Result], alone: list[Result]) -> None:
    assert len(found) == len(alone)
    for a, b in zip(found, alone, strict=True):
        assert a.ok
        assert a.source == b.source
        assert a.duration == b.duration
        assert [s.index for s in a.labels] == [s.index for s in b.labels]
        assert [s.score for s in a.labels] == pytest.approx([s.score for s in b.labels], abs=1e-5)
        assert [(s.start, s.end, s.index) for s in a.segments] == [
            (s.start, s.end, s.index) for s in b.segments
        ]
        assert a.exits == b.exits
        assert [s.frames for s in a.trace.steps] == [s.frames for s in b.trace.steps]
        assert a.cost.macs == b.cost.macs
        assert a.cost.frames_decoded == b.cost.frames_decoded


@pytest.mark.parametrize("look", [{"name": "uniform"}, {"name": "motion-patch", "size": 16}])
def test_many_streams_share_calls_and_each_gets_what_it_gets_alone(
    make, executor, tmp_path, look
) -> None:
    a, b = files(tmp_path, a=encode(frames=40), b=encode(frames=75, first=100))
    alone = {path: list(make(look=look).stream(path)) for path in (a, b)}
    counted = Counted(executor)
    together = by_source(make(look=look, executor=counted).stream_many([a, b]))
    assert together.keys() == alone.keys()
    assert [len(alone[path]) for path in (a, b)] == [8, 15]
    for path in (a, b):
        assert_same_steps(together[path], alone[path])
    # Eight steps of both in one call each, then seven of the longer one.
    for part in ("network", "head"):
        assert [n for name, n in counted.calls if name == part] == [2] * 8 + [1] * 7


def test_a_stream_that_fails_gives_one_result_and_the_others_go_on(make, tmp_path) -> None:
    good, other = files(tmp_path, good=encode(frames=20), other=encode(frames=30, first=50))
    bad, gone = tmp_path / "bad.mp4", str(tmp_path / "gone.mp4")
    bad.write_text("hello there")
    together = by_source(make().stream_many([good, str(bad), other, gone]))
    for path in (good, other):
        assert_same_steps(together[path], list(make().stream(path)))
    for path, says in ((str(bad), "text, not a video"), (gone, "no such file")):
        (result,) = together[path]
        assert not result.ok
        assert result.error.kind == "media"
        assert says in result.error.message
        assert path in result.error.message


def test_a_stream_that_fails_on_its_way_keeps_its_steps_so_far(make, tmp_path) -> None:
    class Torn(ArrayVideo):
        """Cannot be read behind its first second."""

        def frames(self, times, size=None):
            if times[-1] > 1.0:
                raise MediaError("torn: read error")
            return super().frames(times, size)

    (good,) = files(tmp_path, good=encode(frames=40))
    torn = Torn(np.stack([picture(n) for n in range(50)]), 25.0, "torn")
    together = by_source(make().stream_many([torn, good]))
    *steps, last = together["torn"]
    assert [step.ok for step in steps] == [True] * 6
    assert (last.ok, last.error.message) == (False, "torn: read error")
    assert_same_steps(together[good], list(make().stream(good)))


def test_a_call_that_fails_is_repeated_source_by_source(make, executor, tmp_path) -> None:
    def white(views) -> bool:
        """Whether these are frames of the source that no call can take."""
        return "rgb" in views and views["rgb"].array.min() > 250

    paths = files(
        tmp_path,
        a=encode(frames=20),
        white=encode(frames=20, draw=lambda n, size: np.full((*size[::-1], 3), 255, np.uint8)),
        b=encode(frames=20, first=50),
    )
    counted = Counted(executor, refuses=white)
    together = by_source(make(executor=counted).stream_many(paths))
    for path in (paths[0], paths[2]):
        assert_same_steps(together[path], list(make().stream(path)))
    (failed,) = together[paths[1]]
    assert failed.error.kind == "internal"
    assert "the device gave up" in failed.error.message
    # The first call of all three fails, then each alone; the two that are left go on in one.
    assert counted.calls[:5] == [("network", 3), *[("network", 1)] * 3, ("head", 2)]
    assert {n for _, n in counted.calls[4:]} == {2}


def test_frames_of_other_sizes_do_not_share_a_call(make, executor, tmp_path) -> None:
    class Alternate(TimedLook):
        """Small frames of one source, large ones of the other."""

        def next(self, sample, window, memory, evidence, budget):
            done = memory or 0
            if done == 4:
                return None, done
            size = 32 if sample.info.width > 64 else 16
            time = window.start + done * 0.2
            return Selection.of_frames([time], size=size), done + 1

    a, b = files(tmp_path, a=encode(frames=20), b=encode(frames=20, size=(96, 72)))
    counted = Counted(executor)
    look = Alternate()
    alone = {path: list(make(look=look).stream(path)) for path in (a, b)}
    together = by_source(make(look=look, executor=counted).stream_many([a, b]))
    for path in (a, b):
        assert_same_steps(together[path], alone[path])
    assert {n for part, n in counted.calls if part == "network"} == {1}
