"""Results as a run would give them, made up from a seed."""

from __future__ import annotations

import random
from itertools import pairwise

from foveate.core import Cost, Detection, Result, Score, Segment, StageCost, Trace, TraceStep

LABELS = ("skateboarding", "jumping into pool", "playing volleyball", "riding a bike")
HOSTILE = "<script>alert('x')</script>\"&\x00\x1b[31m\x9b\u202e\ud800\ufffe]]>\n[bold]x[/bold]"


def segment(start: float, end: float, label: str = "skateboarding", score: float = 0.8) -> Segment:
    """One segment; the label `none` has no index."""
    return Segment(
        start=start, end=end, label=label, index=None if label == "none" else 7, score=score
    )


def result(
    source: str = "skate_park.mp4", seed: int = 1, length: float = 42.0, segments: int = 9
) -> Result:
    """A whole Result of a video of 1280x720."""
    draw = random.Random(seed)
    cuts = sorted(draw.uniform(0, length) for _ in range(segments - 1))
    edges = [0.0, *cuts, length]
    pieces = [
        segment(a, b, "none" if k % 5 == 3 else draw.choice(LABELS), draw.uniform(0.3, 0.99))
        for k, (a, b) in enumerate(pairwise(edges))
    ]
    steps = [step(k * 2.0, draw) for k in range(int(length // 2))]
    return Result(
        source=source,
        model="movinet-a0-stream-lite.k600",
        preset="motion-patches",
        duration=length,
        labels=[Score(label=label, index=k, score=0.6 / 2**k) for k, label in enumerate(LABELS)],
        segments=pieces,
        cost=ledger(len(steps)),
        trace=Trace(size=[1280, 720], steps=steps),
    )


def step(start: float, draw: random.Random) -> TraceStep:
    """A turn of the loop over two frames, with a box for each."""
    frames = [start, start + 0.5]
    boxes = [[400.0, 200.0, 720.0, 520.0], [500.0, 200.0, 820.0, 520.0]]
    return TraceStep(
        time=frames[-1],
        frames=frames,
        boxes=boxes,
        modalities=["motion", "rgb"],
        exit=draw.choice(["block3", "final"]),
        gate=draw.uniform(0.5, 0.9),
    )


def ledger(turns: int) -> Cost:
    """Decoding, looking and computing for so many turns."""
    return Cost.of(
        [
            StageCost(name="decode", calls=turns, seconds=0.4, frames=turns * 5, bytes=8_412_000),
            StageCost(name="look", calls=turns, seconds=0.09),
            StageCost(name="model", calls=turns, macs=49_700_000 * turns, seconds=1.7),
        ]
    )


def failed(source: str = "broken.mov") -> Result:
    """A Result of an input that gave none."""
    return Result.failed(source, "movinet", "media", f"{source}: no video stream (audio only)")


def detected(source: str = "street.mp4") -> Result:
    """A Result of an input that was searched for objects: two cars, one of them twice."""
    found = [
        Detection(time=0.5, box=[10, 20, 60, 80], label="car", index=2, score=0.5, track=1),
        Detection(time=1.0, box=[12, 20, 62, 80], label="car", index=2, score=0.9, track=1),
        Detection(time=1.0, box=[90, 20, 99, 30], label="car", index=2, score=0.4, track=4),
        Detection(time=1.0, box=[0, 0, 9, 9], label="<b>", index=0, score=0.3),
    ]
    return Result(
        source=source, model="m", task="detect", duration=2.0, detections=found, cost=ledger(2)
    )
