"""Detection in video on rendered clips with boxes, and what the parts of LSTS cost.

    foveate data make mocap15 data/boxes --clips 120 --seed 1 --mode detection \\
        --degraded train,val,test --size 192x144
    python -m benchmarks.lsts cost
    python -m benchmarks.lsts persons data/boxes FOUND [--videos N]
    python -m benchmarks.lsts trained data/boxes RUNS [--seeds 0 1 2] [--videos N]

`cost`: the lattice form against `grid_sample` at 1024x38x63, and multiply-adds and CPU time of key
and other frames, with random weights. `persons`: FastestDet as published finds persons, on every
frame or with one of the ways between key frames that need no training. `trained`: an R-FCN on a
ResNet-18 is trained by the recipe `lsts`, once per seed, and all ways are compared with it; a run
that was interrupted is continued, and a measurement that was made is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.record import write

import foveate
from foveate.data import Dataset, open_labelled
from foveate.data.labelled import only_classes
from foveate.evaluate.bootstrap import compare, interval
from foveate.evaluate.detection import IOUS, SPEEDS, DetectionMeasure, FrameObjects, TrueVideo
from foveate.evaluate.detection_run import RESAMPLES, detected
from foveate.evaluate.metrics import known, value_of
from foveate.models.layers.folded import fold_norms
from foveate.models.lsts import LearnedSampling, Offsets
from foveate.models.registry import create, entry
from foveate.models.video_detector import VideoDetector, VideoState

LOOKS: dict[str, dict[str, Any]] = {"every frame": {"every": 1}} | {
    f"{between}, interval {every}": {"every": every, "between": between}
    for every in (5, 10)
    for between in ("copy", "move", "warp")
}
LSTS = {f"LSTS, interval {every}": {"every": every, "between": "nonkey"} for every in (5, 10)}
SETTINGS: dict[str, Any] = {
    "detector": "rfcn:resnet18", "detector_settings": {"channels": 256, "anchors": [12, 24, 48]},
    "neck": {"embedding": 64, "count": 40, "hidden": 128}, "size": 144, "batch": 8, "per_video": 8,
    "validation_frames": 8, "frame_epochs": 14, "frame_lr": 1e-3, "epochs": 6, "lr": 5e-4,
    "patience": None, "amp": "bf16",
}  # fmt: skip
ROUNDS = 5
METRIC = (
    "COCO average precision, 95 % percentile bootstrap over clips, differences paired; motion "
    "vectors of x264's default stream (move), DIS flow (warp); one thread, CPU time with decoding"
)
DATA = (
    "mocap15 boxes (rendered, one recording per action), 120 clips of 192x144, seed 1, with motion "
    "blur, posts in front and loss of focus in every clip, test split"
)


def median_cpu(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Median CPU seconds of a call, after one that is not counted."""
    call()
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return statistics.median(seconds)


# --- cost ---------------------------------------------------------------------------------------


@torch.no_grad()
def sampling(shape: tuple[int, int, int] = (1024, 38, 63)) -> dict[str, Any]:
    """CPU seconds of both forms of one sampling, and the largest tensor that each makes."""
    channels, height, width = shape
    old, new = torch.randn(1, *shape), torch.randn(1, *shape)
    found: dict[str, Any] = {}
    for name, count in (("gaussian", 40), ("uniform", 81)):
        torch.manual_seed(0)
        offsets = Offsets(name, count)
        forms = {form: LearnedSampling(channels, 256, form) for form in ("lattice", "grid")}
        forms["grid"].load_state_dict(forms["lattice"].state_dict())
        outputs, seconds = [], {}
        for form, model in forms.items():
            taken = []
            for _ in range(2):
                began = time.process_time()
                moved = model(old, new, offsets)
                taken.append(time.process_time() - began)
            outputs.append(moved)
            seconds[form] = min(taken)
        found[f"{name} {count}"] = {
            "seconds": seconds,
            "ratio": seconds["grid"] / seconds["lattice"],
            "largest difference": float((outputs[0] - outputs[1]).abs().max()),
            "displacements": len(offsets.lattice()[0]),
            "value tensor of grid_sample in MB": count * channels * height * width * 4 / 1e6,
        }
    return found


@torch.no_grad()
def parts(name: str, size: tuple[int, int], **settings: Any) -> dict[str, Any]:
    """Multiply-adds and CPU seconds of the plain detector, key frames and other frames."""
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    network = create("lsts", num_classes=4, detector=name, **settings).eval()
    assert isinstance(network, VideoDetector)
    fold_norms(network).to(memory_format=torch.channels_last)  # as the loop runs it
    x = torch.randn(1, 3, *size).contiguous(memory_format=torch.channels_last)
    _, state = network.key(x, VideoState())
    calls: dict[str, Callable[[], Any]] = {
        "plain": lambda: network.detector.high(network.detector.low(x)),
        "key": lambda: network.key(x, state)[0],
        "nonkey": lambda: network.nonkey(x, state)[0],
        "low": lambda: network.detector.low(x),
    }
    found: dict[str, Any] = {}
    for part, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            features = call()
            if part != "low":
                network.detect(features, [size])
        # Boxes of random weights are all proposals: their suppression is not timed.
        found[part] = {"macs": counter.get_total_flops() // 2, "seconds": median_cpu(call)}
    ratio = found["nonkey"]["macs"] / found["key"]["macs"]
    found["macs ratio"] = ratio
    found["seconds ratio"] = found["nonkey"]["seconds"] / found["key"]["seconds"]
    found["within 10 %"] = found["seconds ratio"] < ratio + 0.1
    plain = found["plain"]["macs"]
    found["mean macs by interval, of the plain detector's"] = {
        str(every): (found["key"]["macs"] + (every - 1) * found["nonkey"]["macs"]) / every / plain
        for every in (1, 2, 5, 10, 20, 50)
    }
    found["floor"] = found["nonkey"]["macs"] / plain
    return found


def cost() -> Path:
    """Measure and write what needs no data."""
    size = entry("ssdlite320-mobilenet-v3-large").input.size
    figures = {
        "sampling at 1024x38x63": sampling(),
        "rfcn:resnet18 at 192x144": parts(
            "rfcn:resnet18", (144, 192), detector_settings=SETTINGS["detector_settings"],
            **SETTINGS["neck"],
        ),
        "rfcn:resnet18 at 640x480": parts(
            "rfcn:resnet18", (480, 640), detector_settings={"channels": 256}, embedding=64,
            hidden=128,
        ),
        "rfcn:resnet18 at 640x480, lifted by 256 channels": parts(
            "rfcn:resnet18", (480, 640), detector_settings={"channels": 256}, embedding=64
        ),
        "ssdlite320-mobilenet-v3-large, lifted by 32 channels": parts(
            "ssdlite320-mobilenet-v3-large", (size, size), embedding=16, count=40, hidden=32
        ),
        "ssdlite320-mobilenet-v3-large, lifted by 256 channels": parts(
            "ssdlite320-mobilenet-v3-large", (size, size), embedding=64, count=40
        ),
    }  # fmt: skip
    protocol = (
        "random weights, one thread; median CPU time of five calls (the sampling: less of two); "
        "multiply-adds executed, the head included"
    )
    return write("lsts_cost", protocol, ROUNDS, figures)


# --- accuracy -----------------------------------------------------------------------------------


def looked(
    model: str, looks: Mapping[str, Mapping[str, Any]], dataset: Dataset, kept: Path
) -> dict[str, dict[str, Any]]:
    """What a model finds with every look, and its work and CPU time per frame.

    Args:
        model: Weights or a run folder.
        looks: Settings of the look, by name.
        dataset: Its split `test` is looked at.
        kept: Folder of what was found; what is in it is not looked for again.
    """
    kept.mkdir(parents=True, exist_ok=True)
    for name, look in looks.items():
        file = kept / f"{name}.json"
        if file.is_file():
            continue
        recogniser = foveate.load(model, look={"name": "key-frames", **look}, offline=True)
        began = time.process_time()
        out = detected(recogniser, dataset, "test")
        seconds, frames = time.process_time() - began, sum(out.frames)
        rows = [
            {frame: [one.boxes.tolist(), one.labels.tolist(), one.scores.tolist()]
             for frame, one in video.items()}
            for video in out.found
        ]  # fmt: skip
        work = {
            "macs per frame": sum(result.cost.macs for result in out.results) / frames,
            "cpu ms per frame": 1000 * seconds / frames,
            "frames": frames,
        }
        file.write_text(json.dumps({"found": rows, "work": work}), "utf-8")
        print(name, work, flush=True)
    return {name: json.loads((kept / f"{name}.json").read_text("utf-8")) for name in looks}


def compared(found: Mapping[str, Mapping[str, Any]], dataset: Dataset) -> dict[str, Any]:
    """Average precision of every look, and its difference from that of every frame."""
    records = dataset.subset("test").records
    truth = [TrueVideo.of(record.boxes or (), dataset.classes) for record in records]
    measures = {
        name: DetectionMeasure(truth, [_frames(video) for video in one["found"]],
                               len(dataset.classes))
        for name, one in found.items()
    }  # fmt: skip
    kinds = {"map50": IOUS[:1], "map": IOUS}
    figures: dict[str, Any] = {}
    plain = {kind: measures["every frame"].statistic(ious) for kind, ious in kinds.items()}
    for name, measure in measures.items():
        row: dict[str, Any] = dict(found[name]["work"])
        for kind, ious in kinds.items():
            own = plain[kind] if name == "every frame" else measure.statistic(ious)
            got = interval(own, len(truth), repeats=RESAMPLES)
            row[kind] = {"value": got.value, "low": got.low, "high": got.high}
            if name != "every frame":
                gap = compare(own, plain[kind], len(truth), repeats=RESAMPLES)
                row[kind] |= {"minus every frame": [gap.difference, gap.low, gap.high]}
        speeds = {speed: measure.statistic(IOUS[:1], speed) for speed in SPEEDS}
        row["map50 by speed"] = {
            speed: known(value_of(statistic, len(truth))) for speed, statistic in speeds.items()
        }
        figures[name] = row
    return figures


def _frames(rows: Mapping[str, Any]) -> dict[int, FrameObjects]:
    found = {}
    for frame, (boxes, labels, scores) in rows.items():
        objects = zip(boxes, labels, scores, strict=True)
        found[int(frame)] = FrameObjects.of([*objects])
    return found


def _first(dataset: Dataset, videos: int) -> Dataset:
    """The data set with some of its test videos only."""
    test = dataset.subset("test").records[:videos]
    others = tuple(record for record in dataset.records if record.split != "test")
    return replace(dataset, records=(*others, *test))


def persons(data: Path, videos: int, kept: Path) -> Path:
    """FastestDet on the persons of the test clips."""
    dataset = _first(only_classes(open_labelled(data), ["person"]), videos)
    found = looked("fastestdet.coco", LOOKS, dataset, kept)
    count = len(dataset.subset("test").records)
    protocol = (
        f"{DATA}, first {count} clips; FastestDet with its published weights (COCO) on the class "
        f"person; {METRIC}"
    )
    return write("lsts_persons", protocol, count, compared(found, dataset), seeds=(0,))


def trained(data: Path, runs: Path, seeds: tuple[int, ...], videos: int) -> Path:
    """The recipe `lsts`, once per seed, and all ways between key frames."""
    dataset = _first(open_labelled(data), videos)
    figures: dict[str, Any] = {}
    for seed in seeds:
        folder = runs / f"seed{seed}"
        begun = (folder / "training.json").is_file()
        foveate.train(data, out=folder, recipe="lsts", resume=begun, seed=seed, **SETTINGS)
        plain = looked(str(folder / "frames"), LOOKS, dataset, runs / f"found{seed}")
        lsts = looked(str(folder), LSTS, dataset, runs / f"found{seed}")
        figures[f"seed {seed}"] = compared({**plain, **lsts}, dataset)
    count = len(dataset.subset("test").records)
    protocol = f"{DATA}, first {count} clips; R-FCN on a ResNet-18 from scratch, {METRIC}"
    return write("lsts_mocap15", protocol, count, figures, seeds=seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("cost")
    for verb in ("persons", "trained"):
        one = verbs.add_parser(verb)
        one.add_argument("data", type=Path)
        one.add_argument("runs", type=Path, help="folder of what was found or trained so far")
        one.add_argument("--videos", type=int, default=30)
    verbs.choices["trained"].add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.verb == "cost":
        print(cost())
    elif given.verb == "persons":
        print(persons(given.data, given.videos, given.runs))
    else:
        print(trained(given.data, given.runs, tuple(given.seeds), given.videos))


if __name__ == "__main__":
    main()
