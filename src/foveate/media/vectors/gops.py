"""Packets and groups of pictures, found by demuxing alone, and which pictures others refer to."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foveate.core import LimitError, MediaError
from foveate.media.container import Opened
from foveate.media.limits import Limits
from foveate.media.lookahead import REORDER
from foveate.media.packets import packets

_REFERENCES = 16  # the most that any codec with vectors keeps
_REMEMBERED = 128  # display times


@dataclass(frozen=True)
class PacketTable:
    """Every picture of a stream in the order of display, read without decoding.

    Attributes:
        times: (N,) float64 seconds from the first picture, ascending.
        keys: (N,) whether decoding can start there.
        decode_order: (N,) place of the picture's packet among the packets.
    """

    times: npt.NDArray[np.float64]
    keys: npt.NDArray[np.bool_]
    decode_order: npt.NDArray[np.int64]

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """(G,) numbers of the key pictures."""
        return np.flatnonzero(self.keys)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(G,) pictures from each key picture to the next, in the order of display."""
        return np.diff(np.append(self.starts, len(self.keys)))


def read_table(
    opened: Opened, limits: Limits, name: str, keep: Callable[[Any], object] | None = None
) -> PacketTable:
    """The table of an open container, which stands at its end afterwards.

    Args:
        opened: The container, at its start.
        limits: Bounds on work.
        name: What the source is called in messages.
        keep: Is given every packet, those that show nothing too.

    Raises:
        MediaError: Its packets carry no times.
        LimitError: More pictures than `limits.samples`.
    """
    found: list[tuple[int, bool]] = []
    for packet in packets(opened):
        if keep is not None:
            keep(packet)
        if packet.pts is None or packet.is_discard:
            continue
        if len(found) >= limits.samples:
            raise LimitError(f"{name}: more than {limits.samples} frames")
        found.append((packet.pts, packet.is_keyframe))
    if not found:
        raise MediaError(f"{name}: its packets carry no times")
    base = float(opened.base)
    ticks = np.array([pts for pts, _ in found], np.int64)
    order = np.argsort(ticks, kind="stable")
    return PacketTable(
        times=(ticks[order] - ticks[order[0]]) * base,
        keys=np.array([key for _, key in found], bool)[order],
        decode_order=order,
    )


class References:
    """Follows packets in decode order and says how far away each picture's references are.

    Args:
        codec: Name of the picture codec.
        length_bytes: Bytes of a NAL unit's length in MP4-like containers; 0 for start codes.
    """

    def __init__(self, codec: str, length_bytes: int) -> None:
        self._h264 = codec == "h264"
        self._length_bytes = length_bytes
        self._known: deque[int] = deque(maxlen=_REFERENCES)
        self._shown: list[int] = []
        self._pairs: dict[int, tuple[int | None, int | None]] = {}

    def announce(self, pts: int) -> None:
        """A packet with that display time was read; it will be fed later."""
        insort(self._shown, pts)
        if len(self._shown) > 2 * _REMEMBERED:
            del self._shown[:_REMEMBERED]
            self._pairs = {t: pair for t, pair in self._pairs.items() if t >= self._shown[0]}

    def following(self, pts: int, count: int) -> int | None:
        """The display time so many pictures after that of `pts`; None if it was not read yet."""
        at = bisect_right(self._shown, pts) + count - 1
        return self._shown[at] if at < len(self._shown) else None

    def shown_at(self, tick: int) -> int | None:
        """The last display time up to `tick` that was read."""
        at = bisect_right(self._shown, tick) - 1
        return self._shown[at] if at >= 0 else None

    def next_after(self, tick: int, ended: bool) -> tuple[bool, int | None]:
        """Whether it is certain, and if so the first display time later than `tick`, if any.

        Args:
            tick: A display time.
            ended: Whether all packets were read.
        """
        at = bisect_right(self._shown, tick)
        certain = at > 0 and (ended or len(self._shown) >= at + REORDER)
        return certain, self._shown[at] if certain and at < len(self._shown) else None

    def feed(self, packet: Any) -> None:
        """The packet goes into the decoder."""
        pts = packet.pts
        past = max((r for r in self._known if r < pts), default=None)
        future = min((r for r in self._known if r > pts), default=None)
        self._pairs[pts] = past, future
        if self._is_reference(packet, future):
            self._known.append(pts)

    def distance(self, pts: int, kind: str) -> tuple[float, float]:
        """Pictures to the nearest past and future reference in display order; NaN if unknown."""
        past, future = self._pairs.get(pts, (None, None))
        if kind == "P":
            future = None
        return self._between(past, pts), self._between(pts, future)

    def _between(self, first: int | None, last: int | None) -> float:
        if first is None or last is None or first < self._shown[0]:
            return float("nan")
        return float(bisect_right(self._shown, last) - 1 - bisect_left(self._shown, first))

    def _is_reference(self, packet: Any, future: int | None) -> bool:
        if self._h264:
            return _nal_ref_idc(packet, self._length_bytes) != 0
        # Elsewhere only B-frames are not referred to, and those come after what follows them.
        return future is None


def _nal_ref_idc(packet: Any, length_bytes: int) -> int:
    """`nal_ref_idc` of the first slice of an H.264 packet (ITU-T H.264, 7.3.1); 1 if none is found.

    It says whether the picture is used for the prediction of others.
    """
    data = memoryview(packet)
    at = 0
    for _ in range(64):
        if length_bytes:
            if at + length_bytes >= len(data):
                break
            size = int.from_bytes(data[at : at + length_bytes], "big")
            at += length_bytes
        else:
            found = bytes(data[at : at + 4096]).find(b"\x00\x00\x01")
            if found < 0 or at + found + 3 >= len(data):
                break
            at, size = at + found + 3, 1
        header = data[at]
        if header & 31 in (1, 2, 5):
            return header >> 5 & 3
        at += size
    return 1


def nal_length_bytes(stream: Any) -> int:
    """Bytes of a NAL unit's length in the packets of an H.264 stream; 0 for start codes.

    ISO/IEC 14496-15: a configuration record begins with 1, its fifth byte ends in the length - 1.
    """
    extra = stream.codec_context.extradata
    if extra is None or len(extra) < 5 or extra[0] != 1:
        return 0
    return int(extra[4] & 3) + 1
