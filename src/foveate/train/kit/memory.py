"""Memory of training: what a clip needs, what is free, and freed memory kept in the process.

Activations of a step are freed and allocated again in the next one. glibc returns large blocks to
the system each time, and allocating them again costs a page fault for every four kilobytes: 15%
of the time of a step of eight clips of MoViNet-A0 on one core (`benchmarks/train_speed.py`).
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


TARGET = 3e9  # bytes that a process on a CPU should not exceed
_SHARE = 0.8  # of the free memory
_OVERHEAD = 1.25  # of what the allocator and libraries take besides tensors; measured: 1.03 to 1.2


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations create, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._sizes: dict[int, int] = {}
        self._now = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._note((args, kwargs), existing=True)
        found = func(*args, **(kwargs or {}))
        self._note(found)
        return found

    def _note(self, tree: Any, existing: bool = False) -> None:
        for tensor in tree_leaves(tree):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._sizes:
                    self._sizes[key] = 0 if existing else storage.nbytes()
                    self._now += self._sizes[key]
                    weakref.finalize(storage, self._freed, key)
        self.peak = max(self.peak, self._now)

    def _freed(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


def peak_bytes(step: Callable[[], None], device: torch.device) -> float:
    """The most memory that a step takes at a time, beyond what there is before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return _OVERHEAD * (torch.cuda.max_memory_allocated(device) - before)
    live = _LiveBytes()
    with live:
        step()
    return _OVERHEAD * live.peak


def activation_bytes(model: nn.Module, device: torch.device) -> float:
    """Memory for activations of a step: 0.8 of what is free, on a CPU within `TARGET`.

    Args:
        model: Gradients and optimiser state take up to three times its parameters.
        device: Where it is trained.
    """
    if device.type == "cuda":
        free = _SHARE * torch.cuda.mem_get_info(device)[0]
    else:
        free = min(TARGET - _resident_bytes(), _SHARE * _free_bytes())
    parameters = (p for p in model.parameters() if p.requires_grad)
    return free - 3.0 * sum(p.numel() * p.element_size() for p in parameters)


def _free_bytes() -> float:
    """Memory of the machine that is free, infinite if the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(1024.0 * int(row.split()[1]) for row in lines if row.startswith("MemAvail"))
    except (OSError, ValueError, StopIteration):
        return math.inf


def _resident_bytes() -> float:
    """Memory of this process, half a gigabyte (that of torch) if the system does not say."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept can be used again
    try:
        return float(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except (OSError, ValueError):
        return 5e8
