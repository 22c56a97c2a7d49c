"""`Video.frames` gives exactly what a plain full decode shows, in whatever order it is asked."""

from __future__ import annotations

import numpy as np
import pytest
from kinds import KINDS, clip, truth
from oracle import Oracle, digest

from foveate.media import Video

# A decoder that repairs itself gradually is exact only after a while: see `test_gradual_refresh`.
SEEDS = 4


def check(video: Video, oracle: Oracle, times: list[float]) -> None:
    """Compare one call with the oracle: which frames, their times and their pixels."""
    clip = video.frames(times)
    want = oracle.shown(times)
    assert np.allclose(clip.times, [oracle.times[at] for at in want], atol=1e-6), times
    assert [digest(p) for p in clip.pixels] == [oracle.numbers[at] for at in want], times


def some_times(oracle: Oracle, random: np.random.Generator) -> list[float]:
    """A random request: anywhere, at true times, or a run with a stride."""
    count, kind = int(random.integers(1, 12)), int(random.integers(3))
    last = oracle.times[-1]
    if kind == 0:
        # Where the last frame ends depends on who is asked: nothing is asked just behind it.
        times = random.uniform(-0.1, last + 1e-9, count).tolist()
        return sorted([*times, oracle.end + 0.5])
    if kind == 1:
        return sorted(float(t) for t in random.choice(oracle.times, count))
    start, stride = int(random.integers(len(oracle.times))), int(random.integers(1, 4))
    return oracle.times[start : start + count * stride : stride]


@pytest.mark.parametrize("name", KINDS)
def test_any_order(name: str) -> None:
    oracle = truth(name)
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        with Video(clip(name)) as video:
            for _ in range(5):
                check(video, oracle, some_times(oracle, random))
            assert video.warnings == []


@pytest.mark.parametrize("name", KINDS)
def test_forward_then_backward(name: str) -> None:
    oracle = truth(name)
    with Video(clip(name)) as video:
        check(video, oracle, oracle.times)
        for time in oracle.times[::-7]:
            check(video, oracle, [time])


@pytest.mark.parametrize("name", KINDS)
def test_next_time_walks_all_frames(name: str) -> None:
    oracle = truth(name)
    with Video(clip(name)) as video:
        assert video.next_time(-1.0) == 0.0
        times, now = [0.0], video.next_time(0.0)
        while now is not None:
            times.append(now)
            now = video.next_time(now)
        assert np.allclose(times, oracle.times, atol=1e-6)
        random = np.random.default_rng(0)
        for after in random.uniform(-1, oracle.times[-1] + 1, 8):
            later = [t for t in oracle.times if t > after + 1e-6]
            found = video.next_time(float(after))
            assert found == pytest.approx(later[0]) if later else found is None


@pytest.mark.parametrize("name", KINDS)
def test_info(name: str) -> None:
    kind, oracle = KINDS[name], truth(name)
    with Video(clip(name)) as video:
        size = kind.size or kind.options.get("size", (64, 48))
        assert (video.info.width, video.info.height) == size
        video.frames(oracle.times[-1:])
        assert video.info.duration == pytest.approx(oracle.end, abs=0.09)
        assert video.info.has_audio == (name == "with-sound")
        if video.info.frames is not None:
            assert video.info.frames == len(oracle.times)


@pytest.mark.parametrize("name", KINDS)
def test_by_number_and_at_a_rate(name: str) -> None:
    oracle = truth(name)
    count = len(oracle.times)
    with Video(clip(name)) as video:
        decoded = video.meter.frames
        assert np.allclose(video.times(), oracle.times, atol=1e-6)
        if KINDS[name].rate is None:
            assert video.meter.frames <= decoded + 1
        wanted = [0, count // 3, count - 1]
        got = video.frames_at(wanted)
        assert [digest(p) for p in got.pixels] == [oracle.numbers[n] for n in wanted]
        for number in (-1, count):
            with pytest.raises(IndexError, match="numbered from 0"):
                video.frames_at([number])
        got = video.frames_in_range(0.0, oracle.times[-1] + 1e-6, rate=3.0)
        grid = [i / 3 for i in range(int(oracle.times[-1] * 3 + 1e-5) + 1)]
        assert [digest(p) for p in got.pixels] == [oracle.numbers[n] for n in oracle.shown(grid)]
        whole = video.frames_in_range(rate=3.0).times
        assert whole[: len(got)] == got.times
        # What is left is the last frame, as long as it is shown.
        assert np.allclose(whole[len(got) :], oracle.times[-1], atol=1e-6)


def test_walk_and_look() -> None:
    """A session alternates `next_time` with `frames`: neither disturbs the other."""
    oracle = truth("h264-b")
    with Video(clip("h264-b")) as video:
        now: float | None = 0.0
        seen = 0
        while now is not None:
            check(video, oracle, [now])
            now = video.next_time(now)
            seen += 1
        assert seen == len(oracle.times)
        assert video.meter.frames <= len(oracle.times) + 1


def test_a_frame_is_held_ten_seconds_and_no_longer() -> None:
    oracle = truth("gaps")
    with Video(clip("gaps")) as video:
        before = oracle.times[19]
        assert len(video.frames([before + 9.9])) == 1
        assert len(video.frames([before + 10.1])) == 0
        assert video.next_time(before + 10.1) == pytest.approx(oracle.times[20])


def test_scaled_frames_carry_their_numbers() -> None:
    from clips import number_of

    with Video(clip("h264-b")) as video:
        for size in ((32, 24), (200, 100), (33, 47)):
            got = video.frames([0.0, 1.0, 2.0], size)
            assert got.pixels.shape == (3, size[1], size[0], 3)
            assert [number_of(p) for p in got.pixels] == [0, 25, 50]


def test_times_must_ascend() -> None:
    with Video(clip("h264-mp4")) as video:
        with pytest.raises(ValueError, match="ascending"):
            video.frames([1.0, 0.5])
        with pytest.raises(ValueError, match="positive"):
            video.frames([0.0], (0, 5))
        assert len(video.frames([])) == 0


def test_gradual_refresh() -> None:
    """Streams repaired bit by bit: no frame is lost, none shown at a wrong time."""
    from clips import encode, number_of

    options = {"x264-params": "intra-refresh=1:keyint=20:bframes=0:scenecut=0:threads=1"}
    data = encode(frames=100, gop=20, options=options)
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        with Video(data) as video:
            for _ in range(4):
                wanted = sorted(random.integers(0, 100, 6).tolist())
                got = video.frames([n / 25 for n in wanted])
                assert np.allclose(got.times, [n / 25 for n in wanted])
                exact = sum(number_of(p) == n for p, n in zip(got.pixels, wanted, strict=True))
                assert exact >= 5
