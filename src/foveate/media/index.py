"""Where the key frames are, found without decoding anything."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import av.error

from foveate.core import LimitError
from foveate.media.container import Opened, open_video
from foveate.media.limits import Limits
from foveate.media.source import Reader


@dataclass
class Index:
    """Key frames of one picture stream, in ticks of its time base.

    Attributes:
        keys: Display times of the key frames, ascending; estimates unless `exact`.
        exact: Whether `keys` were read from the packets.
        frames: Number of frames.
        end: Display time at which the last frame ends, None if the container does not say.
    """

    keys: list[int] = field(default_factory=list)
    exact: bool = False
    frames: int = 0
    end: int | None = None

    def key_at(self, tick: int) -> int | None:
        """The last key frame at or before `tick`, None if there is none."""
        at = bisect_right(self.keys, tick)
        return self.keys[at - 1] if at else None


def from_entries(stream: Any, origin: int) -> Index | None:
    """The index that an MP4-like container carries, None if it is missing or partial.

    Its entries hold decode times; the first frame, shown at `origin`, tells how far display times
    lie behind. Matroska entries name some frames only, so they do not count as complete.
    """
    claimed = stream.frames
    if claimed <= 0 or len(stream.index_entries) < claimed:
        return None
    entries = [entry for entry in stream.index_entries if not entry.is_discard]
    keys = sorted(entry.timestamp for entry in entries if entry.is_keyframe)
    if not keys:
        return None
    shift = origin - min(entry.timestamp for entry in stream.index_entries[:32])
    return Index(keys=[key + shift for key in keys], frames=len(entries))


def scan(open_reader: Callable[[], Reader], limits: Limits) -> tuple[Index, int]:
    """Read every packet header once (no decoding) and note times and key flags.

    Returns:
        The index and the number of bytes that were read for it.
    """
    opened = open_video(open_reader, limits)
    try:
        index = Index(exact=True)
        last, step = None, 0
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
                index.keys.append(packet.pts)
            if last is None or packet.pts > last:
                step = packet.duration or (packet.pts - last if last is not None else 0)
                last = packet.pts
        index.keys.sort()
        index.end = None if last is None else last + step
        return index, opened.reader.bytes
    finally:
        opened.close()


def exact_keys(
    open_reader: Callable[[], Reader], limits: Limits, keys: list[int]
) -> tuple[list[int], int]:
    """Display times of key frames whose places are known: one packet is read for each.

    Returns:
        The display times and the number of bytes that were read for them.
    """
    opened = open_video(open_reader, limits)
    try:
        times: list[int] = []
        for key in keys:
            opened.container.seek(key, stream=opened.stream)
            packet = next((p for p in packets(opened) if p.is_keyframe and p.pts is not None), None)
            if packet is not None and packet.pts not in times[-2:]:
                times.append(packet.pts)
        return sorted(times), opened.reader.bytes
    finally:
        opened.close()


def packets(opened: Opened) -> Iterator[Any]:
    """Packets of the picture stream from where the container stands, damage passed over.

    A container that goes on failing without giving anything ends the iteration.
    """
    failures = 0
    while failures < 16:
        try:
            for packet in opened.container.demux(opened.stream):
                if packet.size:
                    failures = 0
                    yield packet
            return
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, OSError):
            failures += 1
