"""Where the key frames are, found without decoding anything."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, islice, pairwise
from typing import Any

import av.error
import numpy as np
import numpy.typing as npt

from foveate.core import LimitError, Meter
from foveate.media.container import BUFFER_BYTES, Opened
from foveate.media.limits import Limits
from foveate.media.order import DEPTH
from foveate.media.packets import (
    HEAD,
    MATROSKA,
    MOV,
    Place,
    packets,
    packets_from,
    place_of,
    runs_up,
    seeks_by_display,
)

_HEAD = 32  # entries in which the first frame shown lies
_CHUNK = 8  # bytes of a chunk's name and length in AVI
_STEPS = 3  # key frames from which one is looked for where seeks land behind it
_MOST_GAP = 20.0  # seconds between key frames of a table that is worth using


@dataclass
class Index:
    """Key frames of one picture stream, in ticks of its time base.

    Attributes:
        keys: Display times of the key frames, ascending; estimates unless `exact`.
        places: Where each key frame lies.
        exact: Whether `keys` were read from the packets.
        partial: Whether there may be more key frames than these, as in Matroska's cues.
        ticks: (N,) display times of all frames, ascending; None unless all packets were read.
        frames: Number of frames, 0 if it is not known.
        end: Display time at which the last frame ends, None if the container does not say.
        restarts: How often the times started again (joined recordings).
    """

    keys: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    exact: bool = False
    partial: bool = False
    ticks: npt.NDArray[np.int64] | None = None
    frames: int = 0
    end: int | None = None
    restarts: int = 0

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


def from_entries(opened: Opened, first: int) -> Index | None:
    """The index that MP4 and AVI carry, None if it is missing, cut short or of many cuts.

    Its entries hold decode times; the first packet, shown at `first`, tells how far display times
    lie behind. Matroska's are read by `from_cues`.
    """
    stream, name = opened.stream, opened.container.format.name
    entries, claimed = stream.index_entries, stream.frames
    timed = opened.plan is not None and opened.plan.source in ("given", "sorted")
    if name not in (MOV, "avi") or not len(entries) or not timed:
        return None
    try:
        # Fragments are indexed as they are found, all of them when the file is opened or some. AVI
        # claims the ticks of its clock, more than there are frames where it has empty chunks.
        whole = 0 < claimed <= len(entries)
        if not whole and not _reaches_end(entries, stream.duration):
            return None
        claimed = claimed if whole else len(entries)
        index = _from_complete(entries, first, claimed, seeks_by_display(opened))
    except (IndexError, OverflowError):  # entries that are gone, or beyond all time
        return None
    if index is None:
        return None
    if name == "avi":
        # Entries give the place of a chunk, packets that of what is in it.
        index.places = [replace(place, byte=(place.byte or 0) + _CHUNK) for place in index.places]
    elif not whole:
        index.partial, index.frames = True, 0  # the last fragment may be missing
    return index


def _reaches_end(entries: Any, duration: int | None) -> bool:
    """Whether entries cover the length that a stream claims, but for one frame."""
    if not duration or len(entries) < 2:
        return False
    first, last = entries[0].timestamp, entries[len(entries) - 1].timestamp
    return bool((last - first) * len(entries) >= (duration - 1) * (len(entries) - 1))


def from_cues(open_again: Callable[[], Opened], meter: Meter) -> Index | None:
    """The key frames that Matroska's cues name; None if there are none, or too few to be of use."""
    opened = open_again()
    try:
        stream, container = opened.stream, opened.container
        head = list(islice(packets(opened), HEAD))
        given = opened.plan is not None and opened.plan.source == "given" and not opened.moved
        if container.format.name != MATROSKA or not given or not head:
            return None
        read = len(stream.index_entries)
        with suppress(av.error.FFmpegError, OverflowError):
            container.seek(head[0].pts or 0, stream=stream)  # reads the cues
        keys = sorted({entry.timestamp for entry in stream.index_entries if entry.is_keyframe})
        end = int((container.duration or 0) / 1e6 / stream.time_base)
        gaps = [b - a for a, b in pairwise([*keys, end])]
        if len(keys) <= read or max(gaps) * stream.time_base > _MOST_GAP:
            return None
        return Index(keys, [Place(key, None) for key in keys], partial=True)
    finally:
        opened.count(meter)
        opened.close()


def find(open_again: Callable[[], Opened], limits: Limits, meter: Meter) -> Index:
    """The key frames by the cheapest way, where the container carries no index of its own."""
    cues = from_cues(open_again, meter)
    return scan(open_again, limits, meter) if cues is None else cues


def _from_complete(entries: Any, first: int, claimed: int, by_display: bool) -> Index | None:
    starts = [entry.timestamp for entry in entries[:_HEAD] if not entry.is_discard]
    hidden = 0
    if len(entries) != claimed or len(starts) < min(_HEAD, len(entries)):
        # Cut by an edit list. Where only the beginning is, times go on as they are.
        cut = [entry.is_discard for entry in entries]
        hidden = sum(cut)
        if len(entries) != claimed or not all(cut[:hidden]):
            return None
        starts = [entry.timestamp for entry in entries[hidden : hidden + _HEAD]]
    if not starts:
        return None
    shift = first - min(starts)
    keys: list[int] = []
    places: list[Place] = []
    # Only key frames are visited: an index of millions of frames costs nothing here.
    at = entries.search_timestamp(entries[0].timestamp, backward=False)
    last = -1
    while last < at < len(entries):
        entry, last = entries[at], at
        if not entry.is_discard:
            keys.append(entry.timestamp + shift)
            tick = keys[-1] if by_display else entry.timestamp
            places.append(Place(tick, entry.pos, at - hidden))
        at = entries.search_timestamp(entry.timestamp + 1, backward=False)
    return Index(keys=keys, places=places, frames=len(entries) - hidden) if keys else None


def scan(open_again: Callable[[], Opened], limits: Limits, meter: Meter) -> Index:
    """Read every packet header once (no decoding) and note times and key flags.

    Raises:
        LimitError: There are more frames than `limits.samples`.
    """
    opened = open_again()
    try:
        index = Index(exact=True)
        last, step, ticks = None, 0, array("q")
        found: list[tuple[int, Place]] = []
        for packet in packets(opened):
            if packet.pts is None or packet.is_discard:
                continue
            number = len(ticks)
            ticks.append(packet.pts)
            if len(ticks) > limits.samples:
                raise LimitError(
                    f"{opened.reader.label}: more than {limits.samples} frames",
                    "raise limits.samples if you trust the file",
                )
            if packet.is_keyframe:
                found.append((packet.pts, place_of(opened, packet, number)))
            if last is None or packet.pts > last:
                step = packet.duration or (packet.pts - last if last is not None else 0)
                last = packet.pts
        found.sort(key=lambda pair: pair[0])
        index.keys = [key for key, _ in found]
        index.places = _distinct([place for _, place in found])
        index.frames, index.ticks = len(ticks), np.unique(np.frombuffer(ticks, np.int64))
        index.end = None if last is None else last + step
        index.restarts = opened.restarts
        return index
    finally:
        opened.count(meter)
        opened.close()


def _distinct(places: list[Place]) -> list[Place]:
    """The places, those not known that several key frames share."""
    uses = Counter(place.byte for place in places)
    return [
        replace(place, byte=None) if place.tick is None and uses[place.byte] > 1 else place
        for place in places
    ]


def picture_end(open_again: Callable[[], Opened], meter: Meter) -> int | None:
    """Display time at which the last frame ends, by the packets of the last group.

    None if a seek does not find the group.
    """
    opened = open_again()
    try:
        packets(opened)
        length = (opened.container.duration or 0) + (opened.container.start_time or 0)
        ends: list[int] = []
        if opened.plan is not None and opened.plan.source == "given" and seeks_by_display(opened):
            with suppress(av.error.FFmpegError, OverflowError):
                opened.container.seek(int(length / 1_000_000 / opened.base), stream=opened.stream)
                # VP8's hidden reference pictures have no display time.
                ends = [
                    packet.pts + (packet.duration or 1)
                    for packet in packets(opened)
                    if packet.pts is not None and not packet.is_discard
                ]
        return max(ends, default=None)
    finally:
        opened.count(meter)
        opened.close()


def exact(open_again: Callable[[], Opened], limits: Limits, meter: Meter, index: Index) -> Index:
    """All key frames with their true display times.

    One packet is read for each key frame that the index names, or all packets.
    """
    if index.partial:
        return scan(open_again, limits, meter)
    opened = open_again()
    try:
        times: list[int] = []
        if len(index.keys) * BUFFER_BYTES <= opened.reader.size():
            for key, place in zip(index.keys, index.places, strict=True):
                found = packets_from(opened, key, place, place, exact=False)
                first = None if found is None else next(found, None)
                if first is None:
                    break
                times.append(first.pts)
    finally:
        opened.count(meter)
        opened.close()
    if len(times) == len(index.keys):
        order = sorted(range(len(times)), key=times.__getitem__)
        keys, places = [times[at] for at in order], [index.places[at] for at in order]
        return Index(keys, places, exact=True, frames=index.frames, end=index.end)
    return scan(open_again, limits, meter)


def display_ticks(
    open_again: Callable[[], Opened], meter: Meter, index: Index, numbers: Sequence[int]
) -> list[int]:
    """Display times of frames by their number, ascending; only their groups are read.

    Args:
        open_again: Opens the container once more.
        meter: Counts what is read.
        index: One that knows all key frames and how many pictures lie before each.
        numbers: Numbers of frames in the order of display, ascending from 0.

    Returns:
        The times, fewer than `numbers` if a seek does not find a group.
    """
    found: list[int] = []
    starts = [place.number for place in index.places]
    opened = open_again()
    try:
        packets(opened)
        for at, group in groupby(numbers, lambda number: bisect_right(starts, number) - 1):
            asked = list(group)
            following = start_at(opened, index, at) if at >= 0 else None
            if following is None:
                break
            # All pictures decoded before a key frame are shown before the ones after it.
            shown = (p.pts for p in following if p.pts is not None and not p.is_discard)
            ticks = sorted(islice(shown, asked[-1] - starts[at] + 1 + DEPTH))
            if asked[-1] - starts[at] >= len(ticks):
                break
            found += [ticks[number - starts[at]] for number in asked]
        return found
    finally:
        opened.count(meter)
        opened.close()


def reach(opened: Opened, index: Index, at: int, tick: int) -> Iterator[Any] | None:
    """Packets from key frame number `at` on, of one before it if that is shown after `tick`.

    None if seeking does not find it.
    """
    for place in range(at, max(-1, at - _STEPS), -1):
        found = start_at(opened, index, place)
        first = None if found is None else next(found, None)
        if found is None or first is None:
            return None
        if first.pts <= tick:
            index.correct(place, first.pts)
            return chain([first], found)
    return None


def start_at(opened: Opened, index: Index, at: int) -> Iterator[Any] | None:
    """Packets from key frame number `at` on; None if seeking does not find it.

    Where the index is not exact, the first packet tells the true time of the key frame.
    """
    place = index.places[at]
    nearest = at - runs_up(opened)
    for start in range(nearest, max(-1, nearest - _STEPS), -1):
        from_there = index.places[start]
        found = packets_from(opened, index.keys[at], place, from_there, exact=index.exact)
        if found is None:
            continue
        if not index.exact or place.byte is not None:
            return found
        return _from_key(found, index.keys[at])
    return None


def _from_key(found: Iterator[Any], key: int) -> Iterator[Any] | None:
    for packet in found:
        if packet.is_keyframe and packet.pts == key:
            return chain([packet], found)
    return None
