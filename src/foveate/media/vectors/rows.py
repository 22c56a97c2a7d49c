"""The rows that FFmpeg exports for a picture, and what it takes to read them safely."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import numpy.typing as npt
from av.codec.context import Flags2

from foveate.core import MediaError

Rows = npt.NDArray[Any]

# One block of one picture: `source` -1 is predicted from the past, +1 from the future; `dst` is
# the middle of the block; the prediction lies `motion / motion_scale` pixels away from it.
ROW = np.dtype(
    [("source", "<i4"), ("w", "u1"), ("h", "u1"), ("src_x", "<i2"), ("src_y", "<i2"),
     ("dst_x", "<i2"), ("dst_y", "<i2"), ("motion_x", "<i4"), ("motion_y", "<i4"),
     ("motion_scale", "<u2")]
)  # fmt: skip

_YOUNG_EVERY = 32  # pictures
_MOST_BYTES = 128_000_000  # of pictures that only a full collection can free


def export(codec: Any, pixels: bool = True) -> None:
    """Ask a decoder for vectors; works before it is opened only.

    Args:
        codec: The codec context, closed, with slice threads.
        pixels: False leaves out the loop filter and the inverse transform: the vectors are the
            same, the pictures are not.

    Raises:
        MediaError: The decoder is open already or has frame threads.
    """
    check_threads(codec)
    if codec.is_open:
        raise MediaError("vectors must be asked for before the first picture is decoded")
    codec.flags2 |= Flags2.export_mvs
    if not pixels:
        codec.options = {**codec.options, "skip_loop_filter": "all", "skip_idct": "all"}


def check_threads(codec: Any) -> None:
    """Refuse frame threads: one thread writes a picture's vectors while another still makes them.

    Raises:
        MediaError: The decoder may use frame threads.
    """
    if "FRAME" in str(codec.thread_type) or "AUTO" in str(codec.thread_type):
        raise MediaError(
            "frame threads damage motion vectors where there are B-frames",
            "set thread_type to SLICE, or run several files at once",
        )


def rows_of(frame: Any) -> Rows | None:
    """The rows of a decoded picture, copied; None where it has none (intra pictures).

    Returns:
        (N,) of `ROW`.
    """
    data = frame.side_data.get("MOTION_VECTORS")
    if data is None:
        return None
    raw = data.to_ndarray()
    rows = np.empty(len(raw), ROW)
    for name in ROW.names or ():
        rows[name] = raw[name]
    return rows


class Sweeper:
    """Frees the pictures whose side data was read.

    Asking a frame of PyAV for its side data ties it into a cycle that only Python's cyclic
    collector undoes, and the collector does not know that megabytes hang on it. A young collection
    now and then frees nearly all of them at the price of microseconds; one frame in each is always
    in use by the decoder and grows old, so rarely a full one has to follow.
    """

    def __init__(self) -> None:
        self._read = 0
        self._old_bytes = 0

    def count(self, picture_bytes: int, alive: int) -> None:
        """A picture of that many bytes was read; so many before it are still in use."""
        self._read += 1
        if self._read % _YOUNG_EVERY:
            return
        gc.collect(1)
        # What is in use now grows old, and the frame that the decoder keeps ready.
        self._old_bytes += (alive + 1) * picture_bytes
        if self._old_bytes > _MOST_BYTES:
            self.full()

    def full(self) -> None:
        """Free all of them."""
        gc.collect()
        self._old_bytes = 0
