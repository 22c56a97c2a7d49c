"""Encodes whole clips in a named way, with sound if there is some: for making data sets.

`VideoWriter` writes for people who look; here the structure of the stream matters (which kinds of
frames, how many references, how far from key frame to key frame), and the same frames must give
the same file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np

from foveate.core import ConfigError, MediaError
from foveate.media.source import display_name

if TYPE_CHECKING:
    from foveate.core.loop import Pixels, Waveform

_BLOCK = 1024  # samples of one AAC frame
_SOUND_BITS = 48_000  # per second
_TICKS = 60_000  # per second, where frames bring their times; MPEG-4 has sixteen bits for it


@dataclass(frozen=True)
class Encoding:
    """How pictures are coded.

    Attributes:
        codec: FFmpeg's name of the encoder.
        options: Its options; one thread, so that the bytes do not depend on the machine's cores.
        gop: Frames from one key frame to the next, None for the encoder's own choice.
        bframes: Most B-frames in a row, None for the encoder's own choice.
    """

    codec: str
    options: dict[str, str] = field(default_factory=dict)
    gop: int | None = None
    bframes: int | None = None


ENCODINGS = {
    # x264 as it comes: B-frames, three references, key frames up to 250 frames apart.
    "x264": Encoding("libx264", {"preset": "medium", "crf": "23", "threads": "1"}),
    # One reference and no B-frames: every motion vector points to the frame before.
    "x264-p1": Encoding(
        "libx264", {"preset": "medium", "crf": "23", "refs": "1", "threads": "1"}, bframes=0
    ),
    # The stream of the compressed-domain papers: MPEG-4 part 2, a key frame every twelve frames,
    # none for scene cuts. The quantiser is pinned from both sides, since asking this encoder for
    # constant quality through PyAV changes nothing.
    "mpeg4-gop12": Encoding(
        "mpeg4",
        {
            "qmin": "6",
            "qmax": "6",
            "sc_threshold": "1000000000",
            "threads": "1",
        },
        gop=12,
        bframes=0,
    ),
}


def with_vectors(codec: str, gop: int) -> Encoding:
    """An encoding whose motion vectors are easy to follow back: one reference, no B-frames.

    Groups have exactly that length: no key frame for scene cuts. H.264 is coded without weighted
    prediction, MPEG-4 at its finest quantiser, as CoViAR does (arXiv 1712.00636).

    Args:
        codec: `h264` or `mpeg4`.
        gop: Frames from one key frame to the next.

    Raises:
        ConfigError: Another codec, or no such length.
    """
    if not 2 <= gop <= 300:
        raise ConfigError(f"a group of {gop} frames", "say a number from 2 to 300")
    if codec == "h264":
        options = {
            "preset": "medium", "crf": "23", "refs": "1", "weightp": "0", "sc_threshold": "0",
            "threads": "1",
        }  # fmt: skip
        return Encoding("libx264", options, gop, bframes=0)
    if codec == "mpeg4":
        options = {"qmin": "1", "qmax": "1", "sc_threshold": "1000000000", "threads": "1"}
        return Encoding("mpeg4", options, gop, bframes=0)
    raise ConfigError(f"codec {codec!r} is not written here", "one of: h264, mpeg4")


def encode(
    path: str | os.PathLike[str],
    frames: Iterable[Pixels],
    rate: int,
    encoding: str | Encoding = "x264",
    *,
    times: Iterable[float] | None = None,
    sound: Waveform | None = None,
    sound_rate: int = 16000,
) -> int:
    """Encode frames into one MP4; it gets its name only when it is whole.

    Args:
        path: The file to write.
        frames: (H, W, 3) uint8 RGB, all of one even size; taken one by one.
        rate: Frames per second.
        encoding: A key of `ENCODINGS`, or one's own.
        times: Seconds of each frame, ascending; by the rate if None.
        sound: (N,) float32 in -1..1, coded as AAC; None for no sound track.
        sound_rate: Samples per second.

    Returns:
        How many frames were written.

    Raises:
        ConfigError: The encoding is unknown.
        MediaError: The file cannot be written, or the encoder is missing.
    """
    if isinstance(encoding, str):
        if encoding not in ENCODINGS:
            names = ", ".join(ENCODINGS)
            raise ConfigError(f"encoding {encoding!r} is unknown", f"one of: {names}")
        encoding = ENCODINGS[encoding]
    clock = _Clock(rate, times)
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        # The file object is ours, so no name is ever parsed by FFmpeg.
        with partial.open("wb") as file:
            count = _write(file, frames, clock, encoding, sound, sound_rate)
        os.replace(partial, target)
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{display_name(target)}: cannot be written ({reason})") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return count


def _write(
    file: Any,
    frames: Iterable[Pixels],
    clock: _Clock,
    encoding: Encoding,
    sound: Waveform | None,
    sound_rate: int,
) -> int:
    pictures = iter(frames)
    first = next(pictures, None)
    if first is None:
        raise MediaError("nothing to encode: no frames")
    count = 0
    # No "faststart": it would open the file a second time, by its name.
    with av.open(file, "w", format="mp4") as container:
        stream = _add_pictures(container, first.shape[1], first.shape[0], clock, encoding)
        blocks = None if sound is None else _add_sound(container, sound, sound_rate)
        for frame in _chain(first, pictures):
            count += 1
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = clock.next(), clock.base
            container.mux(stream.encode(picture))
            # Sound is muxed along with the pictures, so that a reader need not seek between them.
            while blocks is not None and blocks.due(clock.end):
                container.mux(blocks.next())
        container.mux(stream.encode(None))
        if blocks is not None:
            container.mux(blocks.rest())
    return count


def _chain(first: Pixels, rest: Iterator[Pixels]) -> Iterator[Pixels]:
    yield first
    yield from rest


def _add_pictures(
    container: Any, width: int, height: int, clock: _Clock, encoding: Encoding
) -> Any:
    options = dict(encoding.options)
    if encoding.codec == "libx264" and _has_avx512():
        # With AVX-512, x264's macroblock tree gives other bytes from run to run for the same
        # frames; without, the bytes are always the same ones.
        options["x264-params"] = "asm=avx2"
    try:
        stream = container.add_stream(encoding.codec, rate=clock.rate, options=options)
    except (av.error.FFmpegError, ValueError):
        raise MediaError(f"the encoder {encoding.codec} is not available") from None
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.time_base = clock.base
    if encoding.gop is not None:
        context.gop_size = encoding.gop
    if encoding.bframes is not None:
        context.max_b_frames = encoding.bframes
    return stream


def _has_avx512() -> bool:
    """Whether this processor has AVX-512; systems that do not say so count as without."""
    try:
        return "avx512" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


class _Clock:
    """Gives each picture its time in ticks: by a rate, or as its source said."""

    def __init__(self, rate: int, times: Iterable[float] | None) -> None:
        self.rate = rate
        self._times = None if times is None else iter(times)
        self.base = Fraction(1, rate if times is None else _TICKS)
        self._last = -1

    def next(self) -> int:
        """Ticks of the next picture; always later than the one before."""
        if self._times is None:
            self._last += 1
        else:
            seconds = next(self._times, None)
            if seconds is None:
                raise MediaError("fewer times than frames to encode")
            self._last = max(self._last + 1, round(seconds * _TICKS))
        return self._last

    @property
    def end(self) -> float:
        """Seconds at which the last picture ends, about."""
        return float(self._last * self.base) + 1 / self.rate


class _Sound:
    """A sound track that is encoded block by block."""

    def __init__(self, stream: Any, samples: Waveform, rate: int) -> None:
        self._stream, self._samples, self._rate = stream, samples, rate
        self._at = 0

    def due(self, seconds: float) -> bool:
        """Whether there is a block that starts before that time."""
        return self._at < min(len(self._samples), seconds * self._rate)

    def next(self) -> list[Any]:
        """Packets that the next block gives."""
        block = self._samples[self._at : self._at + _BLOCK].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._at
        self._at += _BLOCK
        return list(self._stream.encode(frame))

    def rest(self) -> list[Any]:
        """Packets of all that is left."""
        packets = []
        while self._at < len(self._samples):
            packets += self.next()
        return packets + list(self._stream.encode(None))


def _add_sound(container: Any, samples: Waveform, rate: int) -> _Sound:
    stream = container.add_stream("aac", rate=rate, layout="mono")
    stream.bit_rate = _SOUND_BITS
    return _Sound(stream, samples, rate)
