"""Packets of a picture stream with display times that can be relied on, from any key frame on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count, islice, pairwise
from typing import Any

import av.error
from av.bitstream import BitStreamFilterContext

from foveate.media.container import LONGEST_TICK, Opened, Plan, numbered_rate
from foveate.media.order import UnorderedError, in_order, is_ordered, is_plain, ranker

HEAD = 32  # packets that are looked at to tell where display times come from
RESTART_SECONDS = 0.2  # decode times that fall back further than this start a new count
_MOST_TICKS = 1 << 56  # two years in nanoseconds
MOST_SECONDS = 1e10  # three centuries; floating point still tells microseconds apart there
_FAILURES = 16  # damaged reads in a row after which a container counts as ended
_RECENT = 64  # display times among which equal ones are looked for
_VOP = b"\0\0\1\xb6"  # the start of an MPEG-4 picture

# Containers whose seeks by time land at or before the key frame, and by which time they look one
# up; and those in which it is reached by the position of its packet.
MOV = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"
_SEEKS_BY_DISPLAY = frozenset([MATROSKA, "ogg", "nut", MOV])
_SEEKS_BY_DECODE = frozenset(["avi", "asf"])
_SEEKS_BY_BYTE = frozenset(
    ["mpegts", "mpeg", "flv", "live_flv", "h264", "hevc", "vvc", "m4v", "mpegvideo", "h263", "ivf",
     "mjpeg", "obu", "yuv4mpegpipe", "dv"]
)  # fmt: skip
# Containers in which pictures begin in the middle of packets, so that the first ones after a seek
# may be cut off and get wrong times: seeks go to the key frame before.
_RUNS_UP = frozenset(["mpeg"])
# Containers in which decode times are right after a seek too, whether they are sorted or not.
_COUNTING = frozenset([MOV, *_SEEKS_BY_DECODE])
# Containers that can be joined byte by byte, so that their times start again.
RESTARTING = frozenset(["mpegts", "mpeg", "flv", "live_flv"])
# Raw streams: that their frames are numbered is no news.
_RAW = frozenset(["h264", "hevc", "vvc", "m4v", "mpegvideo", "h263", "mjpeg", "obu", "dv", "avi"])


@dataclass(frozen=True)
class Place:
    """Where the packet of a key frame lies.

    Attributes:
        tick: What to seek to by time, None if the container is not searched by time.
        byte: Position in the file, None if the container does not say.
        number: Packets with a picture before it, in decode order.
    """

    tick: int | None
    byte: int | None
    number: int = 0

    @property
    def known(self) -> bool:
        """Whether it can be sought."""
        return self.tick is not None or self.byte is not None


def packets(opened: Opened) -> Iterator[Any]:
    """Packets of the picture stream from its start.

    Packets that show nothing of their own are given without a display time. Where the times start
    again (joined recordings), they are moved so that they go on; of equal ones, the later is moved
    by a tick. A container that goes on failing without giving anything ends the iteration.
    """
    found = _demuxed(opened)
    if opened.plan is None:
        head = list(islice(found, HEAD))
        opened.plan = _plan(opened, head)
        if opened.plan.warning is not None:
            opened.warn(opened.plan.warning)
        found = chain(head, found)
    return _timed(opened, found)


def packets_from(
    opened: Opened, key: int, place: Place, start: Place, *, exact: bool
) -> Iterator[Any] | None:
    """Packets from a key frame on.

    Args:
        opened: The container.
        key: Display time of the key frame.
        place: Its place.
        start: Where to seek to: the same, or the place of an earlier key frame.
        exact: Whether `key` is known, so that the packets are timed by it; else it is an estimate.

    Returns:
        The packets, the first one that of the key frame; None if the container does not get there.
    """
    if not start.known:
        return None
    if opened.plan is None:
        packets(opened)
    try:
        if start.tick is not None:
            opened.container.seek(start.tick, stream=opened.stream)
        else:
            opened.container.seek(start.byte, stream=opened.stream, unsupported_byte_offset=True)
    except (av.error.FFmpegError, OverflowError):
        return None
    found = _demuxed(opened)
    for packet in found:
        if packet.is_keyframe and place.byte in (None, packet.pos):
            break
        if packet.is_keyframe and place.byte is not None and (packet.pos or 0) > place.byte:
            return None  # landed behind it
    else:
        return None
    true = key if exact and place.byte is not None else None
    shift = 0
    if opened.container.format.name in _SEEKS_BY_DECODE and None not in (true, packet.dts):
        shift = (place.tick or 0) - packet.dts  # AVI counts empty chunks in some passes only
    timed = _timed(opened, chain([packet], found), place.number, true, shift)
    first = next(timed, None)
    if first is None or not first.is_keyframe or first.pts is None:
        return None
    return chain([first], timed)


def seeks_by_display(opened: Opened) -> bool:
    """Whether the container looks up display times, not decode times, when it seeks."""
    return opened.container.format.name in _SEEKS_BY_DISPLAY


def runs_up(opened: Opened) -> bool:
    """Whether a key frame is reached from the one before it."""
    return opened.container.format.name in _RUNS_UP


def place_of(opened: Opened, packet: Any, number: int) -> Place:
    """The place of a key frame whose packet was just read; the `number` packets before it show."""
    name, given = opened.container.format.name, opened.plan is None or opened.plan.source == "given"
    guessed = not given and name not in _COUNTING
    if opened.disordered:
        return Place(None, None, number)
    if opened.restarts or guessed:
        return Place(None, packet.pos if name in _SEEKS_BY_BYTE else None, number)
    if name in _SEEKS_BY_DISPLAY and (given or packet.dts is None):
        return Place(packet.pts, packet.pos, number)
    if name in _SEEKS_BY_DISPLAY | _SEEKS_BY_DECODE:
        byte = packet.pos if name != "asf" else None  # many frames lie at one position there
        return Place(packet.pts if packet.dts is None else packet.dts, byte, number)
    return Place(None, packet.pos if name in _SEEKS_BY_BYTE else None, number)


def _demuxed(opened: Opened) -> Iterator[Any]:
    """Packets as the container gives them, damage passed over."""
    failures = 0
    while failures < _FAILURES:
        try:
            for packet in opened.container.demux(opened.stream):
                opened.reader.renew()
                if not packet.size:
                    continue
                failures = 0
                yield packet
            opened.reader.check()
            return
        except (av.error.EOFError, IndexError):
            # PyAV trips over streams that appeared after the header, but only at the end.
            return
        except av.error.FFmpegError:
            opened.reader.check()
            failures += 1


def _plan(opened: Opened, head: list[Any]) -> Plan:
    """Tell from the first packets where display times come from."""
    stream, name = opened.stream, opened.container.format.name
    codec, base = stream.codec_context, Fraction(stream.time_base)
    delayed = bool(codec.has_b_frames)
    unpacks = codec.name == "mpeg4" and (
        (name == "avi" and delayed) or any(_holds_two(packet) for packet in head)
    )
    missing = 2 * sum(packet.pts is not None for packet in head) < len(head) or not head
    # AVI stores no display times, raw streams none at all; where frames are reordered, those that
    # FFmpeg makes up are wrong, or start again where streams are joined.
    raw = name in ("m4v", "mpegvideo")
    made_up = delayed and (raw or (name == "avi" and codec.name in ("h264", "hevc")))
    known = base <= LONGEST_TICK and not (missing or made_up or unpacks)
    shuffled = False
    if known:
        times = [packet.pts for packet in head if packet.pts is not None]
        twice, rising = len(set(times)) < len(times), sorted(times) == times
        # Looked at only where there is a sign: times that are there twice, or times in the order
        # of decoding though the decoder holds pictures back.
        suspect = delayed and (twice or rising) and not _restarts(stream, head)
        rank = ranker(stream) if suspect and _ranks(stream, head, False) else None
        shuffled = rank is not None and not is_ordered(head, rank)
        shuffled |= delayed and not rising and is_plain(head, ranker(stream))
        if rank is not None and twice and not shuffled:
            return Plan("sorted", base, slots="pts", warning="several frames have the same time")
        if not shuffled:
            return Plan("given", base)
    if delayed and not _ranks(stream, head, unpacks):
        if known or (base <= LONGEST_TICK and not missing):
            return Plan("given", base, unpacks)
        return Plan("counted", 1 / numbered_rate(stream), unpacks)
    for slots in ("pts", "dts") if shuffled else ("dts",):
        steps = [getattr(packet, slots) for packet in head]
        usable = base <= LONGEST_TICK and head and not raw
        if usable and None not in steps and sorted(set(steps)) == steps:
            warning = "display times are in disorder: decode times are used" if shuffled else None
            return Plan("sorted", base, unpacks, slots, warning)
    rate = numbered_rate(stream)
    warning = f"frames have no times of their own: numbered at {float(rate):g} a second"
    return Plan("numbered", 1 / rate, unpacks, warning=None if name in _RAW else warning)


def _restarts(stream: Any, head: list[Any]) -> bool:
    """Whether decode times start again."""
    steps = [packet.dts for packet in head if packet.dts is not None]
    back = max((a - b for a, b in pairwise(steps)), default=0)
    return bool(back * stream.time_base > RESTART_SECONDS)


def _ranks(stream: Any, head: list[Any], unpacks: bool) -> bool:
    """Whether the order of the pictures can be read from their packets."""
    rank = ranker(stream)
    if rank is None:
        return False
    try:
        for packet in head:
            rank(packet)
    except (UnorderedError, IndexError):
        return unpacks  # an empty packet follows each packed one
    return True


def _holds_two(packet: Any) -> bool:
    """Whether an MPEG-4 packet holds two pictures."""
    data = bytes(memoryview(packet))
    first = data.find(_VOP)
    return first >= 0 and data.find(_VOP, first + 4) >= 0


def _unpacked(stream: Any, found: Iterator[Any]) -> Iterator[Any]:
    """MPEG-4 packets with one picture each."""
    unpack = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    for packet in found:
        try:
            yield from unpack.filter(packet)
        except av.error.FFmpegError:
            yield packet


def _timed(
    opened: Opened, found: Iterator[Any], number: int = 0, true: int | None = None, shift: int = 0
) -> Iterator[Any]:
    """Packets with display times.

    Args:
        opened: The container, whose plan is known.
        found: Packets from the start or from a key frame on.
        number: Packets with a picture before them.
        true: Display time of the first packet where the container's clock may be another one.
        shift: Ticks by which the container's times are too early after a seek.
    """
    plan, stream = opened.plan, opened.stream
    assert plan is not None
    if plan.unpacks:
        found = _unpacked(stream, found)
    clock = _Clock(opened, plan, true, shift)
    if plan.source in ("sorted", "numbered"):
        numbers = count(number)
        rank = ranker(stream) if stream.codec_context.has_b_frames else None

        def slot_of(packet: Any) -> int:
            return next(numbers) if plan.source == "numbered" else clock.slot(packet)

        found = _straight(found, slot_of) if rank is None else in_order(found, rank, slot_of)
    for packet in found:
        if plan.source == "numbered":
            packet.duration = 1
        clock.adjust(packet)
        yield packet


def _straight(found: Iterator[Any], slot_of: Callable[[Any], int]) -> Iterator[Any]:
    for packet in found:
        packet.pts = slot_of(packet)
        yield packet


class _Clock:
    """Makes display times of packets distinct and keeps them going on where they start again."""

    def __init__(self, opened: Opened, plan: Plan, true: int | None = None, shift: int = 0) -> None:
        self._opened = opened
        self._given = plan.source == "given"
        self._slots = plan.slots
        # Edit lists step back too, but FFmpeg has put their times in order.
        self._restarts = opened.container.format.name != MOV
        self.offsets = [0]  # ticks by which times were moved, one more for each restart
        self._true = true
        self._counts_anew = opened.container.format.name in _RAW
        self._delayed = bool(opened.stream.codec_context.has_b_frames)
        self._vp8 = opened.stream.codec_context.name == "vp8"
        self._back = int(RESTART_SECONDS / opened.stream.time_base)
        self._most = min(_MOST_TICKS, int(MOST_SECONDS / opened.stream.time_base))
        self._offset = 0
        self._shift = shift
        self._last: int | None = None
        self._end: int | None = None
        self._highest: int | None = None
        self._recent: deque[int] = deque(maxlen=_RECENT)

    def slot(self, packet: Any) -> int:
        """The time of a packet that `sorted` goes by."""
        tick, last = self._sane(getattr(packet, self._slots)), self._last
        if tick is None or (last is not None and tick <= last and self._slots == "dts"):
            tick = 0 if last is None else last + 1
        self._last = tick
        return tick

    def adjust(self, packet: Any) -> None:
        if self._vp8 and not _shown(packet):
            packet.pts = None
        elif self._given:
            self._follow(packet)

    def _follow(self, packet: Any) -> None:
        dts, pts = self._sane(packet.dts), self._sane(packet.pts)
        if pts is None:
            pts = dts
        if self._true is not None and pts is not None:
            # Where a seek kept the clock, only the key frame itself may have been moved.
            if self._counts_anew or abs(self._true - pts) > self._back:
                self._offset = self._true - pts
            else:
                pts = self._true
            self._true = None
        if dts is not None:
            back = self._restarts and self._last is not None and dts < self._last - self._back
            if back and self._end is not None:
                if not self._opened.restarts:
                    self._opened.warn("times start again (joined recordings): they are counted on")
                self._offset = self._end - (dts if pts is None else pts)
                self._opened.restarts += 1
                self.offsets.append(self._offset)
            self._last = dts
        if pts is not None and self._offset:
            pts = self._sane(pts + self._offset)
        if pts is None:
            pts = self._end  # a time that is missing or absurd: right after what came before
        if pts is None or packet.is_discard:
            packet.pts = pts
            return
        # Most times are later than all before them.
        if self._highest is not None and pts <= self._highest:
            if not self._delayed:
                pts = self._highest + 1  # frames are shown as they are decoded
                self._opened.moved = True
            elif pts in self._recent and not self._opened.disordered:
                # Which of them is shown first, only the decoder can tell.
                self._opened.disordered = self._opened.moved = True
                self._opened.warn("several frames have the same time: they are shown in turn")
            while pts in self._recent:
                pts += 1
        if self._highest is None or pts > self._highest:
            self._highest = pts
        if pts != packet.pts:
            packet.pts = pts
        self._recent.append(pts)
        end = pts + (packet.duration or 1)
        if self._end is None or end > self._end:
            self._end = end

    def _sane(self, tick: int | None) -> int | None:
        """A time as a full pass gives it, None where damage made it larger than can be."""
        return None if tick is None or abs(tick) > self._most else tick + self._shift


def _shown(packet: Any) -> bool:
    """Whether a VP8 packet is a picture to show: bit 4 of its first byte (RFC 6386, 9.1)."""
    return bool(memoryview(packet)[0] & 0x10)


class Restarts:
    """Follows the times of picture packets, to move those of the sound as theirs are moved.

    Args:
        opened: The container; it stands at its start.
    """

    def __init__(self, opened: Opened) -> None:
        self._base = float(opened.base)
        self._clock = _Clock(opened, Plan("given", opened.base))

    def follow(self, packet: Any) -> None:
        """The next picture packet."""
        self._clock.adjust(packet)

    @property
    def offsets(self) -> list[float]:
        """Seconds by which times are moved: zero, and one more value for each restart."""
        return [offset * self._base for offset in self._clock.offsets]
