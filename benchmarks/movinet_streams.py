"""What a MoViNet stream should remember: accuracy on streams of ten minutes, by memory.

Rendered: one actor, camera, body and background for ten minutes, actions of mocap15 one after the
other with idle gaps, no cuts; the weights `movinet-a0-stream-lite.actions15` answer at every frame,
and frames within an action count (test bodies, backgrounds and sectors). Real: the test clips of
each fold of FS-4 one after the other in random order, repeated to five minutes; a linear layer on
the Kinetics-600 features is trained on the mean over each training clip. Every clip begins with a
cut: with and without a reset there.

These networks have no squeeze-excitation, so that memory acts on the features behind the last
layer alone, and those are computed once for all memories.

    python -m benchmarks.movinet_streams [--fs4 FIGHT_SURV] [--streams 3]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks.record import write

from foveate.data import read
from foveate.data.mocap15.motion import ACTIONS
from foveate.data.mocap15.render import render_clip
from foveate.data.mocap15.spec import FPS, ClipSpec, clip_specs
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.models.layers.memory import memory
from foveate.models.weights.load import load
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.videos import VideoClips

SECONDS, JOINED, RATE, SIDE = 600.0, 300.0, 5, 172
CLIP = 10  # frames of a training clip of these weights
MEMORIES = (
    "cumulative", "exponential:4", "exponential:7", "exponential:15", "exponential:50",
    "segments:2:5", "segments:5:10",
)  # fmt: skip
PROTOCOL = (
    "Top-1 of single frames. Rendered: streams of 600 s, 5 frames/s of 172 pixels, one camera and "
    "background each, mocap15 actions with idle gaps that do not count, no cuts, "
    "movinet-a0-stream-lite.actions15 (trained on clips of 10 frames); `window` begins the mean "
    "anew every 10 frames, as without a memory. fs4: 4 streams of 300 s, the test clips of a fold "
    "in random order, the kinetics-600 features with a linear layer trained on the other folds; "
    "`reset` begins anew at each clip. 95 % percentile bootstrap over streams (rendered) or "
    "sources (fs4)"
)


def long_spec(number: int, seconds: float, seed: int = 1, split: str = "test") -> ClipSpec:
    """A timeline that goes on, with the camera and actor of a clip of mocap15."""
    specs = [one for one in clip_specs(600, seed, "timeline", size=(230, SIDE))
             if one.split == split]  # fmt: skip
    parts, now = [], 0.0
    for one in specs[number:] + specs[:number]:
        parts += [replace(p, start=p.start + now, end=p.end + now) for p in one.parts]
        now = parts[-1].end
        if now >= seconds:
            break
    return replace(specs[number], parts=tuple(parts), frames=round(now * FPS))


def rendered(
    number: int, seconds: float, split: str = "test"
) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Frames (3, T, S, S) uint8 at `RATE`, and their classes, -1 in gaps."""
    spec = long_spec(number, seconds, split=split)
    every = FPS // RATE
    left = (spec.size[0] - SIDE) // 2
    frames = [
        frame[:, left : left + SIDE]
        for i, frame in enumerate(render_clip(spec).frames())
        if i % every == 0 and i < seconds * FPS
    ]
    truth = np.full(len(frames), -1)
    for part in spec.parts:
        if part.label is not None:
            first, last = (int(np.ceil(t * RATE)) for t in (part.start, part.end))
            truth[first:last] = ACTIONS.index(part.label)
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2), truth


def features_of(fast: Any, frames: torch.Tensor) -> torch.Tensor:
    """Features (T, C) of the frames (3, T, S, S) of one stream."""
    found, state = [], fast.initial_state(1, *frames.shape[2:])
    for piece in frames.split(10, 1):
        out, state = fast.step_features(piece[None].float() / 255, state)
        found.append(out[0])
    return torch.cat(found)


def means_of(features: torch.Tensor, name: str, starts: list[int]) -> torch.Tensor:
    """The mean that a memory holds after every frame (T, C), begun anew at the starts."""
    kept, found = memory(name), []
    for piece in features.tensor_split(starts):
        empty = kept.start(1, piece.shape[1], "cpu")
        found.append(kept.advance(piece[None], empty, torch.zeros(1, dtype=torch.int64))[0][0])
    return torch.cat(found)


def table(rows: dict[str, tuple[np.ndarray[Any, Any], list[Any]]]) -> dict[str, Any]:
    """Top-1 of frames with intervals over units, and every method against the first."""
    figures: dict[str, Any] = {}
    differences = []
    first = next(iter(rows))
    for name, (right, units) in rows.items():
        found = interval(metrics.mean(right), len(right), units)
        figures[name] = {
            "top1": found.value, "low": found.low, "high": found.high, "n": len(right),
            "units": found.units,
        }  # fmt: skip
        if name != first:
            against = compare(metrics.mean(right), metrics.mean(rows[first][0]), len(right), units)
            differences.append(against.sentence(name, first, "top1"))
    return {"rows": figures, "differences": differences}


def on_rendered(streams: int, seconds: float) -> dict[str, Any]:
    """The table of the rendered streams; also by the age of the stream."""
    loaded = load("movinet-a0-stream-lite.actions15")
    fast: Any = loaded.network.for_inference()  # type: ignore[operator]
    order = [loaded.labels.index(name) for name in ACTIONS]
    right: dict[str, list[Any]] = {}
    units: list[int] = []
    ages: list[Any] = []
    for number in range(streams):
        frames, truth = rendered(number, seconds)
        going, inside = features_of(fast, frames), truth >= 0
        means = {name: means_of(going, name, []) for name in MEMORIES}
        cuts = list(range(CLIP, len(truth), CLIP))
        means["window"] = means_of(going, "cumulative", cuts)
        for name, mean in means.items():
            answers = fast.classify(mean)[:, order].argmax(1).numpy()
            right.setdefault(name, []).append((answers == truth)[inside].astype(float))
        units += [number] * int(inside.sum())
        ages.append(np.flatnonzero(inside) / RATE)
        print(number, {name: round(float(rows[-1].mean()), 3) for name, rows in right.items()},
              flush=True)  # fmt: skip
    joined = {name: np.concatenate(rows) for name, rows in right.items()}
    age = np.concatenate(ages)
    found = table({name: (values, units) for name, values in joined.items()})
    edges = (0, 10, 60, 300, SECONDS)
    for name, values in joined.items():
        found["rows"][name]["by_age"] = {
            f"{low:g}-{high:g} s": float(values[(age >= low) & (age < high)].mean())
            for low, high in pairwise(edges)
        }
    return found


def on_fs4(folder: Path, seconds: float) -> dict[str, Any]:
    """The table of the joined clips of FS-4."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    dataset = read(folder)
    loaded = load("movinet-a0-stream-lite.k600")
    fast: Any = loaded.network.for_inference()  # type: ignore[operator]
    spec = replace(loaded.input, clip_frames=CLIP)
    source = VideoClips(dataset, batch=8, seed=0, workers=0)
    clips: dict[str, list[tuple[torch.Tensor, int, str]]] = {}
    for fold in dataset.splits:
        records = dataset.subset(fold).records
        batches = source(fold, False, spec, ProcessGroup())
        assert batches is not None
        for batch in batches.batches(0):
            rows = zip(batch["x"], batch["y"].tolist(), batch["index"].tolist(), strict=True)
            clips.setdefault(fold, []).extend(
                (x, y, str(records[index].group)) for x, y, index in rows
            )
    alone = {fold: [features_of(fast, x) for x, _, _ in rows] for fold, rows in clips.items()}
    right: dict[str, list[Any]] = {}
    units: list[str] = []
    for number, (fold, rows) in enumerate(clips.items()):
        others = [name for name in clips if name != fold]
        x = np.stack([one.mean(0).numpy() for name in others for one in alone[name]])
        y = np.array([label for name in others for _, label, _ in clips[name]])
        head = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000)).fit(x, y)
        random = np.random.default_rng(number)
        order: list[int] = []
        while len(order) * CLIP < seconds * RATE:
            order += random.permutation(len(rows)).tolist()
        order = order[: int(seconds * RATE) // CLIP]
        truth = np.repeat([rows[i][1] for i in order], CLIP)
        cuts = list(range(CLIP, len(truth), CLIP))
        frames = torch.cat([rows[i][0] for i in order], 1)
        going, anew = features_of(fast, frames), torch.cat([alone[fold][i] for i in order])
        means = {name: means_of(going, name, []) for name in MEMORIES}
        means |= {
            f"{name}, reset": means_of(anew, name, cuts)
            for name in ("cumulative", "exponential:7", "segments:2:5")
        }
        for name, mean in means.items():
            answers = head.predict(mean.numpy())
            right.setdefault(name, []).append((answers == truth).astype(float))
        units += [rows[i][2] for i in order for _ in range(CLIP)]
        print(fold, {name: round(float(r[-1].mean()), 3) for name, r in right.items()}, flush=True)
    return table({name: (np.concatenate(rows), units) for name, rows in right.items()})


def main() -> None:
    """Measure, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fs4", type=Path, help="folder of FS-4")
    parser.add_argument("--streams", type=int, default=3, help="rendered streams")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    figures = {}
    with torch.inference_mode():
        figures["rendered"] = on_rendered(options.streams, SECONDS)
        write("movinet_streams", PROTOCOL, options.streams, figures, (1,))
        if options.fs4 is not None:
            figures["fs4"] = on_fs4(options.fs4, JOINED)
            write("movinet_streams", PROTOCOL, options.streams, figures, (1,))
    for name, found in figures.items():
        print(name, found)


if __name__ == "__main__":
    main()
