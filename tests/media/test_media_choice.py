"""What is said of a file: which stream, which colours, and the true reason of a refusal."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
from surgery import set_png_size

from clips import encode, number_of, picture
from foveate.app.probe import table
from foveate.core import LimitError, MediaError
from foveate.media import Limits, Video
from foveate.media.convert import colour_matrix
from foveate.media.facts import facts

FLAGS = av.stream.Disposition


def several(
    container: str, streams: list[tuple[tuple[int, int], int, FLAGS | None]], frames: int = 10
) -> bytes:
    """A file of several picture streams: `(size, number of the first frame, flags)`."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        made = []
        for size, first, flags in streams:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.options = {"preset": "ultrafast", "x264-params": "threads=1"}
            if flags is not None:
                stream.disposition = flags
            made.append((stream, size, first))
        packets = []
        for stream, size, first in made:
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(first + number, size), format="rgb24")
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts):
            out.mux(packet)
    return file.getvalue()


SMALL, LARGE = (64, 48), (192, 144)
CHOICES = {
    "default-is-small": (
        [(LARGE, 100, FLAGS(0)), (SMALL, 200, FLAGS.default)], 200, "flagged as default",
    ),
    "forced": ([(LARGE, 100, FLAGS(0)), (SMALL, 200, FLAGS.forced)], 200, "flagged as forced"),
    "default-before-forced": (
        [(SMALL, 100, FLAGS.forced), (SMALL, 200, FLAGS.default)], 200, "flagged as default",
    ),
    "size": ([(SMALL, 100, FLAGS.default), (LARGE, 200, FLAGS.default)], 200, "first large one"),
    "alike": ([(SMALL, 100, FLAGS.default), (SMALL, 200, FLAGS.default)], 100, "several alike"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_flags_decide_before_size(name: str) -> None:
    streams, want, why = CHOICES[name]
    data = several("matroska", streams)
    with Video(data) as video:
        assert number_of(video.frames([0.0]).pixels[0]) == want
    found = facts(data)
    assert why in found.choice
    assert f"{found.stream} of 2, " in table(found)


def test_a_cover_is_no_video() -> None:
    """The flag of an attached picture counts, however large it is."""
    data = encode(cover=True, size=(32, 16), frames=10)
    with Video(data) as video:
        assert (video.info.width, video.info.height) == (32, 16)
    assert facts(data).choice == "the only moving picture"


def test_the_default_sound_is_heard() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        picture_stream = out.add_stream("mpeg4", rate=25)
        picture_stream.width, picture_stream.height = SMALL
        picture_stream.pix_fmt = "yuv420p"
        tracks = []
        for flags in (FLAGS(0), FLAGS.default):
            track = out.add_stream("pcm_s16le", rate=16000, layout="mono")
            track.disposition = flags
            tracks.append(track)
        out.mux(picture_stream.encode(av.VideoFrame(*SMALL, "yuv420p")))
        out.mux(picture_stream.encode(None))
        for track, loud in zip(tracks, (1000, 20000), strict=True):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1600), loud, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 16000, 0
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
    with Video(file.getvalue()) as video:
        assert np.abs(video.audio()).max() == pytest.approx(20000 / 32768, abs=0.01)


def flat(height: int, matrix: str | None) -> bytes:
    """A still of one colour, tagged or not."""
    options = {"preset": "ultrafast", "x264-params": "threads=1"}
    if matrix is not None:
        options["x264-params"] += f":colormatrix={matrix}"
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        stream.options = options
        for _ in range(2):
            frame = av.VideoFrame(64, height, "yuv420p")
            for plane, value in zip(frame.planes, (120, 90, 200), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


BT601, BT709, BT2020 = (235, 76, 44), (250, 90, 40), (241, 81, 39)  # of (120, 90, 200)


@pytest.mark.parametrize(
    ("height", "matrix", "want", "said"),
    [
        (480, None, BT601, "BT.601 (untagged, 480 lines)"),
        (718, None, BT601, "BT.601 (untagged, 718 lines)"),
        (720, None, BT709, "BT.709 (untagged, 720 lines)"),
        (1080, None, BT709, "BT.709 (untagged, 1080 lines)"),
        (480, "bt709", BT709, "BT.709"),
        (1080, "smpte170m", BT601, "BT.601"),
        (1080, "bt470bg", BT601, "BT.601"),
        (720, "bt2020nc", BT2020, "BT.2020"),
        (720, "bt2020c", BT2020, "BT.2020 (tagged as matrix 10, 720 lines)"),
        (720, "YCgCo", BT709, "BT.709 (tagged as matrix 8, 720 lines)"),
    ],
)
def test_colour(height: int, matrix: str | None, want: tuple[int, ...], said: str) -> None:
    data = flat(height, matrix)
    with Video(data) as video:
        for size in (None, (32, 32)):
            got = video.frames([0.0], size).pixels[0, 8, 8]
            assert np.abs(got.astype(int) - want).max() <= 3
        assert video.warnings == []
    found = facts(data)
    assert found.colour == said
    assert said in table(found)


def test_grey_and_rgb_have_no_matrix() -> None:
    data = encode("apng", "apng", frames=2, size=(64, 720), pix_fmt="rgb24")
    with Video(data) as video:
        assert (video.frames([0.0]).pixels[0] == picture(0, (64, 720))).all()
    assert facts(data).colour == "RGB"
    assert colour_matrix(2, 719) == 2


LIMITED = {
    "mp4": "libx264", "mov": "mjpeg", "matroska": "ffv1", "webm": "libvpx", "mpegts": "libx264",
    "avi": "mjpeg", "flv": "libx264", "h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg",
    "ivf": "libvpx", "apng": "apng", "yuv4mpegpipe": "wrapped_avframe", "nut": "mpeg4",
    "mpeg": "mpeg2video", "gif": "gif",
}  # fmt: skip


@pytest.mark.parametrize("container", LIMITED)
def test_pictures_over_the_limit_are_refused_for_that(container: str) -> None:
    codec = LIMITED[container]
    formats = {"mjpeg": "yuvj420p", "apng": "rgb24", "gif": "rgb8"}
    data = encode(container, codec, 3, size=(256, 160), pix_fmt=formats.get(codec, "yuv420p"))
    with pytest.raises(LimitError, match=r"pictures of \d+x1(60|76) pixels, the limit is 20000"):
        Video(data, limits=Limits(pixels=20000))


def enormous() -> dict[str, bytes]:
    side = 65_500
    gif = bytearray(encode("gif", "gif", pix_fmt="rgb8", frames=3))
    gif[6:10] = struct.pack("<HH", side, side)
    avi = encode("avi", "rawvideo", frames=2)
    at = avi.index(b"strf") + 12
    jpeg = b"\xff\xc0\0\x11\x08\0\x30\0\x40"
    large = jpeg[:5] + struct.pack(">HH", side, side)
    mjpeg = {
        f"mjpeg-{container}": encode(container, "mjpeg", 3, pix_fmt="yuvj420p").replace(jpeg, large)
        for container in ("avi", "mov", "matroska", "mjpeg")
    }
    png = set_png_size(encode("mov", "png", pix_fmt="rgb24", frames=3), side, side)
    return {
        "gif": bytes(gif),
        "png-mov": png,
        "y4m": f"YUV4MPEG2 W{side} H{side} F25:1\nFRAME\n".encode() + bytes(1000),
        "raw-avi": avi[:at] + struct.pack("<ii", side, side) + avi[at + 8 :],
        **mjpeg,
    }


@pytest.mark.parametrize("name", enormous())
def test_enormous_pictures_are_over_the_limit_in_any_container(name: str) -> None:
    with pytest.raises(LimitError, match="pictures of 65500x65500 pixels, the limit is 36000000"):
        Video(enormous()[name])


def test_what_is_damaged_is_not_called_large() -> None:
    data = bytearray(encode("h264"))
    data[5:] = bytes(len(data) - 5)
    with pytest.raises(MediaError) as caught:
        Video(bytes(data))
    assert not isinstance(caught.value, LimitError)
