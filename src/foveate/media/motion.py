"""Motion around asked times, from codec vectors or from flow between neighbouring frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import MediaError, Meter, Motion, Sample
from foveate.media.container import Geometry
from foveate.media.flow import SHORTER, PairFlow
from foveate.media.vectors.grid import CELL, VectorField
from foveate.media.vectors.reader import VectorReader

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

SOURCES = ("auto", "vectors", "flow", "grey")
THUMB = (32, 24)  # (width, height)
_HALF = 2  # flow is kept at half its resolution: it is smooth, and maps cost a quarter
MOST_CELLS = 40  # along the shorter side; a grid twice as fine or more is folded
EDGE = 1  # places along the border where flow is not trusted: what comes in has no past

Grey = npt.NDArray[np.uint8]
_Near = tuple[float, int, VectorField]


def small_size(width: int, height: int, shorter: int = SHORTER) -> tuple[int, int]:
    """`(width, height)` at which flow is computed: the shorter side at most `shorter`."""
    scale = min(1.0, shorter / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def check(times: Sequence[float], source: str, around: int) -> None:
    """Refuse questions that cannot be meant.

    Raises:
        ValueError: Unknown source, negative neighbourhood, or times that do not ascend.
    """
    if source not in SOURCES:
        raise ValueError(f"motion source {source!r} is none of {', '.join(SOURCES)}")
    if around < 0:
        raise ValueError("the neighbourhood cannot be negative")
    if any(b < a for a, b in pairwise(times)) or not np.isfinite(list(times)).all():
        raise ValueError("times must be ascending and finite")


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
        self._pictures[row].append(grey)
        self._grey[row, 1] = cv2.resize(grey, self._grid, interpolation=cv2.INTER_AREA)
        self._gaps[row] = frames
        self._meter.motion_seconds += time.perf_counter() - started

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


def numbered_motion(
    sample: Sample,
    small: Callable[[int, tuple[int, int]], Pixels | None],
    count: int,
    times: Sequence[float],
    source: str,
    around: int,
) -> Motion:
    """Motion of pictures that are numbered and have a constant rate: arrays and folders.

    Args:
        sample: Whose pictures they are.
        small: Gives picture number n at a `(width, height)`, None if it is damaged.
        count: How many pictures there are.
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
    rate = info.rate or 25.0
    pairs = PairMotion((info.width, info.height), len(times), sample.meter, source != "grey")
    for row, asked in enumerate(times):
        at = int(np.floor(asked * rate + 1e-6))
        first = small(at, pairs.size) if 0 <= at < count else None
        if first is None:
            continue
        pairs.show(row, first)
        later = small(at + 1, pairs.size) if at + 1 < count else None
        if later is not None:
            pairs.follow(row, later, 1.0)
    return pairs.motion(reason if source == "auto" else None)


def near_fields(
    reader: VectorReader, times: Sequence[float], around: int, rate: float
) -> Iterator[list[VectorField | None]]:
    """For each asked time the fields of the picture shown then and of its neighbours.

    Args:
        reader: Gives the fields, with frames.
        times: Seconds, ascending.
        around: Neighbours on each side.
        rate: Frames per second, to tell how far ahead reading pays.

    Yields:
        2 * around + 1 fields, None where there is no picture; the middle one is shown then.
    """
    for stretch in _stretches(times, (2 * around + 4) / rate):
        # A frame may be held for a while, so reading starts a little early.
        early = max(0.0, stretch[0] - (around + 1.5) / rate)
        late = stretch[-1] + (around + 1.5) / rate
        fields = reader.fields(early, late, frames=True)
        buffer: list[_Near] = []
        at = 0
        for number, field in enumerate(fields):
            buffer.append((field.time, number, field))
            while at < len(stretch):
                shown = _shown(buffer, stretch[at], ended=False)
                if shown is None or number < shown + around:
                    break
                yield _around(buffer, shown, around)
                at += 1
            oldest = _shown(buffer, stretch[at], ended=False) if at < len(stretch) else None
            first = number - 2 * around - 1 if oldest is None else oldest - around
            while buffer and buffer[0][1] < first:
                buffer.pop(0)
        for asked in stretch[at:]:
            shown = _shown(buffer, asked, ended=True)
            # Past the last picture nothing is shown.
            if shown is not None and asked > buffer[-1][0] + 1 / rate - 1e-4:
                shown = None
            yield _around(buffer, -1 if shown is None else shown, around)


def _stretches(times: Sequence[float], apart: float) -> list[list[float]]:
    """Times in groups, none further than `apart` from the one before it."""
    groups: list[list[float]] = []
    for asked in times:
        if groups and asked - groups[-1][-1] <= apart:
            groups[-1].append(asked)
        else:
            groups.append([asked])
    return groups


def _shown(buffer: list[_Near], asked: float, ended: bool) -> int | None:
    """Number of the picture shown at a time; None if that is not known yet, or none is."""
    found = [number for at, number, _ in buffer if at <= asked + 1e-4]
    if not found or (not ended and buffer[-1][0] <= asked + 1e-4):
        return None
    return found[-1]


def _around(buffer: list[_Near], shown: int, around: int) -> list[VectorField | None]:
    have = {number: field for _, number, field in buffer}
    if shown < 0:
        return [None] * (2 * around + 1)
    return [have.get(number) for number in range(shown - around, shown + around + 1)]


def vector_motion(near: list[list[Any]], greys: list[list[Grey | None]], shape: Geometry) -> Motion:
    """Put the fields of T times into one upright grid.

    Args:
        near: T lists of K flows `(flow, valid)` or None.
        greys: T pairs of grey pictures on the same grid, the one before and the one shown.
        shape: Size, pixel shape and rotation of the coded picture.
    """
    rows, columns = -(-shape.height // CELL), -(-shape.width // CELL)
    count, depth = len(near), len(near[0]) if near else 1
    field = np.zeros((count, depth, rows, columns, 2), np.float32)
    valid = np.zeros((count, depth, rows, columns), bool)
    grey = np.zeros((count, 2, rows, columns), np.uint8)
    thumbs = np.zeros((count, THUMB[1], THUMB[0]), np.uint8)
    turns = shape.rotation // 90
    for k in range(count):
        for j, one in enumerate(near[k]):
            # A picture whose size changed in the middle of the stream has another grid.
            if one is not None and one[0].shape[0] >= rows and one[0].shape[1] >= columns:
                field[k, j], valid[k, j] = one[0][:rows, :columns], one[1][:rows, :columns]
        for j, picture in enumerate(greys[k]):
            if picture is not None:
                grey[k, j] = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
        if greys[k][0] is None:
            grey[k, 0] = grey[k, 1]
        upright = np.ascontiguousarray(np.rot90(grey[k, 1], -turns))
        thumbs[k] = cv2.resize(upright, THUMB, interpolation=cv2.INTER_AREA)
    fold = max(1, min(rows, columns) // MOST_CELLS)
    if fold > 1:
        field, valid = _folded(field, valid, fold)
        small = field.shape[3], field.shape[2]
        grey = np.stack(
            [[cv2.resize(g, small, interpolation=cv2.INTER_AREA) for g in pair] for pair in grey]
        ).reshape(count, 2, *small[::-1])
    width, height = shape.upright
    wide, high = (height, width) if turns % 2 else (width, height)
    stretch = np.array([wide / shape.width, high / shape.height], np.float32)
    field *= stretch
    cell = CELL * fold * float(stretch[0]), CELL * fold * float(stretch[1])
    for _ in range(turns):
        # A quarter turn clockwise carries (x, y) to (-y, x).
        field = np.rot90(np.stack([-field[..., 1], field[..., 0]], -1), -1, (2, 3))
        valid, grey = np.rot90(valid, -1, (2, 3)), np.rot90(grey, -1, (2, 3))
        cell = cell[1], cell[0]
    return Motion("vectors", cell, thumbs, np.ascontiguousarray(field), valid, grey)


def _folded(
    field: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], fold: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Blocks of `fold` x `fold` cells as one: their mean motion where any is known."""
    rows, columns = (-(-n // fold) * fold for n in valid.shape[2:])
    pad = [(0, 0), (0, 0), (0, rows - valid.shape[2]), (0, columns - valid.shape[3])]
    known = np.pad(valid, pad)
    moved = np.pad(np.where(valid[..., None], field, 0), [*pad, (0, 0)])
    shape = *valid.shape[:2], rows // fold, fold, columns // fold, fold
    count = known.reshape(shape).sum((3, 5))
    total = moved.reshape(*shape, 2).sum((3, 5))
    mean = total / np.maximum(count, 1)[..., None]
    return mean.astype(np.float32), count > 0


def luma(frame: Any) -> Grey:
    """The brightness of a decoded picture at an eighth of its size, (h / 8, w / 8) uint8."""
    size = max(1, -(-frame.width // CELL)), max(1, -(-frame.height // CELL))
    plane = frame.planes[0]
    if frame.format.name.startswith(("yuv", "nv", "gray")) and plane.line_size >= frame.width:
        raw = np.frombuffer(plane, np.uint8)
        if len(raw) >= plane.line_size * plane.height and "p1" not in frame.format.name:
            rows = raw[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
            picture = rows[:, : frame.width]
            return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    grey = frame.to_ndarray(format="gray")
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
