"""Times that are missing, cut, joined or in disorder: no frame is lost, and none without a word."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from surgery import full, replace_box

from clips import encode, number_of, picture
from foveate.media import Video
from foveate.media.container import geometry
from foveate.media.decode import Cursor
from foveate.media.order import ranker
from foveate.media.vectors.reader import VectorReader

VOP = b"\0\0\1\xb6"
TICK = 512  # of the media's clock, one frame
WHOLE = 1 << 16  # the ordinary rate of an edit


def shown(video: Video) -> tuple[list[float], list[int]]:
    """Times of all frames, and the numbers that the frames at those times carry."""
    times = list(video.times())
    clip = video.frames(times)
    assert list(clip.times) == times
    return times, [number_of(pixels) for pixels in clip.pixels]


def decoded(data: bytes) -> tuple[list[float], list[int]]:
    """The same by a plain full decode."""
    with av.open(io.BytesIO(data)) as container:
        frames = [(f.time, number_of(f.to_ndarray(format="rgb24"))) for f in container.decode()]
    return [time - frames[0][0] for time, _ in frames], [number for _, number in frames]


def sought(data: bytes, times: list[float], numbers: list[int]) -> None:
    """Each frame is found from anywhere."""
    with Video(data) as video:
        for at in [*range(len(times) - 1, -1, -5), *range(0, len(times), 11)]:
            clip = video.frames([times[at]])
            assert [number_of(pixels) for pixels in clip.pixels] == [numbers[at]], at


def packed(container: str) -> bytes:
    """MPEG-4 whose B-frames lie in the packet of the frame before, an empty picture after them."""
    raw = encode("m4v", "mpeg4", 60, gop=12, bframes=1, options={"q:v": "2"})
    starts = [at for at in range(len(raw)) if raw.startswith(VOP, at)]
    pictures = [raw[a:b] for a, b in zip(starts, [*starts[1:], len(raw)], strict=True)]
    kinds = [picture[4] >> 6 for picture in pictures]
    chunks: list[bytes] = []
    while len(chunks) < len(pictures):
        at = len(chunks)
        chunks.append(pictures[at])
        if at + 1 < len(pictures) and kinds[at] != 2 and kinds[at + 1] == 2:
            chunks[-1] += pictures[at + 1]
            chunks.append(VOP + b"\x50\x20\x7f")
    file = io.BytesIO()
    with av.open(io.BytesIO(raw)) as source, av.open(file, "w", format=container) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.time_base, stream.codec_context.framerate = Fraction(1, 25), Fraction(25)
        for number, chunk in enumerate(chunks):
            mark = raw[: starts[0]] + b"\0\0\1\xb2DivX503b1393p\0" if number == 0 else b""
            packet = av.Packet(mark + chunk)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = chunk[4] >> 6 == 0
            out.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
def test_packed_b_frames(container: str) -> None:
    data = packed(container)
    with Video(data) as video:
        times, numbers = shown(video)
        assert numbers == list(range(60))
        assert np.allclose(times, [i / 25 for i in range(60)])
    sought(data, times, numbers)
    with VectorReader(data) as reader:
        assert [round(field.time * 25) for field in reader.fields()] == list(range(60))


START = 2 * TICK  # display time of the first frame before it is cut, with B-frames
EDITS = {
    "middle": [(2000, 17, WHOLE)],
    "late": [(700, -1, WHOLE), (4000, 0, WHOLE)],
    "two": [(1000, 0, WHOLE), (1000, 55, WHOLE)],
    "swapped": [(1000, 60, WHOLE), (1000, 5, WHOLE)],
    "twice": [(1000, 5, WHOLE), (1000, 5, WHOLE)],
    "pause": [(1000, 0, WHOLE), (500, -1, WHOLE), (1000, 30, WHOLE)],
    "dwell": [(1000, 20, 0), (2000, 20, WHOLE)],
    "cut": [(1500, 0, WHOLE)],
}


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("name", EDITS)
def test_edit_lists(name: str, bframes: int) -> None:
    first = START if bframes else 0
    rows = [(length, -1 if at < 0 else first + at * TICK, rate) for length, at, rate in EDITS[name]]
    table = struct.pack(">I", len(rows)) + b"".join(struct.pack(">IiI", *row) for row in rows)
    data = replace_box(encode(frames=100, bframes=bframes), b"elst", full(b"elst", table))
    times, numbers = decoded(data)
    with Video(data) as video:
        got = shown(video)
        assert got[1] == numbers
        assert np.allclose(got[0], times, atol=1e-4)
        assert video.warnings == []
        assert video.info.duration == pytest.approx(times[-1] + 0.04, abs=0.045)
    sought(data, *got)


def joined(container: str) -> bytes:
    codec = {"mpeg": "mpeg2video", "m4v": "mpeg4"}.get(container, "libx264")
    first = encode(container, codec, 50, gop=10, bframes=2)
    second = encode(container, codec, 50, gop=10, bframes=2, first=50)
    return first + second[13 if container == "flv" else 0 :]  # FLV has one header


@pytest.mark.parametrize("container", ["mpegts", "mpeg", "flv", "h264", "m4v"])
def test_joined_recordings_go_on(container: str) -> None:
    data = joined(container)
    with Video(data) as video:
        times, numbers = shown(video)
        assert numbers == list(range(100))
        assert np.allclose(times, [i / 25 for i in range(100)], atol=0.021)
        assert len(video.keyframes()) >= 10
        if container not in ("h264", "m4v"):
            assert any("start again" in line for line in video.warnings)
    sought(data, times, numbers)


@pytest.mark.parametrize("container", ["mpegts", "mpeg", "flv"])
def test_the_length_of_joined_recordings_is_that_of_all(container: str) -> None:
    with Video(joined(container)) as video:
        assert video.info.duration == pytest.approx(4.0, abs=0.05)
        assert any("start again" in line for line in video.warnings)


def restamped(container: str, change: Callable[[int, Any], None], **options: Any) -> bytes:
    """A stream copied into a container with other times."""
    file = io.BytesIO()
    source = encode("mp4", frames=100, **options)
    with av.open(io.BytesIO(source)) as given, av.open(file, "w", format=container) as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(video=0)):
            if packet.size:
                change(number, packet)
                packet.stream = stream
                out.mux(packet)
    return file.getvalue()


def as_decoded(number: int, packet: Any) -> None:
    packet.pts = packet.dts


def repeated(number: int, packet: Any) -> None:
    packet.pts += packet.duration * (number % 10 == 4)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_decode_times_in_place_of_display_times(container: str) -> None:
    data = restamped(container, as_decoded, bframes=2)
    with Video(data) as video:
        times, numbers = shown(video)
        assert numbers == sorted(numbers)
        assert len(numbers) >= 98  # an edit list of MP4 hides what lies before zero
        assert any("disorder" in line for line in video.warnings)
        assert np.allclose(np.diff(times)[2:], 0.04, atol=2e-3)
    sought(data, times, numbers)


def uneven(number: int, packet: Any) -> None:
    packet.pts += (0, 700, 0, 900)[number % 4] * packet.duration // TICK


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_times_that_step_back_without_b_frames(container: str) -> None:
    data = restamped(container, uneven)
    with Video(data) as video:
        times, numbers = shown(video)
    assert numbers == list(range(100))
    sought(data, times, numbers)


def test_two_frames_at_one_time() -> None:
    data = restamped("matroska", repeated)
    with Video(data) as video:
        times, numbers = shown(video)
    assert numbers == list(range(100))
    sought(data, times, numbers)


def standing(number: int, packet: Any) -> None:
    """From the middle on, all packets have one time: what is written where times step back."""
    if number > 50:
        packet.pts = packet.dts = 52 * TICK


def test_times_that_stand_still_among_b_frames() -> None:
    data = restamped("matroska", standing, bframes=2)
    with Video(data) as video:
        times, numbers = shown(video)
        assert numbers == list(range(100))
        assert any("same time" in line for line in video.warnings)
    sought(data, times, numbers)
    with Video(data) as video:
        some = video.frames(times[::7])
        assert [number_of(pixels) for pixels in some.pixels] == numbers[::7]
    with VectorReader(data) as reader:
        assert len(list(reader.fields())) == 100


def test_an_avi_that_was_cut_off_keeps_its_times() -> None:
    """Its index is gone, and an empty chunk follows each frame."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as out:
        stream = out.add_stream("libx264", rate=50)
        stream.width, stream.height, stream.codec_context.max_b_frames = 64, 48, 2
        stream.options = {"preset": "ultrafast", "x264-params": "keyint=10:scenecut=0:threads=1"}
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(picture(number, (64, 48))).reformat(format="yuv420p")
            frame.pts, frame.time_base = 2 * number, Fraction(1, 50)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = file.getvalue()
    assert data.count(b"00dc\0\0\0\0") >= 90
    with Video(data[: data.rindex(b"idx1") * 2 // 3]) as video:
        times, numbers = shown(video)
        whole = len(numbers) - 4  # the last ones lean on a damaged one
        assert numbers[:whole] == list(range(whole))
        assert 40 < len(numbers) < 90
    for at in range(len(times) - 1, 0, -7):
        with Video(data[: data.rindex(b"idx1") * 2 // 3]) as video:
            assert video.frames([times[at]]).times == (times[at],)


def test_a_file_opened_anew_for_its_first_frame_is_described_by_what_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FFmpeg frees a stream with its container: reading one that was closed ends the process."""
    described: list[Any] = []
    find_first = Cursor.find_first

    def spy(stream: Any, *turned: Any) -> Any:
        described.append(stream)
        return geometry(stream, *turned)

    def anew(cursor: Cursor) -> Any:
        cursor._reopen()  # as where equal times are met among the first packets
        return find_first(cursor)

    monkeypatch.setattr(Cursor, "find_first", anew)
    monkeypatch.setattr("foveate.media.video.geometry", spy)
    with Video(encode(frames=20)) as video:
        assert described == [video._cursor.stream]


@pytest.mark.parametrize("bframes", [0, 2])
def test_frames_closer_than_a_tick(bframes: int) -> None:
    """Matroska counts milliseconds: three frames share each."""
    data = encode(
        "matroska", frames=120, gop=20, bframes=bframes, times=[i / 3000 for i in range(120)]
    )
    with Video(data) as video:
        times, numbers = shown(video)
        assert bool(video.warnings) == bool(bframes)
    assert numbers == list(range(120))
    sought(data, times, numbers)


@pytest.mark.parametrize(
    ("codec", "profile"),
    [("libx264", "yuv420p"), ("libx264", "yuv444p"), ("libx265", "yuv420p"), ("mpeg4", "yuv420p")],
)
def test_the_order_of_pictures_is_read_from_their_bits(codec: str, profile: str) -> None:
    data = encode("matroska", codec, 60, bframes=3, pix_fmt=profile)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        rank = ranker(stream)
        assert rank is not None
        found = [(rank(packet), packet.pts) for packet in container.demux(stream) if packet.size]
    assert [pts for _, pts in sorted(found)] == sorted(pts for _, pts in found)
