"""Accuracy against multiply-adds of every look, zero-shot: trained on whole frames, shown patches.

All looks see the same clips, clip by clip in turn, through the whole pipeline; differences are
paired, with a 95 % bootstrap interval over groups (body and background on mocap15, the source on
FS-4). Settings are chosen on the validation split of mocap15 (`--variants`) and nowhere else.

Run::

    python -m benchmarks.motion_accuracy MOCAP15 RUN --size 104 [--split val --variants NAME...]
    python -m benchmarks.motion_accuracy FIGHT_SURV FOLDS --size 104

where RUN is a run folder of `foveate train`, or a built-in model, and FOLDS the folder that
`motion_folds.py` has filled.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import record
from benchmarks.fights import mean_over_folds
from benchmarks.motion_looks import Setting, entries, scores_of

import foveate
from foveate.core import Budget, Window
from foveate.core.config import apply_sets
from foveate.data import Dataset, Record, folds, read
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.pipeline.recogniser import Recogniser
from foveate.policy.motion.dominant import affine, affine_field

LOOKS = (
    "full", "resize", "centre", "random", "rwf-crop", "mocrop", "activation", "mv-patch",
    "motion-patch", "context", "detail", "oracle",
)  # fmt: skip
PAIR = ("detail", "context")  # two looks whose scores are averaged: a line of their own
VARIANTS: dict[str, dict[str, Any]] = {
    "as by default": {"extent": 0.5, "source": "auto"},
    "vectors of all pictures": {"pictures": "all"},
    "scale of the whole view": {"extent": None},
    "tube": {"track": "tube"},
    "segments": {"track": "segments"},
    "camera, extent .6": {"track": "camera", "extent": 0.6},
    "camera-online": {"track": "camera-online"},
    "one-euro": {"track": "one-euro"},
    "ema": {"track": "ema"},
    "viterbi": {"track": "viterbi"},
    "frame": {"track": "frame"},
    "residual": {"motion": "residual"},
    "residual, viterbi": {"motion": "residual", "track": "viterbi"},
    "flow": {"source": "flow"},
    "size to capture": {"extent": "auto"},
    "size to capture .7": {"extent": "auto", "enough": 0.7},
    "size to capture .85": {"extent": "auto", "enough": 0.85},
    "bodies": {"subject": "bodies"},
    "extent .7": {"extent": 0.7},
    "no gate": {"gate": 0.0},
    "gate .2": {"gate": 0.2},
    "gate .3": {"gate": 0.3},
    "flow, extent .4": {"source": "flow", "extent": 0.4},
    "flow, extent .45": {"source": "flow", "extent": 0.45},
    "flow, extent .5": {"source": "flow", "extent": 0.5},
    "flow, extent .55": {"source": "flow", "extent": 0.55},
    "flow, size to capture": {"source": "flow", "extent": "auto"},
    "flow, extent .45, size 80": {"source": "flow", "extent": 0.45, "size": 80},
}


@dataclass
class Answers:
    """What one look said and cost, clip by clip; of several seeds the mean."""

    right: list[float] = field(default_factory=list)
    scores: list[Any] = field(default_factory=list)
    macs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    decoding: list[float] = field(default_factory=list)
    choosing: list[float] = field(default_factory=list)
    fallback: list[float] = field(default_factory=list)
    holds: list[float] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def ask(
    recognisers: Sequence[Recogniser], clip: Record, count: int, truth: Any, into: Answers
) -> None:
    """Show one clip to one look; of several seeds the mean is kept."""
    rows = []
    for recogniser in recognisers:
        since = time.process_time()
        result = recogniser.predict(clip.path)
        seconds = time.process_time() - since
        spent = {stage.name: stage.seconds for stage in result.cost.stages}
        steps = result.trace.steps
        rows.append((
            float(result.labels[0].label == clip.labels[0]), result.cost.macs, seconds,
            spent.get("decode", 0.0), spent.get("policy", 0.0) + spent.get("motion", 0.0),
            float(np.mean([step.fallback for step in steps])), held(result, truth),
        ))  # fmt: skip
    means = np.mean(rows, 0)
    names = ("right", "macs", "seconds", "decoding", "choosing", "fallback", "holds")
    for name, value in zip(names, means, strict=True):
        getattr(into, name).append(float(value))
    into.scores.append(scores_of(result, count))
    into.sources.append(steps[0].modalities[-1].removeprefix("motion:"))


def held(result: Any, truth: Any) -> float:
    """Share of the frames looked at whose window holds the actor's box (4 px slack), or NaN."""
    if truth is None:
        return float("nan")
    width, height = result.trace.size
    side = min(width, height)
    square = [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2]
    found = []
    for step in result.trace.steps:
        for at, seconds in enumerate(step.frames):
            actor = truth[min(round(seconds * 25), len(truth) - 1)]
            if actor is None:
                continue
            x1, y1, x2, y2 = step.boxes[at] if step.boxes else square
            inside = x1 - 4 <= actor[0] and y1 - 4 <= actor[1]
            found.append(inside and actor[2] <= x2 + 4 and actor[3] <= y2 + 4)
    return float(np.mean(found)) if found else float("nan")


def actor_boxes(dataset: Dataset, clip: Record) -> Any:
    """The actor's box per frame where the data set was rendered, else None."""
    file = dataset.root / "truth" / f"{clip.path.stem}.json"
    return json.loads(file.read_text())["tracks"][0]["boxes"] if file.is_file() else None


def camera_of(path: Path) -> float:
    """Median speed of the dominant affine motion of a clip, in heights of the frame per second."""
    look = foveate.looks.MotionPatch()
    with foveate.Video(path) as video:
        window = Window(0.0, video.info.duration or 2.0)
        motion = video.motion(look.times(window, Budget()), "flow")
        field, valid = np.asarray(motion.field), np.asarray(motion.valid)
        height, width = valid.shape[-2:]
        theta = affine(field.reshape(-1, height, width, 2), valid.reshape(-1, height, width))
        camera = affine_field(theta, height, width)
        speed = np.median(np.linalg.norm(camera, axis=-1), (1, 2))
        return float(np.median(speed)) / video.info.height * (video.info.rate or 25)


@dataclass(frozen=True)
class Clips:
    """The clips of a table, each with the network that has not seen it."""

    dataset: Dataset
    records: list[Record]
    runs: list[str]
    folds: list[int] | None

    @property
    def groups(self) -> list[Any]:
        """What is resampled."""
        return [r.group or r.path for r in self.records]

    def strata(self) -> dict[str, Any]:
        """Camera regime → which clips: as recorded, or halves by the measured speed."""
        names = [r.tag("camera") for r in self.records]
        if all(names):
            return {name: np.array([n == name for n in names]) for name in sorted(set(names))}
        speed = np.array([camera_of(r.path) for r in self.records])
        middle = float(np.median(speed))
        return {
            f"camera below {middle:.4f} heights/s": speed < middle,
            f"camera above {middle:.4f} heights/s": speed >= middle,
        }

    def statistic(self, values: Sequence[float]) -> Any:
        """Mean over clips, or over folds the mean within."""
        array = np.asarray(values, float)
        return metrics.mean(array) if self.folds is None else mean_over_folds(array, self.folds)


def clips_of(data: Path, run: str, split: str, most: int | None) -> Clips:
    """Clips of a split, evenly thinned; of a data set in folds, all, with a run for each fold."""
    dataset = read(data)
    if split in dataset.splits:
        records, runs, turns = list(dataset.subset(split).records), None, None
    else:
        pairs = [
            (r, i) for i, f in enumerate(folds(dataset)) for r in f.dataset.subset("test").records
        ]
        names = [fold.name for fold in folds(dataset)]
        records, turns = [r for r, _ in pairs], [i for _, i in pairs]
        runs = [str(Path(run) / names[i]) for i in turns]
    if most is not None and most < len(records):
        kept = [i * len(records) // most for i in range(most)]
        records = [records[i] for i in kept]
        turns = None if turns is None else [turns[i] for i in kept]
        runs = None if runs is None else [runs[i] for i in kept]
    return Clips(dataset, records, runs or [run] * len(records), turns)


def measure(
    clips: Clips, setting: Setting, names: Sequence[str], variants: Mapping[str, Any] | None = None
) -> dict[str, Answers]:
    """All looks on all clips, in turn."""
    found: dict[str, Answers] = {}
    for run in dict.fromkeys(clips.runs):
        table = entries(run, clips.dataset, setting, names, variants)
        labels = next(iter(table.values()))[0].labels
        for clip, its_run in zip(clips.records, clips.runs, strict=True):
            if its_run != run:
                continue
            truth = actor_boxes(clips.dataset, clip)
            for name, recognisers in table.items():
                ask(recognisers, clip, len(labels), truth, found.setdefault(name, Answers()))
    if all(name in found for name in PAIR):
        found[" + ".join(PAIR)] = joined([found[name] for name in PAIR], clips, labels)
    return found


def joined(parts: Sequence[Answers], clips: Clips, labels: Sequence[str]) -> Answers:
    """The mean of several looks' scores; costs add up (decoding is counted for each)."""
    scores = list(np.mean([p.scores for p in parts], 0))
    pairs = zip(scores, clips.records, strict=True)
    total = {
        name: list(np.sum([getattr(p, name) for p in parts], 0))
        for name in ("macs", "seconds", "decoding", "choosing")
    }
    return Answers(
        [float(labels[int(s.argmax())] == r.labels[0]) for s, r in pairs], scores, **total,
        fallback=parts[0].fallback, holds=parts[0].holds, sources=parts[0].sources,
    )  # fmt: skip


def figures_of(found: Mapping[str, Answers], clips: Clips, hero: str) -> dict[str, Any]:
    """The lines of the table; `hero` is compared with each of the others."""
    count, groups, strata = len(clips.records), clips.groups, clips.strata()
    full = float(np.mean(found["full"].macs)) if "full" in found else float("nan")
    table: dict[str, Any] = {}
    for name, a in found.items():
        top1 = interval(clips.statistic(a.right), count, groups)
        row: dict[str, Any] = {
            "top1": round(top1.value, 4), "low": round(top1.low, 4), "high": round(top1.high, 4),
            "mmacs": round(float(np.mean(a.macs)) / 1e6, 1),
            "videos_per_cpu_second": round(count / sum(a.seconds), 2),
            "decode_ms": round(1e3 * float(np.mean(a.decoding)), 2),
            "selector_ms": round(1e3 * float(np.mean(a.choosing)), 2),
            "fallback": round(float(np.mean(a.fallback)), 3),
            "by_camera": {s: _share(np.array(a.right)[m]) for s, m in strata.items()},
            "motion_from": {s: a.sources.count(s) for s in sorted(set(a.sources))},
        }  # fmt: skip
        if full == full:
            row["share_of_full_macs"] = round(row["mmacs"] * 1e6 / full, 3)
        if not np.isnan(a.holds).all():
            row["holds_actor"] = round(float(np.nanmean(a.holds)), 3)
        if name != hero and hero in found:
            other = compare(
                clips.statistic(found[hero].right), clips.statistic(a.right), count, groups
            )
            row[f"{hero} less this"] = {
                "difference": round(other.difference, 4), "low": round(other.low, 4),
                "high": round(other.high, 4), "found": other.found,
            }  # fmt: skip
        table[name] = row
    return {"looks": table, "clips by camera": {s: int(m.sum()) for s, m in strata.items()}}


def _share(values: Any) -> float:
    return round(float(np.mean(values)), 3)


def printed(figures: Mapping[str, Any], hero: str) -> None:
    """The table for people."""
    for name, row in figures["looks"].items():
        less = row.get(f"{hero} less this")
        versus = "" if less is None else (
            f"  less {less['difference']:+.3f} [{less['low']:+.3f}, {less['high']:+.3f}]"
        )  # fmt: skip
        print(
            f"{name:20} {row['top1']:.3f} [{row['low']:.3f}, {row['high']:.3f}] "
            f"{row['mmacs']:8.1f} M {row.get('share_of_full_macs', 0):.3f} "
            f"{row['videos_per_cpu_second']:6.2f}/s fb {row['fallback']:.2f} "
            f"holds {row.get('holds_actor', float('nan')):.2f}{versus}",
            flush=True,
        )


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with clips.csv")
    parser.add_argument("run", help="run folder, model with weights, or folder of fold runs")
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, help="at most so many")
    parser.add_argument("--size", type=int, required=True, help="side shown to the network")
    parser.add_argument("--cells", type=int, default=7, help="the oracle's windows along a side")
    parser.add_argument("--glance", type=int, default=112)
    parser.add_argument("--looks", nargs="+", default=list(LOOKS), choices=LOOKS)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=[], metavar="NAME",
                        help="settings of the patch to try")  # fmt: skip
    parser.add_argument("--patch", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--about", default="", help="the network and its training, for the JSON")
    parser.add_argument("--name", help="write results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    patch = tuple(apply_sets({}, options.patch).items())
    setting = Setting(options.size, options.glance, options.cells, patch)
    clips = clips_of(options.data, options.run, options.split, options.clips)
    found = measure(clips, setting, options.looks, {v: VARIANTS[v] for v in options.variants})
    figures = figures_of(found, clips, "motion-patch")
    printed(figures, "motion-patch")
    if options.name:
        set_of = "FS-4, held-out fold" if clips.folds else f"mocap15 (rendered), {options.split}"
        protocol = (
            f"{set_of}; zero-shot: trained on whole frames, only the input changes. "
            f"{options.about}. Size {options.size}, patch {dict(patch) or 'as by default'}; top-1 "
            "of whole clips through the pipeline; 95 % percentile bootstrap over groups, paired; "
            "random: mean of five seeds; clips per second of process CPU, one thread; the "
            "glance of an activation window and the trials of an oracle are counted in their MACs"
        )
        seeds = tuple(range(5)) if "random" in found else ()
        record.write(options.name, protocol, len(clips.records), figures, seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
