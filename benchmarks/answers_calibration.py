"""A cascade calibrated on few clips: the first exit's errors, accuracy, cost and calibration.

Cascades of FS-4 (one per fold, trained here unless the folder has them) are calibrated again and
again on a few of their calibration clips: with fusion, temperatures and threshold as the clips
alone suggest, and with priors, cross-fitting and an upper bound of the answers that are spoiled, as
the package does it. Both are applied to the same test clips.

    foveate data transcode FIGHT_SURV fights12 --gop 12 --codec h264 --size 340x256
    cp FIGHT_SURV/clips.csv fights12
    python -m benchmarks.answers_calibration fights12 --runs RUNS [--folds 0 1 2 3]

It writes ``results/answers_calibration.json``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import write
from torch import Tensor

from foveate.data import Fold, folds, read
from foveate.data.compressed import Reading
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.models.weights.run import load_run
from foveate.policy.fuse import Wise, cross_fitted
from foveate.policy.operating import decided, default_point, least_sure, operating_points
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.recipe import run_recipe
from foveate.train.recipes.compressed import recipe as compressed
from foveate.train.recipes.compressed.clips import keep_all
from foveate.train.recipes.compressed.config import CALIBRATION, CompressedConfig
from foveate.train.recipes.compressed.heads import views_of

LITE0 = "efficientnet_lite0.imagenet_lite0"
FEW, SEEDS = (11, 22, None), 20
WAYS = ("before", "now")


@dataclass(frozen=True)
class Exits:
    """Logits (N, exits, classes) of all exits of a cascade, labels and groups, of two splits."""

    names: list[str]
    macs: list[float]
    calibration: tuple[Tensor, Tensor, list[str]]
    test: tuple[Tensor, Tensor, list[str]]


def settings(cache: Path) -> CompressedConfig:
    """A short training: the exits are to be calibrated, not to be good."""
    return CompressedConfig(
        iframe=LITE0, mv=LITE0, residual=LITE0, size=96, epochs=3, iframe_epochs=3, lr=1e-3,
        head_epochs=12, calibration=0.25, cache=str(cache), timed=4,
    )  # fmt: skip


def exits_of(fold: Fold, runs: Path) -> Exits:
    """Train the cascade of a fold, unless its run is there, and run all of its exits."""
    run, config = runs / f"fold{fold.name}", settings(runs / "cache")
    file = run / "exits.pt"
    if file.is_file():
        return Exits(**torch.load(file, weights_only=False))
    if not (run / "run.json").is_file():
        run_recipe(compressed.RECIPE, config, fold.dataset, run, on_progress=lambda event: None)
    loaded = load_run(run)
    assert loaded.card is not None
    order = loaded.card.calibration["orders"]["measured"]
    clips = compressed.read_clips(config, fold.dataset, run)
    how = Reading(round(config.size * 8 / 7), config.groups, config.places)
    test = keep_all(fold.dataset.subset("test"), runs / "cache", how)
    names = order["wise"]["exits"]
    parts = []
    for kept in (clips.kept[CALIBRATION], test):
        found: dict[str, Tensor] = {}
        for modality, network in loaded.networks.items():
            spec = load_run(run / "networks" / modality).input
            views: Any = views_of(config, loaded.labels, kept, modality, spec)  # type: ignore[arg-type]
            with torch.no_grad():
                rows = [network(x) for x, _ in views]
            for name in rows[0]:
                found[f"{modality}.{name}"] = torch.cat([row[name] for row in rows])
        groups = [str(record.group) for _, record in kept.clips]
        parts.append((torch.stack([found[name] for name in names], 1), kept.labels, groups))
    macs = list(itertools.accumulate(float(loaded.card.calibration["macs"][n]) for n in names))
    values = {"names": names, "macs": macs, "calibration": parts[0], "test": parts[1]}
    torch.save(values, file)
    return Exits(**values)


def calibrated(way: str, exits: Exits, chosen: Tensor) -> tuple[Wise, float]:
    """Fusion and default threshold from the chosen calibration clips."""
    logits, labels, groups = exits.calibration
    logits, labels = logits[chosen], labels[chosen]
    free = [0.0] * len(exits.names)
    if way == "before":  # the point estimates of clips that the fusion was fitted on
        wise = Wise.fit(exits.names, logits, labels, spread=inf)
        points = operating_points(*wise.confidences(logits), labels, exits.macs, free)
        best = max(point.accuracy for point in points)
        near = [point for point in points if point.accuracy >= best - 0.01]
        return wise, min(near, key=lambda point: point.macs).threshold
    wise = Wise.fit(exits.names, logits, labels)
    floor = least_sure(logits.shape[-1])
    tried = cross_fitted(exits.names, logits, labels, [groups[n] for n in chosen.tolist()])
    points = operating_points(*tried, labels, exits.macs, free, floor)
    return wise, default_point(points, floor).threshold


def drawn(exits: Exits, count: int | None, seed: int) -> Tensor:
    """Some calibration clips, both classes among them."""
    labels = exits.calibration[1]
    if count is None:
        return torch.arange(len(labels))
    stream = torch.Generator().manual_seed(seed)
    while True:
        chosen = torch.randperm(len(labels), generator=stream)[:count]
        if len(labels[chosen].unique()) > 1:
            return chosen


def measure(cascades: Sequence[Exits], count: int | None) -> dict[str, Any]:
    """Both ways on all cascades and seeds: figures with intervals, and paired differences."""
    groups = [group for exits in cascades for group in exits.test[2]]
    seeds = range(1 if count is None else SEEDS)
    right: dict[str, Any] = {way: np.zeros((len(seeds), len(groups))) for way in WAYS}
    sure, cost = ({way: np.zeros_like(right[way]) for way in WAYS} for _ in range(2))
    first: dict[str, list[Tensor]] = {way: [] for way in WAYS}
    wrong: dict[str, list[Tensor]] = {way: [] for way in WAYS}
    temperatures: dict[str, list[float]] = {way: [] for way in WAYS}
    thresholds: dict[str, list[float]] = {way: [] for way in WAYS}
    for row in seeds:
        at = 0
        for exits in cascades:
            logits, labels, _ = exits.test
            span = slice(at, at + len(labels))
            at += len(labels)
            chosen = drawn(exits, count, row)
            for way in WAYS:
                wise, threshold = calibrated(way, exits, chosen)
                confidences, classes = wise.confidences(logits)
                taken = decided(confidences, threshold)
                confidence = confidences.gather(1, taken[:, None])[:, 0]
                hit = classes.gather(1, taken[:, None])[:, 0] == labels
                right[way][row, span] = hit
                sure[way][row, span] = confidence
                cost[way][row, span] = np.asarray(exits.macs)[taken.numpy()] / exits.macs[-1]
                first[way].append(hit[taken == 0])
                wrong[way].append(confidence[~hit])
                temperatures[way].append(wise.temperatures[0])
                thresholds[way].append(threshold)

    def error(way: str) -> Any:
        rows = zip(sure[way], right[way], strict=True)
        each = [metrics.calibration_error(p, hit, 10) for p, hit in rows]
        return lambda weights: np.mean([one(weights) for one in each], 0)

    n, figures = len(groups), dict[str, Any]()
    for way in WAYS:
        top1 = interval(metrics.mean(right[way].mean(0)), n, groups)
        ece, early = interval(error(way), n, groups), torch.cat(first[way])
        figures[way] = {
            "top1": [top1.value, top1.low, top1.high],
            "calibration_error": [ece.value, ece.low, ece.high],
            "share of all exits' multiply-adds": float(cost[way].mean()),
            "decided at the first exit": len(early) / right[way].size,
            "wrong at the first exit, of all answers": int((~early).sum()) / right[way].size,
            "wrong at the first exit, of those": float((~early).double().mean())
            if len(early)
            else None,
            "mean confidence of wrong answers": float(torch.cat(wrong[way]).mean()),
            "first temperature, least and median": [
                min(temperatures[way]), float(np.median(temperatures[way]))
            ],
            "threshold, least and median": [
                min(thresholds[way]), float(np.median(thresholds[way]))
            ],
        }  # fmt: skip
    for name, one in (
        ("top1", lambda way: metrics.mean(right[way].mean(0))),
        ("calibration_error", error),
    ):
        gain = compare(one("now"), one("before"), n, groups)
        figures[f"{name}, now - before"] = [gain.difference, gain.low, gain.high]
    return figures


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="FS-4 with motion vectors, and clips.csv")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trained cascades")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    turns = [fold for fold in folds(read(options.data)) if fold.name in options.folds]
    cascades = [exits_of(fold, options.runs) for fold in turns]
    figures = {}
    for count in FEW:
        name = f"{count or 'all'} clips"
        figures[name] = measure(cascades, count)
        print(name, figures[name], flush=True)
    sizes = [len(exits.calibration[1]) for exits in cascades]
    tested = sum(len(exits.test[1]) for exits in cascades)
    protocol = (
        f"FS-4 transcoded to 340x256, H.264, GOP 12; folds {', '.join(options.folds)}, a cascade "
        "of three EfficientNet-Lite0 at 96 pixels per fold (3 epochs, PKD heads 12 epochs, one "
        f"seed); fusion, temperatures and threshold from 11, 22 and all ({sizes}) calibration "
        f"clips, {SEEDS} draws of 11 and of 22; before: maximum likelihood and the cheapest "
        "threshold within a point of the best on the same clips; now: as the package does; top-1 "
        "and expected calibration error (10 bins) of test clips at the default threshold, mean "
        "over draws, paired 95 % percentile bootstrap over sources"
    )
    write("answers_calibration", protocol, tested, figures, tuple(range(SEEDS)))


if __name__ == "__main__":
    main()
