"""Where the key frames are, found without decoding anything."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import av.error

from foveate.core import LimitError
from foveate.media.container import BUFFER_BYTES, Opened, open_video
from foveate.media.limits import Limits
from foveate.media.packets import (
    Place,
    packets,
    packets_from,
    place_of,
    seeks_by_display,
)
from foveate.media.source import Reader

_HEAD = 32  # entries in which the first frame shown lies
_CHUNK = 8  # bytes of a chunk's name and length in AVI
_STEPS = 3  # key frames from which one is looked for where seeks land behind it


@dataclass
class Index:
    """Key frames of one picture stream, in ticks of its time base.

    Attributes:
        keys: Display times of the key frames, ascending; estimates unless `exact`.
        places: Where each key frame lies.
        exact: Whether `keys` were read from the packets.
        frames: Number of frames.
        end: Display time at which the last frame ends, None if the container does not say.
        restarts: How often the times started again (joined recordings).
    """

    keys: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    exact: bool = False
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
    """The index that an MP4-like container carries, None if it is missing, partial or of many cuts.

    Its entries hold decode times; the first packet, shown at `first`, tells how far display times
    lie behind. Matroska entries name some frames only, so they do not count as complete.
    """
    entries, claimed = opened.stream.index_entries, opened.stream.frames
    timed = opened.plan is not None and opened.plan.source in ("given", "sorted")
    if claimed <= 0 or len(entries) < claimed or not timed:
        return None
    try:
        index = _from_complete(entries, first, claimed, seeks_by_display(opened))
    except (IndexError, OverflowError):  # entries that are gone, or beyond all time
        return None
    if index is not None and opened.container.format.name == "avi":
        # Entries give the place of a chunk, packets that of what is in it.
        index.places = [replace(place, byte=(place.byte or 0) + _CHUNK) for place in index.places]
    return index


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
            places.append(Place(keys[-1] if by_display else entry.timestamp, entry.pos, at))
        at = entries.search_timestamp(entry.timestamp + 1, backward=False)
    return Index(keys=keys, places=places, frames=len(entries) - hidden) if keys else None


def scan(open_reader: Callable[[], Reader], limits: Limits) -> tuple[Index, int]:
    """Read every packet header once (no decoding) and note times and key flags.

    Returns:
        The index and the number of bytes that were read for it.
    """
    opened = open_video(open_reader, limits)
    try:
        index = Index(exact=True)
        last, step = None, 0
        found: list[tuple[int, Place]] = []
        for packet in packets(opened):
            if packet.pts is None or packet.is_discard:
                continue
            number = index.frames
            index.frames += 1
            if index.frames > limits.samples:
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
        index.places = [place for _, place in found]
        index.end = None if last is None else last + step
        index.restarts = opened.restarts
        return index, opened.reader.bytes
    finally:
        opened.close()


def picture_end(open_reader: Callable[[], Reader], limits: Limits) -> tuple[int | None, int]:
    """When the last frame ends, by the packets of the last group.

    Returns:
        The display time, None if a seek does not find the group, and the bytes that were read.
    """
    opened = open_video(open_reader, limits)
    try:
        packets(opened)
        length = (opened.container.duration or 0) + (opened.container.start_time or 0)
        ends: list[int] = []
        if opened.plan is not None and opened.plan.source == "given" and seeks_by_display(opened):
            with suppress(av.error.FFmpegError, OverflowError):
                opened.container.seek(int(length / 1_000_000 / opened.base), stream=opened.stream)
                # VP8's hidden reference pictures have no display time.
                found = (packet for packet in packets(opened) if packet.pts is not None)
                ends = [packet.pts + (packet.duration or 1) for packet in found]
        return max(ends, default=None), opened.reader.bytes
    finally:
        opened.close()


def exact(open_reader: Callable[[], Reader], limits: Limits, index: Index) -> tuple[Index, int]:
    """The index with true display times: one packet is read for each key frame, or all of them.

    Returns:
        The index and the number of bytes that were read for it.
    """
    opened = open_video(open_reader, limits)
    try:
        times: list[int] = []
        if len(index.keys) * BUFFER_BYTES <= opened.reader.size():
            for key, place in zip(index.keys, index.places, strict=True):
                found = packets_from(opened, key, place, place, exact=False)
                first = None if found is None else next(found, None)
                if first is None:
                    break
                times.append(first.pts)
        read = opened.reader.bytes
    finally:
        opened.close()
    if len(times) == len(index.keys):
        order = sorted(range(len(times)), key=times.__getitem__)
        keys, places = [times[at] for at in order], [index.places[at] for at in order]
        return Index(keys, places, exact=True, frames=index.frames, end=index.end), read
    whole, more = scan(open_reader, limits)
    return whole, read + more


def start_at(opened: Opened, index: Index, at: int) -> Iterator[Any] | None:
    """Packets from key frame number `at` on; None if seeking does not find it.

    Where the index is not exact, the first packet tells the true time of the key frame.
    """
    place = index.places[at]
    for start in range(at, max(-1, at - _STEPS), -1):
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
