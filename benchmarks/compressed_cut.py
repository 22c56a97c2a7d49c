"""mocap15 cut to the actor, as H.264 with a key frame every twelve frames: OUT/SPLIT/LABEL/N.mp4.

The rendered people are some fifty pixels high in pictures of 320x240, twenty at the size that a CPU
trains networks of the compressed domain with in minutes. Here each clip is cut to the square around
all boxes of its actor, known from the renderer, and scaled to 128 pixels; the camera's motion, the
background and the actor's travel stay. `clips.csv` has the same columns.

Run: `python -m benchmarks.compressed_cut MOCAP15 OUT [--train 24 --val 4 --test 10]`; the numbers
are clips of every class.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foveate.media import Video
from foveate.media.encode import encode, with_vectors

SIDE, MARGIN, GOP = 128, 1.1, 12


def square_of(truth: dict[str, Any]) -> tuple[int, int, int]:
    """Left, top and side of the square around the actor of the whole clip."""
    track = next(t for t in truth["tracks"] if t["class"] == "person" and t["instance"] == 0)
    boxes = np.array([box for box in track["boxes"] if box is not None])
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    width, height = truth["size"]
    side = int(min(max(high - low) * MARGIN, width, height))
    middle = (low + high) / 2
    left, top = (
        int(np.clip(m - side / 2, 0, whole - side))
        for m, whole in zip(middle, (width, height), strict=True)
    )
    return left, top, side


def cut(source: Path, target: Path, truth: dict[str, Any]) -> None:
    """Write one clip."""
    left, top, side = square_of(truth)

    def frames() -> Iterator[Any]:
        with Video(source) as video:
            for pixels in video.frames(video.times()).pixels:
                part = pixels[top : top + side, left : left + side]
                yield cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA)

    target.parent.mkdir(parents=True, exist_ok=True)
    encode(target, frames(), round(truth["fps"]), with_vectors("h264", GOP))


def main() -> None:
    """Run from the command line; what is there already is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="from `foveate data make mocap15`")
    parser.add_argument("out", type=Path)
    for split, count in (("train", 24), ("val", 4), ("test", 10)):
        parser.add_argument(f"--{split}", type=int, default=count, help="clips of every class")
    options = parser.parse_args()
    with (options.source / "clips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in rows:
        key = row["split"], row["label"]
        if seen[key] < getattr(options, row["split"]):
            seen[key] += 1
            kept.append(row)
    for row in kept:
        target = options.out / row["path"]
        if not target.exists():
            name = f"{Path(row['path']).stem}.json"
            truth = json.loads((options.source / "truth" / name).read_text("utf-8"))
            cut(options.source / row["path"], target, truth)
    with (options.out / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    print(f"{len(kept)} clips")


if __name__ == "__main__":
    main()
