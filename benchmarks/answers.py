"""What windows, calibration and a score for unknown footage are worth, on features computed once.

`windows` compares what can be done with the rest of a video that is shorter than a window: a window
of its own, one window for both, a full window that overlaps the one before, or no look at all.
FS-4; the frozen Kinetics-600 network sees every clip once per rule, and linear probes are trained
on its features (recipe and folds of `benchmarks/fights.py`).

Run: ``python -m benchmarks.answers windows FIGHT_SURV [--seeds 0 1 2]``; it writes
``results/answers_windows.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import write
from torch import Tensor, nn

from foveate.core import Evidence, FoveateError, Sample, Window
from foveate.data import Dataset, folds, read
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.pipeline.recogniser import Recogniser, load
from foveate.pipeline.reducers import ClassReducer, WindowScores, clip_scores
from foveate.policy.looks.frames import Uniform
from foveate.train.features import Head, compute, draw_view
from foveate.train.initial_model import build_initial_model
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.videos import VideoClips, prepare_of

NETWORK = "movinet-a0-stream-lite.k600"
FRAMES, RATE = 10, 5.0  # of a training clip, as in benchmarks/recipes/fights.yaml
SECONDS = FRAMES / RATE
RULES = ("own window", "joined", "overlapping", "not looked at")
WINDOWS_PROTOCOL = (
    "FS-4: 240 clips, 4 folds by source, linear probe on a frozen movinet-a0-stream-lite.k600 "
    f"(100 epochs), windows of {SECONDS:g} s; a rest shorter than a window is a window of its own, "
    "joins the window before it, is the end of a full window that overlaps the one before, or is "
    "not looked at; top-1 and expected calibration error (10 bins) of whole clips, mean over "
    "seeds; paired 95 % percentile bootstrap over sources; a clip contradicts itself if its "
    "windows have different labels"
)


@dataclass(frozen=True)
class Rest(Uniform):
    """Uniform frames with a rule for the rest of a video that is shorter than a window."""

    rule: str = "own window"

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        end = sample.info.duration
        if end is None or self.rule in ("own window", "not looked at") or end - start < 1e-3:
            return Window(start, start + seconds)
        if self.rule == "joined" and end - start < 2 * seconds:
            return Window(start, max(end, start + seconds))
        if self.rule == "overlapping" and start > 0 and end - start < seconds:
            return Window(max(0.0, end - seconds), end)
        return Window(start, start + seconds)


class Features(ClassReducer):
    """Keeps the pooled features of every window in place of scores."""

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
    """Windows with features (channels,) in place of scores, of every video; and multiply-adds."""
    recogniser: Recogniser = load(NETWORK, window=SECONDS, look=Rest(RATE, FRAMES, rule))
    recogniser.plan = replace(recogniser.plan, reducer=Features)
    found, macs = [], 0
    for session in recogniser.sessions(paths):
        if isinstance(session, FoveateError):
            raise session
        assert isinstance(session.reducer, Features)
        windows, end = session.reducer.windows, session.info.duration or np.inf
        if rule == "not looked at":
            windows = [w for w in windows if w.start == 0 or w.start + SECONDS <= end + 1e-3]
        found.append(windows)
        macs += session.ledger.cost().macs
    return found, macs


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


def probe(x: Tensor, y: Tensor, classes: Sequence[str], seed: int) -> Callable[[Tensor], Tensor]:
    """A linear probe (N, channels) → logits, trained on features (N, views, channels)."""
    torch.manual_seed(seed)
    network = build_initial_model(NETWORK, tuple(classes), {"dropout": 0.2}).model
    head = Head(network)
    batches, epochs = TensorBatches(x, y, 8, seed, 0, 1, draw_view), 100
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.01)
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


def windows(data: Path, seeds: Sequence[int]) -> None:
    """Compare the rules on FS-4 and write the result."""
    dataset = read(data)
    x, y = clip_features(dataset)
    paths = [record.path for record in dataset.records]
    groups = [record.group for record in dataset.records]
    seen, macs = {}, {}
    for rule in RULES:
        seen[rule], macs[rule] = window_features(paths, rule)
        print(f"{rule}: {sum(map(len, seen[rule]))} windows", flush=True)
    place = {record.path: at for at, record in enumerate(dataset.records)}
    shape = (len(seeds), len(paths))
    right = {rule: np.zeros(shape) for rule in RULES}
    scores = {rule: np.zeros((*shape, len(dataset.classes))) for rule in RULES}
    contradicted = {rule: np.zeros(shape) for rule in RULES}
    for fold in folds(dataset):
        inside = [place[r.path] for r in fold.dataset.subset("train").records]
        outside = [place[r.path] for r in fold.dataset.subset("test").records]
        for row, seed in enumerate(seeds):
            head = probe(x[inside], y[inside], dataset.classes, seed)
            for rule in RULES:
                for at in outside:
                    stack = torch.from_numpy(np.stack([w.scores for w in seen[rule][at]]))
                    softmax = head(stack).softmax(-1).numpy()
                    judged = [
                        WindowScores(w.start, w.end, s)
                        for w, s in zip(seen[rule][at], softmax, strict=True)
                    ]
                    mean = clip_scores(judged)
                    scores[rule][row, at] = mean
                    right[rule][row, at] = mean.argmax() == int(y[at])
                    contradicted[rule][row, at] = len(set(softmax.argmax(1).tolist())) > 1
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
            "windows": sum(map(len, seen[rule])),
            "gmac": macs[rule] / 1e9,
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
        metrics.mean(right["joined"].mean(0)), metrics.mean(right["overlapping"].mean(0)),
        count, groups,
    )  # fmt: skip
    figures["joined - overlapping, top1"] = [gain.difference, gain.low, gain.high]
    print(figures["joined - overlapping, top1"])
    write("answers_windows", WINDOWS_PROTOCOL, count, figures, tuple(seeds))


def main() -> None:
    """Run one of the comparisons from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["windows"])
    parser.add_argument("data", type=Path, help="the folder of FS-4 with clips.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    windows(options.data, options.seeds)


if __name__ == "__main__":
    main()
