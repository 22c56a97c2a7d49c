"""Reads key frames, accumulated vectors and residuals, each only at asked positions.

One pass over the packets feeds the decoder nothing but the beginnings of the asked groups: what
follows the last asked position of a group is never decoded, nor is a group that nobody asked for.
Key frames need one picture a group. A pass for vectors alone leaves out the loop filter and the
inverse transform; a pass for residuals needs both, and converts two pictures a group to RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter as clock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from foveate.core import MediaError, Meter
from foveate.media.compressed.accumulate import CellMotion, PixelMotion, Signed, residual
from foveate.media.container import VECTOR_CODECS, Opened, geometry, open_video
from foveate.media.convert import Converter, clockwise
from foveate.media.decoder import Decoder
from foveate.media.index import packets
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import Source, name_of, opener
from foveate.media.vectors.gops import PacketTable, packet_table
from foveate.media.vectors.grid import CELL, PAST, Floats, Mask, VectorField, paint
from foveate.media.vectors.reader import probe
from foveate.media.vectors.rows import rows_of
from foveate.media.work import Work

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

_SAME = 1e-6  # seconds
LONGEST = 300  # pictures of a group that are read; longer groups count as if they ended there
Form = Literal["cells", "pixels"]


@dataclass(frozen=True)
class Group:
    """A group of pictures: a key picture and those up to the next one.

    Attributes:
        number: Its place in the stream.
        start: Seconds of the key picture.
        times: (N,) seconds of its pictures in the order of display, at most `LONGEST`.
    """

    number: int
    start: float
    times: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True)
class Picture:
    """What was asked for at one position.

    Attributes:
        group: Number of its group.
        position: The asked position, in pictures from the key picture, in the order of display.
        time: Seconds of the picture that answers: the last I or P picture at or before it.
        reference: Seconds of the intra picture that `motion` leads back to.
        motion: Accumulated vectors in pixels, x then y: (Hc, Wc, 2) float32 over 8x8 cells, or
            (H, W, 2) int16; in the orientation of the coded picture.
        valid: (Hc, Wc) where the picture had a vector of its own; all true at an intra picture.
        residual: (H, W, 3) int16, RGB, only if it was asked for.
    """

    group: int
    position: int
    time: float
    reference: float
    motion: Floats | Signed
    valid: Mask
    residual: Signed | None = None


class CompressedVideo:
    """The groups of one file and what lies in them; nothing is decoded until asked.

    B pictures are dropped: no chain of P pictures runs through them, and the decoder skips those
    that nothing refers to. Groups may differ in length. In open groups the B pictures shown before
    the key picture count as positions of the group before and are answered by its last P picture;
    an intra picture that is no key starts accumulation anew. Where an encoder used several
    references the accumulated motion is approximate, as FFmpeg does not tell which one is meant.

    Args:
        source: A path, bytes, or an open binary file that can seek.
        limits: Bounds on work.
        meter: Counts frames, packets and bytes; a new one if None.
        warn: Takes one line about damage.

    Raises:
        MediaError: It is no video that can be opened, or its packets carry no times.
        LimitError: More pictures than `limits.samples`.
    """

    def __init__(
        self,
        source: Source,
        *,
        limits: Limits = DEFAULT_LIMITS,
        meter: Meter | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._source, self._limits = source, limits
        self.meter = meter or Meter()
        self._warn = warn or (lambda line: None)
        self.name = name_of(source)
        opened = self._open()
        codec = opened.stream.codec_context
        self.codec = str(codec.codec.canonical_name)  # `av1`, whichever decoder is built in
        self.width, self.height = int(codec.width), int(codec.height)
        self._geometry = geometry(opened.stream, 0)
        opened.close()
        self._table: PacketTable = packet_table(source, limits)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All groups, in the order of display; found without decoding."""
        table = self._table
        return tuple(
            Group(number, float(table.times[first]), table.times[first : first + min(n, LONGEST)])
            for number, (first, n) in enumerate(
                zip(table.starts.tolist(), table.lengths.tolist(), strict=True)
            )
        )

    @property
    def reordered(self) -> bool:
        """Whether pictures are decoded in another order than shown, that is, has B pictures."""
        return bool((np.diff(self._table.decode_order) < 0).any())

    def key_frames(
        self, groups: Sequence[int], size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, Pixels]]:
        """Decode the key frames of some groups, one picture each; works for every codec.

        Args:
            groups: Their numbers.
            size: `(width, height)` to scale to; None for the upright size.

        Yields:
            Number of the group and (H, W, 3) uint8 RGB, upright; a damaged one is left out.
        """
        convert: Converter | None = None
        wanted = {number: self._places(number, [0])[0] for number in groups}
        for number, _, frame in self._walk(wanted, vectors=False):
            if convert is None:
                shape = replace(self._geometry, rotation=clockwise(frame.rotation))
                convert = Converter(shape)
            yield number, convert(frame, size)

    def vectors(
        self, positions: Mapping[int, Sequence[int]], form: Form = "cells"
    ) -> Iterator[Picture]:
        """Accumulated vectors at asked positions, without making the pictures look right.

        Args:
            positions: Group number to positions in it, counted from the key picture in the order
                of display; those past the end of a group mean its last picture.
            form: `cells` (8x8, fractions of a pixel) or `pixels` (CoViAR's integer rule).

        Raises:
            MediaError: The codec exports no vectors.
        """
        yield from self._pictures(positions, form, residuals=False)

    def residuals(self, positions: Mapping[int, Sequence[int]]) -> Iterator[Picture]:
        """Accumulated residuals and vectors by CoViAR's rule; decodes the groups in full quality.

        Args:
            positions: As for `vectors`.

        Raises:
            MediaError: The codec exports no vectors.
        """
        yield from self._pictures(positions, "pixels", residuals=True)

    # --- inside ---------------------------------------------------------------------------

    def _open(self) -> Opened:
        return open_video(opener(self._source, self._limits), self._limits)

    def _pictures(
        self, positions: Mapping[int, Sequence[int]], form: Form, residuals: bool
    ) -> Iterator[Picture]:
        if self.codec not in VECTOR_CODECS:
            raise no_vectors(self.name, self.codec)
        asked = {n: self._places(n, places) for n, places in positions.items() if places}
        track = _Track(form, residuals)
        waiting: list[int] = []
        number = -1
        for at, time, frame in self._walk(
            {n: places[-1] for n, places in asked.items()}, vectors=True, pixels=residuals
        ):
            if at != number:
                yield from (track.picture(number, place) for place in waiting)
                number, waiting = at, list(asked[at])
                track.forget()
            kind = PictureType(frame.pict_type).name
            if kind not in ("I", "P"):
                continue
            # A position is answered only when a picture after it shows up: with B pictures around
            # the nearest I or P picture before a position is not known earlier.
            times = self.groups[at].times
            while waiting and times[waiting[0]] < time - _SAME and track.stands:
                yield track.picture(at, waiting.pop(0))
            track.feed(frame, time, kind, self.meter)
        if track.stands:
            yield from (track.picture(number, place) for place in waiting)

    def _places(self, number: int, places: Sequence[int]) -> list[int]:
        if not 0 <= number < len(self.groups):
            raise ValueError(f"there is no group {number}; there are {len(self.groups)}")
        if min(places) < 0:
            raise ValueError("positions in a group cannot be negative")
        return sorted({min(place, len(self.groups[number]) - 1) for place in places})

    def _walk(
        self, furthest: Mapping[int, int], *, vectors: bool, pixels: bool = True
    ) -> Iterator[tuple[int, float, Any]]:
        """Decode each asked group up to its furthest position.

        Yields:
            Number of the group, seconds and the `av.VideoFrame`, in the order of display.
        """
        if not furthest:
            return
        last, groups = max(furthest), self.groups
        opened = self._open()
        work = Work(self._limits, self.meter)
        work.name = self.name
        try:
            decoder = Decoder(
                opened, self._limits, 1, self.meter, work, self._warn,
                vectors=vectors, pixels=pixels,
            )  # fmt: skip
            base = float(opened.stream.time_base)
            number, origin, end, key, seen = -1, 0, 0, None, 0
            for packet in packets(opened):
                self.meter.bytes += opened.reader.bytes - seen
                seen = opened.reader.bytes
                if packet.pts is None or packet.is_discard:
                    continue
                ended = packet.is_keyframe
                if ended and key is not None:
                    yield from _shown(decoder.drain(), number, origin, base)
                    key = None
                if ended and number == last:
                    return
                if ended:
                    number += 1
                    if number in furthest:
                        key = packet.pts
                        origin = key - round(groups[number].start / base)
                        end = origin + round(groups[number].times[furthest[number]] / base)
                if key is None or packet.pts < key:
                    continue  # nobody asked, or it leans on the group before
                work.begin()
                # Of streams with B pictures those that nothing refers to are never wanted.
                wanted = packet.is_keyframe or not self.reordered
                yield from _shown(decoder.feed(packet, wanted), number, origin, base)
                work.check()
                if packet.pts >= end:
                    yield from _shown(decoder.drain(), number, origin, base)
                    key = None
                    if number == last:
                        return
            if key is not None:
                yield from _shown(decoder.drain(), number, origin, base)
        finally:
            opened.close()


class _Track:
    """Accumulated motion of the group that is being read, and the pictures residuals need."""

    def __init__(self, form: Form, residuals: bool) -> None:
        self._form, self._residuals = form, residuals
        self._motion: CellMotion | PixelMotion | None = None
        self._size = (0, 0)
        self._scaler = VideoReformatter()
        self.forget()

    def forget(self) -> None:
        """Another group begins."""
        self.stands = False
        self._frame: Any = None
        self._intra: Any = None
        self._valid: Mask | None = None
        self._rgb: Pixels | None = None
        self._time = self._reference = 0.0

    def feed(self, frame: Any, time: float, kind: str, meter: Meter) -> None:
        """The next I or P picture; P pictures in front of the first I picture are passed over."""
        if kind != "I" and not self.stands:
            return
        started = clock()
        size = frame.width, frame.height
        if self._motion is None or size != self._size:
            self._motion = PixelMotion(*size) if self._form == "pixels" else CellMotion(*size)
            self._size = size
        if kind == "I":
            self._motion.reset()
            self._intra, self._rgb, self._reference = frame, None, time
            self._valid = None
        else:
            motion, valid = paint(rows_of(frame), *size)
            lone = (1.0, float("nan"))
            self._motion.add(VectorField(time, kind, False, motion, valid, lone))
            self._valid = valid[PAST]
        self._frame = frame if self._residuals else None
        self._intra = self._intra if self._residuals else None
        self._time, self.stands = time, True
        meter.motion_seconds += clock() - started

    def picture(self, group: int, position: int) -> Picture:
        """What is known at the last picture fed."""
        assert self._motion is not None
        width, height = self._size
        down, across = -(-height // CELL), -(-width // CELL)
        motion: Floats | Signed = self._motion.motion
        if self._form == "cells":
            motion = motion[:down, :across]
        everywhere = np.ones((down, across), bool)
        return Picture(
            group,
            position,
            self._time,
            self._reference,
            motion,
            everywhere if self._valid is None else self._valid[:down, :across],
            self._residual() if self._residuals else None,
        )

    def _residual(self) -> Signed:
        assert isinstance(self._motion, PixelMotion)
        if self._rgb is None:
            self._rgb = self._convert(self._intra)
        return residual(self._rgb, self._convert(self._frame), self._motion)

    def _convert(self, frame: Any) -> Pixels:
        rgb = self._scaler.reformat(frame, format="rgb24", threads=1)
        return np.asarray(rgb.to_ndarray(), np.uint8)


def _shown(
    frames: list[Any], number: int, origin: int, base: float
) -> Iterator[tuple[int, float, Any]]:
    for frame in frames:
        if frame.pts is not None:
            yield number, (frame.pts - origin) * base, frame


def no_vectors(name: str, codec: str) -> MediaError:
    """What is said of a file whose codec exports no vectors."""
    return MediaError(
        f"{name}: {codec} video gives no motion vectors",
        f"foveate data transcode {name} OUT --gop 12 --codec h264",
    )


def require_vectors(source: Source, limits: Limits = DEFAULT_LIMITS) -> None:
    """Refuse a file without motion vectors; decodes one group at most.

    Raises:
        MediaError: It is no video, its codec exports none, or all its pictures are intra coded;
            the cure is the line that transcodes it.
    """
    video = CompressedVideo(source, limits=limits)
    name = video.name
    if video.codec not in VECTOR_CODECS:
        raise no_vectors(name, video.codec)
    reason = probe(source, limits)
    if reason is not None:
        cure = f"foveate data transcode {name} OUT --gop 12 --codec h264"
        raise MediaError(f"{name}: {reason}", cure)
