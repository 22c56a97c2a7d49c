"""Small clips for the tests, encoded here: nothing is downloaded, nothing is installed.

Every frame carries its own number as sixteen black or white blocks in its upper half, so a test can
say which frame it was given after any codec, scaling or rotation. In the lower half a square moves
two pixels to the right per frame over a texture.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np

os.environ.setdefault("SVT_LOG", "1")  # only errors, please
TICKS = 90_000
SPEED = 2  # pixels per frame by which the square moves
_BITS = 16


def picture(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """The test picture of that number, (H, W, 3) uint8."""
    width, height = size
    out = _texture(size).copy()
    half = height // 2
    bits = np.array([number >> bit & 1 for bit in range(_BITS)]).reshape(2, 8)
    at_row = np.minimum(np.arange(half) * 2 // half, 1)
    at_column = np.minimum(np.arange(width) * 8 // width, 7)
    out[:half] = (bits[np.ix_(at_row, at_column)] * 255)[..., None]
    side = max(4, height // 4)
    left = number * SPEED % max(1, width - side)
    out[half + 2 : half + 2 + side, left : left + side] = (250, 30, 30)
    return out


@cache
def _texture(size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    out = np.stack([rows * 3 % 200 + 20, columns * 5 % 200 + 20, (rows + columns) % 150 + 50], -1)
    return out.astype(np.uint8)


def number_of(pixels: np.ndarray) -> int:
    """The number that a picture of any size carries."""
    height, width = pixels.shape[:2]
    value = 0
    for bit in range(_BITS):
        y = int((bit // 8 + 0.5) * height / 4)
        x = int((bit % 8 + 0.5) * width / 8)
        value |= int(pixels[y, x].mean() > 128) << bit
    return value


def encode(
    container: str = "mp4",
    codec: str = "libx264",
    frames: int = 30,
    *,
    size: tuple[int, int] = (64, 48),
    rate: float | Fraction = 25,
    gop: int = 12,
    bframes: int = 0,
    options: dict[str, str] | None = None,
    mux: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    times: Sequence[float] | None = None,
    rotation: int = 0,
    shape: Fraction | None = None,
    first: int = 0,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = picture,
    tone: tuple[float, float, float] | None = None,
    sound_codec: str | None = None,
    sound_rate: int = 48000,
    thumbnail: bool = False,
    cover: bool = False,
    strip: bool = False,
) -> bytes:
    """Encode numbered pictures.

    Args:
        container: FFmpeg's name of the container.
        codec: FFmpeg's name of the encoder.
        frames: How many.
        size: `(width, height)` as coded.
        rate: Frames per second, used where `times` is None.
        gop: Frames from one key frame to the next.
        bframes: Most consecutive B-frames.
        options: Further options of the encoder.
        mux: Options of the container.
        pix_fmt: Pixel format of the stream.
        times: Seconds of each frame; may start below zero.
        rotation: Degrees by which a player turns the picture counter-clockwise; the pictures are
            turned the other way before, so that a player shows them upright.
        shape: Width of a pixel by its height.
        first: Number of the first picture.
        draw: Makes a picture.
        tone: `(frequency, start, seconds)` of a sine in a sound track.
        sound_codec: FFmpeg's name of the sound encoder; one that fits by default.
        sound_rate: Samples per second of the sound track.
        thumbnail: Put a small second picture stream in front.
        cover: Add a cover picture.
        strip: Take the display times off the packets.
    """
    file = io.BytesIO()
    with _scheduler_kept(), av.open(file, "w", format=container, options=mux or {}) as out:
        small = _add_small(out) if thumbnail else None
        stream = out.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        turned = size[::-1] if rotation % 180 else size
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.gop_size = gop
        if codec.startswith("libvpx"):
            context.thread_count = 1  # its threads wait for one another in busy loops
        if codec not in ("gif", "mjpeg", "png", "apng", "ffv1", "libsvtav1", "dvvideo"):
            context.max_b_frames = bframes
        if times is not None:
            context.time_base = Fraction(1, TICKS)
        if shape is not None:
            context.sample_aspect_ratio = shape
        stream.options = {**_DEFAULTS.get(codec, {}), **(options or {})}
        if rotation:
            stream.set_display_rotation(rotation)
        art = _add_cover(out) if cover else None
        sound = _add_sound(out, container, sound_codec, sound_rate) if tone else None
        if small is not None:
            out.mux(small.encode(_frame(draw(999, (32, 16)), "yuv420p", 0, Fraction(1, 25))))
            out.mux(small.encode(None))
        if art is not None:
            _mux_cover(out, art)
        if sound is not None and tone is not None:
            out.mux(_sound_packets(sound, *tone))
        for packet in _video_packets(stream, frames, first, turned, pix_fmt, times, draw, rotation):
            if strip:
                packet.pts = None
            out.mux(packet)
    return file.getvalue()


@contextmanager
def _scheduler_kept() -> Iterator[None]:
    """Put this thread's scheduling back.

    SVT-AV1 makes the thread that opens it, and all that it starts later, a real-time one where it
    may: busy loops of other libraries then starve whatever they wait for.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "20", "x264-params": "scenecut=0:threads=1"},
    "libx265": {
        "preset": "ultrafast",
        "crf": "18",
        "x265-params": "log-level=none:pools=none:frame-threads=1:scenecut=0",
    },
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "1M", "auto-alt-ref": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "b": "1M", "auto-alt-ref": "0"},
    "libsvtav1": {"preset": "12", "crf": "25", "svtav1-params": "lp=1"},
    "mpeg4": {"q:v": "3", "sc_threshold": "1000000000"},
    "mpeg2video": {"q:v": "3", "sc_threshold": "1000000000"},
}


def _frame(data: np.ndarray, pix_fmt: str, tick: int, base: Fraction) -> Any:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(data), format="rgb24")
    frame = frame.reformat(format=pix_fmt)
    frame.pts, frame.time_base = tick, base
    return frame


def _video_packets(
    stream: Any,
    frames: int,
    first: int,
    turned: tuple[int, int],
    pix_fmt: str,
    times: Sequence[float] | None,
    draw: Callable[[int, tuple[int, int]], np.ndarray],
    rotation: int,
) -> Iterable[Any]:
    base = Fraction(1, TICKS) if times is not None else 1 / Fraction(stream.codec_context.framerate)
    for i in range(frames):
        data = np.rot90(draw(first + i, turned), -rotation // 90 % 4)
        tick = round(times[i] * TICKS) if times is not None else i
        yield from stream.encode(_frame(data, pix_fmt, tick, base))
    yield from stream.encode(None)


def _add_small(out: Any) -> Any:
    small = out.add_stream("mjpeg", rate=25)
    small.width, small.height, small.pix_fmt = 32, 16, "yuv420p"
    small.codec_context.color_range = 2
    return small


def _add_cover(out: Any) -> Any:
    art = _add_small(out)
    art.disposition = av.stream.Disposition.attached_pic
    return art


def _mux_cover(out: Any, art: Any) -> None:
    out.mux(art.encode(_frame(picture(777, (32, 16)), "yuv420p", 0, Fraction(1, 25))))
    out.mux(art.encode(None))


def _add_sound(out: Any, container: str, codec: str | None = None, rate: int = 48000) -> Any:
    codec = codec or ("libopus" if container == "webm" else "aac")
    return out.add_stream(codec, rate=rate, layout="mono")


def _sound_packets(sound: Any, frequency: float, start: float, seconds: float) -> list[Any]:
    packets = []
    rate, block = sound.codec_context.sample_rate, 960
    name = sound.codec_context.format.name
    for at in range(0, round(seconds * rate), block):
        moments = np.arange(at, at + block) / rate
        wave = 0.5 * np.sin(2 * np.pi * frequency * moments).astype(np.float32)
        data = (wave * 32767).astype(np.int16) if name.startswith("s16") else wave
        frame = av.AudioFrame.from_ndarray(data[None], format=name, layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + at
        packets += sound.encode(frame)
    return packets + sound.encode(None)


def only_sound(cover: bool = False) -> bytes:
    """An MP4 with a sound track and, if asked for, a cover picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        art = _add_cover(out) if cover else None
        sound = _add_sound(out, "mp4")
        if art is not None:
            _mux_cover(out, art)
        out.mux(_sound_packets(sound, 440, 0, 1))
    return file.getvalue()


def flip_bits(data: bytes, count: int, seed: int, start: int = 0) -> bytes:
    """`count` single bits flipped at random places from `start` on."""
    random = np.random.default_rng(seed)
    out = bytearray(data)
    for at in random.integers(start, len(out), count):
        out[at] ^= 1 << int(random.integers(8))
    return bytes(out)
