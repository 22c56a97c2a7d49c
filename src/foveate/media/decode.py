"""A forward cursor over a picture stream that decodes no more than the asked times need.

Packets are planned before they are fed: with some packets of look-ahead the cursor knows which
frame is shown at each asked time. Whole groups of which nothing is asked are left out, and of the
others the frames that nobody asked for and nothing refers to are skipped inside the decoder.

Decoding starts at the start of the stream or at a key frame. After a start at a key frame, packets
shown before it are dropped: they lean on a group that was not decoded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from foveate.core import Meter
from foveate.media.container import VECTOR_CODECS, Opened, codec_name, open_video
from foveate.media.decoder import Decoder
from foveate.media.decoding import EXACT, Decoding
from foveate.media.index import Index, from_entries, reach
from foveate.media.limits import Limits
from foveate.media.lookahead import Lookahead
from foveate.media.packets import packets
from foveate.media.source import Reader
from foveate.media.work import Work

HOLD_SECONDS = 10.0  # a frame is shown at most this long; a longer pause is a gap
JUMP_SECONDS = 1.0  # shorter steps past the look-ahead never ask for the index

_GIVEN = 32  # packets after whose decoding the cursor is not lent any more

Shown = tuple[int, Any]  # a frame's tick and the `av.VideoFrame`


@dataclass(frozen=True)
class Lent:
    """An open file with its decoder, at work on the first frames.

    Attributes:
        opened: The container; whoever lent it closes it.
        decoder: Exports vectors.
        work: Holds the work against the limits.
        given: Packets that went into the decoder.
        rest: Packets that follow.
        frames: Those that came out.
    """

    opened: Opened
    decoder: Decoder
    work: Work
    given: list[Any]
    rest: Iterator[Any]
    frames: list[Shown]


class Cursor:
    """Decodes the frames shown at ascending ticks; going back seeks.

    Args:
        open_reader: Opens the source from its start.
        limits: Bounds on work.
        meter: Counts decoded frames, fed packets and bytes.
        find_index: Gives the index; makes one by a pass over the packets only if asked to.
        warn: Takes one line about damage.
        decoding: Settings of the decoder.
        vectors: Whether the decoder exports motion vectors, for a reader that it is lent to.

    Attributes:
        stream, decoder: Of the picture; other objects after the source was opened again.
        has_times: False for sources whose frames can only be counted as they are decoded.
        numbers: Whether a tick is the number of a frame, not a time of the container's.
        time_base: Seconds per tick.
        first: Tick of the first packet.
        origin: Tick of the first frame; the same until `find_first` finds a later one.
        end: Tick at which the last frame ends, None until the end was reached.
        moved: Whether times were seen that had to be moved to be distinct.
    """

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        limits: Limits,
        meter: Meter,
        find_index: Callable[[bool], Index | None],
        warn: Callable[[str], None],
        decoding: Decoding = EXACT,
        vectors: bool = False,
    ) -> None:
        self._open_reader = open_reader
        self._limits = limits
        self._meter = meter
        self._find_index = find_index
        self._warn = warn
        self._work = Work(limits, meter.bytes)
        self._vectors = vectors
        self._lent: Lent | None = None
        self._given: list[Any] | None = None  # packets that were fed, of the start alone
        self._make_decoder = partial(
            Decoder, limits=limits, threads=1, meter=meter, work=self._work, warn=warn,
            decoding=decoding,
        )  # fmt: skip
        self.end: int | None = None
        self._weak_keys: set[int] = set()  # these do not come out when decoding starts there
        self.has_times = True
        self.moved = self._disordered = False
        self._out: deque[Shown] = deque()  # decoded, not yet passed
        self._current: Shown | None = None  # the last frame that was passed
        self.stream: Any = None
        self._targets: list[int] = []  # asked ticks, ascending; the first `_done` are answered
        self._done = 0
        self._open()
        self._work.name = self._opened.reader.label
        plan = self._opened.plan
        assert plan is not None
        self.has_times = plan.source != "counted"
        self.numbers = plan.source in ("numbered", "counted")
        self.time_base = plan.base
        shown = [p.pts for p in self._ahead.queue if p.pts is not None and not p.is_discard]
        self.first = self.origin = min(shown, default=0) if self.has_times else 0
        self._jump = int(JUMP_SECONDS / self.time_base)

    def close(self) -> None:
        """Release the decoder and the file; safe to call twice."""
        if self._lent is not None:
            self._lent.opened.close()
        self._release()

    def _release(self) -> None:
        self._opened.close()
        self.decoder.close()
        self.stream = None
        self._ahead = Lookahead(iter(()), 1, False)
        self._out.clear()
        self._current = None

    def at(self, ticks: Sequence[int]) -> Iterator[Shown | None]:
        """For each tick (ascending): the frame shown at it and its tick, None if there is none."""
        self._take_back()
        self._targets = list(ticks)
        for done, tick in enumerate(self._targets):
            self._done = done
            yield self._show(tick)

    def next_tick(self, after: int) -> int | None:
        """Tick of the first frame later than `after`, None at the end; only packets are read."""
        self._take_back()
        if after < self.origin:
            return self.origin
        if not self.has_times:
            return next((found[0] for found in self.at([after + 1]) if found), None)
        self._targets, self._done = [], 0
        if self._ahead.forgot(after) or self._is_far(after):
            self._seek(after)
        while True:
            self._fill()
            certain, tick = self._ahead.next_after(after)
            if certain:
                return tick
            self._leave()
            self._ahead.pop(comes_out=False)

    def index(self) -> Index | None:
        """The index that the container carries, None if it must be made."""
        return from_entries(self._opened, self.first)

    def find_first(self) -> Any:
        """The first frame that can be decoded, None if there is none; its tick becomes `origin`."""
        first = next(self.at([self.origin]), None)
        self._work.begin()
        while first is None:
            if self._out:
                first = self._out[0]
            elif not self._feed():
                return None
            self._work.check()
        self.origin = first[0]
        return first[1]

    def lend(self) -> Lent | None:
        """Leave decoder and file to a reader of vectors, which goes on where they stand.

        The cursor opens the file anew when it is asked for frames. None where vectors are not
        exported, or where more than the first frame was asked for.
        """
        frames = [*([self._current] if self._current else []), *self._out]
        # Nothing was left out of the decoder, and no frame but the first was passed.
        whole = self._given is not None and len(self._given) == self._ahead.gone
        fits = self._vectors and self._synced and self.has_times and not self._disordered
        if not (fits and whole and len(frames) == self._number):
            return None
        if codec_name(self.stream) not in VECTOR_CODECS:
            return None
        assert self._given is not None
        rest = self._ahead.rest()
        self._lent = Lent(self._opened, self.decoder, self._work, self._given, rest, frames)
        self._given = None
        self._out.clear()
        self._current = None
        return self._lent

    @property
    def is_lent(self) -> bool:
        """Whether a reader has the file, and the cursor none of its own."""
        return self._lent is not None and self._lent.opened is self._opened

    def _take_back(self) -> None:
        if self.is_lent:
            self._vectors = False
            self._open()

    # --- position -------------------------------------------------------------------------

    def _open(self) -> None:
        self._opened = open_video(self._open_reader, self._limits, self._warn)
        # Where times are in disorder, nothing is left out and decoding begins at the start.
        self._opened.disordered = self._whole = self._disordered
        self.stream = self._opened.stream
        try:
            self.decoder = self._make_decoder(self._opened, vectors=self._vectors)
            self._restart(packets(self._opened), from_start=True)
        except BaseException:
            self._opened.close()
            raise

    def _restart(self, found: Iterator[Any], from_start: bool = False) -> None:
        """Forget all packets and frames: go on with these packets."""
        self._hold = max(1, int(HOLD_SECONDS / self._opened.base))
        self._ahead = Lookahead(found, self._hold, from_start)
        self._out.clear()
        self._current = None
        self._synced = from_start  # whether the decoder can take any packet, not only a key frame
        self._start: int | None = None  # key frame at which decoding started, None for the start
        self._reliable: int | None = None  # where frames are right after a run-up
        self._unproved = False  # whether the frame of `_start` is still to come out
        self._targets = []
        self._done = self._fed = self._number = 0
        self._given = [] if from_start and self._vectors else None
        self._fill()

    def _seek(self, tick: int) -> None:
        """Stand at the last key frame at or before `tick`; at one further back if that is weak."""
        keep, reliable = (self._targets, self._done), None
        index = self._find_index(True) if self.has_times and not self._disordered else None
        at = index.position(tick) if index is not None else -1
        if index is not None and at >= 0 and index.keys[at] in self._weak_keys:
            reliable = index.keys[at]
            at -= 1
        if index is None or at < 0:
            self._reopen()
        elif not index.places[at].known:
            self._read_to(index.keys[at])
        elif (found := reach(self._opened, index, at, tick)) is not None:
            self._restart(found)
        else:
            self._reopen()
            if index.exact:
                self._read_to(index.keys[at])
        (self._targets, self._done), self._reliable = keep, reliable

    def _read_to(self, key: int) -> None:
        """Reach a key frame by reading packets, from the start if it was passed."""
        if not self._ahead.holds_key(key) and key <= (self._ahead.last or key):
            self._reopen()
        self._leave()
        self._ahead.drop_to(key)

    def _reopen(self) -> None:
        self._release()
        self._open()

    def _show(self, tick: int) -> Shown | None:
        """The frame shown at `tick`, None where nothing is shown or it cannot be decoded."""
        if tick < self.first:
            return None
        if self._out_of_reach(tick):
            self._seek(tick)
        shown = self._run(tick)
        for _ in range(2):
            if not self._started_badly():
                break
            self._seek(tick)
            shown = self._run(tick)
        return shown

    def _started_badly(self) -> bool:
        """Whether decoding started at a key frame that did not come out itself.

        Decoders hold back pictures that lean on others before them: with gradual refresh, a "key
        frame" is only where repair begins. Such starts need a run-up of one more key frame. So do
        pictures whose times turn out to be in disorder, of the whole stream.
        """
        weak = self._start in self._weak_keys and self._reliable is None
        return weak or (self._disordered and not self._whole)

    def _run(self, tick: int) -> Shown | None:
        """Decode until it is certain what is shown at `tick`."""
        self._work.begin()
        while not self._started_badly():
            while self._out and self._out[0][0] <= tick:
                self._current = self._out.popleft()
            certain, wanted = self._wanted(tick)
            if certain:
                if wanted is None or self._is_current(wanted):
                    return None if wanted is None else self._current
                if self._out or (not self._synced and wanted in self._ahead.fate):
                    return None  # it was fed but never came out
                if wanted in self._ahead.fate and self._nothing_follows():
                    self._leave()
                    continue
            if not self._feed():
                return None
            self._work.check()
        return None

    def _wanted(self, tick: int) -> tuple[bool, int | None]:
        if self.has_times:
            return self._ahead.shown_at(tick)
        return bool(self._out) or self._is_current(tick), tick

    def _is_current(self, wanted: int) -> bool:
        return self._current is not None and self._current[0] == wanted

    def _out_of_reach(self, tick: int) -> bool:
        """Whether the frame shown at `tick` cannot, or had better not, be reached by feeding."""
        if self._current is not None and self._current[0] > tick:
            return True
        if not self.has_times:
            return False
        reliable = self._start if self._reliable is None else self._reliable
        if self._ahead.forgot(tick) or (reliable is not None and tick < reliable):
            return True
        certain, wanted = self._ahead.shown_at(tick)
        if certain and wanted is None:
            return False
        if certain and wanted in self._ahead.fate:
            return not self._is_current(wanted) and not self._ahead.fate[wanted]
        if not self._synced:
            key = self._ahead.first_key()
            if key is None or key > tick or key in self._weak_keys:
                return True
        return self._is_far(tick)

    def _is_far(self, tick: int) -> bool:
        """Whether a key frame at or before `tick` lies beyond the look-ahead."""
        position = self._ahead.last
        if position is None or tick <= position or self._disordered:
            return False
        # To know where key frames are may take a pass over the file: not for a short step.
        index = self._find_index(tick - position > self._jump)
        key = index.key_at(tick) if index is not None else None
        return key is not None and key > position

    # --- feeding --------------------------------------------------------------------------

    def _fill(self) -> None:
        self._ahead.fill()
        self._opened.count(self._meter, self._work)
        self._disordered |= self._opened.disordered
        self.moved |= self._opened.moved
        if self.has_times and self._ahead.end is not None:
            self.end = self._ahead.end

    def _pending(self) -> int | None:
        """The first asked tick whose frame was not given to the decoder yet."""
        for at in range(self._done, len(self._targets)):
            certain, wanted = self._ahead.shown_at(self._targets[at])
            if not certain or (wanted is not None and wanted not in self._ahead.fate):
                return self._targets[at]
        return None

    def _nothing_follows(self) -> bool:
        """Whether to empty the decoder now: nothing near the wanted frame will be needed."""
        if not self.has_times:
            return False
        pending = self._pending()
        if pending is None:
            # A reader of vectors goes on from there.
            return (
                self._fed == 1 and not self._vectors
            )  # a lone key frame: cheaper to decode again than to push out
        return self._is_far(pending)

    def _is_needed(self, pts: int | None) -> bool | None:
        """Whether an asked frame has this time; None where later calls may still ask for it."""
        if pts is None or not self.has_times or self._opened.disordered:
            return None
        if not self._targets or pts > self._targets[-1]:
            return None
        at = bisect_left(self._targets, pts)
        return at < len(self._targets) and self._targets[at] < self._ahead.shown_until(pts)

    def _skip_groups(self) -> bool:
        """Leave out packets up to a later key frame if nothing is asked for before it."""
        pending = self._pending() if self._targets and self.has_times else None
        if pending is not None:
            index = self._find_index(False)
            # Key frames that the index does not name may lie anywhere.
            partial = index is not None and index.partial
            self._ahead.read_on(pending, self._hold if partial else self._jump)
        count = self._ahead.before_key(pending, self._weak_keys) if pending is not None else 0
        if count and self._synced:
            self._leave()  # what comes out now is looked at before anything is dropped
        else:
            for _ in range(count):
                self._ahead.pop(comes_out=False)
        return count > 0

    def _feed(self) -> bool:
        """Go one packet further; False when nothing is left."""
        self._fill()
        queue = self._ahead.queue
        if queue and self._is_needed(queue[0].pts) is False and self._skip_groups():
            return True
        if not queue:
            was_synced = self._synced
            self._leave()
            if not self.has_times:
                self.end = self._number
            return was_synced
        packet = queue[0]
        if not self._synced and _is_start(packet):
            if self._start is not None:
                self._reliable = None
            self._synced, self._start, self._unproved = True, packet.pts, True
            self._fed = 0
        elif not self._synced or self._leans_back(packet):
            self._ahead.pop(comes_out=False)
            return True
        needed = self._is_needed(packet.pts)
        self._ahead.pop(comes_out=needed is not False)
        self._fed += 1
        if self._given is not None:
            self._given = None if needed is False or self._fed > _GIVEN else [*self._given, packet]
        self._collect(self.decoder.feed(packet, needed is not False))
        return True

    def _leans_back(self, packet: Any) -> bool:
        """Whether a packet is shown before the key frame at which decoding started."""
        # What an edit list hides does not: the next frames may lean on it.
        pts = None if packet.is_discard else packet.pts
        return self._start is not None and pts is not None and pts < self._start

    def _leave(self) -> None:
        """Get all frames out of the decoder; the next packet it takes is a key frame."""
        if self._synced:
            self._synced = False
            self._collect(self.decoder.drain())
            if self._unproved and self._start is not None:
                self._weak_keys.add(self._start)

    def _collect(self, frames: list[Any]) -> None:
        for frame in frames:
            pts = frame.pts if self.has_times else self._number
            self._number += 1
            if self._unproved and self._start is not None and pts != self._start:
                self._weak_keys.add(self._start)
            self._unproved = False
            last = self._out[-1] if self._out else self._current
            if pts is None or (last is not None and pts <= last[0]):
                self._warn("frames came out of their order: each is shown after the one before it")
                pts = 0 if last is None else last[0] + 1
            self._out.append((pts, frame))


def _is_start(packet: Any) -> bool:
    """Whether decoding can start here; a key frame that is cut off by an edit does not show it."""
    return bool(packet.is_keyframe and packet.pts is not None and not packet.is_discard)
