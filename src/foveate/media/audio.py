"""Sound as float mono at a given rate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import av
import av.error
import numpy as np

from foveate.core import LimitError, MediaError
from foveate.media.container import open_container
from foveate.media.limits import Limits
from foveate.media.source import Reader

if TYPE_CHECKING:
    from foveate.core.loop import Waveform

_LEAD_SECONDS = 0.5  # decoders need a little run-up after a seek


def decode_audio(
    open_reader: Callable[[], Reader],
    limits: Limits,
    origin: float,
    start: float,
    end: float | None,
    rate: int,
) -> tuple[Waveform, int]:
    """Decode and resample one stretch of the first sound track.

    Args:
        open_reader: Opens the source from its start.
        limits: Bounds on work.
        origin: Container time in seconds that counts as zero (the first picture).
        start: Seconds from `origin`.
        end: Seconds from `origin`, None for the end of the track.
        rate: Samples per second of the answer.

    Returns:
        (N,) float32 in -1..1 and the bytes read.

    Raises:
        MediaError: No sound track, or one that cannot be decoded.
        LimitError: The answer would exceed `limits.clip_bytes`.
    """
    if rate <= 0 or start < 0 or (end is not None and end < start):
        raise ValueError("rate must be positive and 0 <= start <= end")
    reader, container = open_container(open_reader, limits)
    try:
        if not container.streams.audio:
            raise MediaError(f"{reader.label}: no sound track")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise MediaError(f"{reader.label}: unknown sound codec, nothing here can decode it")
        most = limits.clip_bytes // 4
        if end is not None and (end - start) * rate > most:
            raise LimitError(f"{reader.label}: {end - start:g} seconds of sound in one piece")
        pieces = _pieces(container, stream, reader.label, origin, start, end, rate, most)
        return _assemble(pieces, start, end, rate), reader.bytes
    finally:
        container.close()
        reader.close()


def _pieces(
    container: Any,
    stream: Any,
    name: str,
    origin: float,
    start: float,
    end: float | None,
    rate: int,
    most: int,
) -> list[tuple[float, Waveform]]:
    """Resampled pieces with their times in seconds from `origin`."""
    if start > _LEAD_SECONDS:
        ticks = int((origin + start - _LEAD_SECONDS) / float(stream.time_base))
        with suppress(av.error.FFmpegError, OverflowError):  # decode from the start instead
            container.seek(max(ticks, stream.start_time or 0), stream=stream)
    resample = _Resampler(rate)
    pieces: list[tuple[float, Waveform]] = []
    first: float | None = None
    held = 0
    for frame in _frames(container, stream):
        if first is None:
            first = (frame.time or 0.0) - origin
        if end is not None and frame.time is not None and frame.time - origin >= end:
            break
        for samples in resample(frame):
            pieces.append((first + held / rate, samples))
            held += len(samples)
        if held > most:
            raise LimitError(f"{name}: more than {most} samples of sound in one piece")
    if first is not None:
        for samples in resample(None):
            pieces.append((first + held / rate, samples))
            held += len(samples)
    return pieces


class _Resampler:
    """To float mono at one rate, even where the sound changes rate, layout or format midway.

    Args:
        rate: Samples per second of the answer.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._begin()

    def _begin(self) -> None:
        self._inner = av.AudioResampler(format="flt", layout="mono", rate=self._rate)

    def __call__(self, frame: Any) -> list[Waveform]:
        """Pieces (N,) float32 that a frame gives; None gives what is left."""
        done = self._pieces(frame)
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
        return [np.asarray(out.to_ndarray(), np.float32).reshape(-1) for out in outs]


def _frames(container: Any, stream: Any) -> Any:
    """Sound frames, damaged packets passed over."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                continue
    except av.error.FFmpegError:
        return


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
