"""One decoder: set up safely, counted, bounded, and silent about damage but for a warning."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av.error

from foveate.core import MediaError, Meter
from foveate.media.container import Opened
from foveate.media.decoding import EXACT, Decoding
from foveate.media.limits import Limits
from foveate.media.vectors.rows import Quality, export
from foveate.media.work import Work

_MOST_INSIDE = 256  # frames


class Decoder:
    """The decoder of an open picture stream; the only place where packets become frames.

    It works with slice threads only: frame threads hold several pictures more and have crashed
    over many files.

    Args:
        opened: The open container with its stream.
        limits: Bounds on work.
        threads: Slice threads.
        meter: Counts decoded frames and fed packets.
        work: Holds the work against the limits.
        warn: Takes one line about damage.
        vectors: Export motion vectors as side data of the frames.
        quality: With `vectors`: which frames must look right, see `rows.export`.
        decoding: What may be left out.

    Attributes:
        coded_size: Width and height that the container states.
        pixel_shape: Width of a pixel by its height as the last key frame says; None if it does not.

    Raises:
        MediaError: The decoder cannot be started.
    """

    def __init__(
        self,
        opened: Opened,
        limits: Limits,
        threads: int,
        meter: Meter,
        work: Work,
        warn: Callable[[str], None],
        *,
        vectors: bool = False,
        quality: Quality = "full",
        decoding: Decoding = EXACT,
    ) -> None:
        codec = opened.stream.codec_context
        codec.thread_type = "SLICE"
        codec.thread_count = threads
        codec.options = {
            **codec.options, "max_pixels": str(limits.pixels), **decoding.options()
        }  # fmt: skip
        self.coded_size = codec.width, codec.height  # opening it divides them with `lowres`
        if vectors:
            export(codec, quality)
        try:
            # Some decoders look at `skip_frame` only here: it must not be set yet.
            codec.open(strict=False)
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(
                f"{opened.reader.label}: its {codec.name} decoder cannot be started ({error})"
            ) from None
        self._codec = codec
        self._opened = opened
        self._inside: set[int] = set()  # display times of what was fed and has not come out
        self._last: int | None = None  # display time of the frame that came out last
        self.pixel_shape: Fraction | None = codec.sample_aspect_ratio
        self._watched = work.watches(_picture_bytes(codec))
        self._skips = False
        self._meter = meter
        self._work = work
        self._warn = warn

    def feed(self, packet: Any, wanted: bool) -> list[Any]:
        """Frames that come out when a packet goes in.

        Args:
            packet: The packet, in decode order.
            wanted: False skips it in the decoder if no other frame refers to it.
        """
        wanted |= self._opened.disordered
        if wanted and packet.pts is not None and not packet.is_discard:
            self._inside.add(packet.pts)
        if wanted == self._skips:
            self._codec.skip_frame = "DEFAULT" if wanted else "NONREF"
            self._skips = not wanted
        self._meter.packets += 1
        frames = self._decode(packet)
        if packet.is_keyframe:
            self.pixel_shape = self._codec.sample_aspect_ratio
        return frames

    def drain(self) -> list[Any]:
        """All frames still inside; afterwards it can only start at a key frame."""
        frames = self._decode(None)
        self.reset()
        return frames

    def reset(self) -> None:
        """Forget what is still inside; it can only start at a key frame then."""
        self._codec.flush_buffers()
        self._inside.clear()
        self._last = None

    def close(self) -> None:
        """Let go of the decoder: it keeps its pictures until nothing refers to it."""
        self._codec = None

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any]
            if self._watched:
                with self._work.watch_memory():
                    frames = self._codec.decode(packet)
            else:
                frames = self._codec.decode(packet)
        except (av.error.FFmpegError, ValueError) as error:
            # `max_pixels` and damaged data both surface here; the stream goes on without.
            self._warn(f"damaged data was skipped ({type(error).__name__})")
            return []
        for frame in frames:
            self._meter.frames += 1
            self._work.decoded(frame.width * frame.height)
            if frame.is_corrupt:
                self._warn("frames with decoding errors")
            self._take_turn(frame)
        return frames

    def _take_turn(self, frame: Any) -> None:
        """Note that a frame came out; where times are in disorder, it gets the next one."""
        if self._opened.disordered:
            last = self._last
            left = [tick for tick in self._inside if last is None or tick > last]
            frame.pts = min(left, default=frame.pts)
        self._inside.discard(frame.pts)
        self._last = frame.pts
        if len(self._inside) > _MOST_INSIDE:  # damage: some never come out
            self._inside = {tick for tick in self._inside if tick > (frame.pts or 0)}


def _picture_bytes(codec: Any) -> int:
    bits: int = codec.format.padded_bits_per_pixel if codec.format is not None else 24
    return int(codec.width * codec.height * bits // 8)
