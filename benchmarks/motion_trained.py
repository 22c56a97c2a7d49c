"""Crop-trained looks: a head trained and tested on what each look shows, over one frozen network.

Every clip is decoded once; the pooled features of its windows of time are computed for every look
and kept in memory; then one head per look and seed is trained on the features of the training clips
(all its layers behind the pooling, a fixed number of epochs, nothing chosen). Random windows are
trained on several draws and tested on others. The heads trained on whole frames are tested on every
look as well: the zero-shot regime on the same network.

Run: ``python -m benchmarks.motion_trained DATA --model movinet-a0-stream-lite.k600 --size 104``
with mocap15 or FS-4 (a data set in folds) as DATA.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import record
from benchmarks.motion_accuracy import Clips

import foveate
from foveate.core import Budget, Clip, View, ViewRequest, Window
from foveate.core.config import apply_sets
from foveate.data import Dataset, folds, read
from foveate.evaluate.bootstrap import compare, interval
from foveate.models import is_streaming, mixes_frames
from foveate.pipeline import fetch
from foveate.pipeline.executors import executor_for
from foveate.train.features import Head
from foveate.train.initial_model import build_initial_model

looks = foveate.looks
CPU = torch.device("cpu")
LEAST = 0.4  # seconds of video that make a window of its own
DRAWS = 4  # random windows per clip to train on, and as many others to test on
EPOCHS, BATCH, RATE, DECAY = 40, 32, 1e-3, 0.01
SHOWN = ("full", "resize", "random", "motion-patch")


@dataclass(frozen=True)
class Features:
    """Features of all windows of all clips under one look.

    Attributes:
        x: (N, C) pooled.
        clip: (N,) number of the clip that a window is of.
        weight: (N,) seconds of the window.
        macs: (clips,) of the network.
    """

    x: torch.Tensor
    clip: torch.Tensor
    weight: torch.Tensor
    macs: Any


class Extractor:
    """A frozen network behind several looks that share one decoding of a clip."""

    def __init__(
        self,
        model: str,
        classes: tuple[str, ...],
        size: int,
        patch: dict[str, Any],
        draws: int = DRAWS,
        view: int | None = None,
    ) -> None:
        start = build_initial_model(model, classes, {}, size=view)
        self.spec = spec = start.input
        network = start.model.eval()
        self.executor = executor_for(network, CPU, spec)
        context = looks.Context(spec, mixes_frames(network), is_streaming(network), model=model)
        # Random windows cover as much as the motion patch's.
        same = {k: v for k, v in patch.items() if k == "extent" and v != "auto"}
        many = [looks.RandomPatch(size=size, seed=s, **same) for s in range(2 * draws)]
        table: dict[str, list[Any]] = {
            "full": [None], "resize": [looks.Resize(size=size)], "random": many,
            "motion-patch": [looks.MotionPatch(**{"size": size, **patch})],
        }  # fmt: skip
        self.looks = {
            name: [x if x is None else x.fitted(context) for x in group]
            for name, group in table.items()
        }
        self.seconds = dict.fromkeys(table, 0.0)
        self._decoded: dict[Any, Clip] = {}

    def windows(self, path: Path) -> list[dict[str, Any]]:
        """Per window of time: its seconds, and look → (draws, C) features and multiply-adds."""
        found = []
        with foveate.Video(path) as video:
            end, start = video.info.duration or self.spec.clip_seconds, 0.0
            while start == 0.0 or end - start >= LEAST:
                window = Window(start, min(end, start + self.spec.clip_seconds))
                self._decoded.clear()
                row: dict[str, Any] = {"seconds": window.end - window.start}
                for name, group in self.looks.items():
                    since = time.process_time()
                    row[name] = [self._shown(video, window, look) for look in group]
                    self.seconds[name] += time.process_time() - since
                found.append(row)
                start += self.spec.clip_seconds
        return found

    def _shown(self, video: Any, window: Window, look: Any) -> tuple[torch.Tensor, int]:
        source, spec = (video.info.width, video.info.height), self.spec
        if look is None:
            even = looks.Uniform(spec.frames_per_second, chunk=10_000)
            selection, _ = even.next(video, window, None, None, Budget())
            request = selection.views["rgb"]
        else:
            plan = look.plan(video, window, Budget())
            request = ViewRequest(plan.times, boxes=plan.boxes, size=look.size)
        key = request.times, fetch.decode_size_for(source, spec, request)
        if key not in self._decoded:
            self._decoded[key] = video.frames(*key)
        clip = self._decoded[key]
        if request.boxes is not None:
            pixels = fetch.cut_out(clip, source, spec, request)
        else:
            pixels = fetch.crop(clip.pixels, spec, request.size)
        views = {"rgb": View(pixels[None], clip.times, np.ones(1, bool))}
        states, _ = self.executor.run("network", [views], [None])
        _, found = self.executor.run("head", [{}], states)
        macs = self.executor.cost("network", views, None)
        macs += self.executor.cost("head", {}, states[0])
        return torch.from_numpy(found[0].features[0]), macs


def extract(extractor: Extractor, clips: Sequence[Any]) -> dict[str, list[Features]]:
    """Features of clips under every look, one entry per draw."""
    rows = [(i, row) for i, clip in enumerate(clips) for row in extractor.windows(clip.path)]
    at = torch.tensor([i for i, _ in rows])
    weight = torch.tensor([row["seconds"] for _, row in rows])
    found = {}
    for name, group in extractor.looks.items():
        found[name] = [
            Features(
                torch.stack([row[name][d][0] for _, row in rows]), at, weight,
                np.bincount(at.numpy(), [row[name][d][1] for _, row in rows]),
            )
            for d in range(len(group))
        ]  # fmt: skip
    return found


def trained_head(
    model: str, classes: tuple[str, ...], x: torch.Tensor, y: torch.Tensor, seed: int
) -> Head:
    """A head trained on features (N, C) and classes (N,); the seed decides its start and order."""
    torch.manual_seed(seed)
    head = Head(build_initial_model(model, classes, {}).model).train()
    optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(head(x[rows]), y[rows], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.eval()


@torch.no_grad()
def right_of(head: Head, part: Features, clips: Any, truth: torch.Tensor) -> Any:
    """(len(clips),) whether the head is right about those clips: mean over windows by seconds."""
    scores = head(part.x).softmax(-1) * part.weight.unsqueeze(1)
    total = torch.zeros(len(truth), scores.shape[1]).index_add_(0, part.clip, scores)
    return (total.argmax(1) == truth)[torch.from_numpy(clips)].double().numpy()


def thinned(dataset: Dataset, most: int | None) -> Dataset:
    """At most so many clips of every split, evenly chosen of every class."""
    if most is None:
        return dataset
    kept: list[Any] = []
    for split in dataset.splits:
        rows = sorted(dataset.subset(split).records, key=lambda r: (r.path.stem, r.labels))
        count = min(most, len(rows))
        kept += [rows[i * len(rows) // count] for i in range(count)]
    return replace(dataset, records=tuple(kept))


def turns_of(dataset: Dataset) -> tuple[list[Any], list[tuple[Any, Any]], list[int] | None]:
    """The clips, (training, test) places for each turn, and the fold of each clip."""
    if "test" in dataset.splits:
        clips = [r for r in dataset.records if r.split in ("train", "test")]
        places = {
            s: np.array([i for i, r in enumerate(clips) if r.split == s]) for s in ("train", "test")
        }
        return clips, [(places["train"], places["test"])], None
    clips, turns = list(dataset.records), []
    fold_of = [0] * len(clips)
    for number, fold in enumerate(folds(dataset)):
        held = {r.path for r in fold.dataset.subset("test").records}
        out = np.array([r.path in held for r in clips])
        turns.append((np.flatnonzero(~out), np.flatnonzero(out)))
        for place in np.flatnonzero(out):
            fold_of[place] = number
    return clips, turns, fold_of


def answers_of(
    dataset: Dataset, extractor: Extractor, model: str, seeds: Sequence[int]
) -> tuple[Clips, dict[str, Any], dict[str, float]]:
    """The tested clips, line → (seeds, clips) right or wrong, and multiply-adds per look."""
    clips, turns, fold_of = turns_of(dataset)
    found = extract(extractor, clips)
    truth = torch.tensor([dataset.indices(r)[0] for r in clips])
    right: dict[str, Any] = {}
    for train, test in turns:
        inside = torch.zeros(len(clips), dtype=torch.bool)
        inside[torch.from_numpy(train)] = True
        for name in SHOWN:
            parts = found[name]
            learnt = parts if len(parts) == 1 else parts[len(parts) // 2 :]
            rows = [inside[p.clip] for p in learnt]
            x = torch.cat([p.x[r] for p, r in zip(learnt, rows, strict=True)])
            y = torch.cat([truth[p.clip[r]] for p, r in zip(learnt, rows, strict=True)])
            for row, seed in enumerate(seeds):
                head = trained_head(model, tuple(dataset.classes), x, y, seed)
                shown = SHOWN if name == "full" else (name,)
                for other in shown:
                    line = other if other == name else f"{other}, trained on full"
                    held = right.setdefault(line, np.zeros((len(seeds), len(clips))))
                    tested = found[other][: max(1, len(found[other]) // 2)]
                    held[row, test] = np.mean(
                        [right_of(head, part, test, truth) for part in tested], 0
                    )
    tested = np.sort(np.concatenate([test for _, test in turns]))
    turn_of = None if fold_of is None else [fold_of[i] for i in tested]
    kept = Clips(dataset, [clips[i] for i in tested], [model] * len(tested), turn_of)
    macs = {n: float(np.mean([p.macs[tested].mean() for p in ps])) for n, ps in found.items()}
    return kept, {line: values[:, tested] for line, values in right.items()}, macs


def figures_of(clips: Clips, right: dict[str, Any], macs: dict[str, float]) -> dict[str, Any]:
    """The table: accuracy with interval, by seed and camera, and what the motion patch gains."""
    strata, count = clips.strata(), len(clips.records)
    hero = clips.statistic(right["motion-patch"].mean(0))
    table: dict[str, Any] = {}
    for name, values in right.items():
        mean = values.mean(0)
        top1 = interval(clips.statistic(mean), count, clips.groups)
        seen = macs[name.partition(",")[0]]
        table[name] = {
            "top1": round(top1.value, 4), "low": round(top1.low, 4), "high": round(top1.high, 4),
            "by_seed": [round(float(row.mean()), 4) for row in values],
            "mmacs": round(seen / 1e6, 1), "share_of_full_macs": round(seen / macs["full"], 3),
            "by_camera": {s: round(float(mean[m].mean()), 3) for s, m in strata.items()},
        }  # fmt: skip
        if name != "motion-patch":
            other = compare(hero, clips.statistic(mean), count, clips.groups)
            table[name]["motion-patch less this"] = {
                "difference": round(other.difference, 4), "low": round(other.low, 4),
                "high": round(other.high, 4), "found": other.found,
            }  # fmt: skip
    return {"looks": table, "clips by camera": {s: int(m.sum()) for s, m in strata.items()}}


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with clips.csv")
    parser.add_argument("--model", required=True, help="network whose backbone is frozen")
    parser.add_argument("--size", type=int, required=True, help="side shown to the network")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--draws", type=int, default=DRAWS, help="random windows per clip")
    parser.add_argument("--patch", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--view", type=int, help="side of the whole view; the model's if not given")
    parser.add_argument("--clips", type=int, help="at most so many of every split")
    parser.add_argument("--name", help="write results/NAME.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = thinned(read(options.data), options.clips)
    patch = apply_sets({}, options.patch)
    classes, draws = tuple(dataset.classes), options.draws
    extractor = Extractor(options.model, classes, options.size, patch, draws, options.view)
    clips, right, macs = answers_of(dataset, extractor, options.model, options.seeds)
    figures = figures_of(clips, right, macs)
    for name, row in figures["looks"].items():
        print(name, row, flush=True)
    if options.name:
        set_of = "FS-4" if clips.folds else "mocap15 (rendered), trained on train, tested on test"
        side = extractor.spec.size
        some = "" if options.clips is None else f", {options.clips} clips of every split"
        protocol = (
            f"{set_of}{some}; {options.model} with a frozen backbone, whole view of {side}; a "
            f"head per look, {EPOCHS} epochs, nothing chosen; size {options.size}, patch "
            f"{patch or 'as by default'}; random: trained on {draws} draws, tested on as many "
            "others; mean over seeds; mean over windows of a clip; 95 % percentile bootstrap over "
            "groups, paired"
        )
        record.write(options.name, protocol, len(clips.records), figures, tuple(options.seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
