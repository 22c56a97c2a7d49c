"""Motion around asked times from codec vectors, and what all sources of motion share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import Motion
from foveate.media.container import Geometry
from foveate.media.convert import Converter, fitted, upright
from foveate.media.vectors.grid import CELL, VectorField
from foveate.media.vectors.reader import VectorReader

SOURCES = ("auto", "vectors", "flow", "grey")
THUMB = (32, 24)  # (width, height)
SAME = 3  # grey levels by which the coded copy of a small picture may differ
MOST_CELLS = 40  # along the shorter side; a grid twice as fine or more is folded

Grey = npt.NDArray[np.uint8]
_Near = tuple[float, int, VectorField]


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


def near_fields(
    reader: VectorReader, times: Sequence[float], around: int, rate: float, every: bool = True
) -> Iterator[list[VectorField | None]]:
    """For each asked time the fields of the picture shown then and of its neighbours.

    Args:
        reader: Gives the fields, with frames.
        times: Seconds, ascending.
        around: Neighbours on each side.
        rate: Frames per second, to tell how far ahead reading pays.
        every: False leaves out pictures that need not be decoded; the neighbours are then those
            that are.

    Yields:
        2 * around + 1 fields, None where there is no picture; the middle one is shown then.
    """
    for stretch in _stretches(times, (2 * around + 4) / rate):
        # A frame may be held for a while, so reading starts a little early.
        early = max(0.0, stretch[0] - (around + 1.5) / rate)
        late = stretch[-1] + (around + 1.5) / rate
        fields = reader.fields(early, late, frames=True, near=None if every else stretch)
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


def _pair_of(
    fields: list[VectorField | None], around: int, convert: Converter
) -> tuple[list[VectorField | None], list[Grey | None]]:
    """The fields to measure by and the two grey pictures that differ by their motion.

    The picture shown and the one before it; where those are the same (a frame that is shown twice)
    and the next one is not, the next one and its fields.

    Args:
        fields: Of the picture shown and its neighbours, with their frames.
        around: Neighbours on each side.
        convert: Knows the geometry of the stream as it began.
    """
    luma = partial(_fitted_luma, convert=convert)
    middle = fields[around]
    before = fields[around - 1] if around else None
    after = fields[around + 1] if around else None
    here, past = (None if f is None else luma(f.frame) for f in (middle, before))
    if around == 0 or after is None:
        return fields, [past, here]
    if before is None:
        return fields, [here, luma(after.frame)]
    if same(past, here) and not same(here, luma(after.frame)):
        return [*fields[1:], None], [here, luma(after.frame)]
    return fields, [past, here]


def _nearest(fields: list[VectorField | None], around: int) -> VectorField | None:
    """The field with vectors that is nearest to the middle one, later ones first."""
    order = sorted(range(len(fields)), key=lambda at: (abs(at - around), -at))
    near = [field for at in order if (field := fields[at]) is not None]
    return next((field for field in near if field.valid.any()), fields[around])


def same(first: Grey | None, second: Grey | None) -> bool:
    """Whether two small grey pictures differ by no more than coding makes them."""
    if first is None or second is None or first.shape != second.shape:
        return False
    return bool(cv2.absdiff(first, second).max(initial=0) <= SAME)


def vector_motion(
    near: Iterable[list[VectorField | None]],
    times: Sequence[float],
    around: int,
    convert: Converter,
    keep: Callable[[float, VectorField | None], None],
    single: bool = False,
) -> Motion:
    """Put the fields around T times into one upright grid.

    Args:
        near: For each time the fields of the picture shown then and of its neighbours.
        times: Seconds.
        around: Neighbours on each side.
        convert: Knows size, pixel shape and orientation of the coded picture.
        keep: Called with the requested time and the field of the picture shown then, if any is.
        single: Take one field for each time: that of the picture shown, or where it has none (key
            frames) of the nearest that has.
    """
    flows: list[list[Any]] = []
    greys: list[list[Grey | None]] = []
    for asked, fields in zip(times, near, strict=True):
        chosen, pair = _pair_of(fields, around, convert)
        if single:
            chosen = [_nearest(chosen, around)]
        flows.append([None if one is None else _fitted_flow(one, convert) for one in chosen])
        greys.append(pair)
        keep(asked, fields[around])
    return _gridded(flows, greys, convert.geometry)


def _gridded(near: list[list[Any]], greys: list[list[Grey | None]], shape: Geometry) -> Motion:
    """T lists of K flows `(flow, valid)` or None, and T pairs of grey pictures, on one grid."""
    rows, columns = -(-shape.height // CELL), -(-shape.width // CELL)
    count, depth = len(near), len(near[0]) if near else 1
    field = np.zeros((count, depth, rows, columns, 2), np.float32)
    valid = np.zeros((count, depth, rows, columns), bool)
    grey = np.zeros((count, 2, rows, columns), np.uint8)
    thumbs = np.zeros((count, THUMB[1], THUMB[0]), np.uint8)
    turns = shape.rotation // 90
    for k in range(count):
        for j, one in enumerate(near[k]):
            if one is not None:
                field[k, j], valid[k, j] = one[0][:rows, :columns], one[1][:rows, :columns]
        for j, picture in enumerate(greys[k]):
            if picture is not None:
                fits = picture.shape == (rows, columns)
                size = columns, rows
                grey[k, j] = (
                    picture if fits else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                )
        if greys[k][0] is None:
            grey[k, 0] = grey[k, 1]
        thumbs[k] = cv2.resize(upright(grey[k, 1], shape), THUMB, interpolation=cv2.INTER_AREA)
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
    if shape.mirrored:
        field, valid, grey = field[:, :, :, ::-1] * (-1, 1), valid[..., ::-1], grey[..., ::-1]
    for _ in range(turns):
        # A quarter turn clockwise carries (x, y) to (-y, x).
        field = np.rot90(np.stack([-field[..., 1], field[..., 0]], -1), -1, (2, 3))
        valid, grey = np.rot90(valid, -1, (2, 3)), np.rot90(grey, -1, (2, 3))
        cell = cell[1], cell[0]
    return Motion("vectors", cell, thumbs, np.ascontiguousarray(field, np.float32), valid, grey)


def _fitted_flow(
    field: VectorField, convert: Converter
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The motion of a picture; where its geometry has changed, where and as large as it is shown.

    Returns:
        (Hc, Wc, 2) pixels of the coded picture as the stream began, and (Hc, Wc) where it is known.
    """
    flow, valid = field.flow()
    now, first = convert.now(field.frame), convert.geometry
    if now is first:
        return flow, valid
    left, top, width, height = fitted(now, first, (first.width, first.height))
    x = np.arange(-(-first.width // CELL)) * CELL + CELL / 2 - left
    y = np.arange(-(-first.height // CELL)) * CELL + CELL / 2 - top
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None]
    columns = (np.clip(x, 0, width - 1) * now.width / width).astype(int) // CELL
    rows = (np.clip(y, 0, height - 1) * now.height / height).astype(int) // CELL
    here = np.ix_(rows, columns)
    scale = np.array([width / now.width, height / now.height], np.float32)
    known = valid[here] & inside
    return np.where(known[..., None], flow[here] * scale, 0).astype(np.float32), known


def _fitted_luma(frame: Any, convert: Converter) -> Grey:
    """The brightness of a picture, (h / 8, w / 8) uint8 of the picture as the stream began."""
    picture, now, first = _luma(frame), convert.now(frame), convert.geometry
    if now is first:
        return picture
    size = max(1, -(-first.width // CELL)), max(1, -(-first.height // CELL))
    left, top, width, height = fitted(now, first, size)
    out = np.zeros(size[::-1], np.uint8)
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    out[top : top + height, left : left + width] = small
    return out


def _folded(
    field: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], fold: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Blocks of `fold` x `fold` cells as one: their mean motion where any is known."""
    rows, columns = (-(-n // fold) for n in valid.shape[2:])
    total = np.zeros((*valid.shape[:2], rows, columns, 2), np.float32)
    count = np.zeros(total.shape[:-1], np.float32)
    # Cell by cell of a block: whole planes are added, and no array is padded or copied first.
    for y, x in np.ndindex(fold, fold):
        known = valid[:, :, y::fold, x::fold]
        here = np.s_[:, :, : known.shape[2], : known.shape[3]]
        count[here] += known
        total[here] += np.where(known[..., None], field[:, :, y::fold, x::fold], 0)
    total /= np.maximum(count, 1)[..., None]
    return total, count > 0


def _luma(frame: Any) -> Grey:
    """The brightness of a decoded picture at an eighth of its size, (h / 8, w / 8) uint8."""
    size = max(1, -(-frame.width // CELL)), max(1, -(-frame.height // CELL))
    plane = frame.planes[0]
    if frame.format.name.startswith(("yuv", "nv", "gray")) and plane.line_size >= frame.width:
        raw = np.frombuffer(plane, np.uint8)
        if len(raw) >= plane.line_size * plane.height and "p1" not in frame.format.name:
            rows = raw[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
            picture = rows[:, : frame.width]
            if frame.width % 2 == frame.height % 2 == 0:  # halving is fast, and the mean the same
                half = frame.width // 2, frame.height // 2
                picture = np.asarray(
                    cv2.resize(picture, half, interpolation=cv2.INTER_AREA), np.uint8
                )
            return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    grey = frame.to_ndarray(format="gray")
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
