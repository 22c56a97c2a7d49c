"""Small videos whose class is seen in some segments, heard in others, and lost in the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveate.media.encode import encode, with_vectors

CLASSES = {"high": 3000.0, "low": 500.0}  # Hz; seen as columns and as rows
SEGMENT = 0.64  # seconds
RATE, SIDE = 25, 48  # frames per second, pixels
SOUND_RATE = 16_000


def film(path: Path, name: str, states: list[int], seed: int, sound: bool = True) -> Path:
    """A clip of one segment per state: 0 nothing, 1 seen, 2 heard, 3 both."""
    random = np.random.default_rng(seed)
    frequency = CLASSES[name]
    bright = np.zeros((SIDE, SIDE, 1), bool)
    bright[:, np.arange(SIDE) % 16 < 8] = True
    picture = np.where(bright if name == "high" else bright.swapaxes(0, 1), 230, 30)
    each = round(SEGMENT * RATE)
    frames = np.full((len(states) * each, SIDE, SIDE, 3), 120, np.uint8)
    frames += random.integers(0, 20, frames.shape, np.uint8)
    count = round(SEGMENT * SOUND_RATE)
    wave = random.normal(0, 0.02, len(states) * count).astype(np.float32)
    for at, state in enumerate(states):
        if state & 1:
            frames[at * each : (at + 1) * each] = picture
        if state & 2:
            times = np.arange(count) / SOUND_RATE
            wave[at * count : (at + 1) * count] += 0.4 * np.sin(2 * np.pi * frequency * times)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = wave.astype(np.float32) if sound else None
    encode(path, iter(frames), RATE, with_vectors("h264", 8), sound=kept)
    return path


def folder(root: Path, each: int = 8) -> Path:
    """A data set with splits: clips of three segments, alternately seen or heard."""
    for split, count in (("train", each), ("val", each // 2), ("test", each // 2)):
        for place, name in enumerate(CLASSES):
            for number in range(count):
                seed = 1000 * place + 10 * number + len(split)
                random = np.random.default_rng(seed)
                states = random.permutation([1 + number % 2, 0, 1 + number % 2]).tolist()
                film(root / split / name / f"{number}.mp4", name, states, seed)
    return root
