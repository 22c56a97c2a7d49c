"""All methods of this package, and combinations of them, on the same clips: one table.

    OMP_NUM_THREADS=1 python -m benchmarks.combinations WORK --fights FIGHT_SURV \\
        --mocap15 MOCAP15 --boxes BOXES --lsts RUN

Every method and combination is a pipeline of `SYSTEMS` (trained, briefly) or of `USES` (another use
of one of their run folders). What is trained already in WORK is not trained again, and an
interrupted training is continued; the tables are those of the command `foveate bench`. FS-4 is
split by source: folds 0 and 1 for training and validation, 2 and 3 for the test. Of mocap15 some
actions are taken. All videos are H.264 with a key frame every twelve frames, so that every method
reads the same files. LSTS finds objects, not classes: it is compared on BOXES (rendered by
`foveate data make mocap15 --mode detection`), with a run folder of `benchmarks.lsts trained`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.record import RESULTS, write

import foveate
from foveate.data import Dataset, read
from foveate.data.splits import held_out
from foveate.evaluate.run import compare_runs
from foveate.media.encode import with_vectors
from foveate.media.transcode import transcode
from foveate.primitives.pipeline import Pipeline

NAME = "combinations"
GOP = 12
ACTIONS = ("cartwheel", "crawl", "jump", "roll", "walk")
CLIPS = {"train": 20, "val": 4, "test": 20}  # of every action
LITE0 = "efficientnet_lite0.imagenet_lite0"
SMALL = "mobilenetv3_small_050"
VIDEOS = 15  # with boxes
TIME = "seconds.json"  # in a run folder: what its training took
SURE = 0.8  # probability at which an exit counts; there are too few clips to calibrate one
CLIP = {"kind": "uniform", "frames": 10, "rate": 5.0}
MOVINET = {
    "sampler": CLIP, "recogniser": {"kind": "movinet", "weights": "k600"},
    "training": {"kind": "supervised", "freeze": "backbone", "epochs": 60, "lr": 1e-3,
                 "label_smoothing": 0.1, "workers": 0, "settings": {"patience": None}},
}  # fmt: skip
CASCADE = {
    "recogniser": {"kind": "compressed", "mv": LITE0, "residual": LITE0, "size": 112, "exits": 2},
    "stopping": {"kind": "calibrated", "threshold": SURE},
    "training": {"kind": "compressed", "epochs": 6, "iframe_epochs": 4, "head_epochs": 30,
                 "settings": {"head_views": 1, "timed": 4, "groups": 6}},
}  # fmt: skip
ADAMML = {
    "recogniser": {"kind": "adamml", "visual": LITE0, "motion": SMALL, "policy": SMALL,
                   "size": 112, "frames": 4, "segments": 2},
    "training": {
        "kind": "adamml", "policy_epochs": 8, "warmup_epochs": 1, "joint_epochs": 20,
        "tune_epochs": 0, "lambdas": [0.1],
        "settings": {"epochs": 20, "visual_epochs": 5, "joint": "policy-layers", "timed": 4},
    },
}  # fmt: skip


def _with(values: Mapping[str, Any], **recogniser: Any) -> dict[str, Any]:
    return {**values, "recogniser": {**values["recogniser"], **recogniser}}


# Name in the table → its pipeline.
SYSTEMS: dict[str, dict[str, Any]] = {
    "movinet": MOVINET,
    "motion-patch": {**MOVINET, "look": {"kind": "motion-patch", "size": 104}},
    "adafocus": {
        "sampler": {"kind": "uniform", "frames": 8},
        "recogniser": {"kind": "adafocus", "glance": LITE0, "focus": LITE0, "size": 160,
                       "glance_size": 96, "patch": 96},
        "look": {"kind": "adafocus", "chunk": 8}, "stopping": "at-end",
        "training": {"kind": "adafocus", "freeze": "backbone", "epochs": 8, "workers": 0,
                     "settings": {"timed": 4}},
    },
    "compressed": CASCADE,
    "adamml": _with(ADAMML, modalities=["rgb", "mv"]),
    "autovideo-tsm": {
        "sampler": {"kind": "segments", "frames": 8},
        "transforms": [{"kind": "resize", "size": 112}, "flip"],
        "recogniser": {"kind": "tsm", "backbone": LITE0},
        "training": {"kind": "supervised", "freeze": "none", "epochs": 5, "batch": 8, "lr": 2e-3,
                     "backbone_lr": 0.1, "workers": 0,
                     "settings": {"patience": None, "accumulate": 1}},
    },
    "resnet3d-rs": {
        "sampler": {"kind": "segments", "frames": 8},
        "transforms": [{"kind": "resize", "size": 80}, "flip"],
        "recogniser": {"kind": "resnet3d-rs", "width": 16},
        "training": {"kind": "supervised", "epochs": 8, "batch": 8, "lr": 2e-3, "workers": 0,
                     "settings": {"patience": None, "accumulate": 1}},
    },
    "compressed-movinet": {
        **_with(CASCADE, iframe="movinet-a0-stream-lite.k600", segments=5),
        "training": {**CASCADE["training"],
                     "settings": {**CASCADE["training"]["settings"], "drawn": 5}},
    },
    "adamml-patch": _with(ADAMML, modalities=[{"kind": "patch", "size": 64}, "mv"]),
}  # fmt: skip
# Name of a combination → the run folder that it uses, and how.
USES: dict[str, tuple[str, dict[str, Any]]] = {
    "adafocus-motion-exits": ("adafocus", {
        "look": {"kind": "adafocus", "patches": "motion-patch"},
        "stopping": {"kind": "calibrated", "threshold": SURE},
    }),
    "movinet-patch-engine": ("motion-patch", {
        "look": {"kind": "motion-patch", "size": 104}, "engine": {"name": "openvino"},
    }),
}  # fmt: skip
# Stages of a training that are those of an earlier one: the same networks on the same inputs.
SHARED = {
    "compressed-movinet": ("compressed", ("networks/mv", "networks/residual")),
    "adamml-patch": ("adamml", ("stages/only-mv", "stages/only-policy-mv")),
}
# Name of a combination → the method that it is a change of.
ALONE = {
    "compressed-movinet": "compressed", "adamml-patch": "adamml",
    "adafocus-motion-exits": "adafocus", "movinet-patch-engine": "motion-patch",
}  # fmt: skip
# Name of a detector → the folder in the run of the recipe `lsts`, and its look.
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "every-frame": ("frames", {"every": 1}),
    "lsts": ("", {"every": 10, "between": "nonkey"}),
    "lsts-codec": ("", {"every": "codec", "between": "nonkey"}),
}
PROTOCOL = (
    "foveate bench on the split test, H.264 with a key frame every 12 frames; FS-4 scaled to "
    "340x256, folds 0 and 1 for training and validation, 2 and 3 for the test, sources apart; "
    f"mocap15 (rendered) {', '.join(ACTIONS)}, {CLIPS['train']} training, {CLIPS['val']} "
    f"validation and {CLIPS['test']} test clips each; top-1 of whole clips with a 95 % percentile "
    "bootstrap over groups (differences paired); executed multiply-adds per clip; CPU milliseconds "
    "per clip of one thread, everything included; boxes: mAP50 over test clips, per frame; trained "
    "briefly, one seed"
)


# --- data ---------------------------------------------------------------------------------------


def _encoded(dataset: Dataset, out: Path, size: tuple[int, int] | None) -> None:
    """Write the clips of a data set, and `clips.csv` with their splits and groups."""
    rows = []
    for record in dataset.records:
        name = Path(str(record.split)) / record.labels[0] / f"{record.path.stem}.mp4"
        target = out / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            transcode(record.path, target, with_vectors("h264", GOP), size=size)
        rows.append([name.as_posix(), record.labels[0], record.split, record.group])
    with (out / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group"])
        writer.writerows(rows)


def fights(source: Path, out: Path) -> None:
    """FS-4 in two halves; a fifth of the training clips, whole sources, for validation."""
    whole = read(source)
    splits = {"0": "train", "1": "train", "2": "test", "3": "test"}
    records = tuple(replace(one, split=splits[str(one.split)]) for one in whole.records)
    _encoded(held_out(replace(whole, records=records), "train", 0.2, "val"), out, (340, 256))


def mocap15(source: Path, out: Path) -> None:
    """The first clips of some actions."""
    whole, taken = read(source), Counter[tuple[str, str]]()
    kept = []
    for record in whole.records:
        key = str(record.split), record.labels[0]
        if key[1] in ACTIONS and taken[key] < CLIPS[key[0]]:
            taken[key] += 1
            kept.append(record)
    _encoded(replace(whole, records=tuple(kept)), out, None)


def boxes(source: Path, out: Path) -> None:
    """The first test clips with boxes, and what is annotated of them."""
    found = json.loads((source / "annotations" / "test.json").read_text("utf-8"))
    found["videos"] = found["videos"][:VIDEOS]
    for key, link, of in (("images", "video_id", "videos"), ("annotations", "image_id", "images")):
        kept = {one["id"] for one in found[of]}
        found[key] = [one for one in found[key] if one[link] in kept]
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    (out / "annotations" / "test.json").write_text(json.dumps(found), "utf-8")
    for video in found["videos"]:
        target = out / video["file_name"]
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            transcode(source / video["file_name"], target, with_vectors("h264", GOP))


# --- training and measuring ---------------------------------------------------------------------


def train(data: Path, models: Path) -> None:
    """Train every pipeline of `SYSTEMS` that is not there yet, and write those of `USES`."""
    torch.set_num_threads(1)
    for name, values in SYSTEMS.items():
        folder = models / name
        state = folder / "training.json"
        if (folder / TIME).is_file():
            continue
        other, stages = SHARED.get(name, ("", ()))
        for stage in () if state.is_file() else stages:
            shutil.copytree(models / other / stage, folder / stage, dirs_exist_ok=True)
        began = time.process_time()
        foveate.fit(values, data, out=folder, resume=state.is_file(), offline=True)
        spent = time.process_time() - began
        (folder / TIME).write_text(json.dumps({"cpu_seconds": spent}), "utf-8")
        print(f"{data.name} {name}: {spent:.0f} s", flush=True)
    for name, (run, use) in USES.items():
        model = {"recogniser": {"kind": "model", "name": str(models / run)}, **use}
        Pipeline.model_validate(model).write(models / f"{name}.yaml")


def bench(data: Path, models: Path, names: Sequence[str]) -> dict[str, Any]:
    """The table of `foveate bench` by the names of the models; it and its plot lie beside them.

    A combination is also compared with what it was made of, on the same clips.
    """
    presets = {
        name: f"{models / name}.yaml" if (models / f"{name}.yaml").is_file() else models / name
        for name in names
    }
    table = foveate.bench(presets, data, split="test", offline=True, threads=1)
    (models / "table.md").write_text(table.markdown(), "utf-8")
    (models / "bench.svg").write_text(table.svg("cpu-ms"), "utf-8")
    rows = {row["name"]: row for row in table.figures()["rows"]}
    for name, row in rows.items():
        spent = models / name / TIME
        if spent.is_file():
            row["training_cpu_seconds"] = json.loads(spent.read_text("utf-8"))["cpu_seconds"]
        if name in ALONE:
            less = compare_runs(table.evaluations[name], table.evaluations[ALONE[name]])
            row["less"] = {"than": ALONE[name], **asdict(less)}
    return rows


def detectors(run: Path, models: Path) -> None:
    """Write a pipeline for each row of `DETECTORS`."""
    models.mkdir(parents=True, exist_ok=True)
    for name, (folder, look) in DETECTORS.items():
        model = {
            "recogniser": {"kind": "model", "name": str((run / folder).resolve())},
            "look": {"kind": "key-frames", **look},
        }
        Pipeline.model_validate(model).write(models / f"{name}.yaml")


def main() -> None:
    """Run from the command line; a result is written after each table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of everything that is computed")
    makers: dict[str, Callable[[Path, Path], None]] = {
        "fights": fights, "mocap15": mocap15, "boxes": boxes,
    }  # fmt: skip
    for name in makers:
        parser.add_argument(f"--{name}", type=Path, help="the data; left out if not given")
    parser.add_argument("--lsts", type=Path, help="run folder of the recipe lsts, for --boxes")
    parser.add_argument("--train-only", action="store_true", help="measure nothing")
    given = parser.parse_args()
    if given.boxes is not None and given.lsts is None:
        parser.error("--boxes needs --lsts")
    path = RESULTS / f"{NAME}.json"
    figures = json.loads(path.read_text("utf-8"))["figures"] if path.is_file() else {}
    for name, make in makers.items():
        source = getattr(given, name)
        if source is None:
            continue
        data, models = given.work / name, (given.work / f"{name}-models").resolve()
        make(source, data)
        if name == "boxes":
            detectors(given.lsts, models)
        else:
            train(data, models)
        if given.train_only:
            continue
        names = list(DETECTORS) if name == "boxes" else [*SYSTEMS, *USES]
        figures[name] = bench(data, models, names)
        count = max(row["n"] for row in figures[name].values())
        print(write(NAME, PROTOCOL, count, figures, (0,)), flush=True)


if __name__ == "__main__":
    main()
