"""`Video`: a lazy source over one media file; satisfies `core.Sample`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from foveate.core import Clip, LimitError, MediaError, Meter, SampleInfo
from foveate.media import index as indexing
from foveate.media.audio import decode_audio
from foveate.media.container import VECTOR_CODECS, geometry
from foveate.media.convert import Converter, clockwise
from foveate.media.decode import Cursor
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import Source, name_of, opener

if TYPE_CHECKING:
    from foveate.core.loop import Waveform


class Video:
    """A media file whose frames, key frames and sound are decoded only when asked for.

    Times are seconds from the first frame. Frames come upright, with square pixels, as uint8 RGB.
    Use it as a context manager, or call `close`.

    Attributes:
        meter: Frames decoded, packets fed and bytes read so far.
        warnings: Damage met so far, each said once.
    """

    def __init__(self, source: Source, *, limits: Limits = DEFAULT_LIMITS, threads: int = 1):
        """Open a source; only headers are read.

        Args:
            source: A path, the bytes of a file, or an open binary file.
            limits: Bounds on work.
            threads: Slice threads of the decoder.

        Raises:
            MediaError: The source is no video that can be opened.
            LimitError: It claims more than `limits` allow.
        """
        self.name = name_of(source)
        self.meter = Meter()
        self.warnings: list[str] = []
        self._limits = limits
        self._open_reader = opener(source, limits)
        self._index: indexing.Index | None = None
        self._cursor = Cursor(
            self._open_reader, limits, threads, self.meter, self._find_index, self._warn
        )
        self._geometry = geometry(self._cursor.stream, self._rotation())
        self._convert = Converter(self._geometry)
        self._cache: dict[tuple[int, tuple[int, int] | None], Any] = {}

    def close(self) -> None:
        """Release decoder and file; safe to call twice."""
        self._cache.clear()
        self._cursor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def info(self) -> SampleInfo:
        """Size, length and rate as far as they are known without a full pass."""
        stream = self._cursor.stream
        width, height = self._geometry.upright
        codec = stream.codec_context.name
        index = self._index or indexing.from_entries(stream, self._cursor.origin)
        rate = stream.average_rate or stream.guessed_rate
        return SampleInfo(
            name=self.name,
            width=width,
            height=height,
            duration=self._duration(),
            rate=float(rate) if rate else None,
            frames=index.frames if index else (stream.frames or None),
            codec=codec,
            rotation=self._geometry.rotation,
            has_audio=bool(stream.container.streams.audio),
            has_vectors=codec in VECTOR_CODECS,
        )

    def keyframes(self) -> tuple[float, ...]:
        """Times of the key frames in seconds; packets are read, nothing is decoded."""
        if not self._cursor.has_times:
            return (0.0,)
        index = self._find_index()
        if index is None:
            return ()
        if not index.exact:
            index.keys, read = indexing.exact_keys(self._open_reader, self._limits, index.keys)
            index.exact = True
            self.meter.bytes += read
        return tuple(self._seconds(key) for key in index.keys if key >= self._cursor.origin)

    def frames(self, times: Sequence[float], size: tuple[int, int] | None = None) -> Clip:
        """The frames shown at those times.

        Args:
            times: Seconds from the first frame, ascending.
            size: `(width, height)` to scale to, None for the upright size of the source.

        Returns:
            (T, H, W, 3) uint8 and the true times of the frames. T is smaller than `len(times)`
            where nothing is shown: past the end, inside a gap, or where decoding failed.

        Raises:
            ValueError: The times are not ascending, or the size is not positive.
            LimitError: The clip would exceed `limits.clip_bytes`.
        """
        width, height = size or self._geometry.upright
        if any(b < a for a, b in zip(times, times[1:], strict=False)):
            raise ValueError("times must be ascending")
        if width <= 0 or height <= 0:
            raise ValueError(f"size must be positive, not {width}x{height}")
        self._check_bytes(len(times) * width * height * 3)
        ticks = [self._tick(seconds) for seconds in times]
        shown, pixels = [], []
        for tick, frame in self._cursor.at(ticks):
            shown.append(self._seconds(tick))
            pixels.append(self._pixels(tick, frame, size))
        data = np.stack(pixels) if pixels else np.empty((0, height, width, 3), np.uint8)
        return Clip(data, tuple(shown))

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after` seconds; None at the end."""
        tick = self._cursor.next_tick(self._tick(after))
        return None if tick is None else self._seconds(tick)

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """Sound of that stretch as float mono.

        Args:
            start: Seconds from the first frame.
            end: Seconds from the first frame, None for the end of the sound track.
            rate: Samples per second of the answer.

        Returns:
            (N,) float32 in -1..1; silence where the sound track has none.

        Raises:
            MediaError: There is no sound track, or none that can be decoded.
        """
        origin = float(self._cursor.origin * self._cursor.time_base)
        if not self._cursor.has_times:
            origin = 0.0
        samples, read = decode_audio(self._open_reader, self._limits, origin, start, end, rate)
        self.meter.bytes += read
        return samples

    def packet_index(self) -> indexing.Index:
        """Every packet's share in the index, by one pass over the packet headers."""
        if self._index is None or self._index.end is None:
            self._index, read = indexing.scan(self._open_reader, self._limits)
            self.meter.bytes += read
        return self._index

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the index."""
        return self._cursor.time_base

    def _find_index(self) -> indexing.Index | None:
        if self._index is None:
            self._index = indexing.from_entries(self._cursor.stream, self._cursor.origin)
        if self._index is None:
            self._index, read = indexing.scan(self._open_reader, self._limits)
            self.meter.bytes += read
        return self._index if self._index.keys else None

    def _pixels(self, tick: int, frame: Any, size: tuple[int, int] | None) -> Any:
        """Convert a frame once even if several times show it."""
        key = (tick, size)
        if key not in self._cache:
            self._cache = {key: self._convert(frame, size)}
        return self._cache[key]

    def _rotation(self) -> int:
        """Clockwise degrees from the display matrix, read from the first decoded frame."""
        for _, frame in self._cursor.at([self._cursor.origin if self._cursor.has_times else 0]):
            return clockwise(frame.rotation)
        if self._cursor.next_tick(-1) is None:
            raise MediaError(f"{self.name}: no frame could be decoded")
        return 0

    def _duration(self) -> float | None:
        index, cursor = self._index, self._cursor
        if index is not None and index.end is not None and cursor.has_times:
            return self._seconds(index.end)
        stream = cursor.stream
        if stream.duration and cursor.has_times and stream.time_base:
            return float(stream.duration * stream.time_base)
        container = stream.container
        return container.duration / 1e6 if container.duration else None

    def _tick(self, seconds: float) -> int:
        # A hundredth of a tick forgives the rounding of times that were ticks once.
        tick = int(seconds / float(self._cursor.time_base) + 0.01)
        return tick + (self._cursor.origin if self._cursor.has_times else 0)

    def _seconds(self, tick: int) -> float:
        origin = self._cursor.origin if self._cursor.has_times else 0
        return float((tick - origin) * self._cursor.time_base)

    def _check_bytes(self, count: int) -> None:
        if count > self._limits.clip_bytes:
            raise LimitError(
                f"{self.name}: {count} bytes of frames in one piece, "
                f"the limit is {self._limits.clip_bytes}",
                "ask for fewer times or a smaller size",
            )

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)
