"""Do progressive distillation and weighted fusion help the exits of a compressed-domain cascade?

On the networks of one or several runs of `foveate train --recipe compressed`, heads are trained
anew for every seed and every way of teaching, for equally many epochs, on the same maps that were
computed once. It reports the accuracy of each exit on test clips, paired differences between the
ways, and what fusing exits is worth. `--curve` also runs the cascade of the first run on files and
compares it with the same I-frame backbone behind a full decode to RGB.

Run: `OMP_NUM_THREADS=1 python -m benchmarks.compressed_accuracy NAME RUN... [--seeds 0 1 2]
[--curve]`; it writes `results/compressed_accuracy_NAME.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import torch
from benchmarks import record
from torch import Tensor

from foveate.core.config import build
from foveate.data import DataRequest, open_labelled
from foveate.data.compressed import Reading
from foveate.evaluate.bootstrap import compare, interval
from foveate.evaluate.metrics import mean
from foveate.models.coviar import FUSION, CompressedNet, ExitNetwork, even_stages, normalise, square
from foveate.models.weights.run import load_run, read_run
from foveate.pipeline.loading import load
from foveate.policy.calibration import Calibration
from foveate.policy.fuse import Wise
from foveate.train.kit import randomness
from foveate.train.recipes.compressed.clips import ClipSets, CompressedBatches, keep_all
from foveate.train.recipes.compressed.config import CALIBRATION, TEACHING, CompressedConfig
from foveate.train.recipes.compressed.heads import cached, views_of
from foveate.train.recipes.compressed.pkd import exit_logits, head_recipe, train_heads
from foveate.train.recipes.compressed.recipe import read_clips, trained_networks
from foveate.train.run_state import read_training

WAYS = ("ce", "kd", "anti", "pkd")
ORDER = ("residual", "mv", "iframe")  # of the published prefixes
Right = npt.NDArray[np.float64]


@dataclass
class Opened:
    """One run with its clips and whole networks."""

    folder: Path
    config: CompressedConfig
    parts: ClipSets
    groups: list[str]

    @cached_property
    def networks(self) -> dict[Any, tuple[CompressedNet, Any, str]]:
        return trained_networks(self.folder)


def opened(folder: Path, epochs: int | None) -> Opened:
    """A run as its recipe saw it, with the test clips read too."""
    training = read_training(folder)
    config = build(CompressedConfig, dict(training.configuration), "training.json")
    if epochs is not None:
        config = config.model_copy(update={"head_epochs": epochs})
    dataset = open_labelled(DataRequest.of(training.origin))
    parts = read_clips(config, dataset, folder)
    cache = folder / "cache" if config.cache is None else Path(config.cache)
    how = Reading(round(config.size * 8 / 7), config.groups, config.places)
    test = keep_all(dataset.subset("test"), cache, how)
    parts = ClipSets(parts.dataset, {**parts.kept, "test": test}, parts.clip_seconds)
    groups = [str(record.group or dataset.name(record)) for _, record in test.clips]
    return Opened(folder, config, parts, groups)


def fresh(run: Opened, seed: int) -> dict[str, ExitNetwork]:
    """The frozen networks with newly initialised heads, the same for every way."""
    found = {}
    for name, (whole, _, backbone) in run.networks.items():
        randomness.seed_all(seed, "heads", name)
        stages = even_stages(whole, run.config.exits)
        found[name] = ExitNetwork(whole, stages, run.config.heads, backbone)
    return found


def taught(
    run: Opened, seeds: Sequence[int], ways: Sequence[str]
) -> dict[tuple[str, int], tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Way and seed → logits (N, classes) of every exit on calibration and on test clips."""
    classes = run.parts.dataset.classes
    specs = {name: spec for name, (_, spec, _) in run.networks.items()}
    maps: dict[str, dict[str, Any]] = {}
    template = fresh(run, 0)
    for name, network in template.items():
        maps[name] = {}
        for split in (run.config.train_split, CALIBRATION, "test"):
            count = run.config.head_views if split == run.config.train_split else 1
            clips = views_of(run.config, classes, run.parts.kept[split], name, specs[name], count)
            maps[name][split] = cached(network, clips)
    train = run.config.train_split
    teachers = {name: maps[name][train][0].logits for name in template}
    found = {}
    for seed in seeds:
        for way in ways:
            calibration, test = {}, {}
            how = head_recipe(
                way, run.config.head_epochs, lr=run.config.head_lr, batch=2 * run.config.batch,
                seed=seed, temperature=1.0 if way == "ce" else run.config.temperature,
            )  # fmt: skip
            for name, network in fresh(run, seed).items():
                cache, labels = maps[name][train]
                train_heads(network, cache, labels, how, teachers)
                for split, into in ((CALIBRATION, calibration), ("test", test)):
                    logits = exit_logits(network, maps[name][split][0])
                    for at, exit in enumerate(network.exits):
                        into[f"{name}.{exit}"] = logits[:, at]
            found[way, seed] = calibration, test
    return found


def right(logits: Tensor, labels: Tensor) -> Right:
    """(N,) 1 where the class is right."""
    hit: Right = (logits.argmax(-1) == labels).double().numpy()
    return hit


def fused(
    calibration: Mapping[str, Tensor], test: Mapping[str, Tensor], run: Opened
) -> dict[str, Right]:
    """Right answers (N,) of every way to join exits, by name."""
    known = run.parts.kept[CALIBRATION].labels
    labels = run.parts.kept["test"].labels
    names = [name for m in ORDER for name in test if name.startswith(f"{m}.")]
    fit, use = (torch.stack([part[n] for n in names], 1) for part in (calibration, test))
    wise = Wise.fit(names, fit, known)
    single = [right(part[:, None][:, 0], known).mean() for part in fit.unbind(1)]
    finals = [f"{m}.final" for m in ORDER]
    out = {
        "unweighted": right(use.mean(1), labels),
        "unweighted softmax": right(use.softmax(-1).mean(1), labels),
        "finals 2:1:1": right(sum(FUSION[n.partition(".")[0]] * test[n] for n in finals), labels),
        "WISE": right(wise.fused(use), labels),
        "best single exit": right(use[:, int(np.argmax(single))], labels),
    }
    for count in range(2, len(names) + 1):
        out[f"WISE prefix {count}"] = right(wise.fused(use[:, :count]), labels)
        out[f"unweighted prefix {count}"] = right(use[:, :count].mean(1), labels)
        out[f"last of prefix {count}"] = right(use[:, count - 1], labels)
    return out


def said(values: Right, groups: Sequence[str]) -> dict[str, float]:
    """Mean with its interval over groups; `values` are means over seeds."""
    found = interval(mean(values), len(values), groups)
    return {"top1": found.value, "low": found.low, "high": found.high}


def difference(a: Right, b: Right, groups: Sequence[str]) -> dict[str, float]:
    """Paired difference in points with its interval."""
    found = compare(mean(a), mean(b), len(a), groups)
    return {
        "points": 100 * found.difference, "low": 100 * found.low, "high": 100 * found.high
    }  # fmt: skip


def measure(
    runs: Sequence[Opened], seeds: Sequence[int], ways: Sequence[str] = WAYS
) -> dict[str, Any]:
    """All accuracies: over the test clips of all runs (folds), means over seeds."""
    exits: dict[str, dict[str, list[Right]]] = {way: {} for way in ways}
    joined: dict[str, dict[str, list[Right]]] = {way: {} for way in ways}
    for run in runs:
        labels = run.parts.kept["test"].labels
        results = taught(run, seeds, ways)
        for way in ways:
            per_seed = [results[way, seed] for seed in seeds]
            for name in per_seed[0][1]:
                row = np.mean([right(test[name], labels) for _, test in per_seed], 0)
                exits[way].setdefault(name, []).append(row)
            parts = [fused(calibration, test, run) for calibration, test in per_seed]
            for name in parts[0]:
                row = np.mean([part[name] for part in parts], 0)
                joined[way].setdefault(name, []).append(row)
        print(f"{run.folder.name}: {len(labels)} test clips", flush=True)
    groups = [group for run in runs for group in run.groups]
    flat = {
        kind: {way: {n: np.concatenate(rows) for n, rows in table.items()}
               for way, table in tables.items()}
        for kind, tables in (("exits", exits), ("fusion", joined))
    }  # fmt: skip
    return {
        "test_clips": len(groups),
        "groups": len(set(groups)),
        **{
            kind: {way: {n: said(v, groups) for n, v in table.items()}
                   for way, table in tables.items()}
            for kind, tables in flat.items()
        },
        "pkd_against": {
            other: {
                name: difference(flat["exits"]["pkd"][name], flat["exits"][other][name], groups)
                for name in flat["exits"]["pkd"] if not name.endswith("final")
            }
            for other in ways if other != "pkd"
        },
        "wise_against": {
            way: {
                other: difference(flat["fusion"][way]["WISE"], flat["fusion"][way][other], groups)
                for other in ("unweighted", "finals 2:1:1", "best single exit")
            }
            for way in ways
        },
        "wise_prefix_against_last_exit": {
            way: {
                name.removeprefix("WISE prefix "): difference(
                    flat["fusion"][way][name],
                    flat["fusion"][way][name.replace("WISE", "last of")],
                    groups,
                )
                for name in flat["fusion"][way] if name.startswith("WISE prefix")
            }
            for way in ways
        },
    }  # fmt: skip


def by_itself(run: Opened, folder: Path) -> dict[str, Any]:
    """A single network on the test clips of its run, of which the others may not be trained."""
    loaded = load_run(folder)
    network, card = loaded.network, loaded.card
    assert isinstance(network, CompressedNet)
    assert card is not None
    kept, classes = run.parts.kept["test"], run.parts.dataset.classes
    clips = CompressedBatches(kept, network.modality, classes, loaded.input, run.config.batch)
    with torch.no_grad():
        logits = torch.cat([network(batch["x"]) for batch in clips.batches(0)])
    return {
        "backbone": card.network.arch, "modality": network.modality,
        "started_from": card.started_from, "epochs": card.configuration["epochs"],
        **said(right(logits, kept.labels), run.groups),
    }  # fmt: skip


def full_decode(run: Opened, path: Path) -> int:
    """Class by the I-frame network on three frames of a file of which every one is decoded.

    All pictures are converted to RGB, as a reader of frames does; the three are the middles of
    equal spans.
    """
    network, spec, _ = run.networks["iframe"]
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    at = ((np.arange(spec.clip_frames) + 0.5) * len(frames) / spec.clip_frames).astype(int)
    x = torch.from_numpy(np.stack([frames[i] for i in at])).permute(0, 3, 1, 2)
    x = normalise("iframe", square(x, spec.size), spec.mean, spec.std).transpose(0, 1)[None]
    with torch.inference_mode():
        return int(network(x).argmax())


def curve(run: Opened) -> dict[str, Any]:
    """Accuracy against CPU milliseconds of a file: executed exits, and the full decode."""
    clips = [record for _, record in run.parts.kept["test"].clips]
    labels = run.parts.kept["test"].labels.tolist()
    classes = list(run.parts.dataset.classes)
    card = Calibration.read(read_run(run.folder).calibration, run.folder.name)
    points: dict[str, Any] = {}

    def timed(name: str, answer: Callable[[Path], tuple[int, Any]]) -> None:
        answer(clips[0].path)  # the first calls of everything are slower
        began, hits, more = time.process_time(), [], []
        for clip, label in zip(clips, labels, strict=True):
            found, extra = answer(clip.path)
            hits.append(float(found == label))
            more.append(extra)
        spent = (time.process_time() - began) / len(clips)
        points[name] = {**said(np.array(hits), run.groups), "cpu_ms": 1000 * spent}
        if more[0] is not None:
            points[name]["macs"] = float(np.mean([r.cost.macs for r in more]))
            points[name]["exits"] = {
                exit: sum(r.exits.get(exit, 0) for r in more)
                for exit in dict.fromkeys(e for r in more for e in r.exits)
            }
        print(name, points[name], flush=True)

    timed("full decode, I-frame network", lambda path: (full_decode(run, path), None))
    for order, chosen in card.orders.items():
        picks = chosen.table[:: max(1, len(chosen.table) // 6)]
        wanted = {round(point.threshold, 6) for point in [*picks, chosen.table[-1]]}
        for threshold in sorted({*wanted, round(chosen.default, 6)}):
            recogniser = load(
                str(run.folder),
                look={"name": "groups", "order": order},
                decide={"name": "calibrated", "threshold": threshold},
            )

            def answer(path: Path, recogniser: Any = recogniser) -> tuple[int, Any]:
                result = recogniser.predict(path, trace=False)
                return classes.index(result.labels[0].label), result

            mark = ", default" if abs(threshold - chosen.default) < 1e-6 else ""
            timed(f"{order}, threshold {threshold:.4g}{mark}", answer)
    return {"points": points, "default": {o: c.default for o, c in card.orders.items()}}


def protocol_of(name: str, runs: Sequence[Opened], seeds: Sequence[int]) -> str:
    config, first = runs[0].config, runs[0].parts.kept
    sets = ", ".join(f"{len(kept)} {split}" for split, kept in first.items())
    backbones = ", ".join(f"{m} {runs[0].networks[m][2]}" for m in TEACHING)
    return (
        f"{name} ({runs[0].parts.dataset.root.name}), GOP 12, H.264; {len(runs)} trained set(s) "
        f"of networks ({backbones}; "
        f"{config.epochs} epochs, key frames {config.iframe_epochs}, size {config.size}, "
        f"{config.segments} segments), heads {config.heads} on their cached maps with seeds "
        f"{list(seeds)}, {config.head_epochs} epochs each way on {config.head_views} views a clip; "
        f"clips of the first set: {sets}; fusion fitted on the calibration clips; top-1 on test, "
        "mean over seeds, 95 % percentile bootstrap over groups, differences paired"
    )


def table(figures: Mapping[str, Any]) -> str:
    """Accuracy by exit and way, and of the fusions, as it stands in the documentation."""
    ways = list(figures["exits"])
    lines = ["| exit | " + " | ".join(ways) + " |"]
    for kind in ("exits", "fusion"):
        for name in figures[kind][ways[0]]:
            if "prefix" in name:
                continue
            row = [100 * figures[kind][way][name]["top1"] for way in ways]
            lines.append(f"| {name} | " + " | ".join(f"{v:.1f}" for v in row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the data, for the result file")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, one per fold")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--head-epochs", type=int, help="instead of the runs' own number")
    parser.add_argument("--curve", action="store_true", help="run the first run's cascade on files")
    parser.add_argument(
        "--also",
        type=Path,
        nargs="*",
        default=[],
        help="further runs, perhaps unfinished: each network by itself",
    )
    parser.add_argument("--dry", action="store_true", help="write no result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [opened(folder, options.head_epochs) for folder in options.runs]
    began = time.process_time()
    figures = measure(runs, options.seeds)
    figures["cpu_seconds_of_heads"] = time.process_time() - began
    print(table(figures))
    if options.also:
        others = [(folder, opened(folder, None)) for folder in options.also]
        figures["also"] = [
            {"data": run.parts.dataset.root.name, **by_itself(run, path.parent)}
            for folder, run in others for path in sorted(folder.glob("networks/*/run.json"))
        ]  # fmt: skip
        print(figures["also"])
    if options.curve:
        figures["curve"] = curve(runs[0])
    if not options.dry:
        n = figures["test_clips"]
        protocol = protocol_of(options.name, runs, options.seeds)
        seeds = tuple(options.seeds)
        path = record.write(f"compressed_accuracy_{options.name}", protocol, n, figures, seeds)
        print(f"written: {path.name}")


if __name__ == "__main__":
    main()
