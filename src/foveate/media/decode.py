"""A forward cursor over a picture stream that decodes no more than the asked times need.

Packets are planned before they are fed: with some packets of look-ahead the cursor knows which
frame is shown at each asked time. A packet is left out when no later frame of its group is asked
for, and non-reference frames that nobody asked for are skipped inside the decoder.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av.error

from foveate.core import LimitError, MediaError, Meter
from foveate.media.container import open_video, prepare_decoder
from foveate.media.index import Index, packets
from foveate.media.limits import Limits
from foveate.media.source import Reader

LOOKAHEAD = 32  # packets; more than the 16 frames by which any codec reorders
HOLD_SECONDS = 10.0  # a frame is shown at most this long; a longer pause is a gap
JUMP_SECONDS = 1.0  # shorter steps forward never ask for the index
AMPLIFIED_PIXELS = 1_000_000_000  # pixels decoded before `pixels_per_byte` is looked at


class Cursor:
    """Decodes the frames shown at ascending ticks; going back seeks.

    Args:
        open_reader: Opens the source from its start.
        limits: Bounds on work.
        threads: Slice threads of the decoder.
        meter: Counts decoded frames, fed packets and bytes.
        find_index: Gives the index when a jump makes it worth having.
        warn: Takes one line about damage.
    """

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        limits: Limits,
        threads: int,
        meter: Meter,
        find_index: Callable[[], Index | None],
        warn: Callable[[str], None],
    ) -> None:
        self._open_reader = open_reader
        self._limits = limits
        self._threads = threads
        self._meter = meter
        self._find_index = find_index
        self._warn = warn
        self._pixels = 0
        self._counted = False  # no timestamps in the source: frames are numbered
        self._open()
        self._fill()
        self._counted = not any(p.pts is not None for p in self._ahead)
        rate = self.stream.average_rate or self.stream.guessed_rate
        self.rate = Fraction(rate) if rate else Fraction(25)
        self.time_base = 1 / self.rate if self._counted else Fraction(self.stream.time_base)
        shown = [p.pts for p in self._ahead if p.pts is not None and not p.is_discard]
        self.origin = min(shown, default=0)
        self.has_times = not self._counted
        self._hold = int(HOLD_SECONDS / self.time_base)

    def close(self) -> None:
        """Release the decoder and the file."""
        self._opened.close()

    def at(self, ticks: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """For each tick (ascending) with a frame shown at it: `(frame tick, av.VideoFrame)`."""
        self._targets = list(ticks)
        for position, tick in enumerate(self._targets):
            following = self._targets[position + 1] if position + 1 < len(ticks) else None
            self._advance(tick, following)
            if self._current is not None:
                shown, frame = self._current
                if shown <= tick < shown + self._hold and not self._lost(tick):
                    yield shown, frame

    def next_tick(self, after: int) -> int | None:
        """Tick of the first frame later than `after`, None at the end."""
        self._targets = []
        self._advance(after, None)
        while not self._out and self._feed():
            pass
        return self._out[0][0] if self._out else None

    # --- position -------------------------------------------------------------------------

    def _open(self) -> None:
        self._opened = open_video(self._open_reader, self._limits)
        self.stream = self._opened.stream
        prepare_decoder(self._opened, self._limits, self._threads)
        self._codec = self.stream.codec_context
        self._bytes_seen = 0
        self._clear()

    def _clear(self) -> None:
        self._packets = packets(self._opened)
        self._ahead: deque[Any] = deque()
        self._seen: list[int] = []  # display ticks of packets in and shortly before the look-ahead
        self._out: deque[tuple[int, Any]] = deque()
        self._current: tuple[int, Any] | None = None
        self._until: dict[int, float] = {}  # wanted frame -> tick at which the next one replaces it
        self._ended = self._drained = False
        self._fed = self._number = 0
        self._fed_until: int | None = None
        self._targets: list[int] = []

    def _rewind(self) -> None:
        """Back to the first packet; a source that cannot seek is opened again."""
        targets = self._targets
        try:
            self._opened.container.seek(self.origin, stream=self.stream)
            self._clear()
            self._fill()
            first = min((p.pts for p in self._ahead if p.pts is not None), default=None)
            if self._counted or first is None or first > self.origin:
                raise MediaError("not at the start")
        except (av.error.FFmpegError, MediaError):
            self._opened.close()
            self._open()
        self._targets = targets

    def _seek(self, tick: int) -> None:
        """Stand at the last key frame at or before `tick`."""
        targets, index = self._targets, None if self._counted else self._find_index()
        key = index.key_at(tick) if index else None
        for _ in range(3):
            if key is None or index is None:
                break
            self._opened.container.seek(key, stream=self.stream)
            self._clear()
            self._targets = targets
            self._fill()
            first = next((p.pts for p in self._ahead if p.is_keyframe), None)
            if first is not None and first <= tick:
                return
            # The key frame found is shown after `tick` (its time was an estimate): one further back.
            key = index.key_at(key - 1)
        self._rewind()

    def _advance(self, tick: int, following: int | None) -> None:
        """Make `_current` the frame shown at `tick`; go on feeding until that is certain."""
        if self._must_seek(tick):
            self._seek(tick)
        started = time.process_time()
        while True:
            while self._out and self._out[0][0] <= tick:
                self._current = self._out.popleft()
            if self._out or self._is_shown(tick):
                return
            if not self._drained and self._is_fed(tick) and self._better_drain(tick, following):
                self._drain()
                continue
            if self._drained and self._ahead:
                return
            if not self._feed():
                return
            self._check_work(started)

    def _must_seek(self, tick: int) -> bool:
        if self._current is not None and self._current[0] > tick:
            return True
        if self._is_shown(tick):
            return False
        if self._drained:
            return bool(self._ahead)
        if self._out and self._out[0][0] <= tick:
            return False
        position = self._fed_until
        if position is None:
            position = self._ahead[0].pts if self._ahead else None
        if position is None or tick - position <= JUMP_SECONDS / self.time_base:
            return False
        return self._key_between(position, tick)

    def _key_between(self, position: int, tick: int) -> bool:
        """Whether a key frame lies in `(position, tick]`, so that seeking saves decoding."""
        index = None if self._counted else self._find_index()
        key = index.key_at(tick) if index else None
        return key is not None and key > position

    def _is_shown(self, tick: int) -> bool:
        if self._current is None:
            return False
        return self._current[0] <= tick < self._until.get(self._current[0], -1)

    def _is_fed(self, tick: int) -> bool:
        """Whether the packet of the frame shown at `tick` was given to the decoder."""
        return any(start <= tick < end for start, end in self._until.items())

    def _lost(self, tick: int) -> bool:
        """Whether the frame that should be shown at `tick` was fed but never came out."""
        assert self._current is not None
        wanted = [key for key in self._until if self._current[0] < key <= tick]
        return bool(wanted)

    def _better_drain(self, tick: int, following: int | None) -> bool:
        """Whether to empty the decoder now: nothing after the wanted frame will be needed."""
        if self._counted:
            return False
        if following is None:
            return self._fed == 1  # a lone key frame: cheaper to decode again than to push out
        return self._key_between(self._fed_until or tick, following)

    # --- feeding --------------------------------------------------------------------------

    def _fill(self) -> None:
        while not self._ended and len(self._ahead) < LOOKAHEAD:
            packet = next(self._packets, None)
            if packet is None:
                self._ended = True
            else:
                self._ahead.append(packet)
                if packet.pts is not None and not packet.is_discard:
                    insort(self._seen, packet.pts)
        read = self._opened.reader.bytes
        self._meter.bytes += read - self._bytes_seen
        self._bytes_seen = read

    def _shown_until(self, pts: int) -> float:
        at = bisect_right(self._seen, pts)
        return self._seen[at] if at < len(self._seen) else pts + self._hold

    def _need(self, packet: Any) -> bool | None:
        """Whether an asked frame is in this packet; None where later calls may still ask."""
        pts = packet.pts
        if pts is None or self._counted or packet.is_discard:
            return None
        if not self._targets or pts > self._targets[-1]:
            return None
        at = bisect_left(self._targets, pts)
        return at < len(self._targets) and self._targets[at] < self._shown_until(pts)

    def _skip_tail(self) -> None:
        """Leave out packets after which no frame of their group is needed."""
        while self._ahead and self._need(self._ahead[0]) is False:
            count = self._tail()
            if not count:
                return
            for _ in range(count):
                self._ahead.popleft()
            self._fill()

    def _tail(self) -> int:
        """Number of packets up to the next key frame, 0 if one of them is needed or it is far."""
        key: Any = None
        count = 0
        for packet in self._ahead:
            if key is None and count and packet.is_keyframe:
                key = packet
                continue
            if key is not None and (packet.pts is None or packet.pts > key.pts):
                return count
            # Frames behind the key frame but shown before it lean on the group that would go.
            if self._need(packet) is not False:
                return 0
            count += key is None
        return count if key is not None else 0

    def _feed(self) -> bool:
        """Give the decoder its next packet; False when nothing is left."""
        self._fill()
        self._skip_tail()
        if not self._ahead:
            if self._drained:
                return False
            self._drain()
            return bool(self._out)
        packet = self._ahead.popleft()
        need = self._need(packet)
        if need:
            self._until[packet.pts] = self._shown_until(packet.pts)
        if packet.pts is not None:
            self._fed_until = max(packet.pts, self._fed_until or packet.pts)
            self._forget(packet.pts)
        self._codec.skip_frame = "NONREF" if need is False else "DEFAULT"
        self._fed += 1
        self._meter.packets += 1
        self._collect(packet)
        return True

    def _forget(self, pts: int) -> None:
        """Keep the notes short: drop what lies well before the packet just fed."""
        if len(self._seen) > 4 * LOOKAHEAD:
            del self._seen[: len(self._seen) - 3 * LOOKAHEAD]
        if len(self._until) > LOOKAHEAD and self._current is not None:
            shown = self._current[0]
            self._until = {key: end for key, end in self._until.items() if key >= shown}

    def _drain(self) -> None:
        self._collect(None)
        self._codec.flush_buffers()
        self._drained = True

    def _collect(self, packet: Any) -> None:
        try:
            frames = self._codec.decode(packet)
        except (av.error.FFmpegError, ValueError) as error:
            # `max_pixels` and damaged data both surface here; the stream goes on without.
            self._warn(f"damaged data was skipped ({type(error).__name__})")
            return
        for frame in frames:
            self._meter.frames += 1
            self._pixels += frame.width * frame.height
            if frame.is_corrupt:
                self._warn("frames with decoding errors")
            pts = self._number if self._counted else frame.pts
            self._number += 1
            if pts is not None and (not self._out or pts > self._out[-1][0]):
                self._out.append((pts, frame))

    def _check_work(self, started: float) -> None:
        label = self._opened.reader.label
        stall = self._limits.stall_seconds
        if stall is not None and time.process_time() - started > stall:
            raise LimitError(
                f"{label}: {stall:g} seconds of decoding gave no wanted frame",
                "raise limits.stall_seconds if you trust the file",
            )
        ratio = self._limits.pixels_per_byte
        read = max(self._meter.bytes, 1)
        if ratio and self._pixels > AMPLIFIED_PIXELS and self._pixels / read > ratio:
            raise LimitError(
                f"{label}: decodes to {self._pixels // read} pixels per byte, "
                f"the limit is {ratio:g}",
                "raise limits.pixels_per_byte if you trust the file",
            )
