"""Draws examples/demo/juggling.mp4: a figure who juggles three balls, for `make demo`."""

import argparse
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from foveate.media import VideoWriter

SIZE = (320, 240)
RATE = 25
SECONDS = 6.0
SCALE = 4  # drawn larger and shrunk, so that edges are smooth
BALLS = ((40, 90, 230), (60, 200, 80), (240, 200, 40))
SKIN, SHIRT, TROUSERS, SHOES = (205, 150, 120), (170, 45, 50), (45, 50, 80), (30, 30, 30)


def point(x: float, y: float) -> tuple[int, int]:
    """A place in the picture as the drawing functions want it."""
    return round(x * SCALE), round(y * SCALE)


def background() -> np.ndarray:
    """A wall, a floor and some grass, (H, W, 3) uint8."""
    rng = np.random.default_rng(7)
    width, height = SIZE[0] * SCALE, SIZE[1] * SCALE
    rows = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - rows) * np.array([120, 165, 215]) + rows * np.array([215, 225, 235])
    out = np.broadcast_to(sky, (height, width, 3)).copy()
    horizon = int(height * 0.72)
    noise = cv2.resize(rng.normal(0, 18, (60, 80, 3)), (width, height - horizon))
    out[horizon:] = np.array([95, 140, 70]) + noise
    for _ in range(9):
        x, r = rng.integers(0, width), int(rng.integers(40, 150))
        shade = np.array([60, 100, 55]) + rng.normal(0, 10)
        cv2.circle(out, (int(x), horizon - r // 3), r, shade.tolist(), -1, cv2.LINE_AA)
    return np.clip(out, 0, 255).astype(np.uint8)


def limb(image: np.ndarray, joints: list[tuple[float, float]], width: float, colour) -> None:
    """A jointed line with round ends."""
    for a, b in pairwise(joints):
        cv2.line(image, point(*a), point(*b), colour, round(width * SCALE), cv2.LINE_AA)


def hands(phase: float) -> list[tuple[float, float]]:
    """Places of the two hands: each describes a small circle, half a turn apart."""
    out = []
    for side, shift in ((-1, 0.0), (1, 0.5)):
        turn = 2 * np.pi * (phase + shift)
        out.append((160 + side * 26 - side * 7 * np.cos(turn), 132 + 6 * np.sin(turn)))
    return out


def ball(phase: float) -> tuple[float, float]:
    """A ball's place: in the air from one hand to the other, then carried, then back."""
    half, inside = int(phase * 2) % 2, (phase * 2) % 1.0
    start, end = (-1, 1) if half == 0 else (1, -1)
    air = 0.75
    if inside < air:
        t = inside / air
        x = 160 + 22 * (start + (end - start) * t)
        return x, 128 - 4 * 78 * t * (1 - t)
    t = (inside - air) / (1 - air)
    return 160 + end * (22 + 9 * np.sin(np.pi * t)), 128 + 8 * np.sin(np.pi * t)


def draw(scene: np.ndarray, seconds: float) -> np.ndarray:
    """One frame, (240, 320, 3) uint8 RGB."""
    image = scene.copy()
    sway = 1.5 * np.sin(2 * np.pi * seconds * 0.7)
    left, right = hands(seconds * 1.4)
    for side in (-1, 1):
        hip, knee, foot = (160 + side * 8, 158), (160 + side * 12, 190), (160 + side * 13, 220)
        limb(image, [hip, knee, foot], 11, TROUSERS)
        limb(image, [foot, (foot[0] + side * 7, 222)], 7, SHOES)
    limb(image, [(160 + sway, 108), (160, 152)], 30, SHIRT)
    for side, hand in ((-1, left), (1, right)):
        elbow = (160 + side * 32, 128)
        limb(image, [(160 + side * 17 + sway, 100), elbow], 9, SHIRT)
        limb(image, [elbow, hand], 7, SKIN)
        cv2.circle(image, point(*hand), 5 * SCALE, SKIN, -1, cv2.LINE_AA)
    limb(image, [(160 + sway, 78), (160 + sway, 92)], 9, SKIN)
    cv2.circle(image, point(160 + sway, 70), 14 * SCALE, SKIN, -1, cv2.LINE_AA)
    cv2.ellipse(image, point(160 + sway, 64), (14 * SCALE, 9 * SCALE), 0, 180, 360,
                (60, 40, 25), -1, cv2.LINE_AA)  # fmt: skip
    for number, colour in enumerate(BALLS):
        x, y = ball((seconds * 0.7 + number / len(BALLS)) % 1.0)
        cv2.circle(image, point(x, y), 6 * SCALE, colour, -1, cv2.LINE_AA)
    return cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[1] / "examples" / "demo" / "juggling.mp4"
    parser.add_argument("path", nargs="?", type=Path, default=default)
    path = parser.parse_args().path
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = background()
    with VideoWriter(path, SIZE, RATE) as writer:
        for i in range(int(SECONDS * RATE)):
            writer.write(draw(scene, i / RATE), i / RATE)


if __name__ == "__main__":
    main()
