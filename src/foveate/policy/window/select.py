"""Chooses windows in maps: size, place, track, gate and fall-back, for a whole clip at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from foveate.policy.window import search
from foveate.policy.window.track import Smoothed, camera, crosses, ema, one_euro, shots, viterbi

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Track = Literal[
    "frame", "viterbi", "camera", "segments", "tube", "camera-online", "ema", "one-euro"
]
TRACKS: tuple[str, ...] = get_args(Track)
ONLINE: tuple[Track, ...] = ("camera-online", "ema", "one-euro")
PATHS: tuple[Track, ...] = ("viterbi", "camera", "segments")  # chosen over a whole shot
_MOST_STATES = 25  # places in each direction of the track's grid
# Of the camera and the segments, chosen on rendered validation clips (motion-accuracy.md).
_STEADY = 0.4  # seconds of all motion that a move by one side of the window must gain
_FOLLOW = 0.02  # stiffness of a camera that follows


@dataclass(frozen=True)
class Rule:
    """How windows are chosen.

    Attributes:
        sides: Sides of the square window in source pixels, ascending; each shot gets the smallest
            whose windows hold enough.
        track: `frame` chooses each frame alone, `viterbi` the best smooth path, `tube` one window
            per shot, `segments` one per segment of a shot. `camera` stands still, and follows in
            shots in which a subject crosses the picture. `camera-online`, `ema` and `one-euro`
            know no later frames.
        gate: Excess capture below which the motion counts as diffuse and the whole frame is used.
        enough: Share of a shot's motion that its windows must hold, where there are several sides.
        stiffness: What a move by one side of the window in one second costs, in captured shares.
        windows: How many windows, K.
        beta: Share of the way that `ema` goes in a step.
    """

    sides: tuple[float, ...]
    track: Track = "viterbi"
    gate: float = 0.1
    enough: float = 0.5
    stiffness: float = 0.03
    windows: int = 1
    beta: float = 0.3

    def __post_init__(self) -> None:
        """Refuse invalid values."""
        if not self.sides or min(self.sides) <= 0 or list(self.sides) != sorted(self.sides):
            raise ValueError(f"sides must be positive and ascending, not {self.sides}")
        if self.track not in TRACKS:
            raise ValueError(f"track {self.track!r} is none of {', '.join(TRACKS)}")
        if self.windows < 1:
            raise ValueError("there must be one window at least")


@dataclass(frozen=True)
class Windows:
    """Where to look.

    Attributes:
        boxes: (T, K, 4) float32 `xyxy` in source pixels, inside the frame.
        gate: (T,) excess capture, 0..1.
        fallback: (T,) frames on which the whole frame is used instead.
        side: (T,) side of the windows in source pixels.
        follows: (T,) frames on which a camera goes with a subject that crosses the picture.
        memory: State of the online track after this clip.
    """

    boxes: Floats
    gate: Floats
    fallback: Mask
    side: Places
    follows: Mask
    memory: Smoothed | None = None


def select(
    maps: Floats,
    rule: Rule,
    *,
    frame: tuple[int, int],
    cell: tuple[float, float],
    times: npt.NDArray[np.float64],
    cuts: Mask | None = None,
    memory: Smoothed | None = None,
) -> Windows:
    """Choose the windows of a clip.

    Args:
        maps: (T, h, w) from `motion.saliency`.
        rule: How.
        frame: `(width, height)` of the source.
        cell: Source pixels (x, y) per place of the maps.
        times: (T,) seconds, ascending.
        cuts: (T,) frames that begin a new shot.
        memory: Of the online track before this clip.

    Returns:
        Windows; where nothing moves, or everything does, the centre square of the frame.
    """
    rule = replace(rule, sides=tuple(min(side, *frame) for side in rule.sides))
    cuts = np.zeros(len(maps), bool) if cuts is None else cuts
    if len(rule.sides) > 1 and len(maps):
        return _sized(maps, rule, frame, cell, times, cuts, memory)
    shape = maps.shape[1], maps.shape[2]
    clips = _per_shot(maps, cuts) if rule.track == "tube" else maps
    side = rule.sides[-1]
    size = search.places_of(side, cell, shape)
    sums = search.box_sums(clips, size)
    gate = search.excess(search.capture(clips, size, sums), size, shape)
    fallback = _diffuse(gate, clips, rule, cuts)
    boxes, left, before = [], clips, memory
    follows = np.zeros(len(maps), bool)
    for _ in range(rule.windows):
        corner, memory, moves = _place(left, sums, size, rule, cell, times, cuts, fallback, memory)
        follows |= moves
        boxes.append(_boxes(corner, size, side, cell, frame))
        if len(boxes) < rule.windows:
            left = np.where(search.inside(corner, size, shape), 0, left).astype(np.float32)
            sums = search.box_sums(left, size)
    chosen = np.stack(boxes, 1).astype(np.float32).reshape(len(maps), rule.windows, 4)
    stays = _stays(fallback, cuts, before) if rule.track in ONLINE else ~fallback
    chosen[fallback & ~stays] = centre_square(frame)
    sides = np.full(len(maps), side)
    return Windows(chosen, gate.astype(np.float32), fallback, sides, follows & ~fallback, memory)


def centre_square(frame: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest square in the middle of a `(width, height)` frame."""
    side = min(frame)
    left, top = (frame[0] - side) / 2, (frame[1] - side) / 2
    return left, top, left + side, top + side


def _stays(fallback: Mask, cuts: Mask, before: Smoothed | None) -> Mask:
    """(T,) whether an online track has a window of the same shot to stay at."""
    good = np.where(~fallback, np.arange(len(fallback)), -1)
    last = np.maximum.accumulate(good) if len(good) else good
    start = np.maximum.accumulate(np.where(cuts, np.arange(len(cuts)), 0)) if len(cuts) else last
    from_before = (before is not None) & (np.cumsum(cuts) == 0)
    return np.asarray(((last >= start) & (last >= 0)) | from_before)


def _diffuse(gate: Places, maps: Floats, rule: Rule, cuts: Mask) -> Mask:
    """(T,) where motion is too diffuse for a window.

    Each frame is judged alone, except on a smooth path: there a frame at rest has its place from
    its neighbours, and the shot is judged by the mean of its frames, weighted by their motion.
    """
    if rule.track not in PATHS or not len(maps):
        return np.asarray(gate < rule.gate)
    number = shots(cuts)
    mass = maps.sum((1, 2), dtype=np.float64)
    total = np.bincount(number, mass)
    mean = np.bincount(number, mass * gate) / np.maximum(total, 1e-12)
    return np.asarray((mean < rule.gate) | (total <= 0))[number]


def _sized(
    maps: Floats,
    rule: Rule,
    frame: tuple[int, int],
    cell: tuple[float, float],
    times: npt.NDArray[np.float64],
    cuts: Mask,
    memory: Smoothed | None,
) -> Windows:
    """Shot by shot, the windows of the smallest side that hold enough of its motion."""
    parts, number = [], shots(cuts)
    for n in range(int(number[-1]) + 1):
        rows = number == n
        for side in rule.sides:
            alone = side if rule.track == "frame" else 0.0
            chosen = select(
                maps[rows], replace(rule, sides=(side,)), frame=frame, cell=cell,
                times=times[rows], cuts=cuts[rows], memory=memory,
            )  # fmt: skip
            if _held(maps[rows], chosen.boxes, cell, alone) >= rule.enough:
                break
        parts.append(chosen)
        memory = chosen.memory
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("boxes", "gate", "fallback", "side", "follows")
    }
    return Windows(**joined, memory=memory)


def _held(maps: Floats, boxes: Floats, cell: tuple[float, float], alone: float) -> float:
    """Share of the motion of all frames inside their windows (T, K, 4); 0 where nothing moves.

    If `alone` is a side, the best box of that side counts in each frame, as AdaSpot sizes windows.
    """
    total = float(maps.sum(dtype=np.float64))
    if total <= 0:
        return 0.0
    if alone:
        size = search.places_of(alone, cell, (maps.shape[1], maps.shape[2]))
        return float(search.box_sums(maps, size).max((1, 2)).sum()) / total
    inside = np.zeros(maps.shape, bool)
    middles = [(np.arange(n) + 0.5) * size for n, size in zip(maps.shape[:0:-1], cell, strict=True)]
    for box in boxes.swapaxes(0, 1):
        across, down = (
            (m >= box[:, k, None]) & (m < box[:, k + 2, None]) for k, m in enumerate(middles)
        )
        inside |= down[:, :, None] & across[:, None, :]
    return float(maps[inside].sum(dtype=np.float64)) / total


def _place(
    maps: Floats,
    sums: Places,
    size: tuple[int, int],
    rule: Rule,
    cell: tuple[float, float],
    times: npt.NDArray[np.float64],
    cuts: Mask,
    fallback: Mask,
    memory: Smoothed | None,
) -> tuple[Places, Smoothed | None, Mask]:
    """(T, 2) first row and column of the windows, the online track's memory, what a camera does."""
    moves = np.zeros(len(maps), bool)
    if not len(maps):
        return np.zeros((0, 2)), memory, moves
    scores = search.tapered(sums, size)
    if rule.track in PATHS:
        path, moves = _path(maps, scores, size, rule, times, cuts)
        return path, memory, moves
    found = search.best(scores).astype(np.float64)
    if rule.track == "tube":
        return found, memory, moves
    found = search.centred(maps, found, size)
    if rule.track == "frame":
        return found, memory, moves
    half = (np.array(size) - 1) / 2
    most = np.array(maps.shape[1:]) - size
    unit = np.array([cell[1], cell[0]])
    for k in range(len(found)):  # a filter is sequential
        memory = None if cuts[k] else memory
        if fallback[k]:
            if memory is not None:  # a short rest: the window stays where it was
                found[k] = np.clip(np.array(memory.centre[::-1]) / unit - half, 0, most)
            continue
        y, x = (found[k] + half) * unit
        if rule.track == "ema":
            memory = ema(memory, (x, y), float(times[k]), rule.beta)
        elif rule.track == "camera-online":
            memory = camera(memory, (x, y), float(times[k]), float(np.mean(size * unit)))
        else:
            memory = one_euro(memory, (x, y), float(times[k]))
        moves[k] = memory.follows
        found[k] = np.clip(np.array(memory.centre[::-1]) / unit - half, 0, most)
    return found, memory, moves


def _path(
    maps: Floats,
    scores: Floats,
    size: tuple[int, int],
    rule: Rule,
    times: npt.NDArray[np.float64],
    cuts: Mask,
) -> tuple[Places, Mask]:
    """The best path on a grid of about 25 x 25 places, and where it follows a subject."""
    step = max(1, -(-max(scores.shape[1:]) // _MOST_STATES))
    rows, columns = (np.unique(np.append(np.arange(0, n, step), n - 1)) for n in scores.shape[1:])
    coarse, places = scores[:, rows[:, None], columns], (rows, columns)
    mass = maps.sum((1, 2), dtype=np.float64)
    gaps = np.maximum(np.diff(times, prepend=times[:1] - 1), 1e-3)
    side = float(np.mean(size))
    moves: Mask = np.zeros(len(maps), bool)
    if rule.track == "viterbi":
        # In shares of the mean motion: frames with little of it follow the others.
        coarse = coarse / max(float(mass.mean()), 1e-12)
        smooth = viterbi(coarse, rule.stiffness / side**2 / gaps, cuts, 2, places)
        return smooth.astype(np.float64), moves
    # In shares of the frame's motion, so that no single frame outweighs a shot.
    coarse = coarse / np.maximum(mass, max(0.5 * float(np.median(mass)), 1e-12))[:, None, None]
    usual = float(np.median(gaps[1:])) if len(gaps) > 1 else 1.0
    weight = np.full(len(maps), _STEADY / usual)
    if rule.track == "segments":
        return viterbi(coarse, weight, cuts, 0, places).astype(np.float64), moves
    path = viterbi(coarse, weight / side, cuts, 1, places).astype(np.float64)
    follows = viterbi(coarse, _FOLLOW / side**2 / gaps, cuts, 2, places)
    number = shots(cuts)
    for n in range(int(number[-1]) + 1):
        moves[number == n] = crosses(follows[number == n] / side)
    path[moves] = follows[moves]
    return path, moves


def _per_shot(maps: Floats, cuts: Mask) -> Floats:
    """Every frame's map replaced by the mean of its shot: λ → ∞, one window per shot."""
    if not len(maps):
        return maps
    number = shots(cuts)
    means = [maps[number == n].mean(0) for n in range(int(number[-1]) + 1)]
    return np.stack(means)[number]


def _boxes(
    corner: Places,
    size: tuple[int, int],
    side: float,
    cell: tuple[float, float],
    frame: tuple[int, int],
) -> Places:
    """Squares (T, 4) of exactly `side` pixels around the chosen places, moved into the frame."""
    middle = (corner[:, ::-1] + np.array(size[::-1]) / 2) * np.array(cell)
    low = np.clip(middle - side / 2, 0, np.maximum(np.array(frame) - side, 0))
    return np.concatenate([low, low + side], 1)
