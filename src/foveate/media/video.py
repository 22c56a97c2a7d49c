"""`Video`: a lazy source over one media file; satisfies `core.Sample`."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import av.error
import numpy as np

from foveate.core import (
    Clip,
    Group,
    GroupPicture,
    LimitError,
    MediaError,
    Meter,
    Motion,
    Sample,
    SampleInfo,
)
from foveate.media import index as indexing
from foveate.media.audio import SoundSpan, decode_audio
from foveate.media.container import (
    VECTOR_CODECS,
    FormatError,
    check_size,
    claimed_seconds,
    codec_name,
    frame_rate,
    geometry,
    open_video,
    sound_span,
)
from foveate.media.convert import Converter, orientation
from foveate.media.decode import Cursor
from foveate.media.decoding import EXACT, Decoding
from foveate.media.frame_cache import FrameCache
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.motion import check, near_fields, vector_motion
from foveate.media.packets import MOST_SECONDS, RESTARTING
from foveate.media.pairs import PairMotion, filmed_motion, small_size
from foveate.media.source import Source, name_of, opener, rereadable
from foveate.media.vectors.grid import VectorField
from foveate.media.vectors.reader import VectorReader

if TYPE_CHECKING:
    from foveate.core.loop import Box, Pixels, Waveform

_THUMB = 48  # pixels of the shorter side of the small pictures beside windows


class Video:
    """A media file whose frames, key frames and sound are decoded only when asked for.

    Times are seconds from the first frame. Frames come upright, with square pixels, as uint8 RGB.
    Use it as a context manager, or call `close`.

    Attributes:
        meter: Frames decoded, packets fed and bytes read so far.
        warnings: Warnings so far, each given once.
        geometry: Size, pixel shape and orientation of the coded picture.
    """

    def __init__(
        self,
        source: Source,
        *,
        limits: Limits = DEFAULT_LIMITS,
        decoding: Decoding = EXACT,
        vectors: bool = False,
    ) -> None:
        """Open a source; only headers are read.

        Args:
            source: A path, the bytes of a file, or an open binary file.
            limits: Bounds on work.
            decoding: Settings of the decoder; times and sizes stay the same.
            vectors: Whether motion vectors will be asked for first: then the file is opened once.

        Raises:
            MediaError: The source is no video that can be opened.
            LimitError: It claims more than `limits` allow.
        """
        self.name = name_of(source)
        self.meter = Meter()
        self.warnings: list[str] = []
        self._limits, self._decoding = limits, decoding
        self._source = source = rereadable(source, limits)
        self._open_reader = opener(source, limits)
        self._open_again = partial(open_video, self._open_reader, limits, self._warn)
        self._index: indexing.Index | None = None
        self._last_info: SampleInfo | None = None
        self._own_index_known = False
        self._times: tuple[float, ...] | None = None
        self._end: int | None = None  # of the picture, where it had to be looked for
        self._make_cursor = partial(
            Cursor, self._open_reader, limits, self.meter, self._find_index, self._warn, decoding
        )
        self._cursor = self._make_cursor(
            vectors=vectors and decoding.threads == 1 and not decoding.lowres
        )
        try:
            turned = self._orientation()  # may open the file anew, where times are in disorder
            self.geometry = geometry(self._cursor.stream, *turned)
            if decoding.lowres:
                width, height = self._cursor.decoder.coded_size
                self.geometry = replace(self.geometry, width=width, height=height)
        except BaseException:
            self._cursor.close()
            raise
        shape = self._cursor.decoder.pixel_shape
        self._convert = Converter(self.geometry, shape, decoding.lowres)
        self._cache: dict[tuple[int, tuple[int, int] | None], Any] = {}
        self._recent = FrameCache()
        self._vectors: VectorReader | None = None
        self._no_vectors: str | None = None
        self._compressed: Any = None

    def close(self) -> None:
        """Release decoder and file; safe to call twice."""
        if self._last_info is None:
            self._last_info = self._describe(self._known_duration())
        self._cache.clear()
        self._recent.clear()
        if self._vectors is not None:
            self._vectors.close()
        if self._compressed is not None:
            self._compressed.close()
        self._cursor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def info(self) -> SampleInfo:
        """Size, length of the picture and rate as far as known without a full pass."""
        return self._last_info or self._describe(self._duration())

    def _describe(self, duration: float | None) -> SampleInfo:
        stream = self._cursor.stream
        width, height = self.geometry.upright
        codec = codec_name(stream)
        self._use_own_index()
        cursor = self._cursor
        rate = 1 / cursor.time_base if cursor.numbers else frame_rate(stream)
        return SampleInfo(
            name=self.name,
            width=width,
            height=height,
            duration=duration,
            rate=float(rate) if rate else None,
            frames=(self._index.frames if self._index else stream.frames) or None,
            codec=codec,
            rotation=self.geometry.rotation,
            has_audio=bool(stream.container.streams.audio),
            sound=sound_span(stream.container, self._origin_seconds),
            has_vectors=codec in VECTOR_CODECS,
            has_windows=True,
        )

    def keyframes(self) -> tuple[float, ...]:
        """Times of the key frames in seconds; packets are read, nothing is decoded."""
        if not self._cursor.has_times:
            return (0.0,)
        index = self._find_index()
        if index is None:
            return ()
        if not index.exact:
            index = indexing.exact(self._open_again, self._limits, self.meter, index)
            self._index = index
        keys = sorted({key for key in index.keys if key >= self._cursor.origin})
        return tuple(self._seconds(key) for key in keys)

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
        boxes: Sequence[Box] | None = None,
    ) -> Clip:
        """The frames shown at those times, or windows of them.

        Args:
            times: Seconds from the first frame, ascending.
            size: `(width, height)` to scale to, None for the upright size of the source.
            keep: Cache what is decoded, so that asking for it again decodes nothing. If these are
                times, the frames at them are cached, too, where decoding passes them on its way.
            boxes: For each time a window, `xyxy` in pixels of the upright source and inside of it,
                that is cut out before it is scaled and converted; `size` is then a square.

        Returns:
            (T, H, W, 3) uint8 and the true times of the frames. T is smaller than `len(times)`
            where nothing is shown: past the end, inside a gap, or where decoding failed. With boxes
            it has small pictures of the whole frames, too.

        Raises:
            ValueError: The times are not ascending or not finite, the size is not positive, or
                the boxes do not fit the times, the source and the size.
            LimitError: The clip would exceed `limits.clip_bytes`.
        """
        width, height = size or self.geometry.upright
        if any(b < a for a, b in pairwise(times)) or not all(map(math.isfinite, times)):
            raise ValueError("times must be ascending and finite")
        if width <= 0 or height <= 0:
            raise ValueError(f"size must be positive, not {width}x{height}")
        self._check_bytes(len(times) * width * height * 3)
        if boxes is not None:
            self._check_boxes(boxes, len(times), (width, height))
        ticks = [self._tick(seconds) for seconds in times]
        data = np.empty((len(ticks), height, width, 3), np.uint8)
        cut: list[tuple[Pixels, Pixels]] = []
        thumbs: list[Pixels] = []
        shown: list[float] = []
        others = [] if isinstance(keep, bool) else [self._tick(seconds) for seconds in keep]
        passed = self._passed(ticks, others) if others else []
        rows = [(tick, row) for row, tick in enumerate(ticks)]
        order = sorted(rows + [(tick, -1) for tick in passed])
        if keep:
            self._recent.retain([*ticks, *others])
        decoded = self._recent.first([tick for tick, _ in order], self._cursor.at)
        for (asked, row), found in zip(order, decoded, strict=True):
            if found is None:
                continue
            tick, frame = found
            if keep:
                self._recent.keep(asked, found)
            if row < 0:
                continue
            try:
                if boxes is None:
                    data[len(shown)] = self._pixels(tick, frame, size)
                else:
                    if not cut:  # all windows of a frame at once
                        same = boxes[row : bisect_right(ticks, asked)]
                        cut = self._windows(frame, same, width)
                    data[len(shown)], thumb = cut.pop(0)
                    thumbs.append(thumb)
            except (av.error.FFmpegError, ValueError) as error:
                self._warn(f"a frame could not be converted ({type(error).__name__})")
                continue
            shown.append(self._seconds(tick))
        small = None if boxes is None else np.array(thumbs, np.uint8)
        return Clip(data[: len(shown)], tuple(shown), small)

    def _check_boxes(self, boxes: Sequence[Box], count: int, size: tuple[int, int]) -> None:
        if len(boxes) != count or size[0] != size[1]:
            raise ValueError(f"{len(boxes)} boxes of {size[0]}x{size[1]} pixels for {count} times")
        wide, high = self.geometry.upright
        for x1, y1, x2, y2 in boxes:
            if not (-1 < x1 < x2 < wide + 1 and -1 < y1 < y2 < high + 1):
                raise ValueError(f"a box {(x1, y1, x2, y2)} that is not inside {wide}x{high}")

    def _passed(self, asked: Sequence[int], others: Iterable[int]) -> list[int]:
        """Those of some other ticks that are decoded on the way from a key frame to one asked."""
        index = self._find_index(scan=False)
        if index is None:
            return []
        last: dict[int, int] = {}  # place of a key frame → the last tick that is decoded from it
        for tick in asked:
            last[index.position(tick)] = tick
        free = set(others) - set(asked)
        return sorted(tick for tick in free if tick < last.get(index.position(tick), -1))

    def motion(
        self,
        times: Sequence[float],
        source: str = "auto",
        around: int = 2,
        *,
        every: bool = True,
        single: bool = False,
    ) -> Motion:
        """How things move at those times; see `core.Sample.motion`.

        Raises:
            ValueError: The times do not ascend, or the source is not known.
            MediaError: Vectors were asked for and there are none.
        """
        check(times, source, around)
        self._recent.clear()
        if source in ("auto", "vectors"):
            try:
                return self._vector_motion(times, around, every, single)
            except MediaError as error:
                if source == "vectors":
                    raise
                self._no_vectors = error.cause.removeprefix(f"{self.name}: ")
                self._warn(f"optical flow instead of motion vectors: {self._no_vectors}")
        return self._pair_motion(times, source != "grey", self._no_vectors)

    def times(self) -> tuple[float, ...]:
        """True times of all frames in seconds, by one pass over the packets.

        Nothing is decoded, except where a stream has no times and its frames must be counted.

        Raises:
            LimitError: There are more frames than `limits.samples`.
        """
        if self._times is None:
            ticks = self.packet_index().ticks if self._cursor.has_times else None
            shown = self._count() if ticks is None else ticks.tolist()
            self._times = tuple(self._seconds(t) for t in shown if t >= self._cursor.origin)
        return self._times

    def _count(self) -> list[int]:
        """Numbers of the frames of a stream without times, by decoding it."""
        cursor, found = self._make_cursor(), list[int]()
        try:
            tick = cursor.next_tick(cursor.origin - 1)
            while tick is not None:
                found.append(tick)
                if len(found) > self._limits.samples:
                    raise LimitError(
                        f"{self.name}: more than {self._limits.samples} frames",
                        "raise limits.samples if you trust the file",
                    )
                tick = cursor.next_tick(tick)
        finally:
            cursor.close()
        return found

    def frames_at(self, numbers: Sequence[int], size: tuple[int, int] | None = None) -> Clip:
        """Frames by their number, ascending from 0; see `frames`.

        Raises:
            IndexError: There is no frame of that number.
        """
        index, ticks = self._find_index(scan=False), list[int]()
        # An index of the container counts all frames: those of other groups need not be read. It
        # does not where the first ones cannot be decoded.
        whole = self._times is None and self._cursor.origin == self._cursor.first
        if index is not None and whole and all(0 <= n < index.frames for n in numbers):
            ticks = indexing.display_ticks(self._open_again, self.meter, index, numbers)
        if len(ticks) == len(numbers):
            return self.frames([self._seconds(tick) for tick in ticks], size)
        times = self.times()
        if any(not 0 <= number < len(times) for number in numbers):
            raise IndexError(f"{self.name}: frames are numbered from 0 to {len(times) - 1}")
        return self.frames([times[number] for number in numbers], size)

    def frames_in_range(
        self,
        start: float = 0.0,
        end: float | None = None,
        *,
        rate: float,
        size: tuple[int, int] | None = None,
    ) -> Clip:
        """The frames shown at an even rate from `start` to before `end`; see `frames`.

        Args:
            start: Seconds from the first frame.
            end: Seconds from the first frame; None for the end of the last one.
            rate: Frames per second.
            size: As for `frames`.
        """
        if end is None:
            # The length in the header is not exact enough; the end of the last frame is.
            last = self.times()[-1]
            end = max(last + 1e-6, self._duration() or 0.0)
        if not rate > 0 or not math.isfinite(start + end):
            raise ValueError("rate must be positive, start and end finite")
        count = max(0, math.ceil((end - start) * rate - 1e-6))
        width, height = size or self.geometry.upright
        self._check_bytes(count * width * height * 3)
        return self.frames([start + i / rate for i in range(count)], size)

    def next_time(self, after: float) -> float | None:
        """Time of the first frame later than `after` seconds; None at the end."""
        tick = self._next_tick(self._tick(after))
        while tick is not None and self._seconds(tick) <= after:
            # Damaged times can be so large that neighbours are the same in floating point.
            tick = self._next_tick(tick)
        return None if tick is None else self._seconds(tick)

    def _next_tick(self, after: int) -> int | None:
        if self._vectors is not None and self._cursor.is_lent and after >= self._cursor.origin:
            certain, tick = self._vectors.next_tick(after)
            if certain:
                return tick
        return self._cursor.next_tick(after)

    def groups(self) -> tuple[Group, ...]:
        """The groups of pictures, found by one pass over the packets; see `core.Sample.groups`."""
        groups: tuple[Group, ...] = self._by_group().groups
        return groups

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> Iterator[GroupPicture]:
        """Key frames, accumulated vectors or residuals; see `core.Sample.pictures`.

        Raises:
            MediaError: The codec exports no motion vectors.
        """
        found: Iterator[GroupPicture] = self._by_group().pictures(kind, places)
        return found

    def _by_group(self) -> Any:
        if self._compressed is None:
            from foveate.media.compressed import CompressedVideo

            self._compressed = CompressedVideo(
                self._source, limits=self._limits, meter=self.meter, warn=self._warn
            )
        return self._compressed

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
        cursor, origin = self._cursor, self._origin_seconds
        joins = start > 0 and cursor.stream.container.format.name in RESTARTING
        seeks = not (joins and self.packet_index().restarts)  # else times may be there twice
        span = SoundSpan(origin, start, end, seeks)
        samples, read = decode_audio(self._open_reader, self._limits, span, rate)
        self.meter.bytes += read
        return samples

    def packet_index(self) -> indexing.Index:
        """Every packet's share in the index, by one pass over the packet headers."""
        if self._index is None or self._index.ticks is None:
            self._index = indexing.scan(self._open_again, self._limits, self.meter)
        return self._index

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the index."""
        return self._cursor.time_base

    def _pair_motion(self, times: Sequence[float], flow: bool, reason: str | None) -> Motion:
        """Flow, or grey pictures alone, between each frame and the one shown after it."""
        rate = self.info.rate or 25.0
        pairs = PairMotion(self.geometry.upright, len(times), self.meter, flow)
        filmed_motion(self._cursor, self._pixels, self._recent.keep, pairs, self._tick, times, rate)
        return pairs.motion(reason)

    def _vector_motion(
        self, times: Sequence[float], around: int, every: bool, single: bool
    ) -> Motion:
        """Codec vectors around each time; the reader is opened, and asked for proof, once."""
        if self._no_vectors is not None:
            raise MediaError(f"{self.name}: {self._no_vectors}")
        if self._vectors is None:
            reader = VectorReader(
                self._open_reader,
                limits=self._limits,
                meter=self.meter,
                warn=self._warn,
                find_index=self._find_index,
                decoding=self._decoding,
                lent=self._cursor.lend(),
            )
            try:
                reader.check()
            except MediaError as error:
                self._no_vectors = error.cause.removeprefix(f"{self.name}: ")
                reader.close()
                raise
            self._vectors = reader
        reader = self._vectors
        near = near_fields(reader, times, around, self.info.rate or 25.0, every)

        def keep(asked: float, shown: VectorField | None) -> None:
            if shown is not None:
                self._recent.keep(self._tick(asked), (self._tick(shown.time), shown.frame))
            elif reader.end is not None and asked >= reader.end:
                self._recent.keep(self._tick(asked), None)

        return vector_motion(near, times, around, self._convert, keep, single)

    def _use_own_index(self) -> None:
        """Take the index that the container carries; looking for one may cost a pass over it."""
        if self._index is None and not self._own_index_known:
            self._own_index_known = True
            self._index = self._cursor.index()

    def _find_index(self, scan: bool = True) -> indexing.Index | None:
        self._use_own_index()
        if self._index is not None and self._index.partial and self._cursor.moved:
            # Times after a seek would not be those of a full pass.
            self._index = indexing.scan(self._open_again, self._limits, self.meter)
        if self._index is None and scan:
            self._index = indexing.find(self._open_again, self._limits, self.meter)
        return self._index if self._index is not None and self._index.keys else None

    def _pixels(self, tick: int, frame: Any, size: tuple[int, int] | None) -> Any:
        """Convert a frame once even if several times show it."""
        key = (tick, size)
        if key not in self._cache:
            self._cache = {key: self._convert(frame, size, self._cursor.decoder.pixel_shape)}
            self._warn_of_change()
        return self._cache[key]

    def _windows(self, frame: Any, boxes: Sequence[Box], side: int) -> list[tuple[Pixels, Pixels]]:
        """Windows of a frame, each with a small picture of the whole frame."""
        shape = self._cursor.decoder.pixel_shape
        found = self._convert.windows(frame, boxes, side, shape)
        thumb = self._convert.thumb(frame, small_size(*self.geometry.upright, _THUMB), shape)
        self._warn_of_change()
        return [(pixels, thumb) for pixels in found]

    def _warn_of_change(self) -> None:
        if self._convert.changed:
            self._warn("the picture changes its size or shape midway: it is fitted in")

    def _orientation(self) -> tuple[int, bool]:
        """Rotation and mirroring of the display matrix, read from the first decoded frame."""
        if (first := self._cursor.find_first()) is None:
            error = FormatError(f"{self.name}: no frame could be decoded")
            check_size(self._open_reader, self._limits, error)
            raise error
        cursor = self._cursor
        if self._decoding.lowres and (first.width, first.height) == cursor.decoder.coded_size:
            self._warn(f"decode.lowres: {codec_name(cursor.stream)} is decoded at full size only")
        return orientation(first)

    def _duration(self) -> float | None:
        """Seconds of the picture; its last packets are looked at where nothing else tells."""
        if self._cursor.has_times and self._cursor.stream.container.format.name in RESTARTING:
            self.packet_index()  # joined recordings claim the length of one of them
        known = self._known_duration()
        if known is not None or len(self._cursor.stream.container.streams) == 1:
            return known
        # The container states the length of its longest stream.
        end = indexing.picture_end(self._open_again, self.meter)
        self._end = self.packet_index().end if end is None else end
        return self._known_duration()

    def _known_duration(self) -> float | None:
        index, cursor = self._index, self._cursor
        if cursor.end is not None:
            return self._seconds(cursor.end)
        if index is not None and index.end is not None and cursor.has_times:
            return self._seconds(index.end)
        if self._end is not None:
            return self._seconds(self._end)
        seconds = claimed_seconds(cursor.stream, cursor.numbers)
        return None if seconds is None or seconds > MOST_SECONDS else seconds

    @property
    def _origin_seconds(self) -> float:
        """Container time of the first frame."""
        cursor = self._cursor
        return 0.0 if cursor.numbers else float(cursor.origin * cursor.time_base)

    def _tick(self, seconds: float) -> int:
        # A fraction of a tick allows for rounding of times that were ticks before.
        tick = math.floor(seconds / float(self._cursor.time_base) + 1e-4)
        return tick + self._cursor.origin

    def _seconds(self, tick: int) -> float:
        return float((tick - self._cursor.origin) * self._cursor.time_base)

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


def every_frame(
    video: Sample, size: tuple[int, int] | None = None
) -> Iterator[tuple[float, Pixels]]:
    """All frames in order with their times, one in memory at a time.

    Args:
        video: The source.
        size: `(width, height)` to which they are scaled.
    """
    at: float | None = 0.0
    while at is not None:
        clip = video.frames([at], size)
        if len(clip):
            yield clip.times[0], clip.pixels[0]
        at = video.next_time(at)
