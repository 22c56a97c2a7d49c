"""What each path through the compressed domain costs, against decoding everything to RGB.

A real clip is transcoded to H.264 and MPEG-4 (a key frame every twelve frames, one reference, no
B-frames) at 340x256 and at 1280x720. In one run, in turns: key frames alone, the vectors of every
picture, key frames with accumulated cells, the same with the pixel-exact rule, and one residual a
group (position 6). The same script compares the pixel-exact accumulation with the rule written
out block by block on a thousand P pictures.

Run: `OMP_NUM_THREADS=1 FOVEATE_SHARED=... python benchmarks/compressed.py [--quick]`. Times are
process CPU time of one thread; the ratios are what holds on another machine.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

import record
from foveate.media.compressed import CompressedVideo, PixelMotion
from foveate.media.encode import with_vectors
from foveate.media.transcode import transcode
from foveate.media.vectors.gops import packet_table
from foveate.media.vectors.reader import VectorReader
from scenes import write_scene

SIZES = ((340, 256), (1280, 720))
CODECS = ("h264", "mpeg4")
GOP, POSITION, ROUNDS = 12, 6, 3
GOALS = {"key frames": 0.18, "vectors": 0.6, "I + cells": 0.65, "one residual a group": 1.0}


def decode_all(path: Path) -> int:
    """Every picture to RGB with one thread and nothing around it."""
    count = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")
            count += 1
    return count


def paths(path: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name; each opens the file itself."""

    def video() -> CompressedVideo:
        return CompressedVideo(path)

    def key_frames() -> int:
        opened = video()
        return len(list(opened.key_frames(range(len(opened.groups)))))

    def vectors() -> int:
        with VectorReader(path, pixels=False) as reader:
            return sum(field.valid.any() for field in reader.fields())

    def accumulated(form: Any) -> int:
        opened = video()
        pictures = {group.number: range(1, len(group)) for group in opened.groups}
        keys = list(opened.key_frames(list(pictures)))
        return len(keys) + len(list(opened.vectors(pictures, form)))

    def one_residual() -> int:
        opened = video()
        places = {group.number: [POSITION] for group in opened.groups}
        keys = list(opened.key_frames(list(places)))
        return len(keys) + len(list(opened.residuals(places)))

    return {
        "full decode to RGB": lambda: decode_all(path),
        "packets alone": lambda: packet_table(path),
        "key frames": key_frames,
        "vectors": vectors,
        "I + cells": lambda: accumulated("cells"),
        "I + pixel-exact": lambda: accumulated("pixels"),
        "one residual a group": one_residual,
    }


def measure(path: Path, rounds: int) -> dict[str, Any]:
    """CPU milliseconds per source frame and ratios to the full decode; medians, in turns."""
    ways = paths(path)
    frames = decode_all(path)
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            gc.collect()
            began = time.process_time()
            way()
            seen[name].append((time.process_time() - began) * 1e3 / frames)
    whole = seen["full decode to RGB"]
    ratios = {
        name: sorted(a / b for a, b in zip(values, whole, strict=True))
        for name, values in seen.items()
    }
    return {
        "frames": frames,
        "ms_per_frame": {name: statistics.median(values) for name, values in seen.items()},
        "ratio": {name: statistics.median(values) for name, values in ratios.items()},
        "lowest_and_highest": {name: [values[0], values[-1]] for name, values in ratios.items()},
    }


def written_out(before: Any, rows: Any, width: int, height: int) -> Any:
    """CoViAR's rule block by block, as it is stated; `before` is (H, W, 2) of row and column."""
    after = before.copy()
    for row in rows if rows is not None else ():
        source, w, h, src_x, src_y, dst_x, dst_y = (int(value) for value in list(row)[:7])
        dx, dy = src_x - dst_x, src_y - dst_y
        if source >= 0 or (dx == 0 and dy == 0):
            continue
        left, top = dst_x - w // 2, dst_y - h // 2
        x1, y1 = max(left, 0, -dx), max(top, 0, -dy)
        x2, y2 = min(left + w, width, width - dx), min(top + h, height, height - dy)
        if x2 > x1 and y2 > y1:
            after[y1:y2, x1:x2] = before[y1 + dy : y2 + dy, x1 + dx : x2 + dx]
    return after


def equal_pictures(path: Path, wanted: int) -> tuple[int, int]:
    """How many P pictures were compared, and in how many the two accumulations are the same."""
    compared = same = 0
    exact, slow = None, np.zeros(0)
    with VectorReader(path) as reader:
        for field in reader.fields(rows=True, frames=True):
            width, height = field.frame.width, field.frame.height
            exact = exact or PixelMotion(width, height)
            if field.kind == "I":
                exact.reset()
                slow = np.stack(np.mgrid[:height, :width], -1).astype(np.int32)
                continue
            exact.add(field)
            slow = written_out(slow, field.rows, width, height)
            compared += 1
            same += bool(np.array_equal(np.stack(exact.source, -1), slow))
            if compared == wanted:
                break
    return compared, same


def run(source: Path, folder: Path, sizes: Any, rounds: int, wanted: int) -> dict[str, Any]:
    """All figures for one source clip."""
    figures: dict[str, Any] = {"cost": {}, "goals_at_340x256": GOALS}
    small = []
    for size in sizes:
        for codec in CODECS:
            path = folder / f"{codec}-{size[0]}x{size[1]}.mp4"
            transcode(source, path, with_vectors(codec, GOP), size=size)
            figures["cost"][f"{codec} {size[0]}x{size[1]}"] = measure(path, rounds)
            if size == sizes[0]:
                small.append(path)
    counts = [equal_pictures(path, wanted // len(small)) for path in small]
    figures["accumulation"] = {
        "p_pictures_compared": sum(count for count, _ in counts),
        "equal": sum(same for _, same in counts),
    }
    return figures


def table(figures: dict[str, Any]) -> str:
    """Ratios to the full decode, one line a file."""
    lines = []
    for name, item in figures["cost"].items():
        parts = ", ".join(f"{k} {v:.2f}" for k, v in item["ratio"].items() if v != 1)
        whole = item["ms_per_frame"]["full decode to RGB"]
        lines.append(f"{name} ({whole:.2f} ms a frame): {parts}")
    found = figures["accumulation"]
    lines.append(f"accumulation: {found['equal']} of {found['p_pictures_compared']} equal")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the compressed domain costs")
    parser.add_argument("--quick", action="store_true", help="a rendered clip, no result file")
    options = parser.parse_args()
    shared = os.environ.get("FOVEATE_SHARED")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.quick:
            source = folder / "scene.mp4"
            write_scene(source, (340, 256), 2)
            print(table(run(source, folder, SIZES[:1], 1, 20)))
            return 0
        if not shared:
            parser.exit(1, "the clip is not on this machine: set FOVEATE_SHARED\n")
        source = Path(shared) / "data" / "motion-vectors" / "h264" / "street.mp4"
        figures = run(source, folder, SIZES, ROUNDS, 1000)
    print(table(figures))
    protocol = (
        "street.mp4 (337 frames, a street seen from a moving camera) transcoded by "
        "media.transcode, a key frame every 12 frames, one reference, no B-frames; one thread, "
        "process CPU time, in turns, medians of the rounds, ratios within a round"
    )
    path = record.write("compressed", protocol, ROUNDS, figures, seeds=())
    print(f"written: {path.relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
