"""Reads motion vectors picture by picture, in the order of display and in bounded memory."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Self

from av.video.frame import PictureType

from foveate.core import MediaError, Meter
from foveate.media import index as indexing
from foveate.media.container import VECTOR_CODECS, codec_name, open_video
from foveate.media.decode import Lent
from foveate.media.decoder import Decoder
from foveate.media.decoding import EXACT, Decoding
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.lookahead import LOOKAHEAD
from foveate.media.packets import packets
from foveate.media.source import Reader, Source, name_of, opener
from foveate.media.vectors.gops import References, nal_length_bytes
from foveate.media.vectors.grid import Floats, Mask, VectorField, paint
from foveate.media.vectors.kernels import kernels
from foveate.media.vectors.rows import rows_of
from foveate.media.work import Work

_RECENT = 5  # fields that can be asked for again without going back, at least
_RECENT_BYTES = 32_000_000  # of the pictures of more of them
_INTRA = 12  # pictures without vectors after which the next key frame ends the probe
_PROBED = 300  # pictures after which a stream without a second key frame counts as probed


class VectorReader:
    """The motion vectors of one file; a decoder of its own beside that of `Video`.

    It works with one thread or slice threads: frame threads damage vectors where there are
    B-frames. Use it as a context manager, or call `close`.

    Args:
        source: A path, the bytes of a file, an open binary file, or a function that opens one.
        limits: Bounds on work.
        threads: Slice threads of the decoder.
        pixels: False leaves out the loop filter and the inverse transform: about a third less
            work for the same vectors; `VectorField.frame` is then refused.
        meter: Counts frames, packets and bytes; a new one if None.
        warn: Takes one line about damage.
        find_index: Gives the index of key frames; makes one by a pass over the packets only if
            asked to. Without it, going back begins at the very start.
        fast: False for NumPy; True to load the compiled loops (extra `fast`) at once; None to use
            them where they are loaded already. The fields are the same.
        decoding: What the decoder may leave out of the pictures; `lowres` is not used, since
            vectors are read at full size.
        lent: An open file with a decoder that exports vectors, to go on with.

    Raises:
        MediaError: The source cannot be opened, or its codec exports no vectors.
    """

    def __init__(
        self,
        source: Source | Callable[[], Reader],
        *,
        limits: Limits = DEFAULT_LIMITS,
        threads: int = 1,
        pixels: bool = True,
        meter: Meter | None = None,
        warn: Callable[[str], None] | None = None,
        find_index: Callable[[bool], indexing.Index | None] | None = None,
        fast: bool | None = None,
        decoding: Decoding = EXACT,
        lent: Lent | None = None,
    ) -> None:
        self._open_reader = source if callable(source) else opener(source, limits)
        self._limits, self._threads, self._pixels = limits, threads, pixels
        self._decoding = decoding.model_copy(update={"lowres": 0}) if pixels else EXACT
        self.meter = meter or Meter()
        self._warn = warn or (lambda line: None)
        self._work = Work(limits, self.meter.bytes)
        self._find_index = find_index or (lambda scan: None)
        self._compiled = kernels(fast)
        self._last: int | None = None  # display time of the last field given
        self._near: list[int] | None = None
        self._lent = lent
        if lent is None:
            self._open()
        else:
            self._adopt(lent)
        self.name = self._opened.reader.label
        self._work.name = self.name
        plan = self._opened.plan
        assert plan is not None
        self.has_times = plan.source != "counted"
        self._base = plan.base
        first = [*([] if lent is None else lent.given), *self._ahead]
        shown = [p.pts for p in first if p.pts is not None and not p.is_discard]
        self._origin = min(shown, default=0) if self.has_times else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release decoder and file; safe to call twice."""
        self._decoder.close()
        if self._lent is None or self._opened is not self._lent.opened:
            self._opened.close()
        self._out.clear()
        self._ahead.clear()
        self._recent.clear()

    @property
    def end(self) -> float | None:
        """Seconds at which the last picture ends, None while that is not known."""
        last = self._final if self._ended and self.has_times else None
        return None if last is None else float((last - self._origin) * self._base)

    def next_tick(self, after: int) -> tuple[bool, int | None]:
        """Whether the packets that were read tell the first frame later than `after`, and which."""
        return self._references.next_after(after, self._ended)

    def check(self) -> None:
        """Decode up to the first picture with vectors, at most the first groups of pictures.

        Raises:
            MediaError: There are none: every picture of them is intra coded.
        """
        # With their pictures, so that a later question for the first ones decodes nothing.
        for number, field in enumerate(self.fields(frames=self._pixels)):
            if field.valid.any():
                return
            # Encoders begin with several key frames where the first pictures differ: go past them.
            if number >= (_INTRA if field.key else _PROBED):
                break
        raise MediaError(f"{self.name}: no motion vectors (its pictures are all intra coded)")

    def fields(
        self,
        start: float = 0.0,
        end: float = math.inf,
        *,
        rows: bool = False,
        frames: bool = False,
        near: Sequence[float] | None = None,
    ) -> Iterator[VectorField]:
        """The fields of the pictures from `start` to `end` seconds, both included.

        Going on forward costs what lies between, going back or far ahead starts at a key frame.

        Args:
            start: Seconds from the first frame.
            end: Seconds from the first frame.
            rows: Keep the exported rows too.
            frames: Keep the decoded picture too.
            near: Seconds, ascending. Of the pictures that no other one is predicted from, those
                alone are decoded that are shown at these times, or just before these.

        Yields:
            One field per decoded picture, in the order of display; intra pictures with nothing
            valid.
        """
        if frames and not self._pixels:
            raise ValueError("a reader without pixels has no frames to give")
        first = self._tick(start)
        last = math.inf if math.isinf(end) else self._tick(end)
        self._near = None if near is None or not self.has_times else list(map(self._tick, near))
        again = self._again(first, rows, frames)
        if again is None and self._must_seek(first):
            self._seek(first)
        for tick, field in again or ():
            if tick <= last:
                yield field
        self._work.begin()
        while True:
            while not self._out:
                if not self._feed():
                    return
                self._work.check()
            if self._out[0][0] > last:
                return
            tick, frame = self._out.popleft()
            self._last = tick
            if tick < first:
                self._recent.clear()  # it has no holes
                continue
            self._work.begin()
            field = self._field(tick, frame, rows, frames)
            self._recent.append((tick, field))
            size = frame.width * frame.height * 3 // 2 if frames else 0
            while len(self._recent) > max(_RECENT, _RECENT_BYTES // size if size else 0):
                self._recent.popleft()
            yield field

    # --- position -------------------------------------------------------------------------

    def _open(self) -> None:
        self._opened = opened = open_video(self._open_reader, self._limits)
        try:
            codec = codec_name(opened.stream)
            if codec not in VECTOR_CODECS:
                raise MediaError(
                    f"{opened.reader.label}: {codec} video gives no motion vectors",
                    "use optical flow, or transcode it to H.264",
                )
            self._decoder = Decoder(
                opened, self._limits, self._threads, self.meter, self._work, self._warn,
                vectors=True, quality="full" if self._pixels else "none",
                decoding=self._decoding,
            )  # fmt: skip
            self._restart(packets(opened), from_start=True)
        except BaseException:
            opened.close()
            raise

    def _adopt(self, lent: Lent) -> None:
        """Go on with a file that was opened, and a decoder that has begun."""
        self._opened, self._decoder, self._work = lent.opened, lent.decoder, lent.work
        self._restart(lent.rest, from_start=True)
        for packet in lent.given:
            self._note(packet)
        for packet in lent.given:
            if packet.pts is not None:
                self._references.feed(packet)
        self._out.extend(lent.frames)

    def _restart(self, found: Iterator[Any], from_start: bool = False) -> None:
        stream = self._opened.stream
        self._packets = found
        self._ahead: deque[Any] = deque()
        self._out: deque[tuple[int, Any]] = deque()
        self._references = References(codec_name(stream), nal_length_bytes(stream))
        self._ended = self._drained = False
        self._final: int | None = None  # when the last picture that was read ends
        self._key: int | None = None  # display time of the key frame at which decoding started
        self._least = -math.inf  # display times below it lean on what was not decoded
        self._started = from_start
        self._last = None
        self._number = 0
        self._recent: deque[tuple[int, VectorField]] = deque()
        self._holes = False  # whether pictures were left out since decoding started
        self._fill()

    def _again(self, first: int, rows: bool, frames: bool) -> list[tuple[int, VectorField]] | None:
        """What was given just before and is asked for again; None if more lies further back."""
        recent = self._recent
        if not recent or recent[-1][0] != self._last or not recent[0][0] <= first:
            return None
        if self._holes and not self._has_shown():
            return None
        found = [(tick, field) for tick, field in recent if tick >= first]
        lacking = any(
            (frames and f.frame is None) or (rows and f.rows is None and f.valid.any())
            for _, f in found
        )
        return None if lacking or not found else found

    def _has_shown(self) -> bool:
        """Whether the pictures that are shown at the times of `near` are among the last ones."""
        given = {tick for tick, _ in self._recent}
        shown = [self._references.shown_at(t) for t in self._near or () if t <= (self._last or 0)]
        return self._near is not None and given.issuperset(t for t in shown if t is not None)

    def _must_seek(self, tick: int) -> bool:
        if self._last is None:
            behind = self._key is not None and tick < self._key
        else:
            behind = tick <= self._last
        if behind:
            return True
        if not self.has_times:
            return False
        reached = max((p.pts for p in self._ahead if p.pts is not None), default=None)
        if reached is None or tick <= reached:
            return False
        # To know where key frames are may take a pass over the file: not for a short step.
        index = self._find_index((tick - reached) * self._base > 1)
        key = None if index is None else index.key_at(tick)
        return key is not None and key > reached

    def _seek(self, tick: int) -> None:
        """Stand at the last key frame at or before `tick`, or at the very start."""
        index = self._find_index(True)
        at = index.position(tick) if index is not None and self.has_times else -1
        if index is not None and at >= 0:
            self._decoder.reset()
            found = indexing.reach(self._opened, index, at, tick)
            if found is not None:
                self._restart(found)
                return
        self.close()
        self._open()

    # --- feeding --------------------------------------------------------------------------

    def _fill(self) -> None:
        while not self._ended and len(self._ahead) < LOOKAHEAD:
            packet = next(self._packets, None)
            if packet is None:
                self._ended = True
                break
            self._ahead.append(packet)
            self._note(packet)
        self._opened.count(self.meter, self._work)

    def _note(self, packet: Any) -> None:
        """A packet was read that will be fed."""
        if packet.pts is None or packet.is_discard:
            return
        self._references.announce(packet.pts)
        if packet.duration:
            self._final = max(self._final or 0, packet.pts + packet.duration)

    def _feed(self) -> bool:
        """Go one packet further; False when nothing is left."""
        self._fill()
        if not self._ahead:
            if self._drained:
                return False
            self._drained = True
            self._collect(self._decoder.drain())
            return bool(self._out)
        packet = self._ahead.popleft()
        if not self._started:
            if not packet.is_keyframe or packet.pts is None or packet.is_discard:
                return True
            self._started, self._key, self._least = True, packet.pts, packet.pts
        elif packet.pts is not None and not packet.is_discard and packet.pts < self._least:
            return True  # leans on a group that was not decoded
        if packet.pts is not None:
            self._references.feed(packet)
        wanted = self._is_wanted(packet)
        self._holes |= not wanted
        self._collect(self._decoder.feed(packet, wanted))
        return True

    def _is_wanted(self, packet: Any) -> bool:
        """Whether a picture is decoded though no other one is predicted from it."""
        near, pts = self._near, packet.pts
        if near is None or pts is None or packet.is_discard or not near or pts > near[-1]:
            return True  # what is asked for beyond these times is not known yet
        replaced = self._references.following(pts, 2)
        return replaced is None or near[bisect_left(near, pts)] < replaced

    def _collect(self, frames: list[Any]) -> None:
        for frame in frames:
            tick = frame.pts if self.has_times else self._number
            self._number += 1
            last = self._out[-1][0] if self._out else self._last
            if tick is not None and (last is None or tick > last):
                self._out.append((tick, frame))

    def _field(self, tick: int, frame: Any, keep_rows: bool, keep_frame: bool) -> VectorField:
        painting = partial(self._painted, frame)
        if not keep_frame:  # nothing may hold the picture: the decoder uses its memory again
            motion, valid = painting()
            painting = partial(_known, motion, valid)
        rows = rows_of(frame) if keep_rows else None
        kind = PictureType(frame.pict_type).name
        unknown = float("nan"), float("nan")
        distance = self._references.distance(tick, kind) if self.has_times else unknown
        return VectorField(
            time=(tick - self._origin) * self._base.numerator / self._base.denominator,
            kind=kind,
            key=bool(frame.key_frame),
            distance=distance,
            painting=painting,
            rows=None if rows is None else rows.copy(),
            frame=frame if keep_frame else None,
        )

    def _painted(self, frame: Any) -> tuple[Floats, Mask]:
        started = time.perf_counter()
        painted = paint(rows_of(frame), frame.width, frame.height, self._compiled)
        self.meter.motion_seconds += time.perf_counter() - started
        return painted

    def _tick(self, seconds: float) -> int:
        # A fraction of a tick allows for rounding of times that were ticks before.
        return math.floor(seconds / float(self._base) + 1e-4) + self._origin


def _known(motion: Floats, valid: Mask) -> tuple[Floats, Mask]:
    return motion, valid


def probe(source: Source, limits: Limits = DEFAULT_LIMITS) -> str | None:
    """Why a file gives no motion vectors, None if it does; decodes one group at most.

    Raises:
        MediaError: It is no video that can be opened.
    """
    open_video(opener(source, limits), limits).close()
    try:
        with VectorReader(source, limits=limits, pixels=False) as reader:
            reader.check()
    except MediaError as error:
        prefix = f"{name_of(source)}: "
        return str(error.cause).removeprefix(prefix)
    return None
