"""Detection on real footage: boxes between key frames, FastestDet's recall, and its speed.

Three sequences with one box per frame (OTB; frames as pictures, `boxes_xywh.csv`) are encoded here.
Key frames get the true box; on the frames between it stays (`copy`) or follows the codec's motion
vectors (`move`), from every frame as key frame. FastestDet runs through `foveate.load` with a key
frame every frame; a frame counts as found if a person overlaps its box by IoU .5. The boxes of
`david` are of the face, so there the share of frames is given, too, whose box lies inside a person.
Speed is in frames per second of process CPU time, one thread, decoding included.

Run: `FOVEATE_WEIGHTS=FOLDER python -m benchmarks.detect_real BOXES [--video vtest.avi] [--quick]`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks import record

import foveate
from foveate.core import ViewRequest
from foveate.media import Video
from foveate.media.encode import ENCODINGS, Encoding, encode, with_vectors
from foveate.pipeline.boxes import moved
from foveate.pipeline.tracking import overlap

SEQUENCES = ("crossing", "david", "dragonbaby")
PERSONS = ("crossing", "david")
STYLES: dict[str, Encoding] = {"h264-p1 gop12": with_vectors("h264", 12), "x264": ENCODINGS["x264"]}
INTERVALS = (2, 3, 5, 8, 10, 15, 20)
RATE = 25
LOOKS: dict[str, dict[str, Any]] = {
    "every frame": {"every": 1},
    "every 10, move": {"every": 10, "between": "move"},
    "every 10, copy": {"every": 10, "between": "copy"},
    "every 10, warp": {"every": 10, "between": "warp"},
    "auto": {"every": "auto"},
}


def sequence(folder: Path) -> tuple[list[Any], Any]:
    """The frames (H, W, 3) RGB and the boxes (T, 4) xyxy of a sequence."""
    boxes = np.loadtxt(folder / "boxes_xywh.csv", delimiter=",").reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    files = sorted((folder / "frames").glob("*.jpg"))[: len(boxes)]
    frames = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in files]
    return frames, boxes[: len(frames)]


def fields(path: Path) -> tuple[Any, tuple[float, ...]]:
    """Motion (T, h, w, 3) into each frame of a file, and the region that it covers."""
    with Video(path) as video:
        request = ViewRequest(video.times())
        motion = video.motion(request.times, "vectors", around=0)
    assert motion.field is not None
    assert motion.valid is not None
    rows, columns = motion.valid.shape[2:]
    field = np.concatenate([motion.field[:, 0], motion.valid[:, 0, ..., None]], -1)
    return field, (0.0, 0.0, columns * motion.cell[0], rows * motion.cell[1])


def between(boxes: Any, step: Callable[[Any, int], Any], longest: int) -> Any:
    """Mean IoU 1 .. longest - 1 frames after a key frame, over all key frames."""
    rows = []
    for start in range(len(boxes) - longest + 1):
        box, row = boxes[start : start + 1], []
        for number in range(start + 1, start + longest):
            box = step(box, number)
            row.append(overlap(box, boxes[number : number + 1])[0, 0])
        rows.append(row)
    return np.mean(rows, 0)


def propagation(path: Path, boxes: Any) -> dict[str, dict[str, float]]:
    """Mean IoU on the frames between key frames, by method and interval."""
    field, region = fields(path)
    steps: dict[str, Callable[[Any, int], Any]] = {
        "copy": lambda box, number: box,
        "move": lambda box, number: moved(box, field[number], region),  # type: ignore[arg-type]
    }
    found = {name: between(boxes, step, max(INTERVALS)) for name, step in steps.items()}
    return {
        name: {str(n): round(float(values[: n - 1].mean()), 4) for n in INTERVALS}
        for name, values in found.items()
    }


def persons(path: Path) -> list[Any]:
    """Boxes and scores (n, 5) of the persons of every frame."""
    look = {"name": "key-frames", "every": 1}
    result = foveate.load("fastestdet.coco", look=look, min_score=0.05).predict(path)
    rows: dict[float, list[Any]] = {time: [] for time in result.times}
    for one in result.detections:
        if one.label == "person":
            rows[one.time].append([*one.box, one.score])
    return [np.array(rows[time]).reshape(-1, 5) for time in sorted(rows)]


def recall(found: list[Any], boxes: Any, least: float) -> dict[str, float]:
    """Share of the frames with a person at IoU .5, or around the box."""
    hit = inside = 0
    for rows, box in zip(found, boxes, strict=True):
        people = rows[rows[:, 4] >= least, :4]
        hit += bool((overlap(people, box[None]) >= 0.5).any())
        corners = np.concatenate([people[:, :2] - box[:2], box[2:] - people[:, 2:]], 1)
        inside += bool((corners <= 3).all(1).any())  # pixels of tolerance
    return {
        "recall at IoU .5": round(hit / len(boxes), 4),
        "box inside a person": round(inside / len(boxes), 4),
    }


def speed(path: Path) -> dict[str, dict[str, float]]:
    """Frames per CPU second, multiply-adds per frame and key frames of each schedule."""
    found = {}
    for name, settings in LOOKS.items():
        model = foveate.load("fastestdet.coco", look={"name": "key-frames", **settings})
        model.predict(np.zeros((12, 64, 64, 3), np.uint8), fps=25.0)  # what is done once
        started = time.process_time()
        result = model.predict(path)
        seconds = time.process_time() - started
        frames = len(result.times)
        keys = result.cost.stage("key").calls
        found[name] = {
            "frames per CPU second": round(frames / seconds, 1),
            "MMACs per frame": round(result.cost.macs / frames / 1e6, 2),
            "key frames": round(keys / frames, 4),
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Detection on real footage")
    parser.add_argument("boxes", type=Path, help="folder with the three sequences")
    parser.add_argument("--video", type=Path, help="a further file, such as Debian's vtest.avi")
    parser.add_argument("--quick", action="store_true", help="40 frames each, no result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    figures: dict[str, Any] = {"between key frames": {}, "FastestDet": {}, "speed": {}}
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in SEQUENCES:
            frames, boxes = sequence(options.boxes / name)
            if options.quick:
                frames, boxes = frames[:40], boxes[:40]
            total += len(boxes)
            for style, encoding in STYLES.items():
                path = Path(folder) / f"{name}.mp4"
                encode(path, iter(frames), RATE, encoding)
                figures["between key frames"][f"{name}, {style}"] = propagation(path, boxes)
            if name in PERSONS:
                found = persons(path)
                figures["FastestDet"][name] = {
                    f"score {least:g}": recall(found, boxes, least) for least in (0.3, 0.5)
                }
            if name == "david":
                figures["speed"]["david, 320x240"] = speed(path)
        if options.video is not None:
            name = options.video.name
            found = persons(options.video)
            counts = [int((rows[:, 4] >= 0.5).sum()) for rows in found]
            figures["FastestDet"][name] = {
                "persons per frame": round(float(np.mean(counts)), 2),
                "frames with a person": round(float(np.mean(np.array(counts) > 0)), 4),
            }
            figures["speed"][name] = speed(options.video)
    for name, values in figures.items():
        print(name)
        for key, rows in values.items():
            for row, value in rows.items():
                print(f"  {key:28} {row:16} {value}")
    if not options.quick:
        protocol = (
            "OTB crossing, david, dragonbaby encoded as H.264 at 25 frames/s; mean IoU of "
            "the frames between key frames with the true box, from every frame as key frame; "
            "FastestDet at 352x352 on every frame, persons at IoU .5; process CPU time, one thread"
        )
        print(f"written: {record.write('detect_real', protocol, total, figures).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
