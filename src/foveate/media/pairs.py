"""Motion between neighbouring frames: flow, or grey pictures alone, where vectors are not used."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import av.error
import cv2
import numpy as np

from foveate.core import MediaError, Meter, Motion, Sample
from foveate.media.decode import Cursor
from foveate.media.flow import SHORTER, PairFlow
from foveate.media.motion import THUMB, Grey, check, same

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

AHEAD = 3  # frames after the one shown, within which another picture is looked for
_HALF = 2  # flow is kept at half its resolution: it is smooth, and maps cost a quarter
EDGE = 1  # places along the border where flow is not trusted: what comes in has no past


def small_size(width: int, height: int, shorter: int = SHORTER) -> tuple[int, int]:
    """`(width, height)` at which flow is computed: the shorter side at most `shorter`."""
    scale = min(1.0, shorter / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


class PairMotion:
    """Collects pairs of neighbouring frames and computes the motion between them.

    Args:
        frame: `(width, height)` of the upright source.
        count: How many times were asked for.
        meter: Is charged the seconds.
        flow: False keeps the grey pictures only.
    """

    def __init__(self, frame: tuple[int, int], count: int, meter: Meter, flow: bool) -> None:
        self.size = small_size(*frame)
        width, height = self.size
        self._frame, self._meter = frame, meter
        self._flow = PairFlow() if flow and PairFlow.fits(width, height) else None
        self._wanted = flow
        self._grid = max(1, width // _HALF), max(1, height // _HALF)
        self._pictures: dict[int, list[Grey]] = {}
        self._grey = np.zeros((count, 2, self._grid[1], self._grid[0]), np.uint8)
        self._thumbs = np.zeros((count, THUMB[1], THUMB[0]), np.uint8)
        self._gaps = np.zeros(count)

    def show(self, row: int, first: Pixels) -> None:
        """The frame of an asked time, (h, w, 3) at `size`, with no neighbour so far."""
        started = time.perf_counter()
        grey = np.asarray(cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), np.uint8)
        self._pictures[row] = [grey]
        self._grey[row] = cv2.resize(grey, self._grid, interpolation=cv2.INTER_AREA)
        self._thumbs[row] = cv2.resize(grey, THUMB, interpolation=cv2.INTER_AREA)
        self._meter.motion_seconds += time.perf_counter() - started

    def follow(self, row: int, later: Pixels, frames: float) -> None:
        """The frame after it, so many frames later (at least a part of one)."""
        started = time.perf_counter()
        grey = np.asarray(cv2.cvtColor(later, cv2.COLOR_RGB2GRAY), np.uint8)
        self._pictures[row] = [self._pictures[row][0], grey]
        self._grey[row, 1] = cv2.resize(grey, self._grid, interpolation=cv2.INTER_AREA)
        self._gaps[row] = frames
        self._meter.motion_seconds += time.perf_counter() - started

    def repeated(self) -> list[int]:
        """Rows whose two pictures are the same though others are not: a frame is shown twice.

        Where nothing moves at all there is nothing to find further ahead.
        """
        rows = np.flatnonzero(self._gaps > 0).tolist()
        stand = [same(self._grey[row, 0], self._grey[row, 1]) for row in rows]
        still = [same(self._grey[a, 0], self._grey[b, 0]) for a, b in pairwise(rows)]
        return [
            row for i, row in enumerate(rows) if stand[i] and not all(still[max(0, i - 1) : i + 1])
        ]

    def motion(self, reason: str | None = None) -> Motion:
        """All of it, in source pixels per frame."""
        width, height = self._grid
        cell = self._frame[0] / width, self._frame[1] / height
        source = "flow" if self._wanted else "grey"
        if not self._wanted:
            return Motion(source, cell, self._thumbs, grey=self._grey, reason=reason)
        started = time.perf_counter()
        count = len(self._grey)
        field = np.zeros((count, 1, height, width, 2), np.float32)
        valid = np.zeros((count, 1, height, width), bool)
        if self._flow is None:
            reason = "the frames are too small for flow"
            return Motion(source, cell, self._thumbs, field, valid, self._grey, reason)
        scale = np.array([self._frame[0] / self.size[0], self._frame[1] / self.size[1]])
        for row in np.flatnonzero(self._gaps > 0).tolist():
            flow = self._flow(*self._pictures.pop(row))
            small = cv2.resize(flow, self._grid, interpolation=cv2.INTER_AREA)
            field[row, 0] = small * (scale / self._gaps[row]).astype(np.float32)
            valid[row, 0, EDGE : height - EDGE, EDGE : width - EDGE] = True
        self._meter.motion_seconds += time.perf_counter() - started
        return Motion(source, cell, self._thumbs, field, valid, self._grey, reason)


def filmed_motion(
    cursor: Cursor,
    pixels: Callable[[int, Any, tuple[int, int]], Pixels],
    keep: Callable[[int, Any], None],
    pairs: PairMotion,
    tick_of: Callable[[float], int],
    times: Sequence[float],
    rate: float,
) -> None:
    """Fill pairs with frames of a file: the one shown at each time, and the one after it.

    Where a frame is shown twice, the first other one within `AHEAD` frames follows it.

    Args:
        cursor: Decodes.
        pixels: Gives the pixels of a frame at a `(width, height)`; may raise on damage.
        keep: Called with the frame of every requested time and the requested tick.
        pairs: Filled row by row.
        tick_of: Turns seconds into the cursor's ticks.
        times: Seconds, ascending.
        rate: Frames per second.
    """
    base: dict[int, int] = {}

    def look(wanted: list[tuple[int, int, bool]]) -> None:
        wanted.sort()
        shown = cursor.at([tick for tick, _, _ in wanted])
        for (asked, row, later), found in zip(wanted, shown, strict=True):
            if found is None:
                continue
            tick, frame = found
            try:
                small = pixels(tick, frame, pairs.size)
            except (av.error.FFmpegError, ValueError):
                continue
            if not later:
                base[row] = tick
                pairs.show(row, small)
                keep(asked, found)
            elif row in base and tick > base[row]:
                frames = (tick - base[row]) * float(cursor.time_base) * rate
                pairs.follow(row, small, max(frames, 0.25))

    look([(tick_of(t + d / rate), row, d > 0) for row, t in enumerate(times) for d in (0, 1)])
    for ahead in range(2, AHEAD + 1):
        rows = pairs.repeated()
        if not rows:
            break
        look([(tick_of(times[row] + ahead / rate), row, True) for row in rows])


def numbered_motion(
    sample: Sample,
    small: Callable[[int, tuple[int, int]], Pixels | None],
    shown: Callable[[float], int | None],
    times: Sequence[float],
    source: str,
    around: int,
) -> Motion:
    """Motion of pictures that are numbered: arrays, folders and frames from an iterable.

    Args:
        sample: Whose pictures they are.
        small: Gives picture number n at a `(width, height)`, None if it is damaged or there is
            none of that number.
        shown: Gives the number of the picture shown at a time, None if there is none.
        times: Seconds, ascending.
        source: See `core.Sample.motion`.
        around: The same.

    Raises:
        MediaError: Vectors were asked for: there is no codec.
    """
    check(times, source, around)
    info = sample.info
    reason = "pictures without a video codec have no motion vectors"
    if source == "vectors":
        raise MediaError(f"{info.name}: {reason}", "use flow")
    pairs = PairMotion((info.width, info.height), len(times), sample.meter, source != "grey")
    places = [shown(asked) for asked in times]
    for row, at in enumerate(places):
        first = None if at is None else small(at, pairs.size)
        if at is None or first is None:
            continue
        pairs.show(row, first)
        later = small(at + 1, pairs.size)
        if later is not None:
            pairs.follow(row, later, 1.0)
    for ahead in range(2, AHEAD + 1):
        for row in pairs.repeated():
            later = small((places[row] or 0) + ahead, pairs.size)
            if later is not None:
                pairs.follow(row, later, float(ahead))
    return pairs.motion(reason if source == "auto" else None)
