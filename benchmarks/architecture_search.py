"""Architecture search on small mocap15 clips: the derived network against ten random ones.

    foveate data make mocap15 data/mocap15 --clips 1200 --seed 1
    nice python -m benchmarks.architecture_search data/mocap15 --work studies/search

Per seed: a search on the training clips, rewarded on the validation clips; then the derived
network and ten networks drawn uniformly from the same space, whose cost is within five percent of
its cost, are trained alike from scratch and measured on the test clips, which the search never
reads. What is finished lies in `--work`: the same command again goes on there. After every seed the
result is written.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import write
from benchmarks.zoo_accuracy import LoadedClips, scores_of

from foveate.core import ViewRequest
from foveate.core.files import replace_file
from foveate.data import read, samplers
from foveate.data.labelled import only_classes
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare
from foveate.media import open_source
from foveate.models.movinet import movinet
from foveate.models.movinet_config import MoViNetConfig, parse_table, stream, table_text
from foveate.models.spec import InputSpec
from foveate.models.weights.run import load_run
from foveate.pipeline.fetch import shown
from foveate.search.architecture import (
    LATENCIES,
    RECIPE,
    ArchitectureConfig,
    Study,
    is_begun,
)
from foveate.search.costs import Latencies, one_thread
from foveate.search.space import FEW_STEPS
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig

SPEC = InputSpec(size=48, frames_per_second=4.0, clip_frames=8)
CLASSES = ("backflip", "cartwheel", "crawl", "dance_a", "dance_b")  # the first in the alphabet
SPLITS = ("train", "val", "test")  # 240, 60 and 100 clips of five classes
SEEDS = (0, 1, 2)
RIVALS, WITHIN = 10, 0.05  # networks of equal cost, and what equal means
SEARCH: dict[str, Any] = {
    "target": "1.15ms", "width": 0.25, "layers": 2, "epochs": 8, "batch": 8, "candidates": 12,
    "lr": 3e-3, "controller_lr": 0.1,
}  # fmt: skip
SHOWN = ("table", "top1", "ms_table", "ms_step")
TRAINING: dict[str, Any] = {"epochs": 5, "batch": 8, "lr": 3e-3, "label_smoothing": 0.1}


def crop_actors(folder: Path) -> LoadedClips:
    """Decode clips into memory, a square around the actor in every frame.

    The actor is a fifth of the height of a frame, ten pixels of frames this small. Where the actor
    is comes from the renderer.
    """
    dataset = only_classes(read(folder), CLASSES)
    parts, groups = {}, []
    for split in SPLITS:
        rows, labels = [], []
        for record in dataset.subset(split).records:
            truth = json.loads((folder / "truth" / f"{record.path.stem}.json").read_text("utf-8"))
            boxes = np.array(truth["tracks"][0]["boxes"], float)
            times = samplers.window(
                0.0, truth["frames"] / truth["fps"], count=SPEC.clip_frames,
                rate=SPEC.frames_per_second,
            )  # fmt: skip
            near = boxes[[min(round(t * truth["fps"]), len(boxes) - 1) for t in times]]
            centre, size = (near[:, :2] + near[:, 2:]) / 2, near[:, 2:] - near[:, :2]
            half = 0.6 * size.max()
            squares = tuple(
                tuple(map(float, row)) for row in np.hstack([centre - half, centre + half])
            )
            sample = open_source(record.path)
            try:
                request = ViewRequest(times, boxes=squares, size=SPEC.size)  # type: ignore[arg-type]
                rows.append(torch.from_numpy(shown(sample, SPEC, [request])[1].copy()))
            finally:
                sample.close()
            labels.append(CLASSES.index(record.labels[0]))
            if split == "test":
                groups.append(str(record.group))
        parts[split] = (torch.stack(rows).permute(0, 4, 1, 2, 3).contiguous(), torch.tensor(labels))
    return LoadedClips(CLASSES, parts, tuple(groups))


def searched(clips: LoadedClips, folder: Path, seed: int) -> dict[str, Any]:
    """Search, or go on with a search; the study, the CPU seconds and the table of latencies."""
    stored = folder / "search.json"
    if stored.is_file():
        found: dict[str, Any] = json.loads(stored.read_text("utf-8"))
        return found
    config = ArchitectureConfig(
        **SEARCH, size=SPEC.size, frames=SPEC.clip_frames, rate=SPEC.frames_per_second,
        train_epochs=0, seed=seed, workers=0,
    )  # fmt: skip
    began = time.process_time()
    dataset: Any = clips
    run_recipe(
        RECIPE, config, dataset, folder, is_begun(folder), lambda now: None,
        source=clips.source(config.batch, seed),
    )  # fmt: skip
    study = Study.read(folder)
    found = {
        "cpu_seconds": time.process_time() - began,
        "derived": asdict(study.winner),
        "candidates": [[one.cost, one.top1, one.front] for one in study.candidates],
    }
    replace_file(stored, json.dumps(found).encode())
    return found


def rivals(cost: Latencies, derived: MoViNetConfig, seed: int) -> list[MoViNetConfig]:
    """Networks drawn uniformly from the space whose cost is that of the derived one."""
    space, draws = ArchitectureConfig(**SEARCH).space(), random.Random(f"rivals {seed}")
    found: list[MoViNetConfig] = []
    while len(found) < RIVALS:
        one = space.config(space.draw(draws))
        if abs(cost(one) / cost(derived) - 1) <= WITHIN and one not in (derived, *found):
            found.append(one)
    return found


def trained(clips: LoadedClips, config: MoViNetConfig, folder: Path, seed: int) -> dict[str, Any]:
    """Train a network from scratch and measure it on the test clips."""
    stored = folder / "tested.json"
    if stored.is_file():
        found: dict[str, Any] = json.loads(stored.read_text("utf-8"))
        return found
    settings = SupervisedConfig(
        **TRAINING, model="movinet-table-stream",
        settings={"table": table_text(config), **FEW_STEPS},
        size=SPEC.size, frames=SPEC.clip_frames, rate=SPEC.frames_per_second, seed=seed, workers=0,
    )  # fmt: skip
    began = time.process_time()
    dataset: Any = clips
    begun = (folder / "training.json").is_file()
    run_recipe(
        supervised.RECIPE, settings, dataset, folder, begun, lambda now: None,
        source=clips.source(settings.batch, seed),
    )  # fmt: skip
    spent = time.process_time() - began
    loaded = load_run(folder)
    x, y = clips.parts["test"]
    right = metrics.hits(scores_of(loaded.network, x, loaded.input), y.numpy())
    found = {
        "table": table_text(config),
        "top1": float(right.mean()),
        "training_cpu_seconds": spent,
        "right": [int(one) for one in right],
    }
    replace_file(stored, json.dumps(found).encode())
    return found


def step_times(configs: list[MoViNetConfig], classes: int, rounds: int = 15) -> list[float]:
    """Least CPU milliseconds of a whole step of every network, in turns."""
    size = SPEC.size
    forms: list[Any] = [movinet(one, classes).eval().for_inference() for one in configs]
    states = [form.initial_state(1, size, size) for form in forms]
    least = [float("inf")] * len(forms)
    x = torch.rand(1, 3, 1, size, size)
    with torch.inference_mode(), one_thread():
        for _ in range(rounds + 1):
            for i, form in enumerate(forms):
                began = time.process_time()
                form.step(x, states[i])
                least[i] = min(least[i], 1e3 * (time.process_time() - began))
    return least


def table_of_latencies(known: int = 100, new: int = 20) -> dict[str, Any]:
    """Latencies from a table of parts against whole steps, of networks that were not measured.

    Args:
        known: Networks from which the table comes.
        new: Networks whose steps are timed.
    """
    space, draws = ArchitectureConfig(**SEARCH).space(), random.Random("table")
    cost = Latencies(SPEC.size, SPEC.clip_frames, len(CLASSES))
    networks = [space.config(space.draw(draws)) for _ in range(known + new)]
    began = time.process_time()
    for one in networks[:known]:
        cost(one)
    measuring = time.process_time() - began
    before = dict(cost.table)
    found = [key in before for one in networks[known:] for _, key in cost.parts(one)]
    predicted = [cost(one) for one in networks[known:]]
    measured = step_times(networks[known:], len(CLASSES))
    errors = [a / b - 1 for a, b in zip(predicted, measured, strict=True)]
    figures = {
        "parts": len(before), "measuring_cpu_seconds": measuring,
        "share of parts known": statistics.mean(found),
        "correlation": float(np.corrcoef(predicted, measured)[0, 1]),
        "median error": statistics.median(errors), "largest error": max(errors, key=abs),
        "fastest ms": min(measured), "slowest ms": max(measured),
    }  # fmt: skip
    write(
        "architecture_latency",
        f"{known} networks drawn uniformly from the space of architecture_search measured part by "
        f"part, then the sums of {new} others against the least of fifteen whole steps, in turns; "
        f"frames of {SPEC.size} pixels, folded form, CPU time of one thread; parts that are new "
        "are measured in these networks",
        new,
        figures,
    )
    return figures


def one_seed(clips: LoadedClips, work: Path, seed: int) -> dict[str, Any]:
    """Search, and train the derived network and its rivals."""
    folder = work / f"seed-{seed}"
    found = searched(clips, folder, seed)
    cost = Latencies(SPEC.size, SPEC.clip_frames, len(clips.classes))
    cost.load(folder / LATENCIES)
    derived = stream(parse_table(found["derived"]["table"]))
    others = rivals(cost, derived, seed)
    measured = step_times([derived, *others], len(clips.classes))
    rows = []
    for number, config in enumerate([derived, *others]):
        name = f"rival-{number}" if number else "derived"
        row = trained(clips, config, folder / name, seed)
        rows.append({**row, "ms_table": cost(config), "ms_step": measured[number]})
        print(seed, name, f"{row['top1']:.3f}", f"{row['training_cpu_seconds']:.0f} s", flush=True)
    return {"search": found, "derived": rows[0], "rivals": rows[1:]}


def summary_of(seeds: dict[int, dict[str, Any]], groups: tuple[str, ...]) -> dict[str, Any]:
    """What the result says; every network's answers stay in `--work`."""
    own = np.array([one["derived"]["right"] for one in seeds.values()], float)
    others = np.array([[row["right"] for row in one["rivals"]] for one in seeds.values()], float)
    against = compare(
        metrics.mean(own.mean(0)), metrics.mean(others.mean((0, 1))), own.shape[1], groups
    )
    rows = {}
    errors = []
    for seed, one in seeds.items():
        accuracies = [row["top1"] for row in one["rivals"]]
        everyone = [one["derived"], *one["rivals"]]
        errors += [row["ms_table"] / row["ms_step"] - 1 for row in everyone]
        rows[f"seed {seed}"] = {
            "derived": {key: one["derived"][key] for key in SHOWN},
            "one-shot top1 of the derived": one["search"]["derived"]["top1"],
            "rivals": [
                {key: row[key] for key in SHOWN} for row in one["rivals"]
            ],
            "mean of rivals": statistics.mean(accuracies),
            "deviation of rivals": statistics.stdev(accuracies),
            "rivals that are better": sum(a > one["derived"]["top1"] for a in accuracies),
            "candidates (ms, one-shot top1, front)": one["search"]["candidates"],
            "search_cpu_seconds": one["search"]["cpu_seconds"],
            "training_cpu_seconds": sum(row["training_cpu_seconds"] for row in everyone),
        }  # fmt: skip
    return {
        "by_seed": rows,
        "derived": float(own.mean()),
        "rivals": float(others.mean()),
        "difference": against.sentence("derived", "the mean of random networks", "top1"),
        "error of the latency table": {
            "median": statistics.median(errors), "largest": max(errors, key=abs),
        },
        "search_cpu_seconds": sum(one["search"]["cpu_seconds"] for one in seeds.values()),
        "training_cpu_seconds": sum(row["training_cpu_seconds"] for row in rows.values()),
        "test_clips": int(own.shape[1]),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Search and train, one seed after the other."""
    parser = argparse.ArgumentParser(description="Architecture search against random networks")
    parser.add_argument("data", type=Path, help="folder of mocap15")
    parser.add_argument("--work", type=Path, required=True, help="folder for studies and runs")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--table", action="store_true", help="only measure the latency table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.table:
        print(table_of_latencies())
        return 0
    keep_freed_memory()
    clips = crop_actors(options.data)
    done: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        done[seed] = one_seed(clips, options.work, seed)
        figures = summary_of(done, clips.groups)
        write(
            "architecture_search",
            f"mocap15 (rendered, one recording per action), 1200 clips, seed 1; {len(CLASSES)} "
            f"classes ({', '.join(CLASSES)}); "
            + ", ".join(f"{len(clips.parts[split][1])} {split}" for split in SPLITS)
            + f" clips; {SPEC.clip_frames} frames of {SPEC.size} pixels at "
            f"{SPEC.frames_per_second:g}/s around the actor, whose place the renderer gives, from "
            f"the middle. Stream MoViNets of the published space at {SEARCH['width']:g} of its "
            f"widths and at most {SEARCH['layers']} layers a stage; target {SEARCH['target']} a "
            f"frame, latency table of the folded form; {SEARCH['epochs']} epochs of shared "
            f"weights. {RIVALS} random networks within {WITHIN:.0%} of the cost of the derived "
            f"one; all trained from scratch for {TRAINING['epochs']} epochs, best epoch by the "
            f"validation split; 95 % percentile bootstrap over groups (body and background) of "
            f"answers averaged over seeds and networks; CPU seconds of one thread",
            len(done),
            figures,
            tuple(done),
        )
        print(json.dumps({key: figures[key] for key in ("derived", "rivals", "difference")}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
