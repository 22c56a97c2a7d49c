"""What tests of the loop ask of executors: shapes without pixels, costs, and counted calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foveate.core import View


def frames_of_shape(rows: int, frames: int, height: int, width: int) -> dict[str, View]:
    """Views of that shape that hold no memory, to ask what they cost."""
    pixels = np.broadcast_to(np.uint8(0), (rows, frames, height, width, 3))
    return {"rgb": View(pixels, tuple(range(frames)) * rows, np.ones(rows, bool))}


def clip_view(pixels: np.ndarray) -> dict[str, View]:
    """Frames (T, H, W, 3) uint8 as the only row of a view."""
    times = tuple(i / 5 for i in range(len(pixels)))
    return {"rgb": View(pixels[None], times, np.ones(1, bool))}


def frame_macs(executor: Any, side: int) -> int:
    """Multiply-adds of one square frame."""
    cost: int = executor.cost("network", frames_of_shape(1, 1, side, side), None)
    return cost


def head_macs(executor: Any) -> int:
    """Multiply-adds of one answer."""
    cost: int = executor.cost("head", {}, None)
    return cost


class Counted:
    """An executor that notes its calls: the part and the number of sources in each.

    Args:
        executor: Does the work.
        refuses: Whether a call with views of that source fails.
    """

    def __init__(self, executor: Any, refuses: Any = None) -> None:
        self._executor, self._refuses = executor, refuses
        self.calls: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def run(self, part: str, views: Sequence[Any], states: Sequence[Any]) -> Any:
        """Note the call, then make it."""
        self.calls.append((part, len(views)))
        if self._refuses is not None and any(map(self._refuses, views)):
            raise RuntimeError("the device gave up")
        return self._executor.run(part, views, states)
