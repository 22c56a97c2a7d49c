"""Tiny labelled data sets on disk, made by the tests that need them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2

import clips


@cache
def video(first: int = 0, frames: int = 25, size: tuple[int, int] = (64, 48), **more: str) -> bytes:
    """One short H.264 clip whose pictures carry the numbers from `first` on."""
    return clips.encode(frames=frames, first=first, size=size, gop=8, **more)


def put(path: Path, data: bytes | None = None) -> Path:
    """Write a clip, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(video() if data is None else data)
    return path


def touch(root: Path, *names: str) -> None:
    """Files that only have to exist: readers open no video."""
    for name in names:
        put(root / name, b"not looked at")


def pictures(folder: Path, count: int, *, start: int = 1, suffix: str = ".png") -> Path:
    """A folder of numbered pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture = cv2.cvtColor(clips.picture(i), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"img_{start + i:05d}{suffix}"), picture)
    return folder


def tree(root: Path, per_class: int = 3, classes: tuple[str, ...] = ("jump", "run")) -> Path:
    """A folder per class with clips that can be decoded, all different."""
    for at, label in enumerate(classes):
        for i in range(per_class):
            put(root / label / f"{label}{i}.mp4", video(first=1000 * at + 40 * i))
    return root
