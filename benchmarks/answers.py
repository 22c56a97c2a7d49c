"""What windows, calibration and a score for unknown footage are worth, on features computed once.

`windows` compares what can be done with the rest of a video that is shorter than a window: a window
of its own, one window for both, a full window that overlaps the one before, or no look at all.
FS-4; the frozen Kinetics-600 network sees every clip once per rule, and linear probes are trained
on its features (folds of `benchmarks/fights.py`).

`unknown` measures how well scores of features and logits tell clips of the classes from other
footage, and how often the fitted limit is wrong about each: FS-4 against sign clips and rendered
ones, and mocap15 with classes left out.

    foveate data make mocap15 data/mocap15 --clips 900 --seed 1
    python -m benchmarks.answers windows FIGHT_SURV [--seeds 0 1 2]
    python -m benchmarks.answers unknown FIGHT_SURV --mocap15 data/mocap15 --samples SAMPLES

They write ``results/answers_windows.json`` and ``results/answers_unknown.json``; ``--cache FOLDER``
keeps features for another run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import write
from torch import Tensor, nn

from foveate.core import Evidence, FoveateError, Sample, Window
from foveate.data import Dataset, folds, read, split
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.pipeline.loading import load
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.reducers import ClassReducer, WindowScores, clip_scores, joined
from foveate.policy.looks.frames import Uniform
from foveate.policy.unknown import Familiar, fit_familiar
from foveate.train.features import Head, compute, draw_view
from foveate.train.initial_model import build_initial_model
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.unknown import generated
from foveate.train.videos import VideoClips, prepare_of

NETWORK = "movinet-a0-stream-lite.k600"
FRAMES, RATE = 10, 5.0  # of a training clip, as in benchmarks/recipes/fights.yaml
SECONDS = FRAMES / RATE
PROBE = "100 epochs, batch 32, learning rate 3e-3"
RULES = ("own window", "mean of both", "one window", "overlapping", "not looked at")
WINDOWS_PROTOCOL = (
    "FS-4: 240 clips, 4 folds by source, linear probe on a frozen movinet-a0-stream-lite.k600 "
    f"({PROBE}), windows of {SECONDS:g} s; a rest shorter than a window is a window of its own, "
    "has the mean of its scores and those of the window before it (weighted by seconds), is seen "
    "as one window with it, is the end of a full window that overlaps it, or is not looked at; "
    "top-1 and expected calibration error (10 bins) of whole clips, "
    "mean over seeds; paired 95 % percentile bootstrap over sources; a clip contradicts itself if "
    "its windows have different labels"
)

UNKNOWN_PROTOCOL = (
    "linear probes on a frozen movinet-a0-stream-lite.k600 "
    f"({PROBE}), clips of {SECONDS:g} s from the middle. FS-4: 4 folds by source, a fifth of the "
    "training clips (whole sources) for the threshold. mocap15 (900 rendered clips, seed 1; first "
    "200 training, 90 validation, 150 test clips): five of the fifteen classes left out in each of "
    "three turns, threshold on validation clips of the ten others. Generated clips: 32 of "
    "moving noise. Other clips: "
    "three sign clips, the other data set, the classes left out. One seed; areas are means over "
    "turns; 95 % percentile bootstrap over groups of test clips and over other clips"
)


@dataclass(frozen=True)
class Rest(Uniform):
    """Uniform frames with a rule for the rest of a video that is shorter than a window."""

    rule: str = "own window"

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        end = sample.info.duration
        if end is None or self.rule == "own window" or end - start < 1e-3:
            return Window(start, start + seconds)
        if self.rule == "one window" and end - start < 2 * seconds:
            return Window(start, max(end, start + seconds))
        if self.rule == "overlapping" and start > 0 and end - start < seconds:
            return Window(max(0.0, end - seconds), end)
        return Window(start, start + seconds)


class Features(ClassReducer):
    """Keeps the pooled features of every window in place of scores, and whether it would join."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.joins: list[bool] = []

    def close(self, start: float, end: float, joins: bool = False) -> None:
        super().close(start, end)
        self.joins.append(joins)

    def take(self, evidence: Evidence) -> None:
        if evidence.features is not None:
            self.current = (
                np.asarray(evidence.features, np.float32)
                .reshape(-1, evidence.features.shape[-1])
                .mean(0)
            )


def window_features(
    paths: Sequence[Any], rule: str = "own window"
) -> tuple[list[list[WindowScores]], int]:
    """Windows of every video with features (channels,) in place of scores; what they cost.

    Returns:
        The windows, and multiply-adds. The exit of a window that the package joins to the one
        before it is `joins`.
    """
    recogniser: Recogniser = load(NETWORK, window=SECONDS, look=Rest(RATE, FRAMES, rule))
    recogniser.plan = replace(recogniser.plan, reducer=Features)
    found, macs = [], 0
    for session in recogniser.sessions(paths):
        if isinstance(session, FoveateError):
            raise session
        assert isinstance(session.reducer, Features)
        rows = zip(session.reducer.windows, session.reducer.joins, strict=True)
        found.append([replace(w, exit="joins" if joins else None) for w, joins in rows])
        macs += session.ledger.cost().macs
    return found, macs


def whole_windows(windows: list[WindowScores]) -> list[WindowScores]:
    """Without a last window that was cut short."""
    whole = [w for w in windows if w.end - w.start >= SECONDS - 1 / RATE]
    return whole or windows


def kept(cache: Path | None, name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, or gave in an earlier run."""
    file = None if cache is None else cache / f"{name}.pt"
    if file is not None and file.is_file():
        return torch.load(file, weights_only=False)
    found = make()
    if file is not None:
        torch.save(found, file)
    return found


def clip_features(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Features (N, 2, channels) of the middle of every clip and of its mirror image; classes."""
    start = build_initial_model(NETWORK, tuple(dataset.classes), {}, frames=FRAMES, rate=RATE)
    whole = replace(dataset, records=tuple(replace(r, split="train") for r in dataset.records))
    clips = VideoClips(whole, batch=8, seed=0, workers=0)
    batches = clips("train", False, start.input, ProcessGroup())
    assert batches is not None
    prepare = prepare_of(start.input, torch.device("cpu"))
    found = compute(start.model, batches, prepare, mirror=True)
    order = found.index.argsort()
    return found.x[order], found.y[order]


@torch.no_grad()
def noise_features() -> Tensor:
    """Features (N, channels) of the generated clips that show none of the classes."""
    start = build_initial_model(NETWORK, ("a", "b"), {}, frames=FRAMES, rate=RATE)
    prepare, network = prepare_of(start.input, torch.device("cpu")), start.model.eval()
    features: Any = network.features
    return torch.cat([features(prepare(x)).mean(1) for x in generated(start.input)])


def probe(x: Tensor, y: Tensor, classes: Sequence[str], seed: int) -> Callable[[Tensor], Tensor]:
    """A linear probe (N, channels) → logits, trained on features (N, views, channels)."""
    torch.manual_seed(seed)
    network = build_initial_model(NETWORK, tuple(classes), {"dropout": 0.2}).model
    head = Head(network)
    batches, epochs = TensorBatches(x, y, 32, seed, 0, 1, draw_view), 100
    optimizer = torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(batches))
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    head.train()
    for epoch in range(epochs):
        for batch in batches.batches(epoch):
            optimizer.zero_grad()
            loss(head(batch["x"]), batch["y"]).backward()
            optimizer.step()
            schedule.step()
    head.eval()
    return lambda features: head(features).detach()


def windows(data: Path, seeds: Sequence[int], cache: Path | None) -> None:
    """Compare the rules on FS-4 and write the result."""
    dataset = read(data)
    x, y = kept(cache, "clips", lambda: clip_features(dataset))
    paths = [record.path for record in dataset.records]
    groups = [record.group for record in dataset.records]
    seen, macs = {}, {}
    for rule in ("own window", "one window", "overlapping"):
        seen[rule], macs[rule] = kept(cache, rule, partial(window_features, paths, rule))
        print(f"{rule}: {sum(map(len, seen[rule]))} windows", flush=True)
    seen["mean of both"], macs["mean of both"] = seen["own window"], macs["own window"]
    seen["not looked at"] = [whole_windows(found) for found in seen["own window"]]
    place = {record.path: at for at, record in enumerate(dataset.records)}
    shape = (len(seeds), len(paths))
    right = {rule: np.zeros(shape) for rule in RULES}
    scores = {rule: np.zeros((*shape, len(dataset.classes))) for rule in RULES}
    contradicted = {rule: np.zeros(shape) for rule in RULES}
    windows_of = {rule: np.zeros(len(paths), int) for rule in RULES}
    for fold in folds(dataset):
        inside = [place[r.path] for r in fold.dataset.subset("train").records]
        outside = [place[r.path] for r in fold.dataset.subset("test").records]
        for row, seed in enumerate(seeds):
            print(f"fold {fold.name} seed {seed}", flush=True)
            head = probe(x[inside], y[inside], dataset.classes, seed)
            for rule in RULES:
                for at in outside:
                    stack = torch.from_numpy(np.stack([w.scores for w in seen[rule][at]]))
                    softmax = head(stack).softmax(-1).numpy()
                    judged: list[WindowScores] = []
                    for w, s in zip(seen[rule][at], softmax, strict=True):
                        window = WindowScores(w.start, w.end, s)
                        if rule == "mean of both" and w.exit == "joins":
                            window = joined(judged.pop(), window)
                        judged.append(window)
                    mean = clip_scores(judged)
                    scores[rule][row, at] = mean
                    right[rule][row, at] = mean.argmax() == int(y[at])
                    labels = {int(w.scores.argmax()) for w in judged}
                    contradicted[rule][row, at] = len(labels) > 1
                    windows_of[rule][at] = len(judged)
    truth = y.numpy()

    def calibration(rule: str) -> Any:
        each = [
            metrics.calibration_error(s.max(1), (s.argmax(1) == truth).astype(float), 10)
            for s in scores[rule]
        ]
        return lambda weights: np.mean([one(weights) for one in each], 0)

    figures: dict[str, Any] = {}
    count = len(paths)
    for rule in RULES:
        accuracy = metrics.mean(right[rule].mean(0))
        found, error = interval(accuracy, count, groups), interval(calibration(rule), count, groups)
        figures[rule] = {
            "top1": [found.value, found.low, found.high],
            "calibration_error": [error.value, error.low, error.high],
            "contradictions": float(contradicted[rule].mean() * count),
            "windows": int(windows_of[rule].sum()),
            "gmac": macs[rule] / 1e9 if rule in macs else None,
        }
        if rule != RULES[0]:
            for name, measure in (
                ("top1", lambda rule: metrics.mean(right[rule].mean(0))),
                ("calibration_error", calibration),
            ):
                gain = compare(measure(rule), measure(RULES[0]), count, groups)
                figures[rule][f"{name} - own window"] = [gain.difference, gain.low, gain.high]
        print(rule, figures[rule], flush=True)
    gain = compare(
        metrics.mean(right["mean of both"].mean(0)), metrics.mean(right["overlapping"].mean(0)),
        count, groups,
    )  # fmt: skip
    figures["mean of both - overlapping, top1"] = [gain.difference, gain.low, gain.high]
    write("answers_windows", WINDOWS_PROTOCOL, count, figures, tuple(seeds))


# Of features (N, channels) and logits (N, classes): higher for clips of the classes.
SCORES: dict[str, Callable[[Familiar, Any, Tensor], Any]] = {
    "feature distance": lambda familiar, x, logits: -familiar.distance(x),
    "energy": lambda familiar, x, logits: logits.logsumexp(-1).numpy(),
    "maximum logit": lambda familiar, x, logits: logits.max(-1).values.numpy(),
    "maximum probability": lambda familiar, x, logits: logits.softmax(-1).max(-1).values.numpy(),
}


@dataclass
class Turns:
    """What models made of clips of their classes and of other clips, turn after turn.

    Attributes:
        groups: Of the test clips, all turns together.
        known: Score → scores of the test clips, one array per turn.
        outside: Set → score → scores of its clips, one array per turn.
        alarms: Whether the test clips are called unknown, one array per turn; by threshold.
        found: Set → whether its clips are, likewise.
    """

    groups: list[str]
    known: dict[str, list[Any]]
    outside: dict[str, dict[str, list[Any]]]
    alarms: dict[str, list[Any]]
    found: dict[str, dict[str, list[Any]]]


def judge(
    turns: Turns, head: Callable[[Tensor], Tensor], sets: dict[str, Tensor], groups: list[str]
) -> None:
    """One turn: scores and verdicts of a probe.

    Args:
        turns: Is filled.
        head: Features to logits.
        sets: Features (N, channels) of `train`, `val` and `generated`, of the `test` clips, and of
            others.
        groups: Of the test clips.
    """
    train, val, noise = (sets[name].numpy() for name in ("train", "val", "generated"))
    limits = {
        "validation and generated clips": fit_familiar(train, val, noise),
        "validation clips alone": fit_familiar(train, val, noise[:0]),
    }
    familiar = limits["validation clips alone"]
    assert familiar is not None
    turns.groups += groups
    for other in sets.keys() - {"train", "val"}:
        x, logits = sets[other].numpy(), head(sets[other])
        scored = turns.known if other == "test" else turns.outside.setdefault(other, {})
        called = turns.alarms if other == "test" else turns.found.setdefault(other, {})
        for score, measure in SCORES.items():
            scored.setdefault(score, []).append(measure(familiar, x, logits))
        for name, found in limits.items():
            row = np.zeros(len(x)) if found is None else found.distance(x) > found.limit
            called.setdefault(name, []).append(row.astype(float))


def summed_up(turns: Turns) -> dict[str, Any]:
    """Areas under the ROC curve, false alarms and what was found, with intervals."""
    figures: dict[str, Any] = {}
    count = len(turns.groups)
    for name, rows in turns.alarms.items():
        share = interval(metrics.mean(np.concatenate(rows)), count, turns.groups)
        figures[f"false alarms, {name}"] = [share.value, share.low, share.high]
    figures["test clips"] = count
    for other, scores in turns.outside.items():
        figures[other] = {"clips in each turn": [len(r) for r in next(iter(scores.values()))]}
        for score, rows in scores.items():
            area = _roc_interval(turns.known[score], rows, turns.groups)
            figures[other][f"ROC area, {score}"] = area
        for name, verdicts in turns.found[other].items():
            figures[other][f"called unknown, {name}"] = float(np.concatenate(verdicts).mean())
    return figures


def _roc_interval(known: list[Any], others: list[Any], groups: list[str]) -> list[float]:
    """Mean over turns of the area, its interval over groups of test clips and over other clips."""
    sizes = np.cumsum([0, *map(len, known), *map(len, others)])

    def statistic(weights: Any) -> Any:
        areas = []
        for at, (x, y) in enumerate(zip(known, others, strict=True)):
            wins = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
            other = at + len(known)
            w = weights[:, sizes[at] : sizes[at + 1]]
            v = weights[:, sizes[other] : sizes[other + 1]]
            areas.append(metrics.ratio(((w @ wins) * v).sum(1), w.sum(1) * v.sum(1)))
        return np.nanmean(areas, 0)

    units = [f"test {group}" for group in groups]
    units += [f"other {at}" for row in others for at in range(len(row))]
    found = interval(statistic, int(sizes[-1]), units)
    return [found.value, found.low, found.high]


def unknown(data: Path, mocap: Path, samples: Path, seed: int, cache: Path | None) -> None:
    """Measure the score for unknown footage on FS-4 and on mocap15, and write the result."""
    fights = read(data)
    rendered = first_of(read(mocap), {"train": 200, "val": 90, "test": 150})
    x, y = kept(cache, "clips", lambda: clip_features(fights))
    noise = kept(cache, "noise", noise_features)
    mocap_x, mocap_y = kept(cache, "mocap", lambda: clip_features(rendered))
    signs = sorted(samples.glob("sign_*"))
    seen, _ = kept(cache, "signs", lambda: window_features(signs))
    sign_x = torch.from_numpy(np.stack([w.scores for one in seen for w in one]))
    split_of = np.array([r.split for r in rendered.records])
    figures: dict[str, Any] = {}

    turns = Turns([], {}, {}, {}, {})
    place = {record.path: at for at, record in enumerate(fights.records)}
    for fold in folds(fights):
        shares = {"train": 0.8, "val": 0.2}
        dealt = split(fold.dataset.subset("train"), shares, seed)
        at = {
            name: [place[r.path] for r in dealt.subset(name).records] for name in ("train", "val")
        }
        test = fold.dataset.subset("test").records
        inside = [place[r.path] for r in test]
        head = probe(x[at["train"]], y[at["train"]], fights.classes, seed)
        sets = {
            "train": x[at["train"]].flatten(0, 1), "val": x[at["val"], 0], "generated": noise,
            "test": x[inside, 0], "sign clips": sign_x, "mocap15": mocap_x[split_of == "test", 0],
        }  # fmt: skip
        judge(turns, head, sets, [str(r.group) for r in test])
        print(f"fold {fold.name}", flush=True)
    figures["FS-4"] = summed_up(turns)

    turns = Turns([], {}, {}, {}, {})
    classes = len(rendered.classes)
    for turn in range(3):
        left_out = torch.arange(classes) % 3 == turn
        inner = torch.full((classes,), -1)
        inner[~left_out] = torch.arange(int((~left_out).sum()))
        label, out = inner[mocap_y], left_out[mocap_y]
        part = {n: torch.from_numpy(split_of == n) for n in ("train", "val", "test")}
        train, test = part["train"] & ~out, part["test"] & ~out
        names = [c for c, o in zip(rendered.classes, left_out, strict=True) if not o]
        head = probe(mocap_x[train], label[train], names, seed)
        sets = {
            "train": mocap_x[train].flatten(0, 1), "val": mocap_x[part["val"] & ~out, 0],
            "generated": noise, "test": mocap_x[test, 0],
            "classes left out": mocap_x[part["test"] & out, 0],
            "FS-4": x[:, 0], "sign clips": sign_x,
        }  # fmt: skip
        records = [rendered.records[n] for n in test.nonzero()[:, 0].tolist()]
        right = (head(sets["test"]).argmax(1) == label[test]).float().mean()
        print(f"turn {turn}: top-1 {right:.3f}", flush=True)
        judge(turns, head, sets, [str(r.group or r.path) for r in records])
    figures["mocap15"] = summed_up(turns)
    for name, values in figures.items():
        print(name, values, flush=True)
    write("answers_unknown", UNKNOWN_PROTOCOL, len(x) + len(mocap_x), figures, (seed,))


def first_of(dataset: Dataset, most: dict[str, int]) -> Dataset:
    """The first clips of each split."""
    records = [r for name, n in most.items() for r in dataset.subset(name).records[:n]]
    return replace(dataset, records=tuple(records))


def main() -> None:
    """Run one of the comparisons from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["windows", "unknown"])
    parser.add_argument("data", type=Path, help="the folder of FS-4 with clips.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--mocap15", type=Path, help="the folder of mocap15, for unknown")
    parser.add_argument("--samples", type=Path, help="the folder of the sign clips, for unknown")
    parser.add_argument("--cache", type=Path, help="keep features in this folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if options.what == "windows":
        windows(options.data, options.seeds, options.cache)
    else:
        unknown(options.data, options.mocap15, options.samples, options.seeds[0], options.cache)


if __name__ == "__main__":
    main()
