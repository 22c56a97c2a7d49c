"""The packets that come next, and what their times say before anything is decoded."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Container, Iterator
from itertools import chain
from typing import Any

LOOKAHEAD = 32  # packets
FURTHEST = 8 * LOOKAHEAD  # packets that are read to find a key frame before they are decoded
REORDER = 16  # frames by which any codec moves a frame in display order
_KEPT = 4 * LOOKAHEAD  # display times that are remembered


class Lookahead:
    """A queue of packets in decode order with the display times in and shortly before it.

    Args:
        packets: Packets of one picture stream in decode order.
        hold: Ticks for which a frame is shown at most; a longer pause is a gap.
        from_start: Whether the packets are the first ones of the stream.

    Attributes:
        queue: Packets that were read but neither decoded nor dropped.
        fate: Display time of a packet that left the queue → whether its frame will come out.
        gone: How many packets left the queue.
    """

    def __init__(self, packets: Iterator[Any], hold: int, from_start: bool) -> None:
        self._packets = packets
        self._complete = from_start  # no earlier display time is missing
        self._hold = hold
        self._seen: list[int] = []
        self._keys: deque[tuple[int, int]] = deque()  # (serial number, display time) in the queue
        self._read = self.gone = 0
        self._end = 0
        self._ended = False
        self.queue: deque[Any] = deque()
        self.fate: dict[int, bool] = {}

    def fill(self, most: int = LOOKAHEAD) -> None:
        """Read packets until the queue is full or the source ends."""
        while not self._ended and len(self.queue) < most:
            packet = next(self._packets, None)
            if packet is None:
                self._ended = True
                return
            self.queue.append(packet)
            pts = packet.pts
            if pts is not None and not packet.is_discard:
                if packet.is_keyframe:
                    self._keys.append((self._read, pts))
                self._note(pts, packet.duration)
            self._read += 1

    def rest(self) -> Iterator[Any]:
        """All packets that follow: of the queue, then of the source."""
        return chain(list(self.queue), self._packets)

    def pop(self, comes_out: bool) -> Any:
        """Take the next packet, noting whether its frame will come out."""
        packet = self.queue.popleft()
        if self._keys and self._keys[0][0] == self.gone:
            self._keys.popleft()
        self.gone += 1
        if packet.pts is not None and not packet.is_discard:
            self.fate[packet.pts] = comes_out
            if len(self._seen) > _KEPT:
                self._forget()
        return packet

    def read_on(self, tick: int, furthest: int) -> None:
        """Read packets up to a time less than `furthest` ticks ahead: a key may come before it."""
        last, size = self.last, -1
        while last is not None and last < tick <= last + furthest and len(self.queue) > size:
            size = len(self.queue)
            self.fill(min(size + LOOKAHEAD, FURTHEST))
            last = self.last

    def drop_to(self, key: int) -> None:
        """Drop packets up to the key frame of that time."""
        while self.queue and not self.holds_key(key):
            self.pop(comes_out=False)
            self.fill()
        for _ in range(self.before_key(key)):
            self.pop(comes_out=False)

    @property
    def last(self) -> int | None:
        """The latest display time that was read."""
        return self._seen[-1] if self._seen else None

    @property
    def end(self) -> int | None:
        """Tick at which the last frame ends, None while it is not known."""
        return self._end if self._ended and self._seen else None

    def shown_until(self, pts: int) -> int:
        """Display time at which the frame of `pts` is replaced, or held no longer."""
        at = bisect_right(self._seen, pts)
        if at < len(self._seen):
            return min(self._seen[at], pts + self._hold)
        return self._end if self._ended else pts + self._hold

    def shown_at(self, tick: int) -> tuple[bool, int | None]:
        """Whether it is certain which frame is shown at `tick`, and its display time.

        None stands for no frame: before the first, in a gap, or past the end.
        """
        at = bisect_right(self._seen, tick)
        certain = self._ended or at <= len(self._seen) - REORDER
        if not at or tick >= self.shown_until(self._seen[at - 1]):
            return certain, None
        return certain, self._seen[at - 1]

    def next_after(self, tick: int) -> tuple[bool, int | None]:
        """Whether it is certain which frame is the first later than `tick`, and its time."""
        at = bisect_right(self._seen, tick)
        certain = self._ended or at <= len(self._seen) - REORDER
        return certain, self._seen[at] if at < len(self._seen) else None

    def forgot(self, tick: int) -> bool:
        """Whether `tick` lies before all that is remembered, but not before all there was."""
        return not self._complete and (not self._seen or tick < self._seen[0])

    def first_key(self) -> int | None:
        """Display time of the first key frame in the queue."""
        return self._keys[0][1] if self._keys else None

    def before_key(self, tick: int, avoid: Container[int] = ()) -> int:
        """Packets in the queue before the last key frame shown at or before `tick`; 0 if none."""
        found = 0
        for serial, pts in self._keys:
            if pts > tick:
                break
            if pts not in avoid:
                found = serial - self.gone
        return found

    def holds_key(self, pts: int) -> bool:
        """Whether the key frame of that time is in the queue."""
        return any(key == pts for _, key in self._keys)

    def _note(self, pts: int, duration: int | None) -> None:
        if not self._seen or pts >= self._seen[-1]:
            # The last frame lasts as long as its packet says, or as the frame before it did.
            step = pts - self._seen[-1] if self._seen else 1
            self._end = pts + min(duration or step or 1, self._hold)
            self._seen.append(pts)
        else:
            insort(self._seen, pts)

    def _forget(self) -> None:
        self._complete = False
        del self._seen[: len(self._seen) - 3 * LOOKAHEAD]
        self.fate = {pts: out for pts, out in self.fate.items() if pts >= self._seen[0]}
