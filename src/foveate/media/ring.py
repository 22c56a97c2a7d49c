"""Compressed packets of a live stream: a bounded memory of the last seconds, and files cut from it.

Clips begin at a key frame and are copied without decoding. A stream whose pictures may not be
written as they are (privacy masks) is decoded group by group, see `group_frames`.
"""

from __future__ import annotations

import io
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

import av

from foveate.media.video import Video, every_frame

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

# Codecs that players expect in an MP4; others go to Matroska.
_MP4 = frozenset(["h264", "hevc", "mpeg4", "av1", "vp9", "mjpeg", "mpeg2video"])


@dataclass(frozen=True)
class StoredPacket:
    """A packet that belongs to no container.

    Attributes:
        number: Place among all packets of its ring.
        seconds: Display time in seconds of the epoch.
        data: The coded picture.
        pts: Display time in ticks, None if unknown.
        dts: Decode time in ticks, None if unknown.
        duration: In ticks, 0 if unknown.
        base: Seconds per tick.
        key: Whether decoding can begin here.
    """

    number: int
    seconds: float
    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    base: Fraction
    key: bool

    @property
    def decoded_at(self) -> float:
        """Decode time in seconds of the epoch; never goes back, unlike `seconds`."""
        if self.pts is None or self.dts is None:
            return self.seconds
        return self.seconds - float((self.pts - self.dts) * self.base)


class Template:
    """The parameters of a picture stream; they stay when its container is closed.

    Args:
        stream: A video stream of an open container.
    """

    def __init__(self, stream: Any) -> None:
        # An output container that is never written keeps a copy of the parameters.
        self._holder = av.open(io.BytesIO(), "w", format="matroska")
        self.stream: Any = self._holder.add_stream_from_template(stream)
        # The template's own codec context is that of an encoder, such as libx264.
        self.codec = str(stream.codec_context.name)

    @property
    def format(self) -> str:
        """The container for copies: `mp4`, or `matroska`."""
        return "mp4" if self.codec in _MP4 else "matroska"

    @property
    def copies(self) -> bool:
        """Whether packets are compressed; devices may deliver raw pictures."""
        return self.codec != "rawvideo"


class PacketRing:
    """The last seconds of one camera, in packets; may be used by several threads.

    The reader of the camera calls `begin` for every connection and `add` for every packet of the
    picture stream. Packets are removed in whole groups of pictures, the oldest first, so that the
    ring always begins at a key frame.

    Args:
        seconds: What is kept at least, as long as `most_bytes` allow.
        most_bytes: Of packets; the last group of pictures is kept in any case until it has twice
            that size, then everything is removed up to the next key frame.
    """

    def __init__(self, seconds: float = 30.0, most_bytes: int = 64_000_000) -> None:
        self.seconds, self.most_bytes = seconds, most_bytes
        self.bytes = 0
        self.epoch = 0
        self._template: Template | None = None
        self._packets: deque[StoredPacket] = deque()
        # Epoch, packets and parameters of the connection before.
        self._before: tuple[int, deque[StoredPacket], Template | None] = (0, deque(), None)
        self._keys: deque[StoredPacket] = deque()
        self._next = 0
        self._open = False
        self._lock = threading.Lock()

    def begin(self, stream: Any, epoch: int) -> None:
        """A connection is open; packets of the one before are kept until the next one.

        Args:
            stream: The picture stream, whose parameters are copied.
            epoch: Number of the connection.
        """
        template = Template(stream)
        with self._lock:
            self._before = self.epoch, self._packets, self._template
            self._packets = deque()
            self._clear()
            self.epoch, self._template, self._open = epoch, template, True

    def end(self) -> None:
        """The connection has ended; its packets are kept until the next one."""
        with self._lock:
            self._open = False

    def is_open(self, epoch: int) -> bool:
        """Whether more packets of that connection may come."""
        with self._lock:
            return self._open and self.epoch == epoch

    def add(self, packet: Any, seconds: float) -> None:
        """Add a packet; its data is copied.

        Args:
            packet: A packet of the stream, in the order of decoding.
            seconds: Its display time in seconds of the epoch.
        """
        data = bytes(packet)
        key = bool(packet.is_keyframe)
        with self._lock:
            if not data or not self._open or not (key or self._packets):
                return  # nothing can be decoded before the first key frame
            stored = StoredPacket(
                self._next, seconds, data, packet.pts, packet.dts, packet.duration or 0,
                Fraction(packet.time_base), key,
            )  # fmt: skip
            self._next += 1
            self._packets.append(stored)
            self.bytes += len(data)
            if key:
                self._keys.append(stored)
            while len(self._keys) > 1 and (
                self._keys[1].seconds <= seconds - self.seconds or self.bytes > self.most_bytes
            ):
                self._keys.popleft()
                while self._packets[0] is not self._keys[0]:
                    self.bytes -= len(self._packets.popleft().data)
            if self.bytes > 2 * self.most_bytes:
                self._clear()

    def template(self, epoch: int) -> Template | None:
        """Parameters of the stream of a connection, None if it is forgotten."""
        with self._lock:
            before, _, template = self._before
            if epoch == self.epoch:
                return self._template
            return template if epoch == before else None

    def first_for(self, epoch: int, seconds: float) -> int | None:
        """Number of the last key packet at or before a time; else of the first one that is left.

        Returns:
            None if there are no packets of that connection.
        """
        with self._lock:
            keys = [packet for packet in self._of(epoch) if packet.key]
            place = bisect_right([key.seconds for key in keys], seconds) - 1
            return keys[max(place, 0)].number if keys else None

    def since(self, number: int, epoch: int) -> list[StoredPacket] | None:
        """The packets of a connection from a number on; None if that one was removed."""
        with self._lock:
            packets = self._of(epoch)
            if not packets:
                return [] if epoch == self.epoch and number >= self._next else None
            first = packets[0].number
            return None if number < first else list(islice(packets, number - first, None))

    def _of(self, epoch: int) -> deque[StoredPacket]:
        """The packets of a connection; of one that is forgotten there are none."""
        if epoch == self.epoch:
            return self._packets
        return self._before[1] if epoch == self._before[0] else deque()

    def _clear(self) -> None:
        self._packets.clear()
        self._keys.clear()
        self.bytes = 0


class Remuxer:
    """Makes packets for one output stream, whose times begin at zero and always rise.

    Args:
        container: The output, open for writing.
        template: Parameters of the stream.
    """

    def __init__(self, container: Any, template: Template) -> None:
        self._stream = container.add_stream_from_template(template.stream)
        self._shift: int | None = None
        self._last = -1

    def packet(self, stored: StoredPacket) -> Any:
        """The next packet, in the order of decoding."""
        dts = stored.pts if stored.dts is None else stored.dts
        if dts is None:
            dts = self._last + 1 + (self._shift or 0)
        if self._shift is None:
            self._shift = dts
        packet: Any = av.Packet(stored.data)
        # Cameras repeat decode times, which no container accepts.
        packet.dts = self._last = max(self._last + 1, dts - self._shift)
        packet.pts = max(packet.dts, (dts if stored.pts is None else stored.pts) - self._shift)
        if stored.duration:
            packet.duration = stored.duration
        packet.time_base, packet.is_keyframe = stored.base, stored.key
        packet.stream = self._stream
        return packet


def group_frames(
    template: Template, packets: Sequence[StoredPacket]
) -> Iterator[tuple[float, Pixels]]:
    """Decode packets in memory, from a key frame on.

    Args:
        template: Parameters of the stream.
        packets: In the order of decoding, the first one a key frame.

    Yields:
        Seconds in the epoch and (H, W, 3) uint8 RGB, upright, in the order of display.

    Raises:
        MediaError: Nothing can be decoded.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=template.format) as container:
        remuxer = Remuxer(container, template)
        for stored in packets:
            container.mux(remuxer.packet(stored))
    first = packets[0].seconds  # pictures that are shown before the key frame need the group before
    with Video(file.getvalue()) as video:
        for seconds, pixels in every_frame(video):
            yield first + seconds, pixels
