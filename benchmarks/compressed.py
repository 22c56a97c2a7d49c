"""What each path through the compressed domain costs, against decoding everything to RGB.

Real and rendered clips are transcoded to H.264 and MPEG-4 at 340x256 and at 1280x720. In one run,
in turns, over each set of clips: what FFmpeg alone takes (through PyAV, with nothing around it),
what the paths of foveate take by NumPy and with compiled loops, and the same vectors by
`motion-vector-extractor` where a Python that has it is named. The script also compares the
pixel-exact accumulation with the rule written out block by block on a thousand P pictures.

There are two full decodes to compare with. The usual one calls `frame.to_ndarray(format="rgb24")`,
which makes a scaler with as many threads as there are cores for every frame; the lean one asks for
one thread. The goals were set against the usual one.

Run: `OMP_NUM_THREADS=1 FOVEATE_SHARED=... python benchmarks/compressed.py --rendered MOCAP15
[--extractor PYTHON]`; each part of it (`--only small`, `large`, `others`) takes a minute,
`--quick` seconds. Times are process CPU time; the ratios are what holds on another machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.codec.context import Flags2

import record
from foveate.media.compressed import CompressedVideo, PixelMotion
from foveate.media.encode import ENCODINGS, Encoding, with_vectors
from foveate.media.transcode import transcode
from foveate.media.vectors.kernels import kernels
from foveate.media.vectors.reader import VectorReader
from scenes import write_scene

SMALL, LARGE = (340, 256), (1280, 720)
CODECS = ("h264", "mpeg4")
GOP, POSITION, ROUNDS, CLIPS = 12, 6, 3, 3
GOALS = {"key frames": 0.18, "vectors": 0.6, "I + cells": 0.65, "one residual a group": 1.0}
FULL, LEAN = "full decode to RGB", "full decode to RGB, one thread"
EXTRACTOR = """
import sys, time
from mvextractor.videocap import VideoCap
began = time.process_time()
for path in sys.argv[2:]:
    video = VideoCap()
    assert video.open(path)
    video.set_decode_frames(sys.argv[1] == "frames")
    while video.read()[0]:
        pass
    video.release()
print(time.process_time() - began)
"""


def decoded(path: Path, options: dict[str, str] | None = None, keys: bool = False) -> Iterator[Any]:
    """Frames by PyAV with one decoding thread and nothing around it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        codec.thread_count, codec.thread_type = 1, "SLICE"
        if options is not None:
            codec.flags2 |= Flags2.export_mvs
            codec.options = options
        for packet in container.demux(stream):
            if packet.is_keyframe or not keys or not packet.size:
                yield from codec.decode(packet)


def demuxed(path: Path) -> None:
    with av.open(str(path)) as container:
        for _ in container.demux(container.streams.video[0]):
            pass


def to_rgb(path: Path, **options: Any) -> None:
    for frame in decoded(path):
        frame.to_ndarray(format="rgb24", **options)


def drain(frames: Iterator[Any]) -> None:
    for _ in frames:
        pass


FFMPEG: dict[str, Callable[[Path], None]] = {
    FULL: to_rgb,
    LEAN: lambda path: to_rgb(path, threads=1),
    "FFmpeg: packets": demuxed,
    "FFmpeg: key frames": lambda path: drain(decoded(path, keys=True)),
    "FFmpeg: decode": lambda path: drain(decoded(path)),
    "FFmpeg: vectors": lambda path: drain(
        decoded(path, {"skip_loop_filter": "all", "skip_idct": "all"})
    ),
}


def key_frames(path: Path, fast: bool) -> None:
    video = CompressedVideo(path, fast=fast)
    drain(video.key_frames(range(len(video.groups))))


def vectors(path: Path, fast: bool) -> None:
    with VectorReader(path, pixels=False, fast=fast) as reader:
        drain(reader.fields())


def accumulated(path: Path, fast: bool, form: Any) -> None:
    video = CompressedVideo(path, fast=fast)
    places = {group.number: range(1, len(group)) for group in video.groups if len(group) > 1}
    drain(video.vectors(places, form, keys=True))


def one_residual(path: Path, fast: bool) -> None:
    video = CompressedVideo(path, fast=fast)
    drain(video.residuals({group.number: [POSITION] for group in video.groups}, keys=True))


OURS: dict[str, Callable[[Path, bool], None]] = {
    "key frames": key_frames,
    "vectors": vectors,
    "I + cells": lambda path, fast: accumulated(path, fast, "cells"),
    "I + pixel-exact": lambda path, fast: accumulated(path, fast, "pixels"),
    "one residual a group": one_residual,
}


def ways(paths: list[Path], extractor: str | None) -> dict[str, Callable[[], float]]:
    """What is timed, by name; each gives CPU seconds over all paths."""

    def timed(work: Callable[[Path], None]) -> Callable[[], float]:
        def run() -> float:
            began = time.process_time()
            for path in paths:
                work(path)
            return time.process_time() - began

        return run

    def extracted(what: str) -> float:
        command = [str(extractor), "-c", EXTRACTOR, what, *map(str, paths)]
        return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    found = {name: timed(work) for name, work in FFMPEG.items()}
    for name, work in OURS.items():
        found[name] = timed(lambda path, work=work: work(path, False))
        if name != "key frames" and kernels(True) is not None:
            found[f"{name}, compiled"] = timed(lambda path, work=work: work(path, True))
    if extractor is not None:
        found["motion-vector-extractor"] = lambda: extracted("frames")
        found["motion-vector-extractor, vectors only"] = lambda: extracted("vectors")
    return found


def measure(paths: list[Path], rounds: int, extractor: str | None) -> dict[str, Any]:
    """CPU milliseconds per source frame, and ratios to both full decodes; medians, in turns."""
    found = ways(paths, extractor)
    frames = sum(sum(1 for _ in decoded(path)) for path in paths)
    seen: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds + 1):
        gc.collect()
        for name, way in found.items():
            spent = way() * 1e3 / frames
            if number or rounds == 1:  # the first round warms up
                seen[name].append(spent)

    def against(base: str) -> dict[str, list[float]]:
        return {
            name: sorted(a / b for a, b in zip(values, seen[base], strict=True))
            for name, values in seen.items()
        }

    usual, lean = against(FULL), against(LEAN)
    return {
        "clips": len(paths),
        "frames": frames,
        "ms_per_frame": {name: statistics.median(values) for name, values in seen.items()},
        "ratio": {name: statistics.median(values) for name, values in usual.items()},
        "lowest_and_highest": {name: [values[0], values[-1]] for name, values in usual.items()},
        "ratio_to_one_thread": {name: statistics.median(values) for name, values in lean.items()},
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


def equal_pictures(path: Path, wanted: int) -> dict[str, int]:
    """How many P pictures were compared, and in how many NumPy and compiled loops are right."""
    counts = {"p_pictures_compared": 0, "equal": 0, "equal_compiled": 0}
    with VectorReader(path) as reader:
        for field in reader.fields(rows=True, frames=True):
            width, height = field.frame.width, field.frame.height
            if field.kind == "I":
                plain, fast = PixelMotion(width, height), PixelMotion(width, height, kernels(True))
                slow = np.stack(np.mgrid[:height, :width], -1).astype(np.int32)
                continue
            slow = written_out(slow, field.rows, width, height)
            counts["p_pictures_compared"] += 1
            for name, motion in (("equal", plain), ("equal_compiled", fast)):
                motion.add(field)
                counts[name] += bool(np.array_equal(np.stack(motion.source, -1), slow))
            if counts["p_pictures_compared"] == wanted:
                break
    return counts


def written(
    sources: list[Path], folder: Path, name: str, encoding: Encoding, size: tuple[int, int]
) -> list[Path]:
    """The clips of a set in one encoding."""
    paths = []
    for number, source in enumerate(sources):
        paths.append(folder / f"{name}-{size[0]}-{number}.mp4")
        transcode(source, paths[-1], encoding, size=size)
    return paths


def loading(rounds: int) -> dict[str, float]:
    """CPU seconds for which a process loads the compiled loops, compiled before."""
    code = (
        "import time; from foveate.media.vectors.kernels import kernels; began = time.process_time"
        "(); kernels(True); print(time.process_time() - began)"
    )
    spent = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        for _ in range(rounds)
    ]
    return {"cpu_seconds_a_process": statistics.median(spent)}


def run(
    sets: dict[str, list[Path]],
    folder: Path,
    rounds: int,
    wanted: int,
    extractor: str | None,
    only: str | None,
) -> dict[str, Any]:
    """All figures; the first set also comes with long groups and in the large size.

    Args:
        sets: Clips by name.
        folder: Where to write them anew.
        rounds: How often each way is timed.
        wanted: P pictures on which accumulation is compared with the written rule.
        extractor: A Python that has motion-vector-extractor, if any.
        only: `small` or `large`: the first set in that size; `others`: all but these two.
    """
    first, *others = sets
    plan = [
        (f"{name}, {codec}, key every {gop}", name, with_vectors(codec, gop), size)
        for name, gop, size in [
            *([(first, GOP, SMALL)] if only in (None, "small") else []),
            *((name, GOP, SMALL) for name in others),
            *([(first, 250, SMALL)] if only in (None, "others") else []),
            *([(first, GOP, LARGE)] if only in (None, "large") else []),
        ]
        for codec in CODECS
    ]  # fmt: skip
    if only is None:
        plan.append((f"{first}, x264 as it comes", first, ENCODINGS["x264"], SMALL))
    figures: dict[str, Any] = {"cost": {}, "goals_at_340x256": GOALS}
    counts: dict[str, int] = {}
    for number, (title, name, encoding, size) in enumerate(plan):
        paths = written(sets[name], folder, str(number), encoding, size)
        figures["cost"][f"{title}, {size[0]}x{size[1]}"] = measure(paths, rounds, extractor)
        left = wanted - counts.get("p_pictures_compared", 0)
        for path in paths if size == SMALL and encoding.bframes == 0 else []:
            if left > 0:
                for key, value in equal_pictures(path, left).items():
                    counts[key] = counts.get(key, 0) + value
                left = wanted - counts["p_pictures_compared"]
    figures["loading_compiled_loops"] = loading(1 if rounds == 1 else 3)
    return {**figures, "accumulation": counts}


def table(figures: dict[str, Any], ratio: str = "ratio") -> str:
    """Ratios to a full decode as Markdown, a line for each way."""
    cost = figures["cost"]
    names = list(next(iter(cost.values()))[ratio])
    lines = [f"| | {' | '.join(cost)} |", "| --- " * (len(cost) + 1) + "|"]
    for name in names:
        cells = (f"{item[ratio][name]:.2f}" for item in cost.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    whole = (f"{item['ms_per_frame'][FULL]:.2f}" for item in cost.values())
    return "\n".join([*lines, f"| CPU ms a frame, {FULL} | {' | '.join(whole)} |"])


def main() -> int:
    parser = argparse.ArgumentParser(description="What the compressed domain costs")
    parser.add_argument("--quick", action="store_true", help="one rendered clip, one round")
    parser.add_argument("--rendered", type=Path, help="the folder of mocap15")
    parser.add_argument("--extractor", help="a Python that has motion-vector-extractor")
    parser.add_argument("--only", choices=("small", "large", "others"), help="a part of it")
    parser.add_argument("--json", type=Path, help="with --quick: write the figures there")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    # One means two, without one to warm up.
    rounds = 1 if options.only in ("large", "others") else ROUNDS
    shared = os.environ.get("FOVEATE_SHARED")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.quick:
            sets = {"scene": [write_scene(folder / "scene.mp4", SMALL, 2)]}
            figures = run(sets, folder, 1, 20, options.extractor, "small")
            print(table(figures))
            if options.json:
                options.json.write_text(json.dumps(figures), "utf-8")
            return 0
        if not shared or not (options.rendered or options.only in ("small", "large")):
            parser.exit(1, "the clips are not on this machine: set FOVEATE_SHARED, --rendered\n")
        data = Path(shared) / "data"
        fights = sorted((data / "fight-surv" / "fight").glob("*"))
        sets = {"street": [data / "motion-vectors" / "h264" / "street.mp4"]}
        if options.only in (None, "others"):
            rendered = sorted(options.rendered.glob("test/*/*.mp4"))
            sets["fights"] = fights[:: len(fights) // CLIPS][:CLIPS]
            sets["mocap15"] = rendered[:: len(rendered) // CLIPS][:CLIPS]
        figures = run(sets, folder, rounds, 1000, options.extractor, options.only)
    print(table(figures))
    print(table(figures, "ratio_to_one_thread"))
    clips = ["street.mp4 (a street seen from a moving camera)"]
    if options.only in (None, "others"):
        clips += ["three clips of fights in CCTV", "three rendered test clips of mocap15"]
    protocol = (
        f"{', '.join(clips)}; transcoded by media.transcode with one reference and no B-frames, "
        "but where x264 is named as it comes; process CPU time of one "
        f"thread over all clips of a set, in turns, medians of {max(rounds, 2)} rounds, "
        "ratios within a round; compiled loops loaded before"
    )
    name = "compressed" if rounds > 1 else f"compressed_{options.only}"
    path = record.write(name, protocol, max(rounds, 2), figures, seeds=())
    print(f"written: {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
