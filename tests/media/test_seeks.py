"""Key frames and seeks in every container: counted packets, frames and bytes."""

from __future__ import annotations

import io
from functools import cache
from itertools import pairwise

import av
import numpy as np
import pytest
from kinds import _HEVC_OPEN, _OPEN

from clips import encode, number_of, picture
from foveate.media import Video
from foveate.media.vectors.reader import VectorReader

RATE = 25
X265_OPEN = {"x265-params": _HEVC_OPEN["x265-params"].replace("keyint=20", "keyint=12")}
DELAY = 4  # packets that a decoder may want before it lets a picture go

# Container, encoder, B-frames, frames in a group, further options of the encoder.
STREAMS = {
    f"{container}-{codec}-{bframes}-{gop}": (container, codec, bframes, gop, None)
    for container, codec in (
        ("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("mpegts", "libx264"),
        ("flv", "libx264"), ("avi", "libx264"), ("h264", "libx264"), ("mp4", "libx265"),
        ("hevc", "libx265"), ("matroska", "mpeg4"), ("avi", "mpeg4"), ("m4v", "mpeg4"),
        ("mpegts", "mpeg2video"), ("mpeg", "mpeg2video"), ("mpeg2video", "mpeg2video"),
        ("nut", "mpeg4"),
    )
    for bframes, gop in ((0, 1), (0, 12), (2, 12), (2, 2), (2, 250))
    if codec != "libx265" or gop in (1, 12)
} | {
    "webm-vp8": ("webm", "libvpx", 0, 12, None),
    "webm-vp9": ("webm", "libvpx-vp9", 0, 50, None),
    "ivf-vp8": ("ivf", "libvpx", 0, 12, None),
    "mjpeg": ("mjpeg", "mjpeg", 0, 1, None),
    **{
        f"{container}-open": (container, "libx264", 3, 12, _OPEN)
        for container in ("mp4", "matroska", "mpegts", "flv", "avi", "h264")
    },
    **{
        f"{container}-hevc-open": (container, "libx265", 3, 12, X265_OPEN)
        for container in ("mp4", "matroska", "mpegts", "hevc")
    },
}  # fmt: skip


@cache
def stream(name: str) -> bytes:
    container, codec, bframes, gop, options = STREAMS[name]
    return encode(
        container, codec, 60 if gop < 250 else 520, gop=gop, bframes=bframes, options=options,
        pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )  # fmt: skip


@cache
def key_numbers(name: str) -> list[int]:
    """Numbers of the key frames by a full pass: a key packet's picture, whatever its time says."""
    with av.open(io.BytesIO(stream(name))) as container:
        return [
            number_of(frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
            if frame.key_frame
        ]


@pytest.mark.parametrize("name", STREAMS)
def test_keyframes_are_those_of_a_full_pass(name: str) -> None:
    want = [number / RATE for number in key_numbers(name)]
    assert len(want) >= 2
    with Video(stream(name)) as fresh, Video(stream(name)) as used:
        used.frames([want[-1] + 0.01])
        used.frames([want[len(want) // 2]])
        assert np.allclose(fresh.keyframes(), want, atol=2e-3)
        assert used.keyframes() == fresh.keyframes()
        assert fresh.meter.packets <= 1 + DELAY


@pytest.mark.parametrize("name", STREAMS)
def test_one_key_frame_costs_one(name: str) -> None:
    for listed in (True, False):
        for number in key_numbers(name)[1:][:: max(1, len(key_numbers(name)) // 4)]:
            with Video(stream(name)) as video:
                times = video.keyframes() if listed else ()
                packets, frames = video.meter.packets, video.meter.frames
                wanted = min(
                    times, key=lambda t, n=number: abs(t - n / RATE), default=number / RATE
                )
                got = video.frames([wanted + 1e-3 * (not listed)])
                assert [number_of(p) for p in got.pixels] == [number]
                spent = video.meter.packets - packets, video.meter.frames - frames
                assert spent == (1, 1), (number, listed)


@pytest.mark.parametrize("name", STREAMS)
def test_a_frame_in_the_middle_of_a_group_costs_the_way_to_it(name: str) -> None:
    bframes, keys = STREAMS[name][2], key_numbers(name)
    for first, last in pairwise(keys):
        middle = (first + last) // 2
        with Video(stream(name)) as video:
            video.keyframes()
            packets, frames = video.meter.packets, video.meter.frames
            got = video.frames([middle / RATE + 1e-3])
            assert [number_of(p) for p in got.pixels] == [middle]
            most = middle - first + 1 + (DELAY if bframes or "mpeg2" in name else 0)
            assert video.meter.packets - packets <= most
            assert video.meter.frames - frames <= most


def noisy(number: int, size: tuple[int, int]) -> np.ndarray:
    """The numbered picture over noise, so that it takes some bytes."""
    noise = np.random.default_rng(number).integers(0, 60, (size[1], size[0], 3), np.uint8)
    return picture(number, size) // 5 * 4 + noise


# How much of the file finding the groups takes: the container's own table, or one pass.
TABLES = {
    "mp4": ("mp4", "libx264", {}, 0.0),
    "mp4-fragments": ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}, 0.1),
    "matroska": ("matroska", "libx264", {}, 0.0),
    "avi": ("avi", "libx264", {}, 0.0),
    "mpegts": ("mpegts", "libx264", {}, 1.05),
    "flv": ("flv", "libx264", {}, 1.05),
    "mpeg": ("mpeg", "mpeg2video", {}, 1.05),
    "h264": ("h264", "libx264", {}, 1.05),
}


@cache
def heavy(name: str) -> bytes:
    container, codec, mux, _ = TABLES[name]
    tone = None if container in ("h264", "mpeg") else (440.0, 0.0, 9.6)
    return encode(
        container, codec, 240, gop=12, bframes=2, size=(160, 120), mux=mux, draw=noisy, tone=tone,
        options={"qp": "18"} if codec == "libx264" else {"b": "4000000"},
    )  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_two_frames_read_their_groups_and_the_index(name: str) -> None:
    data, index = heavy(name), TABLES[name][3]
    assert len(data) > 1_500_000
    with Video(data) as video:
        opened = video.meter.bytes
        times = video.frames([3.2, 7.2]).times
        assert np.allclose(times, [3.2, 7.2], atol=2e-3)
        read = video.meter.bytes - opened
    # Twenty groups: two of them and their neighbours' ends, and opening the container again.
    assert read <= (0.2 + index) * len(data) + opened


@pytest.mark.parametrize("name", TABLES)
def test_two_numbered_frames_read_their_groups_and_the_index(name: str) -> None:
    data, index = heavy(name), TABLES[name][3]
    index = 1.05 if name in ("mp4-fragments", "matroska") else index  # they count no frames
    with Video(data) as video:
        opened = video.meter.bytes
        times = video.frames_at([80, 180]).times
        assert np.allclose(times, [3.2, 7.2], atol=2e-3)
        read = video.meter.bytes - opened
    assert read <= (0.2 + index) * len(data) + opened


@pytest.mark.parametrize("name", TABLES)
def test_frames_by_number_are_those_of_a_full_pass(name: str) -> None:
    with Video(heavy(name)) as whole:
        times = whole.times()
        assert len(times) == 240
        for numbers in ([0], [11, 12, 13], [58, 59, 60, 61], [239]):
            with Video(heavy(name)) as video:
                assert video.frames_at(numbers).times == tuple(times[n] for n in numbers)


@pytest.mark.parametrize("name", TABLES)
def test_tracks_that_lie_apart_are_read_once(name: str) -> None:
    with Video(heavy(name)) as video:
        video.times()
        assert video.meter.bytes <= 1.2 * len(heavy(name)) + 200_000


def test_program_streams_are_sought() -> None:
    """Pictures begin in the middle of packets: a key frame is reached from the one before it."""
    data = heavy("mpeg")
    with Video(data) as video:
        keys = video.keyframes()
        before = video.meter.bytes
        for at in (15, 7, 11, 3):
            packets = video.meter.packets
            assert video.frames([keys[at]]).times == (keys[at],)
            assert video.meter.packets - packets == 1
        assert video.meter.bytes - before <= 4 * 3 / 20 * len(data)


def test_bytes_of_a_stream_with_one_key_frame() -> None:
    """A GIF has one: two of its frames once cost thousands of passes over it."""
    data = encode("gif", "gif", frames=300, pix_fmt="rgb8", rate=10)
    with Video(data) as video:
        got = video.frames_at([100, 200])
        assert [number_of(p) for p in got.pixels] == [100, 200]
        assert video.meter.bytes <= 6 * len(data)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi", "h264"])
def test_vectors_begin_at_the_same_key_frames(container: str) -> None:
    data = encode(container, frames=200, gop=50, bframes=2)
    with Video(data) as video, VectorReader(data, find_index=video._find_index) as reader:
        list(reader.fields(0.0, 0.0))
        before = reader.meter.packets
        fields = list(reader.fields(6.0, 6.08))
        assert [round(field.time * RATE) for field in fields] == [150, 151, 152]
        assert fields[0].key
        assert reader.meter.packets - before <= 3 + 2 + DELAY
