"""How often the window holds what moves: the disc scenes and mocap15 (rendered), all variants.

The share of frames whose window contains the mover, give or take two pixels, for every saliency of
the family, from codec vectors and from flow, by camera regime. On the disc scenes every frame is
chosen alone, or on a smooth track where the row says so; on mocap15 the tracks are compared too.
Frames whose mover is larger than the window are left out of the share of mocap15, and counted.

Run: ``python -m benchmarks.motion_containment MOCAP15``, a folder that `foveate data make mocap15`
has filled.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import record
from benchmarks.motion_scenes import CAMERAS, ENCODINGS, SIZE, contains, encoded, scene

from foveate.data import read
from foveate.media import Video
from foveate.policy.looks.patches import RIGID, cuts_between, draws_root, filled
from foveate.policy.motion import METHODS, MotionInput, saliency
from foveate.policy.motion.combine import bodies, lasting
from foveate.policy.window.select import Rule, select
from foveate.policy.window.track import shots

SIDE = 128.0  # pixels
RATE = 5.0  # frames looked at per second of mocap15
FIELD = [n for n, m in METHODS.items() if m.need != "features" and m.need != "vectors"]
VECTOR = ["affine_diff", "bodies", "articulated", "mv", "mv_affine"]
LASTING = 0.6  # seconds, for the rows that say so
TRACKS = ("frame", "viterbi", "camera", "tube", "camera-online", "one-euro")
BODIES = "bodies"  # the setting `subject=bodies` of the look


def boxes_of(
    motion: Any, name: str, track: str, frame: tuple[int, int], times: Any, seconds: float = 0.0
) -> Any:
    """The windows of one variant, without the gate: every frame gets one."""
    seen = MotionInput(motion.field, motion.valid, motion.grey, cell=motion.cell)
    kind = "affine_diff" if name == BODIES else name
    maps, shot = saliency(kind, seen, root=draws_root(kind)), shots(cuts_between(motion.thumbs))
    if motion.valid is not None:
        maps = filled(maps, motion.valid.any((1, 2, 3)))
    if name == BODIES:
        rigid = RIGID if motion.source == "vectors" else 0.0
        maps = bodies(maps, saliency("articulated", seen), times, shot, rigid)
    if seconds:
        maps = lasting(maps, times, seconds, shot)
    chosen = select(
        maps, Rule((SIDE,), track, gate=0.0), frame=frame, cell=motion.cell, times=times,
        cuts=cuts_between(motion.thumbs),
    )  # fmt: skip
    return chosen.boxes[:, 0]


def fixed(kind: str, count: int, frame: tuple[int, int], seed: int = 0) -> Any:
    """Centre or random windows."""
    room = np.array(frame) - SIDE
    share = np.full((count, 2), 0.5)
    if kind == "random":
        share = np.random.default_rng(seed).random((count, 2))
    low = share * room
    return np.concatenate([low, low + SIDE], 1)


def discs(frames: int) -> dict[str, Any]:
    """Containment of the disc, per frame, by camera; vectors with 0, 1 and 2 neighbours."""
    out: dict[str, Any] = {}
    at = np.arange(4, frames - 6, 2)
    times = at / 25
    for camera in CAMERAS:
        clip = scene(camera, frames)
        truth = clip.boxes[at]
        row: dict[str, float] = {}
        for encoding in ENCODINGS:
            with Video(encoded(clip.frames, encoding)) as video:
                for around in (0, 2):
                    motion = video.motion(times, "vectors", around)
                    for name in VECTOR:
                        for track in ("frame", "viterbi") if around == 2 else ("frame",):
                            inside = contains(boxes_of(motion, name, track, SIZE, times), truth)
                            end = "" if track == "frame" else f" {track}"
                            row[f"{name} {encoding} ±{around}{end}"] = float(inside.mean())
                if encoding != "x264":
                    continue
                motion = video.motion(times, "flow")
                for name in (*FIELD, BODIES):
                    boxes = boxes_of(motion, name, "frame", SIZE, times)
                    row[name] = float(contains(boxes, truth).mean())
        draws = [contains(fixed("random", len(at), SIZE, s), truth).mean() for s in range(5)]
        row["random"] = float(np.mean(draws))
        row["centre"] = float(contains(fixed("centre", len(at), SIZE), truth).mean())
        out[camera] = {k: round(v, 3) for k, v in row.items()}
    return out


def mocap(data: Path, most: int) -> dict[str, Any]:
    """Containment of the actor in test clips of mocap15 by camera regime, mean over clips."""
    shares: dict[str, dict[str, list[float]]] = {}
    too_large = frames = 0
    records = read(data).subset("test").records
    most = min(most, len(records))
    for number in range(most):
        clip = records[number * len(records) // most]
        drawn = json.loads((data / "truth" / f"{clip.path.stem}.json").read_text())
        boxes = np.array([b or [np.nan] * 4 for b in drawn["tracks"][0]["boxes"]], float)
        at = np.arange(0, len(boxes), round(25 / RATE))
        truth = boxes[at]
        fits = (truth[:, 2:] - truth[:, :2] <= SIDE + 4).all(1)
        frames, too_large = frames + len(at), too_large + int((~fits).sum())
        if not fits.any():
            continue
        size = int(drawn["size"][0]), int(drawn["size"][1])
        found = _variants(clip.path, at / 25, size)
        for draw in range(5):
            found[f"random {draw}"] = fixed("random", len(at), size, draw * 9973 + number)
        found["centre"] = fixed("centre", len(at), size)
        other = "nothing else moves" if clip.tag("distractors") == "0" else "distractors"
        for name, windows in found.items():
            key = "random" if name.startswith("random") else name
            share = float(contains(windows, truth)[fits].mean())
            for stratum in (str(clip.tag("camera")), "all", other):
                shares.setdefault(stratum, {}).setdefault(key, []).append(share)
    table = {
        camera: {name: _interval(values) for name, values in row.items()}
        for camera, row in sorted(shares.items())
    }
    counts = {camera: len(row["centre"]) for camera, row in sorted(shares.items())}
    return {"clips": counts, "frames": frames, "mover larger than the window": too_large,
            "containment": table}  # fmt: skip


def _variants(path: Path, times: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Windows of all variants of one clip: from codec vectors as the look reads them, and flow."""
    found: dict[str, Any] = {}
    with Video(path) as video:
        for source in ("vectors", "flow"):
            motion = video.motion(times, source, 2, every=False)
            end = f" {source}" if source == "vectors" else ""
            for name in ("affine_diff", BODIES):
                for track in TRACKS:
                    boxes = boxes_of(motion, name, track, size, times)
                    found[f"{name}{end} {track}"] = boxes
            for track in ("viterbi", "camera"):
                boxes = boxes_of(motion, "articulated", track, size, times, LASTING)
                found[f"articulated{end} {track}, lasting"] = boxes
            for name in VECTOR[3:] if end else [n for n in FIELD if n != "affine_diff"]:
                found[f"{name}{end} frame"] = boxes_of(motion, name, "frame", size, times)
    return found


def _interval(values: list[float]) -> dict[str, float]:
    low, high = bootstrap_mean(np.array(values))
    return {"mean": round(float(np.mean(values)), 3), "low": round(low, 3), "high": round(high, 3)}


def bootstrap_mean(values: Any, draws: int = 1000) -> tuple[float, float]:
    """95 % percentile interval of the mean over clips."""
    random = np.random.default_rng(0)
    means = values[random.integers(0, len(values), (draws, len(values)))].mean(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [f"{'disc':32}" + "".join(f"{camera:>10}" for camera in figures["disc"])]
    rows = figures["disc"]
    for name in next(iter(rows.values())):
        lines.append(f"{name:32}" + "".join(f"{rows[c][name]:10.2f}" for c in rows))
    rows = figures["mocap15 (rendered)"]["containment"]
    lines += ["", f"{'mocap15 (rendered)':32}" + "".join(f"{camera:>11}" for camera in rows)]
    for name in next(iter(rows.values())):
        lines.append(f"{name:32}" + "".join(f"{rows[c][name]['mean']:11.2f}" for c in rows))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Containment of what moves")
    parser.add_argument("data", type=Path, help="the folder of mocap15")
    parser.add_argument("--quick", action="store_true", help="a short run, no result file")
    parser.add_argument("--clips", type=int, default=150)
    options = parser.parse_args()
    clips = 4 if options.quick else options.clips
    figures = {
        "disc": discs(60 if options.quick else 250),
        "mocap15 (rendered)": mocap(options.data, clips),
    }
    print(table(figures))
    if not options.quick:
        protocol = (
            "share of frames whose 128 px window holds the mover's box (2 px slack), no gate; "
            "disc: three 250-frame 340x256 scenes, every second frame, alone unless a track is "
            "named; mocap15 (rendered; one recording per action, x264): test clips evenly "
            "thinned, 5 frames/s, mean over clips with a 95 % bootstrap interval over clips; "
            "vectors: 2 neighbours on each side unless said, on mocap15 those that must be "
            "decoded anyway; lasting: .6 s; the constants of bodies were fitted on 90 training "
            "and 90 validation clips and on disc scenes of seeds 1 to 6"
        )
        path = record.write("motion_containment", protocol, clips, figures)
        print(f"written: {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
