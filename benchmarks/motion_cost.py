"""What choosing a window costs on one core, decode beside it: flow path, vector path, per frame.

CPU time of this process, one thread, medians over interleaved rounds. A scene of five seconds at
25 frames/s is looked at 5 times a second, as the first network does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

import record
from foveate.media import ArrayVideo, Video
from foveate.media.motion import _luma, near_fields, vector_motion
from foveate.media.vectors.grid import paint
from foveate.media.vectors.reader import VectorReader
from foveate.media.vectors.rows import rows_of
from foveate.policy.looks.patches import cuts_between
from foveate.policy.motion import METHODS, MotionInput, saliency
from foveate.policy.window import crop
from foveate.policy.window.select import Rule, select
from motion_scenes import encoded, scene

SIZES = ((340, 256), (1280, 720))
LOOKED = 24
STEP = 5
AROUND = 2


def cpu(work: Callable[[], Any], rounds: int) -> float:
    """Median CPU milliseconds of a call."""
    work()
    spent = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return 1000 * float(np.median(spent))


def measure(size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """All figures of one frame size, in CPU ms per frame looked at unless the name says other."""
    frames = np.stack([cv2.resize(f, size) for f in scene("pan", LOOKED * STEP).frames])
    data = encoded(frames, "x264")
    at = np.arange(0, LOOKED * STEP, STEP)
    times = (at / 25).tolist()
    array = ArrayVideo(frames, 25.0)
    out: dict[str, Any] = {}

    def per_look(work: Callable[[], Any]) -> float:
        return round(cpu(work, rounds) / LOOKED, 3)

    flow = array.motion(times, "flow")
    out["flow: shrink and estimate"] = per_look(lambda: array.motion(times, "flow"))
    with Video(data) as video:
        vectors = video.motion(times, "vectors", AROUND)
    with VectorReader(data) as reader:
        fields = list(reader.fields(frames=True))
    out["vectors: read and paint, per picture"] = round(
        cpu(lambda: [_painted(f) for f in fields], rounds) / len(fields), 3
    )
    with Video(data) as video:
        convert = video._convert
    with VectorReader(data) as reader:
        near = list(near_fields(reader, times, AROUND, 25.0))
    pairs = [(f[AROUND - 1] or f[AROUND], f[AROUND]) for f in near]
    out["vectors: two grey pictures"] = per_look(lambda: [_luma(f.frame) for p in pairs for f in p])  # type: ignore[union-attr]
    # Painted by the first call, which does not count.
    out["vectors: put into one grid"] = round(
        per_look(lambda: vector_motion(near, times, AROUND, convert, _ignored, single=True))
        - out["vectors: two grey pictures"],
        3,
    )
    for kind, motion in (("flow", flow), ("vectors", vectors)):
        seen = MotionInput(motion.field, motion.valid, motion.grey, cell=motion.cell)
        names = [n for n, m in METHODS.items() if m.need != "features"]
        names = [n for n in names if (METHODS[n].need == "vectors") == (kind == "vectors")]
        for name in [*names, *(["affine_diff"] if kind == "vectors" else [])]:
            out[f"{kind}: map {name}"] = per_look(lambda n=name, s=seen: saliency(n, s))
        maps = saliency("affine_diff", seen)
        for track in ("frame", "viterbi", "camera", "tube", "one-euro"):
            rule = Rule((size[1] / 2,), track)  # type: ignore[arg-type]
            out[f"{kind}: window {track}"] = per_look(
                lambda r=rule, m=maps, s=motion: select(
                    m, r, frame=size, cell=s.cell, times=np.array(times),
                    cuts=cuts_between(s.thumbs),
                )
            )  # fmt: skip
    out["crop 128"] = per_look(lambda: crop(frames[at], np.tile([[9, 7]], (LOOKED, 1)), 128))
    _totals(out)
    out |= _decoding(data, times, rounds)
    return out


def _totals(out: dict[str, Any]) -> None:
    """What the goals speak of: choosing, without decoding."""
    for track in ("viterbi", "camera"):
        flow = out["flow: map affine_diff"] + out[f"flow: window {track}"]
        out[f"selector on flow, {track}"] = round(flow + out["flow: shrink and estimate"], 3)
        vectors = out["vectors: map affine_diff"] + out[f"vectors: window {track}"]
        vectors += out["vectors: put into one grid"]
        out[f"selector on vectors, {track}"] = round(vectors, 3)
    # One picture of each look is painted.
    more = out["vectors: two grey pictures"] + out["vectors: read and paint, per picture"]
    out["selector on vectors, viterbi, with grey pictures and painting"] = round(
        out["selector on vectors, viterbi"] + more, 3
    )
    for kind in ("flow", "vectors"):
        two = 10 * (out[f"{kind}: map affine_diff"] + out[f"{kind}: window camera"])
        out[f"{kind}: maps, search and track of ten looks"] = round(two, 3)


def _decoding(data: bytes, times: list[float], rounds: int) -> dict[str, float]:
    """CPU ms per frame looked at of decoding, for each way of seeing motion."""

    def run(source: str | None) -> None:
        with Video(data, vectors=source == "vectors") as video:
            if source is not None:
                video.motion(times, source, AROUND, every=False, single=True)
            video.frames(times)

    found = {
        "decode, no motion": round(cpu(lambda: run(None), rounds) / LOOKED, 3),
        "decode and flow": round(cpu(lambda: run("flow"), rounds) / LOOKED, 3),
        "decode and vectors": round(cpu(lambda: run("vectors"), rounds) / LOOKED, 3),
    }
    base = found["decode, no motion"]
    found["ratio of flow to plain decode"] = round(found["decode and flow"] / base, 2)
    found["ratio of vectors to plain decode"] = round(found["decode and vectors"] / base, 2)
    return found


def _painted(field: Any) -> Any:
    return paint(rows_of(field.frame), field.frame.width, field.frame.height), field.flow()


def _ignored(asked: float, field: Any) -> None:
    """Nothing is kept."""


def main() -> int:
    parser = argparse.ArgumentParser(description="What choosing a window costs")
    parser.add_argument("--quick", action="store_true", help="one round, no result file")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rounds = 1 if options.quick else 5
    figures = {f"{w}x{h}": measure((w, h), rounds) for w, h in SIZES}
    for name in next(iter(figures.values())):
        print(f"{name:58}" + "".join(f"{figures[s][name]:>10}" for s in figures))
    if not options.quick:
        protocol = (
            "one thread, process CPU time in ms per frame looked at (5 of 25 frames/s, 24 looks), "
            "medians of five rounds; disc scene with a pan, x264 defaults; vectors as looks read "
            "them by default: of one picture per look, among those that are decoded anyway"
        )
        print(f"written: {record.write('motion_cost', protocol, LOOKED, figures, (0,)).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
