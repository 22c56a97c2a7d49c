"""Progressive distillation where its premise holds: the key-frame network is the best teacher.

PKD lets the exits learn from the network on motion vectors, then on residuals, then on key frames,
and assumes that this is the order of their accuracies (Soufleri et al., arXiv 2407.02713). On
mocap15 and on fights it is not. Here clips are rendered for which it is: a class is a shape with a
texture, which a key frame shows completely and a residual at its edges, while motion vectors show
the shape's motion, which three classes share. In some clips nothing moves. For every seed three
networks are trained with `foveate.train`, then heads in every way of `compressed_accuracy`, for
equally many epochs.

Run: `OMP_NUM_THREADS=1 python -m benchmarks.compressed_premise FOLDER [--seeds 0 1 2]`; clips and
runs are kept in the folder. It writes `results/compressed_premise.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from benchmarks import record
from benchmarks.compressed_accuracy import measure, opened, protocol_of, table

import foveate
from foveate.media.encode import encode, with_vectors

SHAPES = {"triangle": 3, "square": 4, "star": 5, "disc": 40}
TEXTURES = ("stripes", "checks", "dots")
CLIPS = {"train": 40, "val": 8, "test": 20}  # of each of the twelve classes
SIDE, FRAMES, RATE, GOP = 96, 36, 25, 12
MOVING = 0.7  # share of the clips in which the shape moves; a key frame shows it in all of them
Pixels = npt.NDArray[np.uint8]

SETTINGS: dict[str, Any] = {
    "iframe": "test_resnet", "mv": "test_resnet", "residual": "test_resnet", "size": 64,
    "epochs": 14, "iframe_epochs": 14, "head_epochs": 12, "timed": 2, "groups": 3,
}  # fmt: skip


def outline(shape: str) -> npt.NDArray[np.float64]:
    """Corners (N, 2) of a shape around the origin, at most 1 away from it."""
    corners = SHAPES[shape]
    count = 2 * corners if shape == "star" else corners
    angles = 2 * np.pi * np.arange(count) / count
    radii = np.where(np.arange(count) % 2, 0.45, 1.0) if shape == "star" else np.ones(count)
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], 1)


def pattern(texture: str, pixels: int, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Where a texture has its second colour, (pixels, pixels)."""
    y, x = np.mgrid[:pixels, :pixels] + random.uniform(0, 8)
    step = random.uniform(9, 11)
    if texture == "stripes":
        return np.asarray(x % step < step / 2)
    if texture == "checks":
        return np.asarray((x % step < step / 2) ^ (y % step < step / 2))
    return np.asarray(np.hypot(x % step - step / 2, y % step - step / 2) < step / 3.2)


def path_of(motion: int, seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Offsets (T, 2) of a shape in pixels: across, up and down, diagonally, or in a circle."""
    swing = 14 * np.sin(2 * np.pi * seconds)
    if motion == 3:
        return np.stack([swing, 14 * np.cos(2 * np.pi * seconds)], 1)
    return swing[:, None] * np.array([[1.0, 0.0], [0.0, 1.0], [0.75, 0.75]])[motion]


def frames_of(shape: str, texture: str, seed: tuple[int, ...]) -> Iterator[Pixels]:
    """A clip: the shape moves over a still, blurred background."""
    random = np.random.default_rng(seed)
    back = cv2.GaussianBlur(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8), (0, 0), 12)
    back = cv2.normalize(back, None, 90, 160, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    first, second = random.integers(0, 110, 3), random.integers(145, 256, 3)
    inside = np.where(pattern(texture, SIDE, random)[..., None], first, second).astype(np.uint8)
    moved = path_of(list(SHAPES).index(shape), random.uniform() + np.arange(FRAMES) / RATE)
    if random.random() > MOVING:
        moved[:] = 0
    turn, size = random.uniform(-0.3, 0.3), random.uniform(20, 28)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = size * outline(shape) @ rotation + SIDE / 2 + random.uniform(-6, 6, 2)
    for offset in moved:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(mask, [np.round(corners + offset).astype(np.int32)], 255)
        shift = np.float32([[1, 0, offset[0]], [0, 1, offset[1]]])  # the texture moves along
        skin = cv2.warpAffine(inside, shift, (SIDE, SIDE), borderMode=cv2.BORDER_WRAP)
        frame = np.where(mask[..., None] > 0, skin, back)
        noise = random.normal(0, 4, frame.shape)
        yield np.clip(frame + noise, 0, 255).astype(np.uint8)


def render(folder: Path) -> int:
    """Write the clips as SPLIT/CLASS/N.mp4, those that are missing; returns how many there are."""
    written = 0
    for part, (split, count) in enumerate(CLIPS.items()):
        for kind, name in enumerate(f"{s}-{t}" for s in SHAPES for t in TEXTURES):
            for k in range(count):
                path = folder / split / name / f"{k:03d}.mp4"
                written += 1
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                frames = frames_of(*name.split("-"), (part, kind, k))
                encode(path, frames, RATE, with_vectors("h264", GOP))
    return written


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for clips and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dry", action="store_true", help="write no result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    clips = options.folder / "clips"
    print(f"{render(clips)} clips", flush=True)
    runs = []
    for seed in options.seeds:
        out = options.folder / f"seed{seed}"
        if not (out / "run.json").exists():
            foveate.train(
                clips, out=out, recipe="compressed", resume=out.exists(), seed=seed,
                cache=str(options.folder / "cache"), **SETTINGS,
            )  # fmt: skip
        runs.append(opened(out, None))
    figures = measure(runs, [0])
    figures["cpu_seconds"] = time.process_time() - began
    print(table(figures))
    if not options.dry:
        protocol = (
            f"rendered shapes ({len(SHAPES) * len(TEXTURES)} classes of shape and texture, moving "
            f"as the shape does in {MOVING:.0%} of the clips, {SIDE} pixels, {FRAMES} frames); "
            f"one set of networks per seed {options.seeds}; {protocol_of('premise', runs, [0])}"
        )
        seeds = tuple(options.seeds)
        path = record.write("compressed_premise", protocol, figures["test_clips"], figures, seeds)
        print(f"written: {path.name}")


if __name__ == "__main__":
    main()
