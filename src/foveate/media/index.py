"""Where the key frames are, found without decoding anything."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import av.error

from foveate.core import LimitError
from foveate.media.container import Opened, open_video
from foveate.media.limits import Limits
from foveate.media.source import Reader

RESTART_SECONDS = 0.2  # decode times that fall back further than this start a new count

# Containers whose seeks land where they should, and by which time they look a seek up. In others
# (program streams give shifted times after a seek) key frames are reached by reading.
_SEEKS_BY_DISPLAY = frozenset(["matroska,webm", "ogg", "nut"])
_SEEKS_BY_DECODE = frozenset(["mov,mp4,m4a,3gp,3g2,mj2", "avi", "mpegts", "flv", "asf"])
_MOST_TICKS = 1 << 56  # two years in nanoseconds
MOST_SECONDS = 1e10  # three centuries; floating point still tells microseconds apart there
_FAILURES = 16  # damaged reads in a row after which a container counts as ended


@dataclass
class Index:
    """Key frames of one picture stream, in ticks of its time base.

    Attributes:
        keys: Display times of the key frames, ascending; estimates unless `exact`.
        places: What to seek to for each key frame.
        exact: Whether `keys` were read from the packets.
        frames: Number of frames.
        end: Display time at which the last frame ends, None if the container does not say.
        seekable: Whether seeking by time finds a key frame; else it must be reached by reading.
    """

    keys: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    exact: bool = False
    frames: int = 0
    end: int | None = None
    seekable: bool = True

    def position(self, tick: int) -> int:
        """Place in `keys` of the last key frame at or before `tick`, -1 if there is none."""
        return bisect_right(self.keys, tick) - 1

    def key_at(self, tick: int) -> int | None:
        """The last key frame at or before `tick`, None if there is none."""
        at = self.position(tick)
        return self.keys[at] if at >= 0 else None

    def correct(self, at: int, key: int) -> None:
        """Note the true time of key frame number `at`, if it fits between its neighbours."""
        after = self.keys[at + 1] if at + 1 < len(self.keys) else None
        if not self.exact and key >= self.keys[at] and (after is None or key < after):
            self.keys[at] = key


def from_entries(stream: Any, first: int) -> Index | None:
    """The index that an MP4-like container carries, None if it is missing or partial.

    Its entries hold decode times; the first packet, shown at `first`, tells how far display times
    lie behind. Matroska entries name some frames only, so they do not count as complete.
    """
    entries, claimed = stream.index_entries, stream.frames
    if claimed <= 0 or len(entries) < claimed:
        return None
    try:
        return _from_complete(entries, first)
    except (IndexError, OverflowError):  # entries that are gone, or beyond all time
        return None


def _from_complete(entries: Any, first: int) -> Index | None:
    starts = [entry.timestamp for entry in entries[:32] if not entry.is_discard]
    if not starts:
        return None
    shift = first - min(starts)
    places: list[int] = []
    # Only key frames are visited: an index of millions of frames costs nothing here.
    at = entries.search_timestamp(entries[0].timestamp, backward=False)
    last = -1
    while last < at < len(entries):
        entry, last = entries[at], at
        if not entry.is_discard:
            places.append(entry.timestamp)
        at = entries.search_timestamp(entry.timestamp + 1, backward=False)
    if not places:
        return None
    keys = [place + shift for place in places]
    return Index(keys=keys, places=places, frames=len(entries))


def scan(open_reader: Callable[[], Reader], limits: Limits) -> tuple[Index, int]:
    """Read every packet header once (no decoding) and note times and key flags.

    Returns:
        The index and the number of bytes that were read for it.
    """
    opened = open_video(open_reader, limits)
    try:
        index = Index(exact=True)
        last, step = None, 0
        found: list[tuple[int, int]] = []
        for packet in packets(opened):
            if packet.pts is None or packet.is_discard:
                continue
            index.frames += 1
            if index.frames > limits.samples:
                raise LimitError(
                    f"{opened.reader.label}: more than {limits.samples} frames",
                    "raise limits.samples if you trust the file",
                )
            if packet.is_keyframe:
                found.append((packet.pts, place_of(opened, packet)))
            if last is None or packet.pts > last:
                step = packet.duration or (packet.pts - last if last is not None else 0)
                last = packet.pts
        found.sort()
        index.keys = [key for key, _ in found]
        index.places = [place for _, place in found]
        index.end = None if last is None else last + step
        index.seekable = seeks(opened)
        return index, opened.reader.bytes
    finally:
        opened.close()


def place_of(opened: Opened, packet: Any) -> int:
    """What to seek to for a key frame whose packet was just read."""
    by_display = opened.container.format.name in _SEEKS_BY_DISPLAY
    return int(packet.pts if by_display or packet.dts is None else packet.dts)


def seeks(opened: Opened) -> bool:
    """Whether seeking finds key frames in a container that was read to its end."""
    known = opened.container.format.name in _SEEKS_BY_DISPLAY | _SEEKS_BY_DECODE
    return known and not opened.restarts


def exact_keys(
    open_reader: Callable[[], Reader], limits: Limits, index: Index
) -> tuple[list[int], int]:
    """Display times of key frames whose places are known: one packet is read for each.

    Returns:
        The display times, one for each of `index.keys`, and the bytes that were read for them.
    """
    opened = open_video(open_reader, limits)
    try:
        times: list[int] = []
        for key, place in zip(index.keys, index.places, strict=True):
            packet = None
            with suppress(av.error.FFmpegError):  # a damaged index: the estimate has to do
                opened.container.seek(place, stream=opened.stream)
                found = (p for p in packets(opened) if p.is_keyframe and p.pts is not None)
                packet = next(found, None)
            times.append(key if packet is None else packet.pts)
        return times, opened.reader.bytes
    finally:
        opened.close()


def packets(opened: Opened) -> Iterator[Any]:
    """Packets of the picture stream from where the container stands, damage passed over.

    Packets that show nothing of their own are given without a display time. Where the times start
    again (joined recordings), they are moved so that they go on.
    A container that goes on failing without giving anything ends the iteration.
    """
    failures = 0
    count = _Count(opened)
    while failures < _FAILURES:
        try:
            for packet in opened.container.demux(opened.stream):
                opened.reader.renew()
                if packet.size:
                    failures = 0
                    count.adjust(packet)
                    yield packet
            opened.reader.check()
            return
        except (av.error.EOFError, IndexError):
            # PyAV trips over streams that appeared after the header, but only at the end.
            return
        except av.error.FFmpegError:
            opened.reader.check()
            failures += 1


class _Count:
    """Keeps the times of packets going on where they start again."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._vp8 = opened.stream.codec_context.name == "vp8"
        self._back = int(RESTART_SECONDS / opened.stream.time_base)
        self._most = min(_MOST_TICKS, int(MOST_SECONDS / opened.stream.time_base))
        self._offset = 0
        self._last: int | None = None
        self._end: int | None = None

    def adjust(self, packet: Any) -> None:
        dts, pts = self._sane(packet.dts), self._sane(packet.pts)
        if pts is None:
            packet.pts = None
        if self._vp8 and not _shown(packet):
            packet.pts = None
            return
        if dts is not None:
            if self._last is not None and dts < self._last - self._back and self._end is not None:
                self._offset = self._end - (dts if pts is None else pts)
                self._opened.restarts += 1
            self._last = dts
        if self._offset:
            packet.pts = None if pts is None else self._sane(pts + self._offset)
        if packet.pts is not None:
            end = packet.pts + (packet.duration or 1)
            self._end = end if self._end is None else max(self._end, end)

    def _sane(self, tick: int | None) -> int | None:
        """A time, None where damage made it larger than anything can be."""
        return None if tick is None or abs(tick) > self._most else tick


def _shown(packet: Any) -> bool:
    """Whether a VP8 packet is a picture to show: bit 4 of its first byte (RFC 6386, 9.1)."""
    return bool(memoryview(packet)[0] & 0x10)
