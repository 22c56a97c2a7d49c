"""AdaFocus against policies that are not learned, at equal cost of the focus network.

V1 (PPO), V2 and Uni-AdaFocus are trained by their recipe; motion patches, random, central and true
(oracle) places have the same glance, the same focus network and a classifier trained alike; the
whole frame, also resized to equal multiply-adds, has a network of its own. Backbones (pretrained
EfficientNet-Lite0) are frozen: seeds vary policies, classifiers and order. On mocap15 the focus
network is fine-tuned once before, on patches around the actor, and those of whole frames on whole
frames; all others keep their image weights. Clips are decoded once; every finished cell is a file
in WORK and not repeated.

    python -m benchmarks.adafocus MOCAP15 WORK --clips train=600,val=60,test=300
    python -m benchmarks.adafocus FIGHT_SURV WORK --seeds 0 --cells v2 motion-patch
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks import record
from benchmarks.fights import mean_over_folds
from benchmarks.train_default import command, processor_seconds
from torch.utils.flop_counter import FlopCounterMode

import foveate
from foveate.core import Budget, InputSpec, Window
from foveate.data import Dataset, Record, folds, read, samplers
from foveate.data.prepare import Centre, to_float
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import compare, interval
from foveate.models import create
from foveate.models.adafocus_card import coarse_to_fine
from foveate.models.adafocus_policies import PoolingClassifier
from foveate.models.layers.crop import crop_at
from foveate.models.macs import count_macs
from foveate.models.weights.run import load_run
from foveate.pipeline.adafocus import AdaFocusExecutor
from foveate.train.initial_model import build_initial_model
from foveate.train.kit import randomness
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.optim import decay_groups
from foveate.train.kit.schedule import make_schedule
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.recipes.adafocus.config import SMALL, AdaFocusConfig
from foveate.train.recipes.adafocus.networks import CANDIDATES
from foveate.train.recipes.adafocus.objectives import every
from foveate.train.recipes.adafocus.recipe import CALIBRATION, RECIPE
from foveate.train.recipes.supervised import SupervisedConfig

FRAMES, SIZE, GLANCE, PATCH, ACTIONS = 8, 160, 96, 64, 9
RESIZE = 116  # side of whole frames of as many multiply-adds as glance and patch
DRAWS = 2  # random patches of a clip to train on, and as many others to test on
JITTER = 20  # pixels by which patches are moved when the focus network is fine-tuned
EXTENT = PATCH / SIZE  # of a window, by the shorter side of the source
LEARNED = ("v1", "v2", "uni")
FIXED = ("motion-patch", "random", "centre", "oracle")
WHOLE = ("full", "resize")
CELLS = ("v2", "motion-patch", "random", "centre", "oracle", "resize", "full", "v1", "uni")


# --- data -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """The clips, decoded once, and where to look in them.

    Attributes:
        work: Folder of everything that is computed.
        dataset: With its classes.
        records: The clips.
        rate: Candidate frames per second.
        folds: Fold of each clip, None where there are splits.
    """

    work: Path
    dataset: Dataset
    records: list[Record]
    rate: float
    folds: list[int] | None

    @cached_property
    def labels(self) -> torch.Tensor:
        """(N,) classes."""
        return torch.tensor([self.dataset.indices(r)[0] for r in self.records])

    @cached_property
    def frames(self) -> torch.Tensor:
        """(N, candidates, 3, S, S) uint8, on disk."""
        found: torch.Tensor = torch.from_numpy(np.load(self.work / "frames.npy", mmap_mode="c"))
        return found

    @cached_property
    def actor(self) -> torch.Tensor:
        """(N, candidates, 2) row and column in 0..1 of the patch around the actor."""
        return torch.from_numpy(np.load(self.work / "places.npz")["actor"])

    def places(self, name: str) -> torch.Tensor:
        """(N, frames, 2) row and column in 0..1 of patches in the frames that V2 sees."""
        if name == "centre":
            return torch.full((len(self.records), FRAMES, 2), 0.5)
        if name == "oracle":
            return self.actor[:, 1::CANDIDATES]
        return torch.from_numpy(np.load(self.work / "places.npz")[name])

    def clips(self, rows: Sequence[int], candidates: bool = False) -> torch.Tensor:
        """(N, 3, T, S, S) uint8 of clips: the second of every three candidates, or all of them."""
        picked = self.frames[torch.as_tensor(rows)]
        return (picked if candidates else picked[:, 1::CANDIDATES]).transpose(1, 2)

    def rows(self, split: str, fold: int | None) -> list[int]:
        """Numbers of the clips of a split; in folds, four or five training groups validate.

        Policies and classifiers are trained on `train`, every second clip of `focus`.
        """
        if self.folds is None:
            wanted = "train" if split == "focus" else split
            found = [i for i, r in enumerate(self.records) if r.split == wanted]
            return found[::2] if split == "train" else found
        test = [i for i, of in enumerate(self.folds) if of == fold]
        if split == "test":
            return test
        others = [i for i, of in enumerate(self.folds) if of != fold]
        groups = sorted({str(self.records[i].group) for i in others})
        held = set(groups[:: max(1, len(groups) // 4)])
        return [i for i in others if (str(self.records[i].group) in held) == (split == "val")]


def decode(study: Study) -> None:
    """Store the frames of all clips, and where motion and the truth are."""
    shape = (len(study.records), FRAMES * CANDIDATES, 3, SIZE, SIZE)
    file = np.lib.format.open_memmap(study.work / "frames.npy", "w+", np.uint8, shape)
    centre = Centre(SIZE)
    look = foveate.looks.MotionPatch(size=PATCH, source="flow", extent=EXTENT)
    places: dict[str, Any] = {
        "motion-patch": np.full((len(study.records), FRAMES, 2), 0.5, np.float32),
        "actor": np.full((len(study.records), shape[1], 2), 0.5, np.float32),
    }
    motion_seconds = 0.0
    for row, clip in enumerate(study.records):
        with foveate.Video(clip.path) as video:
            source = video.info.width, video.info.height
            end = video.info.duration or shape[1] / study.rate
            times = samplers.window(0.0, end, count=shape[1], rate=study.rate)
            pixels = video.frames(times, centre.decode_size(source)).pixels
            file[row] = centre(pixels, (), None)[0].numpy()
            step = (times[-1] - times[0]) / (len(times) - 1) * CANDIDATES
            window = Window(times[1], times[1] + FRAMES * step)
            since = time.process_time()
            plan = replace(look, rate=1 / step).plan(video, window, Budget())
            motion_seconds += time.process_time() - since
        if plan.boxes is not None:
            seen = np.asarray(times[1::CANDIDATES]) - 1e-3
            at = np.searchsorted(np.asarray(plan.times), seen)
            boxes = [plan.boxes[min(i, len(plan.boxes) - 1)] for i in at]
            places["motion-patch"][row] = [place_of(box, source) for box in boxes]
        truth = study.dataset.root / "truth" / f"{clip.path.stem}.json"
        if truth.is_file():
            track = json.loads(truth.read_text())["tracks"][0]["boxes"]
            actor = [track[min(round(t * 25), len(track) - 1)] for t in times]
            places["actor"][row] = [
                (0.5, 0.5) if box is None else place_of(box, source) for box in actor
            ]
    file.flush()
    places["motion seconds"] = np.array(motion_seconds / len(study.records))
    np.savez(study.work / "places.npz", **places)


def place_of(box: Sequence[float], source: tuple[int, int]) -> tuple[float, float]:
    """Row and column in 0..1 of the patch whose middle is that of a box of the source."""
    side = min(source)
    x, y = ((box[i] + box[i + 2]) / 2 - (source[i] - side) / 2 for i in (0, 1))
    row, column = ((v * SIZE / side - PATCH / 2) / (SIZE - PATCH) for v in (y, x))
    return min(max(row, 0.0), 1.0), min(max(column, 0.0), 1.0)


def study_of(data: Path, work: Path, clips: Mapping[str, int]) -> Study:
    """The clips of a data set with splits, thinned evenly, or in folds."""
    work.mkdir(parents=True, exist_ok=True)
    dataset = read(data)
    if "test" not in dataset.splits:
        names = [fold.name for fold in folds(dataset)]
        of = [names.index(r.split or "") for r in dataset.records]
        return Study(work, dataset, list(dataset.records), FRAMES * CANDIDATES / 2.0, of)
    kept: list[Record] = []
    for split in ("train", "val", "test"):
        rows = sorted(dataset.subset(split).records, key=lambda r: r.path.stem)
        count = min(clips.get(split, len(rows)), len(rows))
        kept += [rows[i * len(rows) // count] for i in range(count)]
    return Study(work, dataset, kept, FRAMES * CANDIDATES / 3.0, None)


@dataclass
class Known:
    """The part of a data set that recipes read; its clips come from a source in memory."""

    classes: tuple[str, ...]
    name: str
    multilabel: bool = False
    root: Any = None

    def digest(self, split: str) -> str:
        """Which clips a split has."""
        return f"{self.name} {split}"

    def subset(self, split: str) -> tuple[int, ...]:
        """A clip of the split of the exits, which are calibrated on the validation clips here."""
        return (0,) if split == CALIBRATION else ()


# --- networks -------------------------------------------------------------------------------------


def fine_tuned(study: Study, part: str) -> Path | None:
    """A run folder of a fine-tuned backbone; None for one that keeps its image weights.

    On mocap15 the focus network learns from patches around the actor, so that all policies have one
    that knows what to look for, and `full` and `resize` from whole frames; a few frames of every
    clip a step, out of all candidates.
    """
    if study.folds is not None or part == "glance":
        return None
    folder = study.work / f"net-{part}"
    if (folder / "run.json").exists():
        return folder
    side = {"focus": PATCH, "full": SIZE, "resize": RESIZE}[part]
    shown_frames, epochs = (4, 12) if part == "focus" else (2, 6)
    rows = study.rows("focus", None)

    def draw(row: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        at = torch.randperm(FRAMES * CANDIDATES, generator=random)[:shown_frames]
        shown = study.frames[row[0], at]
        if part == "focus":
            moved = torch.randint(-JITTER, JITTER + 1, (shown_frames, 2), generator=random)
            corners = (study.actor[row[0], at] * (SIZE - PATCH)).round().long() + moved
            shown = crop_at(shown, corners.clamp(0, SIZE - PATCH), PATCH)
        if torch.rand((), generator=random) < 0.5:
            shown = shown.flip(-1)
        return resized(shown.transpose(0, 1), side)

    def source(split: str, training: bool, spec: InputSpec, group: Any) -> Any:
        if split != "train":
            return None
        return TensorBatches(torch.tensor(rows)[:, None], study.labels[rows], 16, 0, draw=draw)

    config = SupervisedConfig(
        model=f"tsn:{SMALL}", freeze="none", size=side, frames=FRAMES, rate=study.rate, lr=5e-4,
        backbone_lr=1.0, epochs=epochs, accumulate=1, patience=None, workers=0,
        settings={"dropout": 0.2},
    )  # fmt: skip
    known: Any = Known(study.dataset.classes, "mocap15")
    timed(study, f"net-{part}", lambda: run_recipe(
        supervised.RECIPE, config, known, folder, (folder / "training.json").exists(),
        source=source, on_progress=lambda event: None,
    ))  # fmt: skip
    return folder


def resized(clip: torch.Tensor, side: int) -> torch.Tensor:
    """Frames (3, T, S, S) uint8 at another size."""
    if clip.shape[-1] == side:
        return clip
    scaled = F.interpolate(clip.float(), (side, side), mode="bilinear", antialias=True)
    return scaled.round().to(torch.uint8)


def timed(study: Study, name: str, call: Callable[[], Any]) -> Any:
    """Call, and store the processor seconds."""
    since = time.process_time()
    found = call()
    spent = time.process_time() - since
    file = study.work / "seconds.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: spent}))
    print(f"{name}: {spent:.0f} CPU s", flush=True)
    return found


# --- features of frozen backbones -----------------------------------------------------------------


def backbone(study: Study, part: str) -> Any:
    """A frozen backbone of the study, normalising uint8 frames itself."""
    folder = fine_tuned(study, part)
    start = build_initial_model(f"tsn:{SMALL}", study.dataset.classes, {})
    network: Any = start.model if folder is None else load_run(folder).network
    network.eval()
    spec = start.input

    @torch.no_grad()
    def features(clips: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = network.features(to_float(clips, spec.mean, spec.std))
        return found

    return features


def features(study: Study, name: str) -> torch.Tensor:
    """(N, draws, T, C) of all clips: patches at the places `name`, or whole frames; stored."""
    file = study.work / f"features-{name}.npy"
    if file.exists():
        return torch.from_numpy(np.load(file))
    part = name if name in ("glance", *WHOLE) else "focus"
    network, rows = backbone(study, part), []
    side = {"glance": GLANCE, "resize": RESIZE}.get(name, SIZE)
    draws = [torch.rand(len(study.records), FRAMES, 2, generator=randomness.generator("at", d))
             for d in range(2 * DRAWS)] if name == "random" else [study.places(name)] \
        if part == "focus" else [None]  # fmt: skip

    def compute() -> None:
        for i in range(len(study.records)):
            clip = study.clips([i])
            found = []
            for places in draws:
                if places is None:
                    found.append(network(resized(clip[0], side)[None]))
                else:
                    corners = (places[i] * (SIZE - PATCH)).round().long()
                    patches = crop_at(clip[0].transpose(0, 1), corners, PATCH)
                    found.append(network(patches.transpose(0, 1)[None]))
            rows.append(torch.cat(found))

    timed(study, f"features-{name}", compute)
    np.save(file, torch.stack(rows).numpy())
    return torch.stack(rows)


def classified(
    study: Study, x: torch.Tensor, others: torch.Tensor | None, seed: int, fold: int | None,
    epochs: int, tested: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Logits (draws, tested clips, classes) of V2's classifier, trained as the recipe trains it.

    Args:
        study: The clips.
        x: (N, draws, T, C), of which one draw a step.
        others: (N, draws, T, C), the random patches of the second half of the loss; None for none.
        seed: Of the classifier and the order.
        fold: That is tested.
        epochs: Of training; the best one on the validation clips counts.
        tested: (N, draws, T, C) for the tested clips, if others than `x`.
    """
    train, val, test = (torch.tensor(study.rows(s, fold)) for s in ("train", "val", "test"))
    config = AdaFocusConfig(epochs=epochs)
    randomness.seed_all(seed, "weights")
    head = PoolingClassifier(
        x.shape[-1], len(study.dataset.classes), FRAMES, config.pooled, config.dropout
    )
    optimizer = torch.optim.AdamW(
        decay_groups(head, config.lr * config.classifier_lr, config.weight_decay)
    )
    steps = -(-len(train) // config.batch)
    schedule = make_schedule("cosine", steps * epochs, steps)
    order, best, kept = coarse_to_fine(FRAMES), (-1.0, 0.0), head.state_dict()
    for epoch in range(epochs):
        head.train()
        random = randomness.generator(seed, "order", epoch)
        for step, at in enumerate(torch.randperm(len(train), generator=random).split(config.batch)):
            rows, loss = train[at], torch.zeros(())
            for draws in (x,) if others is None else (x, others):
                drawn = torch.randint(draws.shape[1], (len(rows),), generator=random)
                logits, _ = head(draws[rows, drawn][:, order])
                loss = loss + every(logits, study.labels[rows]).mean()
            for group in optimizer.param_groups:
                group["lr"] = config.lr * config.classifier_lr * schedule(epoch * steps + step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
        head.eval()
        with torch.no_grad():
            logits = head(x[val, 0][:, order])[0][:, -1]
        score = (
            float((logits.argmax(1) == study.labels[val]).float().mean()),
            -float(F.cross_entropy(logits, study.labels[val])),
        )
        if score > best:
            best = score
            kept = {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    shown = x if tested is None else tested
    with torch.no_grad():
        return torch.stack([head(shown[test, d][:, order])[0][:, -1]
                            for d in range(shown.shape[1])])  # fmt: skip


def beside(study: Study, focus: torch.Tensor) -> torch.Tensor:
    """The glance's features beside those of patches (N, draws, T, C)."""
    return torch.cat([features(study, "glance").expand(-1, focus.shape[1], -1, -1), focus], -1)


# --- cells ----------------------------------------------------------------------------------------


def fixed(study: Study, name: str, seed: int, fold: int | None, epochs: int) -> dict[str, Any]:
    """A policy that is not learned, or whole frames."""
    since = time.process_time()
    if name in WHOLE:
        logits = classified(study, features(study, name), None, seed, fold, epochs)
        return {"right": right_of(study, logits, fold), "seconds": time.process_time() - since}
    random = beside(study, features(study, "random"))
    if name == "random":
        train, tested = random[:, :DRAWS], random[:, DRAWS:]
        logits = classified(study, train, train, seed, fold, epochs, tested)
        return {"right": right_of(study, logits, fold), "seconds": time.process_time() - since}
    x = beside(study, features(study, name))
    logits = classified(study, x, random[:, :DRAWS], seed, fold, epochs)
    return {
        "right": right_of(study, logits, fold), "seconds": time.process_time() - since,
        "from actor": distance(study, study.places(name), fold),
    }  # fmt: skip


def right_of(study: Study, logits: torch.Tensor, fold: int | None) -> list[float]:
    """For each tested clip whether it is right, the mean over draws (draws, clips, classes)."""
    truth = study.labels[study.rows("test", fold)]
    found: list[float] = (logits.argmax(2) == truth).float().mean(0).tolist()
    return found


def distance(study: Study, places: torch.Tensor, fold: int | None) -> float | None:
    """Mean distance of the patch from the true place on tested clips, in pixels of the frame."""
    if study.folds is not None:
        return None
    rows = study.rows("test", fold)
    moved = (places - study.places("oracle"))[rows] * (SIZE - PATCH)
    return float(moved.norm(dim=-1).mean())


def learned(study: Study, variant: str, seed: int, fold: int | None, epochs: int) -> dict[str, Any]:
    """A variant trained by the recipe; V2's and V1's places also with a classifier of their own."""
    nets = {part: fine_tuned(study, part) for part in ("glance", "focus")}
    folder = study.work / f"run-{variant}-{seed}-{fold}"

    def source(split: str, training: bool, spec: InputSpec, group: Any) -> Any:
        rows = study.rows("val" if split == CALIBRATION else split, fold)
        clips = study.clips(rows, spec.clip_frames > FRAMES)
        return TensorBatches(clips, study.labels[rows], 16, seed if training else None)

    config = AdaFocusConfig(
        variant=variant, **{part: str(path or SMALL) for part, path in nets.items()},
        freeze="backbone", frames=FRAMES, size=SIZE, glance_size=GLANCE, patch=PATCH,
        actions=ACTIONS, epochs=epochs, augment="none",
        stages=(0, epochs // 2, 2 * epochs, epochs // 2),
        flip=False, calibration=0.0, workers=0, accumulate=1, seed=seed, rate=study.rate / 3,
    )  # fmt: skip
    known: Any = Known(study.dataset.classes, f"{study.work.name} {fold}")
    shared = study.work / f"grid-{fold}"
    if variant == "v1" and not folder.exists():  # seeds share the features of frozen backbones
        shared.mkdir(exist_ok=True)
        folder.mkdir()
        (folder / "features").symlink_to(shared.resolve())
    since = time.process_time()
    begun = (folder / "training.json").exists()
    summary = run_recipe(
        RECIPE, config, known, folder, begun, source=source, on_progress=lambda event: None
    )
    # Of a run that was resumed, the time is not known.
    spent = None if begun else time.process_time() - since
    found: dict[str, Any] = {"seconds": spent, "figures": summary.figures}
    network: Any = load_run(folder).networks["network"]
    spec = load_run(folder).input
    order = coarse_to_fine(FRAMES) if variant == "v2" else list(range(spec.clip_frames))
    test = study.rows("test", fold)
    logits, acted, windows = [], [], []
    since = time.process_time()
    for i in test:
        x = to_float(study.clips([i], variant == "uni"), spec.mean, spec.std)[:, :, order]
        with torch.no_grad():
            steps = network.steps(x.transpose(1, 2))
        logits.append(steps.logits[0, -1])
        acted.append(steps.actions[0])
        windows.append(steps.windows[0])
    found["test_seconds"] = time.process_time() - since
    found["right"] = right_of(study, torch.stack(logits)[None], fold)
    sides = torch.stack(windows)
    found["side"] = float((sides[..., 2:] - sides[..., :2]).float().mean())
    if variant != "uni":
        places = torch.zeros(len(study.records), FRAMES, 2)
        places[torch.tensor(test)[:, None], torch.tensor(order)] = torch.stack(acted)
        found["from actor"] = distance(study, places, fold)
        found["spread"] = float(torch.stack(acted).std((0, 1)).mean())
    return found


def downhill(study: Study, split: str) -> dict[str, float]:
    """Whether the gradient of V2's loss leads a patch at a random place to the actor.

    Args:
        study: Of mocap15.
        split: Every fourth of its clips is used.

    Returns:
        Over the frames whose patch shows a part of the patch around the actor, and over the others:
        the share in which a step downhill comes nearer to the actor (half by chance), the mean size
        of the gradient, and the number of frames.
    """
    loaded = load_run(study.work / "run-v2-0-None")
    network: Any = loaded.networks["network"]
    spec, order = loaded.input, coarse_to_fine(FRAMES)
    rows = study.rows(split, None)[::4]
    random = randomness.generator("downhill")
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for i in rows:
        x = to_float(study.clips([i]), spec.mean, spec.std)[:, :, order].transpose(1, 2)
        places = torch.rand(1, FRAMES, 2, generator=random).requires_grad_()
        with torch.no_grad():
            _, glance = network.look(x)
        focus = network.focus(network.cut(x, network.squares(places)))
        every(network.answer(glance, focus, {})[0], study.labels[[i]]).sum().backward()
        assert places.grad is not None
        away = (study.actor[i, 1::CANDIDATES][order] - places.detach()[0]) * (SIZE - PATCH)
        nearer = ((-places.grad[0] * away).sum(-1) > 0).float()
        for frame in range(FRAMES):
            near = bool(away[frame].abs().max() < PATCH)
            found[near].append((float(nearer[frame]), float(places.grad[0, frame].norm())))
    table = {}
    for near, name in ((True, "overlapping"), (False, "apart")):
        share, size = np.mean(found[near], 0)
        table |= {f"nearer, {name}": float(share), f"gradient, {name}": float(size),
                  f"frames, {name}": float(len(found[near]))}  # fmt: skip
    return table


def cell(study: Study, name: str, seed: int, fold: int | None, epochs: int) -> dict[str, Any]:
    """One cell of the table, measured or read."""
    file = study.work / "cells" / f"{name}-{seed}-{fold}.json"
    if not file.exists():
        since = time.process_time()
        make = learned if name in LEARNED else fixed
        found = make(study, name, seed, fold, epochs)
        found |= {"name": name, "seed": seed, "fold": fold}
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found))
        right, spent = np.mean(found["right"]), (time.process_time() - since) / 3600
        print(f"{name} seed {seed} fold {fold}: {right:.3f}, {spent:.3f} CPU hours "
              f"{ {k: v for k, v in found.items() if k != 'right'} }", flush=True)  # fmt: skip
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


# --- the table ------------------------------------------------------------------------------------


def rows_of(study: Study, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The stored cells by name, whole: of a data set in folds, of every seed all folds or none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((study.work / "cells").glob("*.json")):
        one = json.loads(file.read_text())
        if one["name"] in names:
            found.setdefault(one["name"], []).append(one)
    return found


def scored(study: Study, cells: Sequence[Mapping[str, Any]]) -> Any:
    """(N,) of all clips the mean over seeds of whether they are right; NaN where not tested."""
    seeds = sorted({one["seed"] for one in cells})
    right = np.full((len(seeds), len(study.records)), np.nan)
    for one in cells:
        right[seeds.index(one["seed"]), study.rows("test", one["fold"])] = one["right"]
    return right.mean(0)


def figures_of(study: Study, heroes: Sequence[str] = ("v2", "motion-patch")) -> dict[str, Any]:
    """Accuracy with intervals, paired differences, and costs of every row."""
    found = rows_of(study, CELLS)
    spent = json.loads((study.work / "seconds.json").read_text())
    values = {name: scored(study, cells) for name, cells in found.items()}
    prices = costs(study)
    table: dict[str, Any] = {}
    for name, cells in found.items():
        clips = np.flatnonzero(~np.isnan(values[name]))
        groups = [study.records[i].group or i for i in clips]
        top1 = interval(statistic(study, values[name], clips), len(clips), groups)
        row: dict[str, Any] = {
            "top1": top1.value, "low": top1.low, "high": top1.high, "n": len(clips),
            "by_seed": {
                str(seed): float(np.nanmean(scored(study, [c for c in cells if c["seed"] == seed])))
                for seed in sorted({c["seed"] for c in cells})
            },
            "training_cpu_seconds": training_seconds(study, cells, spent),
        } | prices[name]  # fmt: skip
        for key in ("from actor", "spread", "side"):
            known = [c[key] for c in cells if c.get(key) is not None]
            if known:
                row[key.replace(" ", "_")] = float(np.mean(known))
        if name == "v2" and study.folds is None:
            row["downhill"] = {split: downhill(study, split) for split in ("train", "test")}
        for hero in heroes:
            if hero not in values or hero == name:
                continue
            both = np.flatnonzero(~np.isnan(values[name] + values[hero]))
            if not len(both):
                continue
            other = compare(
                statistic(study, values[hero], both), statistic(study, values[name], both),
                len(both), [study.records[i].group or i for i in both],
            )  # fmt: skip
            row[f"{hero} less this"] = {
                "difference": other.difference, "low": other.low, "high": other.high,
                "found": other.found, "n": len(both),
            }  # fmt: skip
        table[name] = row
    return {"rows": table, "shared_cpu_seconds": spent}


def training_seconds(
    study: Study, cells: Sequence[Mapping[str, Any]], spent: Mapping[str, float]
) -> float | None:
    """CPU seconds of one training: policy and classifier, features of its clips included."""
    name, fold = cells[0]["name"], cells[0]["fold"]
    # The first cell that needs features also computes those of all clips: they are added below.
    known = [cell["seconds"] for cell in cells if cell["seconds"] is not None]
    seconds = float(min(known)) if known else None
    if name in LEARNED or seconds is None:
        return seconds
    used = len(study.rows("train", fold)) + len(study.rows("val", fold))
    needed = {f"features-{name}": 1.0}
    if name in FIXED:
        needed |= {"features-glance": 1.0, "features-random": 0.5}
    total = sum(share * spent[key] for key, share in needed.items())
    return seconds + total * used / len(study.records)


def statistic(study: Study, values: Any, clips: Any) -> Any:
    """Mean over some clips, or over folds the mean within."""
    if study.folds is None:
        return metrics.mean(values[clips])
    return mean_over_folds(values[clips], [study.folds[i] for i in clips])


@torch.no_grad()
def costs(study: Study) -> dict[str, dict[str, float]]:
    """Multiply-adds, parameters of the policy and CPU milliseconds of a clip, for every row.

    Milliseconds are medians over rounds in which all rows take turns; those of a motion patch
    include choosing it, those of no row decoding.
    """
    backbone, classes = SMALL, len(study.dataset.classes)
    shared = {"glance": backbone, "focus": backbone, "size": SIZE, "glance_size": GLANCE,
              "patch": PATCH}  # fmt: skip
    config = AdaFocusConfig()
    nets: dict[str, Any] = {
        "v1": create("adafocus-v1", num_classes=classes, actions=ACTIONS, hidden=config.hidden,
                     **shared),
        "v2": create("adafocus-v2", num_classes=classes, exits=FRAMES, hidden=config.hidden,
                     pooled=config.pooled, **shared),
        "uni": create("uni-adafocus", num_classes=classes, glances=FRAMES, focuses=FRAMES,
                      pooled=config.pooled, **shared),
        "whole": create(f"tsn:{backbone}", num_classes=classes),
    }  # fmt: skip
    v2 = nets["v2"]
    calls: dict[str, Callable[[], Any]] = {}
    found: dict[str, dict[str, float]] = {}
    clip = torch.rand(1, FRAMES * CANDIDATES, 3, SIZE, SIZE)
    for name in LEARNED:
        net = nets[name].eval()
        candidates = FRAMES * CANDIDATES if name == "uni" else FRAMES
        spec = InputSpec(SIZE, 1.0, candidates)
        macs = list(AdaFocusExecutor(net, spec).exit_macs().values())[-1]
        weights = [p.numel() for n, p in net.named_parameters() if "policy" in n.split(".")[0]]
        found[name] = {"macs": float(macs), "policy_parameters": float(sum(weights))}
        calls[name] = partial(net.steps, clip[:, :candidates])
    places = torch.full((1, FRAMES, 2), 0.5)

    def patches() -> None:
        _, glance = v2.look(clip[:, :FRAMES])
        v2.answer(glance, v2.focus(v2.cut(clip[:, :FRAMES], v2.squares(places))), {})

    maps = torch.rand(1, FRAMES, v2.glance.map_channels, v2.cells, v2.cells)
    with FlopCounterMode(display=False) as counter:
        v2.policy(maps)
    policy = counter.get_total_flops() // 2
    for name in FIXED:
        found[name] = {"macs": found["v2"]["macs"] - policy, "policy_parameters": 0.0}
    calls["fixed"] = patches
    for name, side in (("full", SIZE), ("resize", RESIZE)):
        shape = (1, 3, FRAMES, side, side)
        found[name] = {"macs": float(count_macs(nets["whole"], shape)), "policy_parameters": 0.0}
        calls[name] = partial(nets["whole"].eval(), torch.rand(shape))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(12):
        for name, call in calls.items():
            since = time.process_time()
            call()
            times[name].append(time.process_time() - since)
    medians = {name: 1e3 * float(np.median(rows)) for name, rows in times.items()}
    choosing = 1e3 * float(np.load(study.work / "places.npz")["motion seconds"])
    for name, row in found.items():
        row["cpu_ms"] = medians["fixed" if name in FIXED else name]
        row["selector_cpu_ms"] = choosing if name == "motion-patch" else 0.0
    return found


def small(data: Path, epochs: int | None) -> dict[str, Any]:
    """`foveate train --recipe adafocus` with its defaults: processor time, memory and accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words: list[object] = ["train", data.resolve(), "--format", "folders", "--recipe",
                               "adafocus", "--no-check", "--out", out]  # fmt: skip
        words += [] if epochs is None else ["--set", f"epochs={epochs}"]
        before = processor_seconds()
        command(Path(__file__).parents[1] / "src", *words)
        spent = processor_seconds() - before
        timing = json.loads((out / "timing.jsonl").read_text("utf-8").splitlines()[-1])
        return {
            "cpu_minutes": spent / 60, "peak_mb": timing["peak_memory_mb"],
            "epochs": timing["epochs"], "steps": timing["steps"], "figures": timing["figures"],
            "weights_mb": (out / "model.safetensors").stat().st_size / 1e6,
        }  # fmt: skip


def main() -> None:
    """Measure the cells that are not stored yet, and write the result with `--name`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with clips.csv")
    parser.add_argument("work", type=Path, help="folder of everything that is computed")
    parser.add_argument("--clips", default="", help="at most so many, such as train=600,test=300")
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=CELLS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, nargs="+", help="of a data set in folds; all")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--name", help="write results/NAME.json from the stored cells")
    parser.add_argument("--small", action="store_true", help="train by the command instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.small:
        found = small(options.data, options.epochs)
        print(found)
        record.write(
            "adafocus_training",
            f"foveate train --recipe adafocus on 240 clips with its defaults, except "
            f"epochs={options.epochs}: 168 training clips (default split, seed 0), a fifth of them "
            "for the exits; one thread, two loading processes, beside other load; CPU time is user "
            "+ system of all processes, calibration and timing of the exits included",
            168, found, (0,),
        )  # fmt: skip
        return
    pairs = (one.partition("=") for one in options.clips.split(",") if one)
    study = study_of(options.data, options.work, {split: int(count) for split, _, count in pairs})
    if not (study.work / "places.npz").exists():
        timed(study, "decode", lambda: decode(study))
    which = [None] if study.folds is None else options.folds or sorted(set(study.folds))
    for seed in options.seeds:
        for name in options.cells:
            for fold in which:
                cell(study, name, seed, fold, options.epochs)
    if options.name is None:
        return
    figures = figures_of(study)
    for name, row in figures["rows"].items():
        print(name, row, flush=True)
    trained = len(study.rows("train", which[0]))
    about = (
        f"FS-4 (real), {trained} training clips in the first fold, image weights"
        if study.folds is not None
        else f"mocap15 (rendered), {trained} training clips, {len(study.rows('val', None))} for "
        "validation; focus network fine-tuned on patches around the actor, those of whole frames "
        "on whole frames; others with image weights"
    )
    record.write(
        options.name,
        f"{about}; backbones EfficientNet-Lite0, frozen; {FRAMES} frames of {SIZE} pixels, glance "
        f"{GLANCE}, patches {PATCH}, resize {RESIZE}; {options.epochs} epochs, best on validation; "
        "V1, V2 and Uni by the recipe adafocus, others with V2's classifier trained alike; random: "
        f"{DRAWS} draws; 95 % percentile bootstrap over groups, paired; CPU ms: one thread, "
        "without decoding",
        int(max(row["n"] for row in figures["rows"].values())), figures,
        tuple(sorted({int(s) for row in figures["rows"].values() for s in row["by_seed"]})),
    )  # fmt: skip


if __name__ == "__main__":
    main()
