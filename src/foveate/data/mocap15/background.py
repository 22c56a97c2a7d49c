"""Surroundings of the rendered benchmark: families of procedural textures, drawn in pixels.

Each family is one function of (height, width, unit, palette, random) that returns (H, W, 3) uint8;
`unit` is the number of pixels that stands for one pixel of a frame 240 pixels high, so that a
texture looks alike at every size.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from foveate.data.mocap15.motion import Floats

Pixels = npt.NDArray[np.uint8]
Random = np.random.Generator
Family = Callable[[int, int, float, Floats, Random], Pixels]

_PALETTE = 5  # colours in a picture
_DRAWS = 12  # palettes to choose the one from that contrasts most with the actor


def background(
    family: str, size: tuple[int, int], unit: float, avoid: Floats, random: Random
) -> Pixels:
    """Draw a picture of the surroundings.

    Args:
        family: A key of `FAMILIES`.
        size: `(width, height)` of the picture.
        unit: Pixels of the picture per pixel of a frame 240 pixels high.
        avoid: (n, 3) RGB colours of the actor's clothes, which should stand out.
        random: Random generator.
    """
    palette = _palette(avoid, random)
    picture = FAMILIES[family](size[1], size[0], unit, palette, random)
    light = _noise(size[1], size[0], 90 * unit, random)[..., None] * 0.16 + 0.92
    return np.clip(picture * light, 0, 255).astype(np.uint8)


def _palette(avoid: Floats, random: Random) -> Floats:
    """(n, 3) related colours, the set of several draws that is farthest from `avoid`."""
    best, distance = np.empty(0), -1.0
    for _ in range(_DRAWS):
        base = random.uniform(40, 215, 3)
        base = base.mean() + (base - base.mean()) * random.uniform(0.15, 0.6)
        spread = random.normal(0, 11, (_PALETTE, 3)) + random.normal(0, 18, (_PALETTE, 1))
        drawn = np.clip(base + spread, 15, 225)
        # Luminance counts most: coding halves the resolution of everything else.
        gaps = (drawn[:, None] - avoid[None]) * (0.5, 0.8, 0.35)
        found = float(np.linalg.norm(gaps, axis=-1).min())
        if found > distance:
            best, distance = drawn, found
    return best


def _noise(height: int, width: int, grain: float, random: Random, octaves: int = 3) -> Floats:
    """(H, W) smooth noise in 0..1 whose largest spots measure about `grain` pixels."""
    total, weight, reach = np.zeros((height, width), np.float32), 0.0, 1.0
    for _ in range(octaves):
        rows, columns = (max(2, int(np.ceil(edge / grain)) + 1) for edge in (height, width))
        coarse = random.random((rows, columns)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * reach
        weight += reach
        reach, grain = reach * 0.55, max(2.0, grain / 2.3)
    return np.asarray(np.clip(total / weight, 0, 1), np.float64)


def _blend(palette: Floats, share: Floats) -> Floats:
    """Colours of a palette, 0..1 running through it from end to end."""
    at = np.clip(share, 0, 1) * (len(palette) - 1)
    low = np.minimum(at.astype(np.intp), len(palette) - 2)
    rest = (at - low)[..., None]
    return np.asarray(palette[low] * (1 - rest) + palette[low + 1] * rest)


def _pixels(colours: Floats) -> Pixels:
    return np.clip(colours, 0, 255).astype(np.uint8)


def _tone(colour: Floats) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in colour)
    return red, green, blue


def _clouds(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    share = _noise(height, width, random.uniform(40, 90) * unit, random, 5)
    return _pixels(_blend(palette, (share - 0.5) * 2.2 + 0.5))


def _bricks(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    rise = random.uniform(12, 24) * unit
    length = rise * random.uniform(1.8, 3.2)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    row = np.floor(y / rise)
    column = np.floor(x / length + 0.5 * (row % 2))
    stones = random.random((int(row.max()) + 1, int(column.max()) + 1))
    share = stones[row.astype(int), column.astype(int)]
    joint = (y % rise < 0.14 * rise) | ((x / length + 0.5 * (row % 2)) % 1 < 0.14 * rise / length)
    picture = _blend(palette[:-1], share)
    picture[joint] = palette[-1]
    return _pixels(picture + 24 * (_noise(height, width, 6 * unit, random, 2)[..., None] - 0.5))


def _checks(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    angle, edge = random.uniform(0, np.pi / 2), random.uniform(16, 40) * unit
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u = np.floor((x * np.cos(angle) + y * np.sin(angle)) / edge).astype(int)
    v = np.floor((y * np.cos(angle) - x * np.sin(angle)) / edge).astype(int)
    tint = random.integers(0, 2, (97, 97))
    return _pixels(palette[(u + v) % 2 * 2 + tint[u % 97, v % 97]])


def _strokes(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    picture = _pixels(_blend(palette, _noise(height, width, 60 * unit, random)))
    lean, length = random.uniform(-0.6, 0.6), random.uniform(10, 24) * unit
    for _ in range(int(height * width / (60 * unit * unit))):
        x, y = random.uniform(0, width), random.uniform(0, height)
        turn = lean + random.normal(0, 0.3)
        tip = (round(x + np.sin(turn) * length), round(y - np.cos(turn) * length))
        tone = palette[random.integers(len(palette))] + random.normal(0, 12)
        cv2.line(picture, (round(x), round(y)), tip, _tone(tone), max(1, round(1.6 * unit)))
    return picture


def _hills(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    sky = np.linspace(0, 1, height)[:, None, None] * 30 + palette[0]
    picture = _pixels(np.broadcast_to(sky, (height, width, 3)))
    x = np.arange(width)
    for layer in range(1, 9):
        level = height * (0.15 + 0.1 * layer)
        ridge = _noise(2, width, random.uniform(30, 110) * unit, random, 4)[0]
        line = level + (ridge - 0.5) * random.uniform(30, 80) * unit
        corners = np.concatenate([np.stack([x, line], 1), [[width, height], [0, height]]])
        tone = palette[layer % len(palette)] + random.normal(0, 10)
        cv2.fillPoly(picture, [np.round(corners).astype(np.int32)], _tone(tone))
    return _pixels(picture + 20 * (_noise(height, width, 8 * unit, random, 2)[..., None] - 0.5))


def _panels(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = _pixels(palette[0])
    for _ in range(int(height * width / (1400 * unit * unit)) + 8):
        w, h = random.uniform(12, 75, 2) * unit
        x, y = random.uniform(-w, width), random.uniform(-h, height)
        tone = palette[random.integers(len(palette))] + random.normal(0, 8)
        a, b = (round(x), round(y)), (round(x + w), round(y + h))
        cv2.rectangle(picture, a, b, _tone(tone), -1)
        cv2.rectangle(picture, a, b, _tone(tone * 0.7), max(1, round(unit)))
    return picture


def _dots(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    step, share = random.uniform(16, 34) * unit, random.uniform(0.25, 0.42)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    row = np.floor(y / step)
    u = x / step + 0.5 * (row % 2)
    distance = np.hypot(u % 1 - 0.5, y / step % 1 - 0.5)
    tint = random.integers(1, len(palette), (int(row.max()) + 1, int(u.max()) + 1))
    picture = palette[tint[row.astype(int), u.astype(int)]]
    picture[distance > share] = palette[0]
    return _pixels(picture)


def _planks(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    upright = random.random() < 0.5
    across, along = (width, height) if upright else (height, width)
    board = random.uniform(18, 36) * unit
    number = (np.arange(across) / board).astype(int)
    tint = random.random(number.max() + 1)[number]
    grain = cv2.resize(random.random((across, max(2, round(along / (70 * unit))))), (along, across))
    picture = _blend(palette, 0.6 * tint[:, None] + 0.4 * grain)
    picture[np.arange(across) % board < 1.5 * unit] *= 0.55
    return _pixels(picture.transpose(1, 0, 2) if upright else picture)


def _cells(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    count = max(8, int(height * width / (random.uniform(20, 40) * unit) ** 2))
    seeds = np.ones((height, width), np.uint8)
    seeds[random.integers(0, height, count), random.integers(0, width, count)] = 0
    distance, owner = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    tint = random.integers(0, len(palette), count + 1)
    picture = palette[tint[owner % (count + 1)]]
    return _pixels(picture * (1.08 - 0.014 * np.minimum(distance / unit, 20))[..., None])


def _waves(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64) / unit
    share = np.zeros((height, width))
    for _ in range(4):
        angle, length = random.uniform(0, np.pi), random.uniform(18, 70)
        share += np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / length)
    share += 3 * _noise(height, width, 70 * unit, random)
    return _pixels(_blend(palette, (share / 5) % 1))


def _weave(height: int, width: int, unit: float, palette: Floats, random: Random) -> Pixels:
    step = random.uniform(10, 22) * unit
    y, x = np.mgrid[0:height, 0:width].astype(np.float64) / step
    over = (np.floor(x) + np.floor(y)) % 2 == 0
    bulge = np.where(over, np.sin(np.pi * (y % 1)), np.sin(np.pi * (x % 1)))
    warp = np.where(over, np.floor(y) % 2, 2 + np.floor(x) % 2).astype(int)
    return _pixels(palette[warp] * (0.6 + 0.4 * bulge[..., None]))


FAMILIES: dict[str, Family] = {
    "clouds": _clouds,
    "bricks": _bricks,
    "checks": _checks,
    "strokes": _strokes,
    "hills": _hills,
    "panels": _panels,
    "dots": _dots,
    "planks": _planks,
    "cells": _cells,
    "waves": _waves,
    "weave": _weave,
}
