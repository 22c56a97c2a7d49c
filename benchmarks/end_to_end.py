"""From file to label: accuracy and CPU time beside ordinary recipes, by size, and of start-up.

Parts, each of one run on one thread, alternatives in turn:

* `fs4`: FS-4 (`--fs4 FOLDER`), linear probes on MoViNet-A0 features trained per fold, test clips
  through the pipeline with settings of the decoder and with early decisions; beside them logistic
  regression on EfficientNet-Lite0 features of 8 frames, with full decoding;
* `scores`: the same without training: logistic regression on Kinetics scores, of all frames
  or of the first ones, and on the image features;
* `sizes`: `predict` on one real clip (`--clip FILE`), encoded at four sizes, and what its stages
  take; beside it torchvision's `r3d_18` with full decoding, speed only;
* `decoders`: the same files decoded with two slice or frame threads;
* `start`: a fresh process of the command until its first answer.

    OMP_NUM_THREADS=1 python -m benchmarks.end_to_end --fs4 FIGHT_SURV --clip FILE [--parts A,B]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch
from benchmarks.fights import PROBE, config_of, mean_over_folds
from benchmarks.record import RESULTS, write
from torch.nn.functional import interpolate

import foveate
from foveate.data import Dataset, folds, read
from foveate.evaluate.bootstrap import compare, interval
from foveate.media import Video, VideoWriter
from foveate.media.convert import Converter
from foveate.models import backbones
from foveate.models.backbones_weights import BACKBONES
from foveate.pipeline import ledger, scheduler
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised

WEIGHTS = "movinet-a0-stream-lite.k600"
SHORT = "movinet-a0-stream-lite.actions15"  # comes with the package
LITE0 = "efficientnet_lite0.imagenet_lite0"
SIZES = ((320, 240), (640, 360), (1280, 720), (1920, 1080))
# Settings of the preset of the same trained network. Of two classes one has at least 0.5: those
# decide after their first chunk of frames, at 5 frames per second.
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "noref": {"decode": {"skip_loop_filter": "noref"}},
    "all": {"decode": {"skip_loop_filter": "all"}},
    "first 5 frames": {
        "look": {"name": "uniform", "chunk": 5},
        "decide": {"name": "confident", "threshold": 0.5},
    },
    "first 2 frames": {
        "look": {"name": "uniform", "chunk": 2},
        "decide": {"name": "confident", "threshold": 0.5},
    },
}
PROTOCOL = (
    "one thread, process CPU seconds, alternatives in turn on the same clip; other work ran on the "
    "machine, so only ratios within this run count. fs4: 240 clips, 4 folds by source, linear "
    "probes on MoViNet-A0 features (recipe of fights.py, seed 0), top-1 of whole clips through the "
    "pipeline, mean over folds, 95 % percentile bootstrap over sources, differences paired; "
    "baseline: all frames decoded, 8 of them at 224 pixels through EfficientNet-Lite0 (ImageNet), "
    "mean of features, logistic regression on standardised features, its penalty chosen on the "
    "training folds; `converted`: all frames "
    "converted to RGB as torchvision.io does, else only the 8. scores: the same clips and folds, "
    "logistic regression on logarithms of Kinetics-600 scores. lowres: the same for the clips "
    "encoded anew as Motion JPEG. sizes: one real clip, encoded at "
    "each size; r3d_18: 16 frames of 112 pixels, all frames decoded and converted. decoders: wall "
    "seconds, median and least. start: fresh processes, wall and CPU seconds, median and least"
)


class Stages(Counter[str]):
    """CPU seconds by stage of what is measured in blocks."""

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        """Call, and add the CPU seconds to a stage."""
        began = time.process_time()
        found = call()
        self[name] += time.process_time() - began
        return found


def decoded(path: Path, keep: int, stages: Stages) -> list[Any]:
    """Some frames, evenly spread, of a file that is decoded in full.

    All of them are converted to RGB, too, in the stage `convert others`: what that costs can be
    left out.
    """
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        context.thread_type, context.thread_count = "SLICE", 1
        frames = stages.timed("decode", lambda: list(container.decode(video=0)))
        chosen = set(np.linspace(0, len(frames) - 1, keep).round().astype(int).tolist())
        kept = []
        for number, frame in enumerate(frames):
            stage = "convert" if number in chosen else "convert others"
            rgb = stages.timed(stage, lambda frame=frame: frame.to_ndarray(format="rgb24"))
            if number in chosen:
                kept.append(rgb)
    return kept


def scaled(frames: list[Any], short: int, side: int) -> torch.Tensor:
    """Frames (T, 3, side, side) in 0..1: the middle of the picture with this shorter side."""
    x = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    scale = short / min(x.shape[-2:])
    size = [max(side, round(scale * length)) for length in x.shape[-2:]]
    x = interpolate(x, size, mode="bilinear", antialias=True)
    top, left = ((length - side) // 2 for length in x.shape[-2:])
    return x[..., top : top + side, left : left + side]


def cpu_ledger() -> None:
    """Let the ledger measure CPU seconds: other work on the machine does not count then."""
    for module in (ledger, scheduler):
        module.time = SimpleNamespace(  # type: ignore[attr-defined]
            perf_counter=time.process_time, monotonic=time.monotonic, sleep=time.sleep
        )


# --- accuracy and time on FS-4 ------------------------------------------------------------------


def fs4(folder: Path) -> dict[str, Any]:
    """Top-1 and CPU seconds of settings of ours and of the baseline."""
    dataset = read(folder)
    names = [dataset.name(record) for record in dataset.records]
    place = {name: at for at, name in enumerate(names)}
    truth = [record.labels[0] for record in dataset.records]
    sources = [record.group for record in dataset.records]
    turns = folds(dataset)
    fold_of = [0] * len(names)
    answers: dict[str, list[str]] = {key: [""] * len(names) for key in SETTINGS}
    seconds: dict[str, list[float]] = {key: [0.0] * len(names) for key in SETTINGS}
    network = backbones.build(LITE0, pretrained=True).eval()
    features = np.zeros((len(names), backbones.width_of(network)))
    base: list[Stages] = [Stages() for _ in names]
    stages: dict[str, Stages] = {key: Stages() for key in SETTINGS}
    with tempfile.TemporaryDirectory() as work:
        for number, fold in enumerate(turns):
            run = Path(work) / str(number)
            run_recipe(
                supervised.RECIPE, config_of(0, **PROBE), fold.dataset, run,
                on_progress=lambda moment: None,
            )  # fmt: skip
            ours = {
                key: foveate.load(run, threads=1, **settings) for key, settings in SETTINGS.items()
            }
            for record in fold.dataset.subset("test").records:
                at = place[dataset.name(record)]
                fold_of[at] = number
                for key, recogniser in ours.items():
                    began = time.process_time()
                    result = recogniser.predict(record.path)
                    seconds[key][at] = time.process_time() - began
                    answers[key][at] = result.labels[0].label
                    for stage in result.cost.stages:
                        stages[key][stage.name] += stage.seconds
                features[at] = image_features(network, record.path, base[at])
            print(f"fold {fold.name}", flush=True)
    answers["baseline"] = regression(features, truth, fold_of, sources)
    right = {
        key: np.array([a == b for a, b in zip(found, truth, strict=True)], float)
        for key, found in answers.items()
    }
    totals = {key: sum(values) for key, values in seconds.items()}
    converted = sum(sum(one.values()) for one in base)
    once = converted - sum(one["convert others"] for one in base)
    figures: dict[str, Any] = {"n": len(names), "sources": len(set(sources))}
    for key, values in right.items():
        top1 = interval(mean_over_folds(values, fold_of), len(names), sources)
        figures[key] = {"top1": top1.value, "low": top1.low, "high": top1.high}
        if key == "baseline":
            summed = sum(base, Stages())
            figures[key] |= {
                "seconds": once, "seconds_converted": converted, "stage_seconds": dict(summed),
            }  # fmt: skip
            continue
        same = [a == b for a, b in zip(answers[key], answers["default"], strict=True)]
        figures[key] |= {
            "seconds": totals[key],
            "of_default": totals[key] / totals["default"],
            "same_as_default": float(np.mean(same)),
            "baseline_over_this": once / totals[key],
            "converted_baseline_over_this": converted / totals[key],
            "stage_seconds": dict(stages[key]),
        }
        for other in ("default", "baseline"):
            if other == key:
                continue
            found = compare(
                mean_over_folds(values, fold_of), mean_over_folds(right[other], fold_of),
                len(names), sources,
            )  # fmt: skip
            figures[key][f"minus {other}"] = {
                "difference": found.difference, "low": found.low, "high": found.high,
                "says": found.sentence(key, other, "top1"),
            }  # fmt: skip
        print(key, figures[key], flush=True)
    return figures


def image_features(network: Any, path: Path, stages: Stages) -> Any:
    """Mean features (C,) of 8 frames of a file that is decoded in full."""
    entry = BACKBONES[LITE0]
    mean, std = (torch.tensor(v)[:, None, None] for v in (entry.mean, entry.std))
    kept = decoded(path, 8, stages)
    x = stages.timed("transform", lambda: (scaled(kept, 256, 224) - mean) / std)
    with torch.inference_mode():
        return stages.timed("network", lambda: network(x)).mean(0).numpy()


def scores(folder: Path) -> dict[str, Any]:
    """The same without training a network: regression on Kinetics-600 scores of so many frames."""
    dataset = read(folder)
    truth = [record.labels[0] for record in dataset.records]
    ours = {"default": foveate.load(WEIGHTS, offline=True, threads=1, top_k=600)}
    for count in (5, 2):
        ours[f"first {count} frames"] = foveate.load(
            WEIGHTS, offline=True, threads=1, top_k=600, look={"name": "uniform", "chunk": count},
            decide={"name": "confident", "threshold": 1e-6},
        )  # fmt: skip
    network = backbones.build(LITE0, pretrained=True).eval()
    features: dict[str, list[Any]] = {"baseline": [], **{key: [] for key in ours}}
    seconds = dict.fromkeys(features, 0.0)
    skipped = 0.0
    for number, record in enumerate(dataset.records):
        for key, recogniser in ours.items():
            began = time.process_time()
            found = {one.label: one.score for one in recogniser.predict(record.path).labels}
            seconds[key] += time.process_time() - began
            features[key].append(np.log([found[name] + 1e-8 for name in recogniser.labels]))
        stages = Stages()
        features["baseline"].append(image_features(network, record.path, stages))
        seconds["baseline"] += sum(stages.values()) - stages["convert others"]
        skipped += stages["convert others"]
        if number % 60 == 59:
            print(number + 1, seconds, flush=True)
    return {
        "n": len(truth), "baseline_converted_seconds": skipped,
        **compared(dataset, features, seconds, "baseline"),
    }  # fmt: skip


def lowres(folder: Path) -> dict[str, Any]:
    """Decoding at half and a quarter of the size: FS-4 as Motion JPEG, a codec that offers it."""
    dataset = read(folder)
    ours = {
        key: foveate.load(
            WEIGHTS, offline=True, threads=1, top_k=600, decode={"lowres": number}
        )
        for key, number in (("default", 0), ("half", 1), ("quarter", 2))
    }  # fmt: skip
    features: dict[str, list[Any]] = {key: [] for key in ours}
    seconds = dict.fromkeys(features, 0.0)
    best: dict[str, list[str]] = {key: [] for key in ours}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.avi"
        for record in dataset.records:
            motion_jpeg(record.path, path)
            for key, recogniser in ours.items():
                began = time.process_time()
                labels = recogniser.predict(path).labels
                seconds[key] += time.process_time() - began
                found = {one.label: one.score for one in labels}
                best[key].append(labels[0].label)
                features[key].append(np.log([found[one] + 1e-8 for one in recogniser.labels]))
    figures = compared(dataset, features, seconds, "default")
    for key, answers in best.items():
        same = [a == b for a, b in zip(answers, best["default"], strict=True)]
        figures[key]["same_best_of_600"] = float(np.mean(same))
    return {"n": len(dataset.records), **figures}


def motion_jpeg(source: Path, path: Path) -> None:
    """Encode all frames of a file as Motion JPEG of high quality, at their own size."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        video = container.streams.video[0]
        stream = out.add_stream("mjpeg", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuvj420p"
        stream.options = {"qmin": "2", "qmax": "3"}
        for number, frame in enumerate(container.decode(video)):
            picture = frame.reformat(format="yuvj420p")
            picture.pts, picture.time_base = number, 1 / video.average_rate
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


def compared(
    dataset: Dataset, features: dict[str, list[Any]], seconds: dict[str, float], reference: str
) -> dict[str, Any]:
    """Top-1 of regression on features, and CPU seconds, beside those of a reference."""
    truth = [record.labels[0] for record in dataset.records]
    sources = [record.group for record in dataset.records]
    splits = sorted({str(record.split) for record in dataset.records})
    fold_of = [splits.index(str(record.split)) for record in dataset.records]
    right = {}
    for key, rows in features.items():
        answers = regression(np.array(rows), truth, fold_of, sources)
        hits = np.array([a == b for a, b in zip(answers, truth, strict=True)], float)
        right[key] = mean_over_folds(hits, fold_of)
    figures: dict[str, Any] = {}
    for key, values in right.items():
        top1 = interval(values, len(truth), sources)
        other = compare(values, right[reference], len(truth), sources)
        figures[key] = {
            "top1": top1.value, "low": top1.low, "high": top1.high, "seconds": seconds[key],
            f"{reference}_over_this": seconds[reference] / seconds[key],
            f"minus_{reference}": [other.difference, other.low, other.high],
        }  # fmt: skip
        print(key, figures[key], flush=True)
    return figures


def regression(
    features: Any, truth: list[str], fold_of: list[int], sources: list[Any]
) -> list[str]:
    """Answers of logistic regression, trained on the other folds; its penalty is chosen there."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    answers = np.array(truth, dtype=object)
    labels, number, groups = np.array(truth), np.array(fold_of), np.array(sources)
    for fold in set(fold_of):
        test = number == fold
        model = GridSearchCV(
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
            {"logisticregression__C": np.logspace(-4, -1, 4)}, cv=GroupKFold(3),
        )  # fmt: skip
        model.fit(features[~test], labels[~test], groups=groups[~test])
        answers[test] = model.predict(features[test])
    return [str(one) for one in answers]


# --- by size ------------------------------------------------------------------------------------


def encoded(clip: Path, folder: Path) -> dict[str, Path]:
    """A real clip at four sizes, twice in a row: `WIDTHxHEIGHT` → file."""
    files = {}
    for width, height in SIZES:
        path = folder / f"{height}.mp4"
        with Video(clip) as video:
            rate = round(video.info.rate or 25)
            pixels = video.frames(video.times(), (width, height)).pixels
        with VideoWriter(path, (width, height), rate) as writer:
            for number in range(2 * len(pixels)):
                writer.write(pixels[number % len(pixels)], number / rate)
        files[f"{width}x{height}"] = path
    return files


def sizes(files: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Videos per CPU second, and CPU seconds of the stages."""
    from torchvision.models.video import r3d_18

    network = r3d_18().eval()
    every = {"skip_loop_filter": "all"}
    ours = {
        "torch": foveate.load(WEIGHTS, offline=True, threads=1),
        "torch, all": foveate.load(WEIGHTS, offline=True, threads=1, decode=every),
        "openvino, all": foveate.load(WEIGHTS, offline=True, engine="openvino", decode=every),
    }
    converting = Stages()
    whole = Converter.__call__

    def convert(self: Converter, *given: Any, **named: Any) -> Any:
        return converting.timed("convert", lambda: whole(self, *given, **named))

    def one(recogniser: Any, path: Path) -> Stages:
        converting.clear()
        found = {s.name: s.seconds for s in recogniser.predict(path).cost.stages}
        found["decode"] -= converting["convert"]
        found["network"] = found.pop("network") + found.pop("head", 0.0)
        return Stages({**found, "convert": converting["convert"]})

    def full(path: Path) -> Stages:
        stages = Stages()
        frames = decoded(path, 16, stages)
        stages["convert"] += stages.pop("convert others")
        x = stages.timed("transform", lambda: scaled(frames, 128, 112))
        with torch.inference_mode():
            stages.timed("network", lambda: network(x.transpose(0, 1)[None]))
        return stages

    jobs: dict[str, Callable[[Path], Stages]] = {
        **{name: lambda path, r=r: one(r, path) for name, r in ours.items()}, "r3d_18": full
    }  # fmt: skip
    figures: dict[str, Any] = {}
    Converter.__call__ = convert  # type: ignore[method-assign]
    try:
        for size, path in files.items():
            seconds: dict[str, list[float]] = {name: [] for name in jobs}
            stages: dict[str, list[Stages]] = {name: [] for name in jobs}
            for _ in range(rounds):
                for name, job in jobs.items():
                    began = time.process_time()
                    stages[name].append(job(path))
                    seconds[name].append(time.process_time() - began)
            medians = {name: statistics.median(all_) for name, all_ in seconds.items()}
            figures[size] = {
                "videos_per_cpu_second": {name: 1 / value for name, value in medians.items()},
                "r3d_18_over_this": {k: medians["r3d_18"] / v for k, v in medians.items()},
                "shares": {name: shares(all_) for name, all_ in stages.items()},
            }
            print(size, figures[size]["videos_per_cpu_second"], flush=True)
    finally:
        Converter.__call__ = whole  # type: ignore[method-assign]
    return figures


def shares(rows: list[Stages]) -> dict[str, float]:
    """Shares of the stages in their sum, medians over rounds."""
    names = dict.fromkeys(name for row in rows for name in row)
    parts = {name: statistics.median(row[name] for row in rows) for name in names}
    total = sum(parts.values())
    return {name: value / total for name, value in parts.items()}


def decoders(files: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Decoding alone with one thread, and two of either kind."""
    cases = {"one": ("SLICE", 1), "two, slice": ("SLICE", 2), "two, frame": ("FRAME", 2)}
    figures: dict[str, Any] = {}
    for size, path in files.items():
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, (kind, count) in cases.items():
                wall, cpu = time.perf_counter(), time.process_time()
                with av.open(str(path)) as container:
                    context = container.streams.video[0].codec_context
                    context.thread_type, context.thread_count = kind, count
                    for _ in container.decode(video=0):
                        pass
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = ([statistics.median(r[i] for r in rows) for rows in found.values()]
                     for i in (0, 1))  # fmt: skip
        least = [min(row[0] for row in rows) for rows in found.values()]
        figures[size] = {
            name: {"wall": wall[at] / wall[0], "least_wall": least[at] / least[0],
                   "cpu": cpu[at] / cpu[0]}
            for at, name in enumerate(cases)
        }  # fmt: skip
    return figures


# --- start-up -----------------------------------------------------------------------------------

_COMMAND = """
import sys, time
from foveate.app.main import main
try:
    main()
finally:
    print(time.process_time(), "torch" in sys.modules, file=sys.stderr)
"""


def start(path: Path, rounds: int) -> dict[str, Any]:
    """Fresh processes of the command."""
    predict = ["predict", "-q", str(path), "--offline", "--model", SHORT, "--engine"]
    cases = {
        "--help": ["--help"],
        "predict --help": ["predict", "--help"],
        **{engine: [*predict, engine] for engine in ("torch", "onnxruntime", "openvino")},
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    has_torch: dict[str, bool] = {}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(path.parent / "bytecode")
    for number in range(rounds + 1):  # the first round exports, compiles and reads all files
        for name, words in cases.items():
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", _COMMAND, *words],
                capture_output=True, text=True, check=True, env=environment,
            )  # fmt: skip
            wall = time.perf_counter() - began
            cpu, torch_too = done.stderr.split()[-2:]
            has_torch[name] = torch_too == "True"
            if number:
                found[name].append((wall, float(cpu)))
    return {
        name: {
            "wall": statistics.median(wall), "least_wall": min(wall),
            "cpu": statistics.median(cpu), "least_cpu": min(cpu), "imports_torch": has_torch[name],
        }
        for name, rows in found.items()
        for wall, cpu in [list(zip(*rows, strict=True))]
    }  # fmt: skip


def main() -> None:
    """Measure, write the result after each part, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fs4", type=Path, required=True, help="the folder of FS-4")
    parser.add_argument("--clip", type=Path, required=True, help="a real clip of high resolution")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", default="sizes,decoders,start,scores,lowres,fs4")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cpu_ledger()
    figures: dict[str, Any] = {}
    result = RESULTS / "end_to_end.json"
    if result.exists():  # parts that are not measured stay as they are
        figures = dict(json.loads(result.read_text("utf-8"))["figures"])
    with tempfile.TemporaryDirectory() as name:
        files = encoded(options.clip, Path(name))
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "sizes": lambda: sizes(files, options.rounds),
            "decoders": lambda: decoders(files, options.rounds),
            "start": lambda: start(files["320x240"], options.rounds),
            "fs4": lambda: fs4(options.fs4),
            "scores": lambda: scores(options.fs4),
            "lowres": lambda: lowres(options.fs4),
        }
        for part in options.parts.split(","):
            found = parts[part]()
            if part == "fs4":  # takes long, and has a file of its own
                path = write("end_to_end_fs4", PROTOCOL, found["n"], {part: found}, (0,))
            else:
                figures[part] = found
                path = write("end_to_end", PROTOCOL, options.rounds, figures, (0,))
            print(part, path, flush=True)


if __name__ == "__main__":
    main()
