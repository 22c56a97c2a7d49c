"""Decodes the beginnings of groups of pictures, and nothing that nobody asked for.

Finding the groups reads every packet once. Where they are few enough to keep, no later pass reads
the file again, and decoders stay open: of many short questions to one file each costs only the
pictures that it needs. Opening an H.264 file takes as long as decoding a dozen small pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from foveate.core import Group, Meter
from foveate.media.container import Opened, codec_name, geometry, open_video
from foveate.media.decoder import Decoder
from foveate.media.index import Index, start_at
from foveate.media.limits import Limits
from foveate.media.packets import packets, place_of
from foveate.media.source import Source, name_of, opener
from foveate.media.vectors.gops import read_table
from foveate.media.vectors.rows import Quality
from foveate.media.work import Work

LONGEST = 300  # pictures of a group that are read; longer groups count as if they ended there
_KEPT_BYTES = 16_000_000  # of packets; those of longer files are read again for every pass


class _Seat(NamedTuple):
    """A decoder and what it needs to live."""

    opened: Opened
    decoder: Decoder
    work: Work


class GroupDecoder:
    """The groups of one file, found without decoding, and their pictures.

    Args:
        source: A path, bytes, or an open binary file that can seek.
        limits: Bounds on work.
        meter: Counts frames, packets and bytes.
        warn: Takes one line about damage.

    Attributes:
        codec: The name of the codec.
        width: Of the coded picture, in pixels.
        height: Of the coded picture, in pixels.
        geometry: How pictures become upright, their rotation left out.

    Raises:
        MediaError: It is no video that can be opened, or its packets carry no times.
        LimitError: More pictures than `limits.samples`.
    """

    def __init__(
        self, source: Source, limits: Limits, meter: Meter, warn: Callable[[str], None]
    ) -> None:
        self._source, self._limits, self._meter, self._warn = source, limits, meter, warn
        self._idle: dict[tuple[bool, Quality], _Seat] = {}
        self._kept: list[Any] | None = []
        self._kept_bytes = 0
        self._index = Index(exact=True)
        self._reading: Opened | None = None  # of files whose packets are too many to keep
        self._seeks = True  # whether seeking has found every group so far
        self._numbered: Iterator[tuple[int, Any]] | None = None  # where reading onward stands
        self._reached = -1  # the group of the last packet that was read
        self._next: tuple[int, Any] | None = None  # a packet that was read too far
        opened = self._open()
        try:
            codec = opened.stream.codec_context
            self.codec = codec_name(opened.stream)
            self.width, self.height = int(codec.width), int(codec.height)
            self.geometry = geometry(opened.stream, 0)
            self._table = read_table(
                opened, limits, name_of(source), lambda packet: self._keep(opened, packet)
            )
            self._base = float(opened.base)
        except BaseException:
            opened.close()
            raise
        finally:
            opened.count(meter)
        self._first: Opened | None = opened
        opened.reader.close()  # a decoder needs no file

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All groups, in the order of display."""
        table = self._table
        return tuple(
            Group(number, float(table.times[first]), table.times[first : first + min(n, LONGEST)])
            for number, (first, n) in enumerate(
                zip(table.starts.tolist(), table.lengths.tolist(), strict=True)
            )
        )

    @cached_property
    def reordered(self) -> bool:
        """Whether pictures are decoded in another order than shown, that is, has B pictures."""
        return bool((np.diff(self._table.decode_order) < 0).any())

    def walk(
        self, furthest: Mapping[int, int], *, vectors: bool, quality: Quality = "full"
    ) -> Iterator[tuple[int, float, Any]]:
        """Decode each asked group up to its furthest position.

        Args:
            furthest: Group number to position.
            vectors: Whether frames carry motion vectors.
            quality: Which frames must look right.

        Yields:
            Number of the group, seconds and the `av.VideoFrame`, in the order of display.
        """
        if not furthest:
            return
        seat = self._idle.pop((vectors, quality), None) or self._seat(vectors, quality)
        try:
            yield from self._decoded(seat, furthest)
        finally:
            seat.decoder.reset()
            self._idle[vectors, quality] = seat

    # --- inside ---------------------------------------------------------------------------

    def _open(self) -> Opened:
        return open_video(opener(self._source, self._limits), self._limits)

    def _seat(self, vectors: bool, quality: Quality) -> _Seat:
        opened, self._first = self._first or self._open(), None
        work = Work(self._limits, self._meter.bytes)
        work.name = name_of(self._source)
        try:
            decoder = Decoder(
                opened, self._limits, 1, self._meter, work, self._warn,
                vectors=vectors, quality=quality,
            )  # fmt: skip
        except BaseException:
            opened.close()
            raise
        opened.reader.close()
        return _Seat(opened, decoder, work)

    def _keep(self, opened: Opened, packet: Any) -> None:
        """A packet that was read while the groups were looked for; too many are let go."""
        if packet.pts is None or packet.is_discard:
            return
        if packet.is_keyframe:
            self._index.keys.append(packet.pts)
            self._index.places.append(place_of(opened, packet, self._index.frames))
        self._index.frames += 1
        if self._kept is None:
            return
        self._kept.append(packet)
        self._kept_bytes += packet.size
        if self._kept_bytes > _KEPT_BYTES:
            self._kept = None

    @cached_property
    def _starts(self) -> list[int]:
        """Where among the kept packets each group begins, and where the last one ends."""
        assert self._kept is not None
        keys = [at for at, packet in enumerate(self._kept) if packet.is_keyframe]
        return [*keys, len(self._kept)]

    def _packets(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Packets of some groups with the number of theirs; others may lie between them."""
        if self._kept is not None:
            for number in numbers:
                begin, end = self._starts[number : number + 2]
                yield from ((number, packet) for packet in self._kept[begin:end])
            return
        for begin, end in _runs(numbers):
            # What lies between groups is not read if seeking finds them.
            found = self._found(begin) if self._seeks else None
            self._seeks = found is not None
            chosen = self._onward(begin) if found is None else _numbered(found, begin - 1)
            for number, packet in chosen:
                opened = self._reading
                assert opened is not None
                opened.count(self._meter)
                self._reached = number
                if number > end:
                    self._next = number, packet
                    break
                if number >= begin:
                    yield number, packet

    def _onward(self, first: int) -> Iterator[tuple[int, Any]]:
        """Packets from a group on by reading through the file, again only if it lies behind."""
        waiting, self._next = self._next, None
        reached = self._reached if waiting is None else waiting[0] - 1
        if self._numbered is None or first <= reached:
            self._reopen()
            assert self._reading is not None
            self._numbered, waiting = _numbered(packets(self._reading), -1), None
        return self._numbered if waiting is None else chain([waiting], self._numbered)

    def _reopen(self) -> None:
        """A demuxer at the start of the file; it stays open, so that later passes need none."""
        self.close()
        self._reading = self._open()
        self._numbered = None

    def close(self) -> None:
        """Release the file; safe to call twice."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None

    def _found(self, number: int) -> Iterator[Any] | None:
        """Packets from the first one of a group; None if seeking does not find it."""
        if self._reading is None:
            self._reopen()
        self._numbered = None
        assert self._reading is not None
        return start_at(self._reading, self._index, number)

    def _decoded(
        self, seat: _Seat, furthest: Mapping[int, int]
    ) -> Iterator[tuple[int, float, Any]]:
        decoder, work = seat.decoder, seat.work
        numbers = sorted(furthest)
        at, origin, end, key = -1, 0, 0, None
        for number, packet in self._packets(numbers):
            if number != at:
                if key is not None:
                    yield from self._shown(decoder.drain(), at, origin)
                at, key = number, None
                if number in furthest:
                    group, key = self.groups[number], packet.pts
                    origin = key - round(group.start / self._base)
                    end = origin + round(group.times[furthest[number]] / self._base)
            if key is None or packet.pts < key:
                continue  # nobody asked, or it leans on the group before
            work.begin()
            work.read(packet.size)
            # Of streams with B pictures those that nothing refers to are never wanted.
            wanted = packet.is_keyframe or not self.reordered
            yield from self._shown(decoder.feed(packet, wanted), number, origin)
            work.check()
            if packet.pts >= end:
                yield from self._shown(decoder.drain(), number, origin)
                key = None
                if number == numbers[-1]:
                    return
        if key is not None:
            yield from self._shown(decoder.drain(), at, origin)

    def _shown(
        self, frames: list[Any], number: int, origin: int
    ) -> Iterator[tuple[int, float, Any]]:
        for frame in frames:
            if frame.pts is not None:
                yield number, (frame.pts - origin) * self._base, frame


def _numbered(following: Iterator[Any], number: int) -> Iterator[tuple[int, Any]]:
    """Packets after those of group `number`, with the number of theirs."""
    for packet in following:
        if packet.pts is None or packet.is_discard:
            continue
        number += packet.is_keyframe
        yield number, packet


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each stretch of neighbouring numbers."""
    begin = numbers[0]
    for at, following in zip(numbers, [*numbers[1:], None], strict=True):
        if following != at + 1:
            yield begin, at
            begin = following or 0
