"""Counts the work of one decoder against the limits in force."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from foveate.core import LimitError
from foveate.media.limits import Limits

_FREE_PIXELS = 3_000_000_000  # decoded before `pixels_per_byte` is looked at
_PICTURES = 20  # more than any decoder keeps
_EVERY = 8  # packets between two looks at the clocks

# A still 1080p scene, the cheapest usual video, gives 13,000 to 19,000 bytes for each second that
# one core needs to decode it (H.264, VP9, AV1). A stretch that costs bytes may take its time.
_HONEST_BYTES = 10_000  # per second


class Work:
    """Stops a decoder that runs forever or produces too much output for its input.

    Args:
        limits: Bounds on work.
        read: Bytes that were read before.

    Attributes:
        name: What the source is called in messages.
    """

    def __init__(self, limits: Limits, read: int) -> None:
        self.name = "video"
        self._limits = limits
        self._read = read
        self._pixels = 0
        self._calls = 0
        self._held = 0
        self.begin()

    def begin(self) -> None:
        """A wanted frame was found, or a new one is asked for."""
        self._wall, self._processor = time.monotonic(), time.process_time()
        self._begun = self._read

    def read(self, count: int) -> None:
        """So many bytes were read, from the file or from memory."""
        self._read += count

    def watches(self, picture_bytes: int) -> bool:
        """Whether a decoder of such pictures could hold more than `limits.decoder_bytes`."""
        limit = self._limits.decoder_bytes
        return limit is not None and picture_bytes * _PICTURES > limit

    @contextmanager
    def watch_memory(self) -> Iterator[None]:
        """Bound what one step of the decoder adds to the memory that it holds.

        Decoders keep as many pictures as a stream tells them to. Where so many large ones could
        exceed the limit, the memory of the process is looked at, before and after.

        Raises:
            LimitError: The decoder holds more than `limits.decoder_bytes`.
        """
        limit = self._limits.decoder_bytes
        before = _resident_bytes()
        yield
        self._held += _resident_bytes() - before
        if limit is not None and self._held > limit:
            raise LimitError(
                f"{self.name}: its decoder holds {self._held} bytes of pictures, "
                f"the limit is {limit}",
                "raise limits.decoder_bytes if you trust the file",
            )

    def decoded(self, pixels: int) -> None:
        """A frame of so many pixels came out."""
        self._pixels += pixels

    def check(self) -> None:
        """Check the limits from time to time.

        Raises:
            LimitError: Too long without a wanted frame, or too many pixels out of too few bytes.
        """
        self._calls += 1
        if self._calls % _EVERY:
            return
        limits, read = self._limits, max(self._read, 1)
        if limits.stall_seconds is not None:
            # Processor time spares a busy machine, wall time a busy process.
            spent = min(time.monotonic() - self._wall, time.process_time() - self._processor)
            honest = (self._read - self._begun) / _HONEST_BYTES
            if spent - honest > limits.stall_seconds:
                raise LimitError(
                    f"{self.name}: {limits.stall_seconds:g} seconds of decoding gave no wanted "
                    "frame",
                    "raise limits.stall_seconds if you trust the file",
                )
        ratio = limits.pixels_per_byte
        if ratio and self._pixels > _FREE_PIXELS + ratio * read:
            raise LimitError(
                f"{self.name}: decodes to {self._pixels // read} pixels per byte, "
                f"the limit is {ratio:g}",
                "raise limits.pixels_per_byte if you trust the file",
            )


def _resident_bytes() -> int:
    """Memory of this process, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
