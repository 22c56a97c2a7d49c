"""The rows that FFmpeg exports for a picture, and what it takes to read them safely."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from av.codec.context import Flags2
from av.sidedata.sidedata import SideDataContainer, Type

from foveate.core import MediaError

Rows = npt.NDArray[Any]

# FFmpeg's `AVMotionVector` in memory, but for its flags, which are always 0. One block of one
# picture: `source` -1 is predicted from the past, +1 from the future; `dst` is the middle of the
# block; the prediction lies `motion / motion_scale` pixels away from it.
ROW = np.dtype(
    {
        "names": ["source", "w", "h", "src_x", "src_y", "dst_x", "dst_y", "motion_x", "motion_y",
                  "motion_scale"],
        "formats": ["<i4", "u1", "u1", "<i2", "<i2", "<i2", "<i2", "<i4", "<i4", "<u2"],
        "offsets": [0, 4, 5, 6, 8, 10, 12, 24, 28, 32],
        "itemsize": 40,
    }
)  # fmt: skip


Quality = Literal["full", "intra", "none"]

# Of intra pictures the loop filter and the inverse transform are kept. The loop filter goes by the
# type of a slice: an intra picture need not be one at which decoding can start.
_SKIPPED: dict[Quality, dict[str, str]] = {
    "full": {},
    "intra": {"skip_loop_filter": "nointra", "skip_idct": "nokey"},
    "none": {"skip_loop_filter": "all", "skip_idct": "all"},
}


def export(codec: Any, quality: Quality = "full") -> None:
    """Ask a decoder for vectors; works before it is opened only.

    Args:
        codec: The codec context, closed, with slice threads.
        quality: Which pictures must be right: all, intra pictures, or none. Loop filter and inverse
            transform are left out for the others; the vectors are the same.

    Raises:
        MediaError: The decoder is open already or has frame threads.
    """
    check_threads(codec)
    if codec.is_open:
        raise MediaError("vectors must be asked for before the first picture is decoded")
    codec.flags2 |= Flags2.export_mvs
    if _SKIPPED[quality]:
        codec.options = {**codec.options, **_SKIPPED[quality]}


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
    """The rows of a decoded picture; None where it has none (intra pictures).

    They are not copied: as long as they live, so does the picture. Copy what is to be kept.

    Returns:
        (N,) of `ROW`, not writable.
    """
    # Not `frame.side_data`: that ties the frame into a cycle which only Python's collector undoes,
    # so that the decoder has to take fresh memory for every picture instead of using it again.
    data: Any
    for data in SideDataContainer(frame):  # type: ignore[call-arg]
        if data.type is Type.MOTION_VECTORS:
            return np.frombuffer(data, ROW)
    return None
