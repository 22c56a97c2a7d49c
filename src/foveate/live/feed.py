"""The frames of one connection on their way from the reader to the loop, each accounted for."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import Clip, NotYet, SampleInfo
from foveate.live.step import DropCause
from foveate.media import ArrayVideo
from foveate.media.live import LiveFrame

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

QUEUE = 16  # frames between reader and loop
MAX_LAG = 0.25  # seconds that a frame may wait for the loop, which then skips to the newest one
_TOLERANCE = 2e-3  # seconds; times of containers are rounded
_SHOWN = 0.9  # of a frame's duration, for which no later frame is waited for

Convert = Callable[[Any, "tuple[int, int] | None"], "Pixels"]


@dataclass
class FrameLedger:
    """What became of the frames of a camera: received = looked at + dropped + in the queue.

    Attributes:
        received: Frames that came, those that could not be decoded too.
        looked: Frames that the model was shown.
        dropped: Others by cause, see `StepResult.dropped`.
    """

    received: int = 0
    looked: int = 0
    dropped: Counter[DropCause] = field(default_factory=Counter)

    def copy(self) -> FrameLedger:
        """The counts of now."""
        return FrameLedger(self.received, self.looked, Counter(self.dropped))


class Feed:
    """A bounded queue between a reader thread and the loop, for one epoch of a camera.

    The loop asks for times of its own: they are those of the source as long as it keeps up. What
    it misses is cut out of its time, so that a slow model sees fewer frames and always the newest.

    Args:
        camera: Name of the camera.
        epoch: Number of the connection.
        info: What is known of the source.
        convert: Makes pixels of a picture at a `(width, height)`.
        ledger: Of the camera; guarded by `lock`.
        lock: Guards everything here; it is notified when something changes.
        live: Whether frames that are not taken are lost; otherwise the reader waits.
        capacity: Frames that are kept.
        max_lag: Seconds that a frame may wait for the loop, which then skips to the newest one.

    Attributes:
        ended: Whether the connection is over.
        stretch: How many times longer than usual the loop shall wait between two frames.
        shown: The frame that was looked at last.
    """

    def __init__(
        self,
        camera: str,
        epoch: int,
        info: SampleInfo,
        convert: Convert,
        ledger: FrameLedger,
        lock: threading.Condition,
        *,
        live: bool = True,
        capacity: int = QUEUE,
        max_lag: float = MAX_LAG,
    ) -> None:
        self.camera, self.epoch, self.info, self.convert = camera, epoch, info, convert
        self.ended = self.closed = False
        self.stretch = 1.0
        self.shown: LiveFrame | None = None
        self._ledger, self._lock = ledger, lock
        self._live, self._capacity, self._max_lag = live, capacity, max_lag
        self._frames: deque[LiveFrame] = deque()
        self._count = 0
        self._period = 1 / info.rate if info.rate else 0.04
        self._skipped = 0.0  # seconds that were cut out of the loop's time
        self._asked = self._plain = -1.0  # time of the source that the loop asks for
        self._last = (-1.0, 0.0)  # the loop's time of the last answer, and that of the source

    # --- called by the reader -------------------------------------------------------------

    def put(self, frame: LiveFrame, stopped: Callable[[], bool]) -> None:
        """Add the newest frame; where the queue is full the oldest one is dropped, or waited for.

        Args:
            frame: It was counted as received.
            stopped: Whether waiting is pointless.
        """
        with self._lock:
            while not self._live and len(self._frames) >= self._capacity:
                self._discard()
                if len(self._frames) < self._capacity or self.closed or stopped():
                    break
                self._lock.wait(0.1)
            if self.closed:
                self._ledger.dropped["end"] += 1
                return
            frame.number = self._count
            self._count += 1
            if self._frames and self.info.rate is None:
                passed = frame.time - self._frames[-1].time
                self._period += 0.2 * (passed - self._period)
            self._frames.append(frame)
            self._discard()
            if len(self._frames) > self._capacity:
                self._drop(self._frames.popleft(), "queue")
            self._lock.notify_all()

    def end(self) -> None:
        """No further frames come; those in the queue may still be looked at."""
        with self._lock:
            self.ended = True
            self._lock.notify_all()

    # --- called by the loop ---------------------------------------------------------------

    def select(self, seconds: float) -> LiveFrame | None:
        """The frame for a time of the loop; None where the connection ended before.

        Raises:
            NotYet: It has not come.
        """
        with self._lock:
            if self.shown is not None and seconds <= self._last[0] + 1e-6:
                return self.shown
            if self.closed:
                return None
            before, at = self._last
            self._plain = wanted = seconds + self._skipped
            if self.stretch > 1 and self.shown is not None:
                wanted = max(wanted, at + (seconds - before) * self.stretch)
            self._asked = wanted
            self._discard()
            self._lock.notify_all()
            chosen = self._newest(wanted) or self._due(wanted)
            if chosen is None:
                return None
            self._skipped = max(wanted, chosen.time) - seconds if self._live else self._skipped
            while self._frames[0] is not chosen:
                self._drop(self._frames.popleft(), "overload")
            if not chosen.looked:
                chosen.looked = True
                self._ledger.looked += 1
            self.shown, self._last = chosen, (seconds, wanted)
            return chosen

    def _newest(self, wanted: float) -> LiveFrame | None:
        """The newest frame if the loop is too late for the one that is due.

        Lateness is counted from the receipt: frames that arrive in bursts are not late.
        """
        first = next((frame for frame in self._frames if not frame.looked), None)
        if not self._live or first is None or self._frames[-1].time <= wanted:
            return None
        return self._frames[-1] if time.monotonic() - first.tick > self._max_lag else None

    def _due(self, wanted: float) -> LiveFrame | None:
        if not self._frames:
            if self.ended:
                return None
            raise NotYet(wanted, self._changed())
        first = self._frames[0]
        over = first.time + self._period <= wanted + _TOLERANCE
        # Without a later frame, one is known to be shown for about its duration.
        if len(self._frames) == 1 and first.time + _SHOWN * self._period <= wanted:
            if not self.ended:
                raise NotYet(wanted, self._changed())
            return None if over else first
        return first

    def next_time(self, after: float) -> float | None:
        """The loop's time of the first frame after that time; None if there will be none.

        Raises:
            NotYet: It has not come.
        """
        with self._lock:
            wanted = after + self._skipped
            for frame in self._frames:
                if frame.time > wanted + 1e-9:
                    return frame.time - self._skipped
            if self.ended or self.closed:
                return None
            raise NotYet(wanted, self._changed())

    def numbered(self, number: int) -> LiveFrame | None:
        """The frame of that number; None if it is gone, or never comes.

        Raises:
            NotYet: It has not come.
        """
        with self._lock:
            for frame in self._frames:
                if frame.number == number:
                    return frame
            if number >= self._count and not (self.ended or self.closed):
                raise NotYet(None, self._changed())
            return None

    def loop_time(self, frame: LiveFrame) -> float:
        """The loop's time of a frame."""
        return frame.time - self._skipped

    def close(self) -> None:
        """Nothing is looked at any more; what is in the queue is dropped."""
        with self._lock:
            self.closed = True
            while self._frames:
                self._drop(self._frames.popleft(), "end")
            self._lock.notify_all()

    def queued(self) -> int:
        """Frames in the queue that were not looked at yet."""
        with self._lock:
            return sum(not frame.looked for frame in self._frames)

    @property
    def received(self) -> int:
        """Frames of this epoch so far."""
        return self._count

    # --- inside -----------------------------------------------------------------------------

    def _changed(self) -> Callable[[], bool]:
        """Whether anything has come since now: asking again before is pointless."""
        count, stretch = self._count, self.stretch
        return lambda: self._count != count or self.ended or self.closed or self.stretch != stretch

    def _discard(self) -> None:
        """Drop frames that were not chosen because a later one is shown at the asked time."""
        while len(self._frames) > 1 and self._frames[1].time <= self._asked + _TOLERANCE:
            later = self._frames[1].time > self._plain + _TOLERANCE
            self._drop(self._frames.popleft(), "budget" if later else "rate")

    def _drop(self, frame: LiveFrame, cause: DropCause) -> None:
        if not frame.looked:
            frame.looked = True
            self._ledger.dropped[cause] += 1


class LiveSample(ArrayVideo):
    """One epoch of a camera as a source of the loop; satisfies `core.Sample`.

    Args:
        feed: Its frames.
    """

    def __init__(self, feed: Feed) -> None:
        self._setup(feed.camera, [], feed.info.rate, [])
        self.feed = feed

    @property
    def info(self) -> SampleInfo:
        """What is known of the source; a live one has no length."""
        return self.feed.info

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
    ) -> Clip:
        """The frames shown at those times, or the newest where the loop is behind."""
        found = [frame for frame in map(self.feed.select, times) if frame is not None]
        self.meter.frames = self.feed.received
        width, height = size or (self.info.width, self.info.height)
        pixels = [self.feed.convert(frame.picture, (width, height)) for frame in found]
        stacked = np.stack(pixels) if pixels else np.empty((0, height, width, 3), np.uint8)
        return Clip(stacked, tuple(self.feed.loop_time(frame) for frame in found))

    def _shown_at(self, seconds: float) -> int | None:
        frame = self.feed.select(seconds)
        return None if frame is None else frame.number

    def _small(self, at: int, size: tuple[int, int]) -> Pixels | None:
        frame = self.feed.numbered(at)
        return None if frame is None else self.feed.convert(frame.picture, size)

    def next_time(self, after: float) -> float | None:
        """The loop's time of the first frame later than `after`; None at the end."""
        return self.feed.next_time(after)

    def close(self) -> None:
        """Nothing of this epoch is looked at any more."""
        self.feed.close()
