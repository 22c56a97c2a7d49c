"""The loop on real files: savings happen, the ledger is honest, windows and cuts are right."""

import numpy as np
import pytest
import torch
from executing import frame_macs, frames_of_shape, head_macs

from clips import encode, picture
from foveate.core import Budget, ConfigError, Evidence, MediaError, More, Selection, Stop
from foveate.media import ArrayVideo, Video
from foveate.models import count_macs
from foveate.pipeline.session import Session
from foveate.policy import AtEnd, Confident, TimedLook, Uniform
from tiny_weights import LABELS, SPEC


class Watch:
    """Counts what really reaches the network's convolutions and its head."""

    def __init__(self, executor) -> None:
        self.module, self.frames, self.answers = executor.module, 0, 0
        self.step, self.classify = self.module.step_features, self.module.classify

    def __enter__(self):
        def step(x, state):
            self.frames += x.shape[0] * x.shape[2]
            return self.step(x, state)

        def classify(pooled):
            self.answers += 1
            return self.classify(pooled)

        self.module.step_features = step
        self.module.classify = classify
        return self

    def __exit__(self, *exc) -> None:
        del self.module.step_features, self.module.classify


class StopAfter:
    """A decision that is sure after so many asks."""

    eager = True

    def __init__(self, asks: int) -> None:
        self.left = asks

    def __call__(self, evidence, budget):
        self.left -= 1
        return Stop(1.0) if self.left <= 0 else More(0.0)


def reference(executor, pixels) -> np.ndarray:
    """Softmax scores of a whole clip (T, S, S, 3) by the unfused network in clip form."""
    x = torch.from_numpy(pixels).float().div(255).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        return executor.reference(x)[0].softmax(-1).numpy()


def test_prediction_is_the_network_s_on_the_right_frames(make, executor) -> None:
    data = encode(frames=40)  # 1.6 s: one window
    result = make().predict(data)
    with Video(data) as video:
        clip = video.frames([i * 0.2 for i in range(8)], (43, 32))
    scores = reference(executor, clip.pixels[:, :, 5:37])
    assert [s.index for s in result.labels] == list(np.argsort(-scores)[:5])
    assert [s.score for s in result.labels] == pytest.approx(sorted(scores)[::-1][:5], rel=1e-4)
    assert result.labels[0].label == LABELS[result.labels[0].index]
    assert result.duration == pytest.approx(1.6)
    assert result.trace.steps[0].frames == pytest.approx([i * 0.2 for i in range(8)])
    assert result.trace.steps[-1].exit == "final"
    assert result.trace.size == [64, 48]


def test_windows_are_decided_apart_and_averaged(make, executor) -> None:
    data = encode(frames=125)  # 5 s: windows of 2, 2 and 1 seconds
    result = make(none_below=0.0).predict(data)
    with Video(data) as video:
        frames = video.frames([i * 0.2 for i in range(25)], (43, 32)).pixels[:, :, 5:37]
    parts = [reference(executor, frames[i : i + 10]) for i in (0, 10, 20)]
    expected = np.average(parts, 0, weights=[2, 2, 1])
    assert result.labels[0].score == pytest.approx(float(expected.max()), rel=1e-4)
    assert result.segments[0].start == 0.0
    assert result.segments[-1].end == pytest.approx(5.0)
    for a, b in zip(result.segments, result.segments[1:], strict=False):
        assert a.end == b.start
        assert a.index != b.index
    assert result.cost.stage("head").calls == 3


def test_a_last_window_that_is_too_short_joins_the_one_before(make) -> None:
    for frames in (51, 60, 90):  # 2.04 to 3.6 s, windows of 2 s
        result = make(top_k=100).predict(encode(frames=frames))
        (only,) = result.segments
        assert (only.start, only.end) == (0.0, pytest.approx(frames / 25))
        assert only.score == pytest.approx(result.labels[0].score, rel=1e-5)
    # 3.84 s: one frame of the second window's ten is missing, that is enough
    (session,) = make().sessions([encode(frames=96)])
    assert [w.start for w in session.reducer.windows] == [0.0, 2.0]
    (short,) = make().predict(encode(frames=20)).segments
    assert (short.start, short.end) == (0.0, pytest.approx(0.8))


def test_a_short_rest_joins_after_an_early_verdict_too(make) -> None:
    look = {"name": "uniform", "chunk": 2}
    sure = {"name": "confident", "threshold": 1e-3}
    result = make(look=look, decide=sure, top_k=100).predict(encode(frames=55))
    (only,) = result.segments
    assert (only.start, only.end) == (0.0, pytest.approx(2.2))
    apart = make(look=look, decide=sure, top_k=100).predict(encode(frames=50))
    rest = make(look=look, decide=sure, top_k=100).predict(encode(frames=5, first=50))
    parts = [{s.index: s.score for s in r.labels} for r in (apart, rest)]
    mean = (2.0 * parts[0][only.index] + 0.2 * parts[1][only.index]) / 2.2
    assert only.score == pytest.approx(mean, abs=0.01)


def test_ledger_counts_what_ran(make, executor) -> None:
    with Watch(executor) as watch:
        result = make().predict(encode(frames=125))
    cost = result.cost
    assert watch.frames == 25
    per_frame = frame_macs(executor, SPEC.size)
    assert cost.stage("network").macs == 25 * per_frame
    assert cost.stage("head").macs == watch.answers * head_macs(executor)
    assert cost.macs == sum(stage.macs for stage in cost.stages)
    assert cost.seconds == pytest.approx(sum(stage.seconds for stage in cost.stages))
    assert cost.frames_decoded >= 25
    assert cost.bytes_read > 0
    assert all(stage.seconds >= 0 for stage in cost.stages)


def test_macs_are_the_flop_counter_s(executor) -> None:
    for rows, frames, height, width in ((1, 1, 32, 32), (2, 7, 32, 32), (1, 3, 32, 43)):
        views = frames_of_shape(rows, frames, height, width)
        shape = (rows, 3, frames, height, width)
        expected = count_macs(executor.reference, shape, "features")
        assert executor.cost("network", views, None) == expected
    three = frames_of_shape(3, 1, 32, 32)
    whole = count_macs(executor.reference, (3, 3, 1, 32, 32), "forward")
    state = executor.reference.initial_state(3, 32, 32)
    assert executor.cost("head", {}, state) == whole - executor.cost("network", three, None)


def test_stopping_early_skips_network_head_and_decoder(make, executor) -> None:
    data = encode(frames=50, gop=50)
    full, early = make(), make(look=Uniform(5.0, chunk=2), decide=StopAfter(1))
    with Watch(executor) as all_of_it:
        whole = full.predict(data)
    with Watch(executor) as part:
        result = early.predict(data)
    assert (all_of_it.frames, part.frames, part.answers) == (10, 2, 1)
    assert result.cost.stage("network").macs * 5 == whole.cost.stage("network").macs
    # Frames 0 and 5 were wanted; what lies behind them was never decoded.
    assert result.cost.frames_decoded <= 1 + 6 + 2 < whole.cost.frames_decoded
    assert result.trace.steps[0].gate == 1.0
    assert result.segments[0].end == pytest.approx(2.0)


def test_keyframes_first_decodes_key_frames_only_when_sure(make, executor) -> None:
    data = encode(frames=50, gop=10)  # key frames every .4 s
    look = {"name": "keyframes-first"}
    with Watch(executor) as watch:
        sure = make(look=look, decide={"name": "confident", "threshold": 1e-6}).predict(data)
    assert watch.frames == 5
    assert sure.cost.frames_decoded == 5
    assert sure.trace.steps[0].frames == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6])
    with Watch(executor) as watch:
        unsure = make(look=look, decide={"name": "confident", "threshold": 1.0}).predict(data)
    assert watch.frames == 5 + 10
    assert unsure.cost.frames_decoded > sure.cost.frames_decoded
    grid_only = make().predict(data)
    assert unsure.labels == pytest.approx(grid_only.labels) or all(
        a.score == pytest.approx(b.score, rel=1e-4)
        for a, b in zip(unsure.labels, grid_only.labels, strict=True)
    )


def test_scene_cut_resets_the_state(make, executor) -> None:
    def draw(number, size):
        scene = picture(0, size).copy()
        return scene if number < 30 else 255 - scene // 4

    data = encode(frames=45, draw=draw)  # 1.8 s, the cut at 1.2 s
    result = make(cut_threshold=0.3, none_below=0.0, window=4.0).predict(data)
    steps = result.trace.steps
    assert result.cost.stage("head").calls == 2
    assert [t for s in steps for t in s.frames] == pytest.approx([i * 0.2 for i in range(9)])
    with Video(data) as video:
        frames = video.frames([i * 0.2 for i in range(9)], (43, 32)).pixels[:, :, 5:37]
    parts = [reference(executor, frames[:6]), reference(executor, frames[6:])]
    expected = np.average(parts, 0, weights=[1.2, 0.6])
    assert result.labels[0].score == pytest.approx(float(expected.max()), rel=1e-4)
    # Frames of the chunk behind the cut were kept, not decoded again.
    assert result.cost.frames_decoded <= 45 + 2


def test_an_early_verdict_holds_no_longer_than_its_shot(make) -> None:
    def draw(number, size):
        scene = picture(0, size).copy()
        return scene if number < 30 else 255 - scene // 4

    data = encode(frames=75, draw=draw)  # three seconds, the cut at 1.2 s within the first chunk
    settings = {"cut_threshold": 0.3, "none_below": 0.0, "window": 4.0}
    result = make(decide=Confident(1e-6), **settings).predict(data)
    assert [s.frames[0] for s in result.trace.steps] == pytest.approx([0.0, 1.2])
    assert [len(s.frames) for s in result.trace.steps] == [6, 9]
    assert result.segments[-1].end == pytest.approx(3.0, abs=0.05)


def test_a_cut_behind_missing_frames_is_where_the_frame_is(make) -> None:
    dark, light = np.zeros((40, 32, 32, 3), np.uint8), np.full((40, 32, 32, 3), 255, np.uint8)

    class Torn(ArrayVideo):
        """Shows nothing from 1.2 to 1.6 s, and another scene behind that."""

        def frames(self, times, size=None):
            return super().frames([t for t in times if not 1.19 < t < 1.59], size)

    video = Torn(np.concatenate([dark, light]), 25.0)
    recogniser = make(cut_threshold=0.3, none_below=0.0, window=4.0)
    (done,) = recogniser.sessions([video])
    assert isinstance(done, Session)
    looked = [t for step in done.steps for t in step.frames]
    assert looked == sorted(looked)
    assert not [t for t in looked if 1.19 < t < 1.59]
    assert [t for t in looked if t > 1.59][:3] == pytest.approx([1.6, 1.8, 2.0], abs=0.05)


def test_where_the_frames_between_are_lost_the_key_frames_verdict_stands(make) -> None:
    class OnlyKeys(ArrayVideo):
        """Nothing but two key frames can be decoded."""

        def keyframes(self):
            return (0.52, 1.52)

        def frames(self, times, size=None):
            return super().frames([t for t in times if t in self.keyframes()], size)

    video = OnlyKeys(np.stack([picture(n) for n in range(50)]), 25.0)
    recogniser = make(look={"name": "keyframes-first"}, decide=Confident(1.0))
    (done,) = recogniser.sessions([video])
    assert isinstance(done, Session)
    assert len(done.reducer.windows) == 1


def test_gap_in_time_starts_a_new_window(make) -> None:
    times = [i / 25 for i in range(25)] + [60 + i / 25 for i in range(25)]
    result = make(none_below=0.0).predict(encode(frames=50, times=times))
    looked = [t for s in result.trace.steps for t in s.frames]
    assert max(t for t in looked if t < 30) < 12
    assert min(t for t in looked if t > 30) == pytest.approx(60.0, abs=0.05)
    assert len(looked) < 80  # the minute of nothing was not sampled


def test_joined_recordings_are_as_long_as_all_of_them(make) -> None:
    """The container knows the times of one; the result has the length of what was shown."""
    parts = [encode("mpegts", frames=75, first=first) for first in (0, 75)]
    result = make().predict(b"".join(parts))
    assert result.duration == pytest.approx(6.0, abs=0.05)
    ends = [segment.end for segment in result.segments]
    assert ends == sorted(ends)
    assert ends[-1] == result.duration
    assert all(segment.start < segment.end for segment in result.segments)
    assert not any("header claims" in line for line in result.warnings)


def test_none_is_the_label_below_the_threshold(make) -> None:
    result = make(none_below=1.0).predict(encode(frames=20))
    assert [(s.label, s.index) for s in result.segments] == [("none", None)]
    assert result.labels


def test_batch_gives_what_one_by_one_gives(make, executor) -> None:
    sources = [encode(frames=n, first=n) for n in (20, 60, 35)]
    one = [make().predict(data) for data in sources]
    with Watch(executor) as watch:
        together = list(make().predict_many(sources, batch=3))
    assert watch.frames == 4 + 12 + 7
    for a, b in zip(one, together, strict=True):
        assert [s.index for s in a.labels] == [s.index for s in b.labels]
        assert [s.score for s in a.labels] == pytest.approx([s.score for s in b.labels], abs=1e-5)
        assert a.cost.macs == b.cost.macs
        assert a.segments[-1].end == pytest.approx(b.segments[-1].end)


def test_one_bad_source_of_a_batch_costs_one_result(make) -> None:
    good = encode(frames=20)
    results = list(make().predict_many([good, b"hello there", good, "no.mp4"], batch=2))
    assert [r.ok for r in results] == [True, False, True, False]
    assert "text, not a video" in results[1].error.message
    assert results[3].source == "no.mp4"
    assert results[3].error.kind == "media"


def test_arrays_files_and_bytes_agree(make, tmp_path) -> None:
    data = encode(container="matroska", codec="ffv1", pix_fmt="bgr0", frames=30)
    path = tmp_path / "a clip.mkv"
    path.write_bytes(data)
    with Video(data) as video:
        frames = video.frames([i / 25 for i in range(30)]).pixels
    recogniser = make()
    answers = [recogniser.predict(path), recogniser.predict(data)]
    with path.open("rb") as file:
        answers.append(recogniser.predict(file))
    for other in answers[1:]:
        assert other.labels == answers[0].labels
    in_memory = recogniser.predict(frames, fps=25.0)
    assert in_memory.labels[0].score == pytest.approx(answers[0].labels[0].score, abs=0.02)
    assert in_memory.source == "<array>"


def test_budget_in_macs_is_kept(make, executor) -> None:
    per_frame = frame_macs(executor, 32)
    allowed = 2.0 * per_frame + head_macs(executor) / 2
    result = make(budget={"macs_per_second": allowed}).predict(encode(frames=150))
    assert result.cost.macs <= allowed * 6.0 * 1.05
    assert result.cost.macs > allowed * 6.0 * 0.5
    assert not [w for w in result.warnings if "budget" in w]


def test_budget_that_cannot_be_kept_is_said(make) -> None:
    result = make(budget={"ms_per_frame": 1e-6}).predict(encode(frames=150))
    assert [w for w in result.warnings if "over budget" in w]
    looked = [t for s in result.trace.steps for t in s.frames]
    assert len(looked) <= 10 + 2  # after the first window, one look each


def test_frames_that_no_window_can_do_without_are_over_budget(make) -> None:
    data = encode(frames=150)  # six seconds: at one look a second that is six
    within = make(budget={"frames_per_second": 1.0}, window=1.0).predict(data)
    assert not within.warnings
    beyond = make(budget={"frames_per_second": 0.1}, window=1.0).predict(data)
    assert beyond.warnings == ["over budget: 1 fps, 0.1 allowed"]


class OneFrame(TimedLook):
    """Looks once a window, at a time of its own."""

    def __init__(self, after: float) -> None:
        self.after = after

    def next(self, sample, window, memory, evidence, budget):
        if memory:
            return None, memory
        return Selection.of_frames([window.start + self.after], fallback=True), True


class Nowhere(TimedLook):
    """Looks at nothing."""

    def next(self, sample, window, memory, evidence, budget):
        return None, None


def test_a_policy_s_own_object_is_used(make) -> None:
    result = make(look=OneFrame(0.4), decide=AtEnd()).predict(encode(frames=20))
    assert result.trace.steps[0].frames == pytest.approx([0.4])
    assert result.trace.steps[0].fallback


def test_a_policy_that_looks_nowhere_ends_and_one_that_leaves_its_window_is_refused(make) -> None:
    astray = OneFrame(SPEC.clip_seconds + 1.0)
    with pytest.raises(MediaError, match="no frame"):
        make(look=Nowhere()).predict(encode(frames=60))
    with pytest.raises(ConfigError, match="outside its window"):
        make(look=astray).predict(encode(frames=60))
    bad, good = make(look=astray).predict_many([encode(frames=60), b"text"])
    assert (bad.error.kind, good.error.kind) == ("config", "media")


def test_evidence_names_its_exit() -> None:
    evidence = Evidence({"a": np.zeros(2), "b": np.ones(2)})
    assert evidence.exit == "b"
    assert isinstance(Confident(0.1)(evidence, Budget()), Stop)


def test_scores_that_are_not_finite_fail_one_source_with_one_line(make, executor) -> None:
    executor.module.classify = lambda pooled: torch.full((len(pooled), len(LABELS)), torch.nan)
    try:
        (result,) = make().predict_many([np.zeros((30, 40, 40, 3), np.uint8)], fps=25)
    finally:
        del executor.module.classify
    assert not result.ok
    assert result.error.kind == "model"
    assert result.error.message == "<array>: the scores of the network are not finite"


class EndsEarly(ArrayVideo):
    """Nothing is shown from a second on, although a frame lasts two."""

    def frames(self, times, size=None, *, keep=False):
        return super().frames([time for time in times if time < 1.0], size, keep=keep)

    def next_time(self, after):
        return None


def test_a_last_frame_that_outlasts_its_window_leaves_the_look_inside(make) -> None:
    source = EndsEarly(np.zeros((2, 40, 40, 3), np.uint8), 0.5)
    result = make(window=2.0, look={"name": "uniform", "chunk": 10}).predict(source)
    assert result.ok
    assert max(time for step in result.trace.steps for time in step.frames) < 2.0
