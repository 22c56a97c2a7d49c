"""Sound as float mono at a given rate, each sample at its time in the container."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np

from foveate.core import LimitError, MediaError
from foveate.media.container import Opened, choose_sound, choose_stream, open_container
from foveate.media.limits import Limits
from foveate.media.packets import RESTART_SECONDS, RESTARTING, Restarts
from foveate.media.source import Reader

if TYPE_CHECKING:
    from foveate.core.loop import Waveform

_LEAD_SECONDS = 0.5  # decoders need some packets before the target after a seek
_JITTER_SECONDS = 0.02  # a frame whose time is off by less goes on where the one before it ended
_WAITING = 4096  # packets of sound that may wait for the picture to start again

# How loud a channel is in the mix, before the sum is brought to one: the usual matrix (ITU-R
# BS.775), in which the low-frequency channel does not take part.
_WEIGHTS = {"FC": 1.0, "FL": 2**-0.5, "FR": 2**-0.5, "LFE": 0.0, "LFE2": 0.0}
_OTHERS = 0.5


@dataclass(frozen=True)
class SoundSpan:
    """A stretch of sound.

    Attributes:
        origin: Container time in seconds that counts as zero (the first picture).
        start: Seconds from `origin`.
        end: Seconds from `origin`, None for the end of the track.
        may_seek: False where times start again, so that a seek by time may land anywhere.
    """

    origin: float
    start: float
    end: float | None
    may_seek: bool = True


def decode_audio(
    open_reader: Callable[[], Reader], limits: Limits, span: SoundSpan, rate: int
) -> tuple[Waveform, int]:
    """Decode, mix and resample one stretch of the sound track.

    The mix is a mean of the channels, so that the same tone in all of them is as loud as in one.

    Args:
        open_reader: Opens the source from its start.
        limits: Bounds on work.
        span: What to decode.
        rate: Samples per second of the answer.

    Returns:
        (N,) float32 in -1..1, silence where the track has none, and the bytes read.

    Raises:
        MediaError: No sound track, or one that cannot be decoded.
        LimitError: The answer would exceed `limits.clip_bytes`.
    """
    start, end = span.start, span.end
    if rate <= 0 or start < 0 or (end is not None and end < start):
        raise ValueError("rate must be positive and 0 <= start <= end")
    reader, container = open_container(open_reader, limits)
    try:
        stream = choose_sound(container)
        if stream is None:
            raise MediaError(f"{reader.label}: no sound track")
        if stream.codec_context is None:
            raise MediaError(f"{reader.label}: unknown sound codec, nothing here can decode it")
        most = limits.clip_bytes // 4
        if end is not None and (end - start) * rate > most:
            raise LimitError(f"{reader.label}: {end - start:g} seconds of sound in one piece")
        if span.may_seek and start > _LEAD_SECONDS:
            ticks = int((span.origin + start - _LEAD_SECONDS) / float(stream.time_base))
            with suppress(av.error.FFmpegError, OverflowError):  # decode from the start instead
                container.seek(max(ticks, stream.start_time or 0), stream=stream)
        opened = Opened(reader, container, (choose_stream(container) or (None,))[0])
        pieces: list[tuple[float, Waveform]] = []
        count = 0
        follows = (container.format.name in RESTARTING and start <= 0) or not span.may_seek
        for at, samples in _pieces(_frames(opened, stream, follows), span, rate):
            pieces.append((at, samples))
            count += len(samples)
            if count > most:
                raise LimitError(f"{reader.label}: more than {most} samples of sound in one piece")
        return _assemble(pieces, start, end, rate), reader.bytes
    finally:
        container.close()
        reader.close()


def _pieces(
    frames: Iterator[tuple[Any, float | None]], span: SoundSpan, rate: int
) -> Iterator[tuple[float, Waveform]]:
    """Resampled mono pieces with their times in seconds from the origin."""
    resample = _Resampler(rate)
    begin = length = 0.0  # of the run of frames that follow one another
    count, started = 0, False  # samples given of it
    for frame, seconds in frames:
        at = begin + length if seconds is None else seconds - span.origin
        if span.end is not None and at >= span.end:
            break
        if not started or abs(at - begin - length) > _JITTER_SECONDS:
            for samples in resample(None) if started else ():
                yield begin + count / rate, samples
                count += len(samples)
            begin, length, count, started = at, 0.0, 0, True
        length += frame.samples / frame.sample_rate
        for samples in resample(frame):
            yield begin + count / rate, samples
            count += len(samples)
    for samples in resample(None) if started else ():
        yield begin + count / rate, samples
        count += len(samples)


class _Resampler:
    """To float mono at one rate, even where the sound changes rate, layout or format midway.

    Args:
        rate: Samples per second of the answer.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._begin()

    def _begin(self) -> None:
        # Interleaved: PyAV reads beyond the planes of frames with eight of them and more.
        self._inner = av.AudioResampler(format="flt", rate=self._rate)

    def __call__(self, frame: Any) -> list[Waveform]:
        """Pieces (N,) float32 that a frame gives; None gives what is left and begins anew."""
        done = self._pieces(frame)
        if frame is None:
            self._begin()
            return done or []
        if done is not None:
            return done
        rest = self._pieces(None) or []
        self._begin()
        return rest + (self._pieces(frame) or [])

    def _pieces(self, frame: Any) -> list[Waveform] | None:
        """None where the frame is of another kind than those before, or damaged beyond use."""
        try:
            outs = self._inner.resample(frame)
        except (av.error.FFmpegError, ValueError):
            return None
        return [_mono(out) for out in outs]


def _mono(frame: Any) -> Waveform:
    """The weighted mean of the channels of an interleaved float frame, (N,) in -1..1."""
    names = [channel.name for channel in frame.layout.channels]
    data = np.asarray(frame.to_ndarray(), np.float32).reshape(-1, max(1, frame.layout.nb_channels))
    if data.shape[1] > 1:
        weights = np.array([_WEIGHTS.get(name, _OTHERS) for name in names], np.float32)
        if len(weights) != data.shape[1] or not weights.any():
            weights = np.ones(data.shape[1], np.float32)
        data = data @ (weights / weights.sum())[:, None]
    return np.asarray(np.clip(data[:, 0], -1.0, 1.0), np.float32)


def _frames(opened: Opened, stream: Any, follows: bool) -> Iterator[tuple[Any, float | None]]:
    """Sound frames and their container times, damaged packets passed over.

    Where times start again (joined recordings), they are moved as those of the picture are; it has
    to be announced with `may_seek`, since then the packets of the picture are read too.
    """
    clock = Restarts(opened) if follows and opened.stream is not None else None
    wanted = [stream] if clock is None else [stream, opened.stream]
    base = float(stream.time_base)
    back = int(RESTART_SECONDS / stream.time_base)
    runs, last = 0, None
    waiting: list[Any] = []

    def decoded(packets: list[Any]) -> Iterator[tuple[Any, float | None]]:
        offsets = [0.0] if clock is None else clock.offsets
        offset = offsets[min(runs, len(offsets) - 1)]
        for packet in packets:
            with suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    yield frame, None if frame.pts is None else frame.pts * base + offset

    with suppress(av.error.FFmpegError):
        for packet in opened.container.demux(wanted):
            if packet.stream_index != stream.index:
                if clock is not None and packet.size:
                    clock.follow(packet)
            else:
                dts = packet.dts
                if dts is not None and last is not None:
                    # Unless it goes on, sound behind a picture that started again did so too.
                    follows_on = 0 <= dts - last <= back
                    begun = 0 if clock is None or follows_on else len(clock.offsets) - 1
                    if dts < last - back or begun > runs:
                        yield from decoded(waiting)
                        waiting, runs = [], max(runs + 1, begun)
                last = last if dts is None else dts
                waiting.append(packet)
            # A restart of the sound may lie before that of the picture.
            if clock is None or runs < len(clock.offsets) or len(waiting) > _WAITING:
                yield from decoded(waiting)
                waiting = []
    yield from decoded(waiting)


def _assemble(
    pieces: list[tuple[float, Waveform]], start: float, end: float | None, rate: int
) -> Waveform:
    """Lay the pieces on one time line from `start`; silence where there is none."""
    last = max((at + len(data) / rate for at, data in pieces), default=start)
    length = max(0, round(((last if end is None else end) - start) * rate))
    out = np.zeros(length, np.float32)
    for at, data in pieces:
        left = round((at - start) * rate)
        skip = max(0, -left)
        data = data[skip : skip + max(0, length - max(left, 0))]
        if len(data):
            out[max(left, 0) : max(left, 0) + len(data)] = data
    return out
