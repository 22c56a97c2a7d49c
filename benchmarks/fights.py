"""Fight or no fight in CCTV: cross-validation by source (protocol FS-4), and the built-in weights.

Three ways to tell the classes apart, on the same folds: all layers of the Kinetics-600 network
fine-tuned, a linear probe on its frozen features, and logistic regression on mean motion energy
alone (were that as good, the networks might have learned nothing more). Test clips are answered for
through the whole pipeline, as `foveate predict` does.

Run: ``python benchmarks/fights.py FIGHT_SURV [--seeds 0 1 2] [--json PATH] [--install]``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.core.config import build, read_yaml
from foveate.data import Dataset, Fold, folds, read
from foveate.evaluate.bootstrap import compare, interval
from foveate.evaluate.metrics import Floats, Statistic
from foveate.evaluate.results import write_result
from foveate.evaluate.run import evaluate
from foveate.media import Video
from foveate.pipeline.loading import load
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig

RECIPE = Path(__file__).parent / "recipes" / "fights.yaml"
PROBE = {"freeze": "backbone", "epochs": 100, "lr": 1e-3}
PROTOCOL = (
    "FS-4: 240 clips, 4 folds by source, train on three and test on one; top-1 of whole clips "
    "through the pipeline, mean over folds and seeds; 95 % percentile bootstrap over sources"
)


def config_of(seed: int, **changes: Any) -> SupervisedConfig:
    """The committed recipe, with a seed and changes."""
    values = {**read_yaml(RECIPE), "seed": seed, **changes}
    return build(SupervisedConfig, values, RECIPE.name)


def trained(fold: Fold, config: SupervisedConfig, folder: Path) -> dict[str, bool]:
    """Train on a fold's training clips; clip → whether its answer was right, of its test clips."""
    run_recipe(supervised.RECIPE, config, fold.dataset, folder, on_progress=lambda moment: None)
    found = evaluate(load(str(folder)), fold.dataset, "test", repeats=2)
    shutil.rmtree(folder)
    if found.failed:
        raise SystemExit(f"{found.failed} clips could not be read")
    return {p.name: p.top[0][0] in p.truth for p in found.predictions}


def motion_energy(path: Path) -> float:
    """Mean absolute difference of neighbouring frames (5/s, 172 pixels high), in grey levels.

    Sizes, rates and lengths of the clips do not enter: they give the class away.
    """
    with Video(path) as video:
        seconds = video.info.duration or 2.0
        times = [i / 5 for i in range(max(2, int(seconds * 5)))]
        frames = video.frames(times, (230, 172)).pixels.astype(np.float32).mean(-1)
    return float(np.abs(np.diff(frames, axis=0)).mean())


def energy_baseline(fold: Fold, energy: dict[str, float]) -> dict[str, bool]:
    """Logistic regression on the logarithm of motion energy, one number per clip."""
    from sklearn.linear_model import LogisticRegression

    def columns(split: str) -> tuple[list[str], Any, list[str]]:
        part = fold.dataset.subset(split)
        names = [part.name(r) for r in part.records]
        x = np.log([[energy[name]] for name in names])
        return names, x, [r.labels[0] for r in part.records]

    _, x, y = columns("train")
    model = LogisticRegression(C=1e3).fit(x, y)
    names, x, y = columns("test")
    return {n: bool(a == b) for n, a, b in zip(names, model.predict(x), y, strict=True)}


def mean_over_folds(right: Floats, fold_of: Sequence[int]) -> Statistic:
    """Mean over folds of the accuracy within the fold; `right` (N,) may be a mean over seeds."""
    member = np.asarray(fold_of)[:, None] == np.unique(fold_of)[None, :]

    def statistic(weights: Floats) -> Floats:
        within = (weights @ (member * right[:, None])) / np.maximum(weights @ member, 1e-9)
        used = weights @ member > 0
        means: Floats = (within * used).sum(1) / used.sum(1)
        return means

    return statistic


def measure(dataset: Dataset, seeds: Sequence[int]) -> dict[str, Any]:
    """Run everything; figures with intervals, per seed and per fold, and paired differences."""
    turns = folds(dataset)
    names = [dataset.name(r) for r in dataset.records]
    place = {name: i for i, name in enumerate(names)}
    fold_of = [0] * len(names)
    for number, fold in enumerate(turns):
        for record in fold.dataset.subset("test").records:
            fold_of[place[dataset.name(record)]] = number
    sources = [r.group for r in dataset.records]
    energy = {dataset.name(r): motion_energy(r.path) for r in dataset.records}
    right: dict[str, Floats] = {
        "fine-tuned": np.zeros((len(seeds), len(names))),
        "linear probe": np.zeros((len(seeds), len(names))),
        "motion energy": np.zeros((1, len(names))),
    }
    seconds: dict[str, float] = dict.fromkeys(right, 0.0)
    work = Path(tempfile.mkdtemp(prefix="foveate-fights-"))

    def note(method: str, row: int, found: dict[str, bool], since: float) -> None:
        seconds[method] += time.process_time() - since
        for name, correct in found.items():
            right[method][row, place[name]] = correct

    for number, fold in enumerate(turns):
        since = time.process_time()
        note("motion energy", 0, energy_baseline(fold, energy), since)
        for row, seed in enumerate(seeds):
            for method, changes in (("fine-tuned", {}), ("linear probe", PROBE)):
                since = time.process_time()
                folder = work / f"{number}-{seed}-{method.split()[0]}"
                note(method, row, trained(fold, config_of(seed, **changes), folder), since)
                share = right[method][row, np.asarray(fold_of) == number].mean()
                print(f"fold {fold.name} seed {seed} {method}: {share:.3f}", flush=True)
    shutil.rmtree(work, ignore_errors=True)
    means = {method: values.mean(0) for method, values in right.items()}
    figures: dict[str, Any] = {}
    for method, values in means.items():
        found = interval(mean_over_folds(values, fold_of), len(names), sources)
        figures[method] = {
            "top1": found.value, "low": found.low, "high": found.high, "sources": found.units,
            "by_seed": [
                float(np.mean([row[np.asarray(fold_of) == f].mean() for f in set(fold_of)]))
                for row in right[method]
            ],
            "by_fold": [
                float(values[np.asarray(fold_of) == f].mean()) for f in sorted(set(fold_of))
            ],
            "cpu_seconds_per_fold": seconds[method] / len(turns) / len(right[method]),
        }  # fmt: skip
    for other in ("linear probe", "motion energy"):
        found = compare(
            mean_over_folds(means["fine-tuned"], fold_of),
            mean_over_folds(means[other], fold_of),
            len(names),
            sources,
        )
        figures[f"fine-tuned against {other}"] = {
            "difference": found.difference, "low": found.low, "high": found.high,
            "says": found.sentence("fine-tuned", other, "top1"),
        }  # fmt: skip
    return figures


def train_final(dataset: Dataset, folder: Path) -> None:
    """The recipe on all clips: what the package carries, described by the cross-validation."""
    from dataclasses import replace

    everything = replace(dataset, records=tuple(replace(r, split="train") for r in dataset.records))
    run_recipe(supervised.RECIPE, config_of(0), everything, folder)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with clips.csv")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="write a result file")
    parser.add_argument("--final", type=Path, help="train on all clips into this run folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    dataset = read(options.data)
    if options.final is not None:
        train_final(dataset, options.final)
        return
    figures = measure(dataset, options.seeds)
    for name, values in figures.items():
        print(name, values)
    if options.json is not None:
        write_result(options.json, "FS-4 fights", PROTOCOL, len(dataset), options.seeds, figures)


if __name__ == "__main__":
    main()
