"""One thread per camera: connects, reads, measures activity, and reconnects."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np

from foveate.core import FoveateError
from foveate.live.camera import CameraSource
from foveate.live.feed import Feed, FrameLedger
from foveate.media.live import AccessDenied, LiveFrame, LiveInput, Received, describe
from foveate.media.ring import PacketRing

State = Literal["connecting", "live", "waiting", "refused", "finished", "stopped"]
_JITTER = 0.2  # share by which delays are longer or shorter, so that cameras do not return at once
_STEADY = 10.0  # seconds of frames after which delays begin anew
_REFUSED = 600.0  # seconds; cameras lock an account after a few wrong passwords
_GAP = 2.0  # seconds without a frame after which states begin anew
_QUIET = 12  # grey levels by which the noise of a sensor changes a pixel
_MOST_EARLY = 300  # packets that are kept before the first frame
_HALF_LIFE = 1.0  # seconds in which activity fades

log = logging.getLogger("foveate.live")


def delays() -> Iterator[float]:
    """Seconds before each attempt to connect again: 1 s x 5, 5 s x 5, 10 s x 10, then 60 s."""
    return chain(repeat(1.0, 5), repeat(5.0, 5), repeat(10.0, 10), repeat(60.0))


class Activity:
    """How much moves: the share of the picture that changes between frames, fading slowly."""

    def __init__(self) -> None:
        self.level = 1.0  # nothing is known yet
        self._before: Any = None
        self._time = 0.0

    def update(self, frame: LiveFrame) -> None:
        """Compare a frame with the one before it."""
        luma = frame.luma().astype(np.int16)
        before, passed = self._before, max(0.0, frame.time - self._time)
        if before is not None and before.shape == luma.shape:
            changed = luma - before
            changed -= np.int16(np.median(changed))  # exposure changes all pixels alike
            moving = float((np.abs(changed) > _QUIET).mean())
            self.level = max(min(1.0, 20 * moving), self.level * 0.5 ** (passed / _HALF_LIFE))
        self._before, self._time = luma, frame.time


@dataclass(frozen=True)
class CameraStatus:
    """A camera at one moment.

    Attributes:
        name: Of the camera.
        source: Its address without credentials.
        state: `connecting`, `live`, `waiting` (to connect again), `refused` (wrong password),
            `finished` (a file or iterable is over) or `stopped`.
        paused: Whether frames are received but not looked at.
        reason: Why it is not live, or why it began anew.
        epoch: Number of the connection.
        connects: Attempts to connect so far.
        received: Frames received.
        looked: Frames that the model was shown.
        dropped: Other frames by cause.
        queued: Frames that wait.
        activity: How much moves, 0 to 1.
        size: `(width, height)`, None before the first frame.
        since_frame: Seconds since the last frame, None before any.
    """

    name: str
    source: str
    state: State
    paused: bool
    reason: str
    epoch: int
    connects: int
    received: int
    looked: int
    dropped: dict[str, int]
    queued: int
    activity: float
    size: tuple[int, int] | None
    since_frame: float | None


class Camera:
    """A camera while it is watched: its reader thread and what the thread has found.

    Args:
        source: The camera.
        on_change: Called from the thread when there is something for the loop.
        ring: Keeps the last packets for clips, None if there are none to be written.
        wait: Waits for some seconds or until it is stopped; True if it was stopped. For tests.
        jitter: Gives -1 to 1.

    Attributes:
        ledger: What became of its frames.
        activity: How much moves.
        paused: Whether frames are dropped.
    """

    def __init__(
        self,
        source: CameraSource,
        on_change: Callable[[], None] = lambda: None,
        ring: PacketRing | None = None,
        *,
        wait: Callable[[float], bool] | None = None,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),
    ) -> None:
        self.source, self.name = source, source.name
        self.ledger = FrameLedger()
        self.activity = Activity()
        self.paused = source.settings.paused
        self.lock = threading.Condition()
        self.state: State = "connecting"
        self.reason = ""
        self._on_change, self._ring = on_change, ring
        self._stop, self._broken = threading.Event(), threading.Event()
        self._wait, self._jitter = wait or self._stop.wait, jitter
        self._feeds: deque[Feed] = deque()  # that the loop has not taken
        self._open: list[Feed] = []  # that may hold frames
        self._feed: Feed | None = None  # that the thread adds to
        self._size: tuple[int, int] | None = None
        self._zero = 0.0  # time of the source's clock at which its epoch began
        self._latest = 0.0  # seconds of the epoch of the frame that came last
        self._early: list[Received] = []  # packets before the first frame of a connection
        self._epochs = self._connects = 0
        self._last_tick: float | None = None
        self._logged: tuple[State, str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"camera {self.name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; the thread ends when its connection answers or times out."""
        self._stop.set()
        for feed in list(self._open):
            feed.close()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for the thread, at most that long."""
        if self.alive():
            self._thread.join(seconds)

    def reconnect(self, reason: str) -> None:
        """Leave the connection and connect again."""
        self.reason = reason
        self._broken.set()

    def next_feed(self) -> Feed | None:
        """An epoch that was not taken yet."""
        return self._feeds.popleft() if self._feeds else None

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ("finished", "stopped") and not self._feeds

    def status(self) -> CameraStatus:
        """The camera now."""
        with self.lock:
            counts = self.ledger.copy()
            queued = sum(one.queued() for one in self._open)
        tick = self._last_tick
        return CameraStatus(
            name=self.name,
            source=self.source.shown,
            state=self.state,
            paused=self.paused,
            reason=self.reason,
            epoch=self._epochs,
            connects=self._connects,
            received=counts.received,
            looked=counts.looked,
            dropped={str(cause): count for cause, count in counts.dropped.items()},
            queued=queued,
            activity=round(self.activity.level, 3),
            size=self._size,
            since_frame=None if tick is None else time.monotonic() - tick,
        )

    # --- the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        waits = delays()
        while not self._stop.is_set():
            pause, begun, reason = 0.0, time.monotonic(), ""
            try:
                self._set("connecting", self.reason)
                self._connects += 1
                self._broken.clear()
                connection = self.source.connect()
                try:
                    self._read(connection)
                finally:
                    self._end_feed()
                    connection.close()
            except AccessDenied as error:
                reason, pause = error.cause, _REFUSED
            except FoveateError as error:
                reason = error.cause
            except Exception as error:  # of an iterable that a program gave
                reason = f"{type(error).__name__}: {error}"
            if self._broken.is_set():
                reason = self.reason
            reason = reason.removeprefix(f"{self.name}: ")
            if self._stop.is_set():
                break
            if not self.source.repeats:
                self._set("finished", reason)
                return
            if self._last_tick is not None and self._last_tick - begun > _STEADY:
                waits = delays()
            self._set("refused" if pause else "waiting", reason or "the connection was closed")
            if self._wait((pause or next(waits)) * (1 + _JITTER * self._jitter())):
                break
        self._set("stopped", "")

    def _read(self, connection: LiveInput) -> None:
        self._early.clear()
        for piece in connection.received:
            if self._stop.is_set() or self._broken.is_set():
                return
            for frame in piece.frames or ():
                self._take(frame, piece.stream, connection.live)
            if piece.frames is None:
                with self.lock:
                    self.ledger.received += 1
                    self.ledger.dropped["damaged"] += 1
            if self._ring is not None and piece.packet is not None:
                self._keep(self._ring, piece)

    def _keep(self, ring: PacketRing, piece: Received) -> None:
        """Add a packet to the ring; those before the first frame wait until the epoch begins."""
        self._early.append(piece)
        if self._feed is None:
            del self._early[:-_MOST_EARLY]
            return
        for one in self._early:
            if one.time is not None:
                self._latest = one.time - self._zero
            ring.add(one.packet, self._latest)
        self._early.clear()

    def _take(self, frame: LiveFrame, stream: Any, live: bool) -> None:
        """One frame: it begins a new epoch if it does not continue the one before."""
        tick, self._last_tick = self._last_tick, frame.tick
        with self.lock:
            self.ledger.received += 1
            if self.paused:
                self.ledger.dropped["paused"] += 1
        if self.paused:
            self._end_feed()
            return
        feed = self._feed  # None after a new connection, or a pause
        gap = feed is not None and live and tick is not None and frame.tick - tick > _GAP
        if feed is None or frame.begins or gap:
            feed = self._begin(frame, stream, live, "a gap in the frames" if gap else "")
        frame.time -= self._zero
        self._latest = frame.time
        self.activity.update(frame)
        feed.put(frame, self._stop.is_set)
        self._on_change()

    def _begin(self, frame: LiveFrame, stream: Any, live: bool, why: str) -> Feed:
        """A new epoch: states and windows begin anew with it."""
        self._end_feed()
        info, convert = describe(frame, self.name, stream)
        self._epochs += 1
        self._size = info.width, info.height
        self.activity, self._zero = Activity(), frame.time
        feed = Feed(self.name, self._epochs, info, convert, self.ledger, self.lock, live=live)
        self._feed = feed
        with self.lock:
            self._open = [one for one in self._open if not one.closed] + [feed]
            self._feeds.append(feed)
        if self._ring is not None and stream is not None:
            self._ring.begin(stream, self._epochs)
        self._set("live", why if frame.begins in (None, "connected") else frame.begins)
        return feed

    def _end_feed(self) -> None:
        if self._feed is not None:
            self._feed.end()
            self._feed = None
            if self._ring is not None:
                self._ring.end()
            self._on_change()

    def _set(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if state != "connecting" and (state, reason) != self._logged:  # each trouble is logged once
            self._logged = state, reason
            trouble = state in ("waiting", "refused") or (state == "finished" and reason)
            text = f"{self.name}: {state}" + (f" ({reason})" if reason else "")
            fields = {"camera": self.name, "state": state, "reason": reason, "epoch": self._epochs}
            log.log(logging.WARNING if trouble else logging.INFO, text, extra={"fields": fields})
        self._on_change()
