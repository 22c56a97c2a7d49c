"""MoViNets fine-tuned on little data: optimisers, causality, the temporal ensemble, the conversion.

Everything starts from the Kinetics-600 weights of `movinet-a0-stream-lite`, so that what is
compared is what is trained, not what a network knew before:

* `stream`: the causal network with the default settings (AdamW, a tenth of the rate before the
  head).
* `rmsprop`: the same with TensorFlow's RMSProp, epsilon 1, at the published rate of 1.8 for 1024
  clips scaled to the batch, one rate for all layers.
* `base`: the same layers centred in time, so that frames see later ones. Its kernels are those of
  the causal network; only causality differs.
* `ensemble`: two causal networks at half the rate, trained apart on alternating frames; the mean of
  their logits. It costs as many multiply-adds as `stream`.

`conversion` (no data needed): `movinet-a0`, small, trained from scratch on generated bars whose
class is their direction, for 20 epochs; its weights are copied by `stream_from_base` to
`movinet-a0-stream`, which is trained for 10 more; against a stream network with 30 from scratch.

    foveate data make mocap15 data/mocap15 --clips 900 --seed 1
    python -m benchmarks.movinet_accuracy mocap15 data/mocap15 [--keep RUNS]
    python -m benchmarks.movinet_accuracy fs4 FIGHT_SURV
    python -m benchmarks.movinet_accuracy conversion
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.fights import mean_over_folds
from benchmarks.record import RESULTS, write
from benchmarks.zoo_accuracy import SPEC, LoadedClips, bars, hold, paired, scores_of
from torch import nn

from foveate.data import read
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.models.movinet import movinet, stream_from_base
from foveate.models.movinet_config import TABLES, lite
from foveate.models.registry import create, register
from foveate.models.spec import InputSpec
from foveate.models.weights.load import load
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, load_run, write_run
from foveate.train.features import Head
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.kit.optim import decay_groups, make_optimizer
from foveate.train.kit.schedule import make_schedule
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.videos import VideoClips

WEIGHTS = "movinet-a0-stream-lite.k600"
BASE = "benchmark-movinet-a0-base-lite"
BATCH = 8
SPECS = {"mocap15": SPEC, "fs4": InputSpec(112, 5.0, 10)}
EPOCHS, HEAD_EPOCHS = 8, 12
CLASSES = ("backflip", "crawl", "kick", "spin", "walk")
MOST = {"train": 180, "val": 45, "test": 75}
RMSPROP = {
    "optimizer": "rmsprop", "lr": 1.8 / 1024 * BATCH, "backbone_lr": 1.0, "weight_decay": 3e-5
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "stream": {},
    "rmsprop": RMSPROP,
    "base": {"model": BASE},
    "even": {},  # of the ensemble
    "odd": {"seed": 1},
}
# On FS-4 a new classifier on frozen features.
HEADS: dict[str, dict[str, Any]] = {
    "stream": {},
    "rmsprop": {key: RMSPROP[key] for key in ("optimizer", "lr", "weight_decay")},
    "even": {},
    "odd": {"seed": 1},
}
PAIRS = (
    ("stream", "rmsprop"),
    ("base", "stream"),
    ("ensemble", "stream"),
    ("base", "ensemble"),
)
PROTOCOL = (
    "Start: movinet-a0-stream-lite.k600 with a new classifier. One view from the middle of a clip; "
    "batch 8, cosine, label smoothing .1; one seed. mocap15 (rendered, one recording per action): "
    "of 900 clips, seed 1, those of backflip, crawl, kick, spin and walk, 180 to train (all "
    "layers, cut and mirrored), best of 8 epochs by 45, 75 of other bodies, backgrounds and "
    "sectors to test; 8 frames at 4/s of 96 pixels; intervals over groups (body and background). "
    "fs4: 240 clips of CCTV, 4 folds by source, classifier on frozen features, 12 epochs, 10 "
    "frames at 5/s of 112 pixels, mean over folds; intervals over sources. 95 % percentile "
    "bootstrap. Conversion: generated bars, eight frames of 24 pixels, 100 clips and their "
    "reverses each to train and to test, three seeds. CPU seconds of one thread"
)


@register(BASE)
def _base(num_classes: int = 600, dropout: float = 0.2) -> nn.Module:
    """The lite network, centred in time."""
    return movinet(replace(lite(TABLES["a0"]), causal=False), num_classes, dropout)


def base_folder(folder: Path, spec: InputSpec) -> str:
    """A run folder of `BASE` with the weights of the causal network, to start training from."""
    loaded = load(WEIGHTS)
    network = _base()
    network.load_state_dict(loaded.network.state_dict())
    card = RunCard(
        networks={"network": NetworkCard(arch=BASE)}, classes=list(loaded.labels),
        input=InputCard.of(spec), started_from=WEIGHTS,
    )  # fmt: skip
    write_run(folder, {"network": network}, card)
    return str(folder)


def thinned(clips: LoadedClips, first: int) -> LoadedClips:
    """Every second frame of all clips, from the first or the second on."""
    parts = {name: (x[:, :, first::2].contiguous(), y) for name, (x, y) in clips.parts.items()}
    return replace(clips, parts=parts)


def logits_of(
    method: str, clips: LoadedClips, folder: Path, spec: InputSpec
) -> tuple[np.ndarray[Any, Any], float]:
    """Train on the training clips: logits of the test clips, and CPU seconds of the training."""
    if method in ("even", "odd"):
        clips = thinned(clips, int(method == "odd"))
        spec = replace(spec, frames_per_second=spec.frames_per_second / 2,
                       clip_frames=spec.clip_frames // 2)  # fmt: skip
    values = {"model": WEIGHTS, "lr": 1e-3, "weight_decay": 0.01, **METHODS[method]}
    if values["model"] == BASE:
        values["model"] = base_folder(folder.with_name(f"{folder.name}-start"), spec)
    values.setdefault("backbone_lr", 0.1)
    config = SupervisedConfig(
        **values, settings={"dropout": 0.2}, size=spec.size, frames=spec.clip_frames,
        rate=spec.frames_per_second, epochs=EPOCHS, batch=BATCH, label_smoothing=0.1, workers=0,
    )  # fmt: skip
    began = time.process_time()
    dataset: Any = clips
    run_recipe(
        supervised.RECIPE, config, dataset, folder, on_progress=lambda now: None,
        source=clips.source(BATCH, config.seed),
    )  # fmt: skip
    seconds = time.process_time() - began
    run = load_run(folder)
    return scores_of(run.network, clips.parts["test"][0], run.input), seconds


def all_logits(
    clips: LoadedClips, folder: Path
) -> Iterator[tuple[str, np.ndarray[Any, Any], float]]:
    """Method, test logits and CPU seconds of the training, of every method and the ensemble."""
    halves = []
    for method in METHODS:
        logits, seconds = logits_of(method, clips, folder / method, SPECS["mocap15"])
        if method in ("even", "odd"):
            halves.append((logits, seconds))
        yield method, logits, seconds
    yield "ensemble", np.mean([one for one, _ in halves], 0), sum(s for _, s in halves)


def mocap15(data: Path, work: Path) -> tuple[dict[str, Any], int]:
    """The table of mocap15."""
    clips = hold(data, SPECS["mocap15"], MOST, CLASSES)
    truth = clips.parts["test"][1].numpy()
    right, seconds = {}, {}
    for method, logits, cost in all_logits(clips, work):
        right[method], seconds[method] = metrics.hits(logits, truth).astype(float), cost
        print(method, right[method].mean(), cost, flush=True)
    return tables(right, seconds, clips.groups, [0] * len(truth)), len(truth)


def fs4(data: Path, work: Path) -> tuple[dict[str, Any], int]:
    """The table of FS-4: new classifiers on features that are computed once."""
    dataset = read(data)
    network: Any = load(WEIGHTS, num_classes=len(dataset.classes)).network
    source = VideoClips(dataset, batch=16, seed=0, workers=0)
    rows: list[tuple[torch.Tensor, int, str, int]] = []
    for number, name in enumerate(dataset.splits):
        records = dataset.subset(name).records
        batches = source(name, False, SPECS["fs4"], ProcessGroup())
        assert batches is not None
        for batch in batches.batches(0):
            groups = [str(records[int(i)].group) for i in batch["index"]]
            rows += zip(
                batch["x"], batch["y"].tolist(), groups, [number] * len(groups), strict=True
            )
    x = torch.stack([row[0] for row in rows])
    y, fold_of = (torch.tensor([row[at] for row in rows]) for at in (1, 3))
    with torch.inference_mode():
        features = {
            name: torch.cat([network.features(one.float() / 255).mean(1) for one in part.split(8)])
            for name, part in {"": x, "even": x[:, :, ::2], "odd": x[:, :, 1::2]}.items()
        }
    logits = {name: torch.zeros(len(rows), len(dataset.classes)) for name in HEADS}
    seconds = dict.fromkeys([*HEADS, "ensemble"], 0.0)
    for fold in range(len(dataset.splits)):
        test = fold_of == fold
        for name, changes in HEADS.items():
            seen = features.get(name, features[""]).clone()
            began = time.process_time()
            head = trained_head(network, seen[~test], y[~test], **changes)
            seconds[name] += time.process_time() - began
            logits[name][test] = head(seen[test])
    logits["ensemble"] = (logits["even"] + logits["odd"]) / 2
    seconds["ensemble"] = seconds["even"] + seconds["odd"]
    right = {
        name: metrics.hits(found.numpy(), y.numpy()).astype(float) for name, found in logits.items()
    }
    return tables(right, seconds, tuple(row[2] for row in rows), fold_of.tolist()), len(rows)


def trained_head(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, seed: int = 0, **changes: Any
) -> nn.Module:
    """A new classifier behind a network, trained on features (N, C) as the recipe does."""
    how = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, **changes}
    head = Head(deepcopy(network)).train()
    torch.manual_seed(seed)
    nn.init.normal_(head.parts["classifier"].weight, std=0.01)  # type: ignore[arg-type]
    nn.init.zeros_(head.parts["classifier"].bias)  # type: ignore[arg-type]
    groups = decay_groups(head, how["lr"], how["weight_decay"])
    optimizer = make_optimizer(how["optimizer"], groups)
    steps = HEAD_EPOCHS * -(-len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, make_schedule("cosine", steps, steps // HEAD_EPOCHS)
    )
    random = torch.Generator().manual_seed(seed)
    for _ in range(HEAD_EPOCHS):
        for batch in torch.randperm(len(y), generator=random).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(x[batch]), y[batch], label_smoothing=0.1).backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return head.eval().requires_grad_(False)


def tables(
    right: dict[str, np.ndarray[Any, Any]],
    seconds: dict[str, float],
    groups: tuple[str, ...],
    fold_of: list[int],
) -> dict[str, Any]:
    """Top-1 of every method with its interval, and paired differences."""
    statistics = {method: mean_over_folds(values, fold_of) for method, values in right.items()}
    rows = {}
    for method, statistic in statistics.items():
        found = interval(statistic, len(groups), groups)
        rows[method] = {
            "top1": found.value, "low": found.low, "high": found.high, "groups": found.units,
            "training_cpu_seconds": seconds[method], "right": [int(v) for v in right[method]],
        }  # fmt: skip
    differences = [
        compare(statistics[a], statistics[b], len(groups), groups).sentence(a, b, "top1")
        for a, b in PAIRS
        if a in statistics and b in statistics
    ]
    return {"rows": rows, "differences": differences}


def conversion(seeds: tuple[int, ...] = (0, 1, 2)) -> tuple[dict[str, Any], int]:
    """A stream network that starts from a trained base network, against one from scratch."""
    clips = paired(bars())
    (x, y), (test, truth) = clips.parts["train"], clips.parts["test"]
    settings = {"num_classes": 2, "tiny": True, "dropout": 0.0, "stochastic_depth": 0.0}
    rows: dict[str, list[float]] = {}

    def epoch(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> float:
        random = torch.Generator().manual_seed(seed)
        network.train()
        for batch in torch.randperm(len(y), generator=random).split(16):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x[batch].float() / 255), y[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        scores = scores_of(network.eval(), test, InputSpec(24, 8.0, 8))
        return float((scores.argmax(1) == truth.numpy()).mean())

    def trained(name: str, network: nn.Module, epochs: int, seed: int) -> None:
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
        scores = scores_of(network.eval(), test, InputSpec(24, 8.0, 8))
        found = [float((scores.argmax(1) == truth.numpy()).mean())]
        found += [epoch(network, optimizer, 1000 * seed + i) for i in range(epochs)]
        print(seed, name, [round(value, 3) for value in found], flush=True)
        rows.setdefault(name, []).append(found)  # type: ignore[arg-type]

    for seed in seeds:
        torch.manual_seed(seed)
        base: Any = create("movinet-a0", **settings)
        trained("base", base, 20, seed)
        for name in ("stream from base", "stream from scratch"):
            torch.manual_seed(seed + 10)
            stream: Any = create("movinet-a0-stream", **settings)
            copied = name == "stream from base"
            start = stream_from_base(base, stream) if copied else stream
            trained(name, start, 10 if copied else 30, seed)
    return {"top1_by_seed_and_epoch": rows}, len(truth)


def main() -> None:
    """Measure one task; the figures of the others are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["mocap15", "fs4", "conversion"])
    parser.add_argument("data", type=Path, nargs="?", help="folder of the clips")
    parser.add_argument("--keep", type=Path, help="folder for the trained networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        work = options.keep or Path(folder)
        if options.task == "conversion":
            found, n = conversion()
        else:
            found, n = {"mocap15": mocap15, "fs4": fs4}[options.task](options.data, work)
    stored = RESULTS / "movinet_accuracy.json"
    figures = json.loads(stored.read_text("utf-8"))["figures"] if stored.is_file() else {}
    figures.pop("versions", None)
    figures[options.task] = {"n": n, **found}
    write("movinet_accuracy", PROTOCOL, n, figures, (0, 1, 2))
    for line in found.get("differences", []):
        print(line)


if __name__ == "__main__":
    main()
