"""The order in which pictures are shown, read from the first bits of their packets.

Containers without times (raw streams) or with decode times only (AVI) do not say when a picture of
a stream with B-frames is shown. The codecs do: H.264 (ITU-T H.264, 7.3 and 8.2.1) and HEVC (ITU-T
H.265, 7.3 and 8.3.1) by the picture order count, MPEG-1, 2 and 4 by the type of the picture.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

DEPTH = 17  # pictures that may wait for one that is shown earlier: one more than a codec allows
_HEADER = 96  # bytes of a slice in which the picture order count lies

# Profiles of H.264 whose sequence parameters describe the chroma format.
_HIGH = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})

Rank = tuple[int, int]  # pictures of a lower rank are shown earlier


class UnorderedError(Exception):
    """The order cannot be read: separate fields, a rare syntax, damage."""


class Ranker(Protocol):
    """Tells in decode order which picture is shown before which."""

    def __call__(self, packet: Any) -> Rank | None:
        """The rank of a picture; None if it is never shown."""


def ranker(stream: Any) -> Ranker | None:
    """What reads the order of a stream; None for codecs whose order is not read here."""
    codec = stream.codec_context
    if codec.name in ("mpeg1video", "mpeg2video", "mpeg4"):
        return _ByType(codec.name)
    if codec.name in ("h264", "hevc"):
        made = (_H264 if codec.name == "h264" else _Hevc)(codec.extradata or b"")
        return None if made.failed else made
    return None


def in_order(packets: Iterator[Any], rank: Ranker, slot_of: Callable[[Any], int]) -> Iterator[Any]:
    """Give packets their display times: the picture shown k-th gets the k-th slot.

    Equal slots are moved apart by a tick.

    Args:
        packets: In decode order, from the start or from a key frame.
        rank: Reads the order; where it fails, pictures count as shown when they are decoded.
        slot_of: The slot of a packet.

    Yields:
        The packets in the same order; those that are never shown without a display time.
    """
    waiting: deque[tuple[int, Any]] = deque()
    times: dict[int, int | None] = {}
    heap: list[tuple[Rank, int]] = []
    slots: list[int] = []
    last = (-1, 0)
    shown: int | None = None

    def settle(before: Rank | None) -> None:
        nonlocal shown
        while heap and (before is None or heap[0][0] < before or len(heap) > DEPTH):
            slot = heapq.heappop(slots)
            shown = slot if shown is None else max(slot, shown + 1)
            times[heapq.heappop(heap)[1]] = shown

    for serial, packet in enumerate(packets):
        try:
            place = rank(packet)
        except (UnorderedError, IndexError):
            place = last[0], last[1] + 1
        waiting.append((serial, packet))
        if place is None:
            times[serial] = None
        else:
            last = place
            heapq.heappush(slots, slot_of(packet))
            heapq.heappush(heap, (place, serial))
            settle((place[0], -(1 << 62)))
        while waiting and waiting[0][0] in times:
            number, ready = waiting.popleft()
            ready.pts = times.pop(number)
            yield ready
    settle(None)
    for number, ready in waiting:
        ready.pts = times.pop(number)
        yield ready


def is_ordered(packets: list[Any], rank: Ranker) -> bool:
    """Whether display times ascend with the order that the codec says; True if it cannot say."""
    found: list[tuple[Rank, int]] = []
    for packet in packets:
        try:
            place = rank(packet)
        except (UnorderedError, IndexError):
            return True
        if place is not None and packet.pts is not None:
            found.append((place, packet.pts))
    shown = [pts for _, pts in sorted(found)]
    return shown == sorted(shown)


def is_plain(packets: list[Any], rank: Ranker | None) -> bool:
    """Whether the codec says that pictures are shown as they are decoded; False if it cannot say.

    Ends at the first picture that is shown before the one decoded before it.
    """
    last: Rank | None = None
    for packet in packets:
        try:
            place = None if rank is None else rank(packet)
        except (UnorderedError, IndexError):
            return False
        if place is None or (last is not None and place < last):
            return False
        last = place
    return last is not None


class _ByType:
    """MPEG-1, 2 and 4: a B picture is shown before the reference that was decoded last."""

    def __init__(self, codec: str) -> None:
        self._mpeg4 = codec == "mpeg4"
        self._mark = b"\0\0\1\xb6" if self._mpeg4 else b"\0\0\1\0"
        self._references = 0
        self._number = 0

    def __call__(self, packet: Any) -> Rank | None:
        data = memoryview(packet)
        at = bytes(data[:4096]).find(self._mark)
        if at < 0:
            at = bytes(data).find(self._mark)
        if at < 0 or at + 6 > len(data):
            raise UnorderedError
        is_b = data[at + 4] >> 6 == 2 if self._mpeg4 else data[at + 5] >> 3 & 7 == 3
        self._number += 1
        if not is_b:
            self._references += 1
        # B pictures before a reference are of its number and lower within it.
        return self._references, self._number - (1 << 40) * is_b


class _ByCount:
    """The picture order count of H.264 and HEVC, with what both need to read it."""

    def __init__(self, extradata: bytes) -> None:
        self.failed = False
        self._sets: dict[int, Any] = {}  # sequence parameters by their number
        self._pictures: dict[int, Any] = {}  # picture parameters by their number
        self._sequence = 0
        self._msb = self._lsb = 0  # of the picture that the next count is relative to
        self._length = 0
        try:
            for unit in self._configured(extradata):
                self._configure(unit)
        except (UnorderedError, IndexError):
            self.failed = True

    def _configured(self, extradata: bytes) -> list[bytes]:
        """Parameter sets from a configuration record or from start codes."""
        raise NotImplementedError

    def _configure(self, unit: bytes) -> None:
        """Keep what a parameter set says."""
        raise NotImplementedError

    def _units(self, packet: Any) -> Iterator[bytes]:
        """The first bytes of each NAL unit."""
        data = memoryview(packet)
        if not self._length:
            yield from _split(bytes(data))
            return
        at = 0
        while at + self._length < len(data):
            size = int.from_bytes(data[at : at + self._length], "big")
            at += self._length
            yield bytes(data[at : at + min(size, 1024)])
            at += size

    def _count(self, lsb: int, bits: int, base: bool) -> int:
        """The picture order count of its low bits; `base`: later counts are relative to it."""
        half, msb = 1 << bits >> 1, self._msb
        if lsb < self._lsb and self._lsb - lsb >= half:
            msb += 2 * half
        elif lsb > self._lsb and lsb - self._lsb > half:
            msb -= 2 * half
        if base:
            self._msb, self._lsb = msb, lsb
        return msb + lsb


class _H264(_ByCount):
    def __init__(self, extradata: bytes) -> None:
        super().__init__(extradata)
        self._number = 0

    def __call__(self, packet: Any) -> Rank | None:
        for unit in self._units(packet):
            kind = unit[0] & 31 if unit else 0
            if kind in (7, 8):
                self._configure(unit)
            elif kind in (1, 5):
                return self._slice(unit, kind == 5)
        raise UnorderedError

    def _slice(self, unit: bytes, idr: bool) -> Rank:
        bits = _Bits(unit[1:_HEADER])
        bits.ue(), bits.ue()
        planes, frame_bits, count_type, count_bits, whole = self._sets[self._of(bits.ue())]
        bits.u(2 * planes + frame_bits)
        if not whole and bits.u(1):
            raise UnorderedError  # fields come in packets of their own
        if idr:
            bits.ue()
            self._sequence += 1
            self._msb = self._lsb = 0
        self._number += 1
        if count_type == 2:
            return self._sequence, self._number
        lsb = bits.u(count_bits)
        return self._sequence, self._count(lsb, count_bits, bool(unit[0] >> 5 & 3))

    def _of(self, picture: int) -> int:
        if picture not in self._pictures or self._pictures[picture] not in self._sets:
            raise UnorderedError
        return int(self._pictures[picture])

    def _configured(self, extradata: bytes) -> list[bytes]:
        if extradata[:1] != b"\1":
            return list(_split(extradata))
        self._length = (extradata[4] & 3) + 1
        found, at = [], 5
        for mask in (31, 255):
            count = extradata[at] & mask
            at += 1
            for _ in range(count):
                size = int.from_bytes(extradata[at : at + 2], "big")
                found.append(extradata[at + 2 : at + 2 + size])
                at += 2 + size
        return found

    def _configure(self, unit: bytes) -> None:
        kind, bits = unit[0] & 31, _Bits(unit[1:])
        if kind == 8:
            number = bits.ue()
            self._pictures[number] = bits.ue()
        elif kind == 7:
            profile = bits.u(8)
            bits.u(16)
            number, planes = bits.ue(), 0
            if profile in _HIGH:
                chroma = bits.ue()
                planes = bits.u(1) if chroma == 3 else 0
                bits.ue(), bits.ue(), bits.u(1)
                if bits.u(1):
                    for at in range(12 if chroma == 3 else 8):
                        if bits.u(1):
                            bits.scaling_list(16 if at < 6 else 64)
            frame_bits, count_type = bits.ue() + 4, bits.ue()
            if count_type == 1:
                raise UnorderedError
            count_bits = bits.ue() + 4 if count_type == 0 else 0
            bits.ue(), bits.u(1), bits.ue(), bits.ue()
            self._sets[number] = planes, frame_bits, count_type, count_bits, bits.u(1)


class _Hevc(_ByCount):
    def __init__(self, extradata: bytes) -> None:
        super().__init__(extradata)
        self._first = True

    def __call__(self, packet: Any) -> Rank | None:
        for unit in self._units(packet):
            kind = unit[0] >> 1 & 63 if len(unit) > 2 else 63
            if kind in (33, 34):
                self._configure(unit)
            elif kind < 10 or 16 <= kind < 24:
                return self._slice(unit, kind)
        raise UnorderedError

    def _slice(self, unit: bytes, kind: int) -> Rank | None:
        bits = _Bits(unit[2:_HEADER])
        if not bits.u(1):
            raise UnorderedError
        if 16 <= kind < 24:
            bits.u(1)
        number = bits.ue()
        if number not in self._pictures or self._pictures[number][0] not in self._sets:
            raise UnorderedError
        sequence, extra, hides = self._pictures[number]
        planes, count_bits = self._sets[sequence]
        bits.u(extra)
        bits.ue()
        shown = bits.u(1) if hides else 1
        bits.u(2 * planes)
        idr = kind in (19, 20)
        fresh = self._first or idr or kind in (16, 17, 18)
        self._sequence += fresh
        self._first = False
        lsb = 0 if idr else bits.u(count_bits)
        if fresh:
            self._msb, self._lsb, count = 0, lsb, lsb
        else:
            base = unit[1] & 7 == 1 and not 6 <= kind <= 9 and (kind >= 16 or kind % 2 == 1)
            count = self._count(lsb, count_bits, base)
        return (self._sequence, count) if shown else None

    def _configured(self, extradata: bytes) -> list[bytes]:
        if extradata[:1] != b"\1":
            return list(_split(extradata))
        self._length = (extradata[21] & 3) + 1
        found, at = [], 23
        for _ in range(extradata[22]):
            count = int.from_bytes(extradata[at + 1 : at + 3], "big")
            at += 3
            for _ in range(count):
                size = int.from_bytes(extradata[at : at + 2], "big")
                found.append(extradata[at + 2 : at + 2 + size])
                at += 2 + size
        return found

    def _configure(self, unit: bytes) -> None:
        kind, bits = unit[0] >> 1 & 63, _Bits(unit[2:])
        if kind == 34:
            number, sequence = bits.ue(), bits.ue()
            bits.u(1)
            hides, extra = bits.u(1), bits.u(3)
            self._pictures[number] = sequence, extra, hides
        elif kind == 33:
            bits.u(4)
            layers = bits.u(3)
            bits.u(1 + 96)
            flags = [(bits.u(1), bits.u(1)) for _ in range(layers)]
            bits.u(2 * (8 - layers) if layers else 0)
            for profile, level in flags:
                bits.u(88 * profile + 8 * level)
            number = bits.ue()
            planes = bits.u(1) if bits.ue() == 3 else 0
            bits.ue(), bits.ue()
            if bits.u(1):
                bits.ue(), bits.ue(), bits.ue(), bits.ue()
            bits.ue(), bits.ue()
            self._sets[number] = planes, bits.ue() + 4


def _split(data: bytes) -> Iterator[bytes]:
    """NAL units behind their start codes; of long ones the first kilobyte."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        after = data.find(b"\0\0\1", at + 3)
        yield data[at + 3 : min(at + 1027, len(data) if after < 0 else after)]
        at = after


class _Bits:
    """Reads bit strings and Exp-Golomb codes, emulation bytes taken out."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def u(self, width: int) -> int:
        """The next `width` bits."""
        self._left -= width
        if self._left < 0:
            raise UnorderedError
        return self._value >> self._left & ((1 << width) - 1)

    def ue(self) -> int:
        """An unsigned Exp-Golomb code."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise UnorderedError
        return (1 << zeros) - 1 + self.u(zeros)

    def scaling_list(self, size: int) -> None:
        """Read past one (ITU-T H.264, 7.3.2.1.1.1)."""
        last = following = 8
        for _ in range(size):
            if following:
                code = self.ue()
                following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
            last = following or last
