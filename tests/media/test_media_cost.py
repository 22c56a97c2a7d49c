"""What is not asked for is not decoded: counted by the meter, and behind its back."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
from kinds import clip, truth

from clips import encode, number_of
from foveate.media import Video, decode
from foveate.media.decoder import Decoder

GOP, FRAMES = 50, 600


class Spy:
    """Stands before the codec and counts what really goes in and comes out."""

    packets = frames = 0

    def __init__(self, codec: Any) -> None:
        object.__setattr__(self, "codec", codec)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.codec, name, value)

    def decode(self, packet: Any) -> list[Any]:
        Spy.packets += packet is not None
        frames: list[Any] = self.codec.decode(packet)
        Spy.frames += len(frames)
        return frames


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    Spy.packets = Spy.frames = 0
    begin = Decoder.__init__

    def spied(self: Decoder, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        self._codec = Spy(self._codec)

    monkeypatch.setattr(Decoder, "__init__", spied)
    return Spy


@pytest.fixture(scope="module", params=["mp4", "matroska", "mpegts"])
def long(request: pytest.FixtureRequest) -> bytes:
    """Six hundred frames with twelve key frames, no B-frames."""
    return encode(request.param, frames=FRAMES, gop=GOP)


def same(spy: type[Spy], video: Video) -> None:
    assert (video.meter.packets, video.meter.frames) == (spy.packets, spy.frames)


def test_opening_decodes_one_frame(long: bytes, spy: type[Spy]) -> None:
    with Video(long) as video:
        assert video.info.width == 64
        assert video.next_time(0.0) == pytest.approx(0.04)
        assert spy.packets == spy.frames == 1
        same(spy, video)


def test_key_frames_only(long: bytes, spy: type[Spy]) -> None:
    with Video(long) as video:
        keys = video.keyframes()
        assert np.allclose(keys, [i * GOP / 25 for i in range(FRAMES // GOP)])
        assert spy.frames == 1
        clip = video.frames(keys)
        assert [number_of(p) for p in clip.pixels] == list(range(0, FRAMES, GOP))
        # The one frame that opening decodes is shown again, not decoded again.
        assert spy.frames == spy.packets == len(keys)
        same(spy, video)


def test_eight_frames_of_many(long: bytes, spy: type[Spy]) -> None:
    wanted = [round(i * FRAMES / 8) for i in range(8)]
    with Video(long) as video:
        clip = video.frames([n / 25 for n in wanted])
        assert [number_of(p) for p in clip.pixels] == wanted
        # From each key frame to the wanted frame, and nothing behind it.
        needed = sum(n % GOP + 1 for n in wanted)
        assert spy.packets <= needed + 1
        same(spy, video)


def test_b_frames_that_nobody_needs_are_skipped(spy: type[Spy]) -> None:
    options = {"x264-params": "b-pyramid=0:b-adapt=0:bframes=3:scenecut=0:threads=1"}
    data = encode(frames=400, gop=100, bframes=3, options={"preset": "fast", **options})
    with Video(data) as video:
        video.frames([i * 3.2 for i in range(5)])
        # One frame in four is a reference; a few B-frames are asked for.
        assert spy.frames < 0.35 * 400
        same(spy, video)


def test_sparse_sampling_drops_the_tails_of_groups(spy: type[Spy]) -> None:
    data = encode(frames=300, gop=12)
    with Video(data) as video:
        clip = video.frames([i * 0.96 for i in range(12)])  # every second key frame
        assert [number_of(p) for p in clip.pixels] == list(range(0, 288, 24))
        assert spy.frames <= 12 + 1


def test_reading_on_decodes_nothing_twice(spy: type[Spy]) -> None:
    with Video(clip("h264-pyramid")) as video:
        for i in range(0, 80, 8):
            video.frames([n / 25 for n in range(i, i + 8)])
        assert spy.frames <= 80 + 1
        assert spy.packets <= 80 + 1


def test_the_same_frame_again_is_free(spy: type[Spy]) -> None:
    with Video(clip("h264-b")) as video:
        video.frames([0.52])
        before = spy.packets
        video.frames([0.52, 0.53, 0.55])
        video.frames([0.52], (20, 20))
        assert spy.packets == before


def test_bytes_read(long: bytes) -> None:
    with Video(long) as video:
        opened = video.meter.bytes
        assert 0 < opened <= 2 * len(long) + 200_000
        video.frames([0.0])
        assert video.meter.bytes >= opened


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_over_a_long_pass() -> None:
    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    data = encode(frames=60, gop=30, bframes=2, size=(640, 360))
    with Video(data) as video:
        times = [n / 25 for n in range(60)]
        for i in range(0, 60, 10):
            video.frames(times[i : i + 10], (64, 36))
        before = resident()
        for _ in range(8):
            for i in range(0, 60, 10):
                video.frames(times[i : i + 10], (64, 36))
        # 480 more pictures of 345,600 bytes were decoded: 166 MB if any of them stayed.
        assert resident() - before < 16_000_000


def test_damage_is_said_and_not_filled_in() -> None:
    oracle = truth("h264-mp4")
    data = bytearray(clip("h264-mp4"))
    at = data.index(b"mdat") + len(data) // 4
    data[at : at + 1500] = bytes(1500)
    with Video(bytes(data)) as video:
        got = video.frames(oracle.times)
        assert video.warnings
        assert len(set(got.times)) == len(got.times)


def test_an_index_that_a_container_lacks_is_looked_for_once(
    long: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking may visit every entry, and packets that nobody asks for each ask for the index."""
    calls: list[int] = []
    monkeypatch.setattr(decode, "from_entries", lambda opened, first: calls.append(first))
    with Video(long) as video:
        video.frames([i / 2 for i in range(12)])
        assert video.info.codec == "h264"
    assert len(calls) == 1
