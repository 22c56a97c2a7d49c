"""Keeps freed memory in the process while training, if the C library is glibc.

Activations of a step are freed and allocated again in the next one. glibc returns large blocks to
the system each time, and allocating them again costs a page fault for every four kilobytes: 15%
of the time of a step of eight clips of MoViNet-A0 on one core (`benchmarks/train_speed.py`).
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h; numbers are part of glibc's binary interface.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1
_TOP_PAD = 256 * 2**20  # bytes requested at once


def keep_freed_memory() -> bool:
    """Make malloc keep freed memory, for the rest of the process.

    Returns:
        Whether malloc accepted it; if not, nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # musl has no mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _TOP_PAD))
    return all(mallopt(option, value) == 1 for option, value in settings)
