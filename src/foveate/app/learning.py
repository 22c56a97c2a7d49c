"""The verbs around training: check or make data, train, evaluate, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foveate.app.guard import guard

data_app = typer.Typer(
    help="Labelled videos: check a data set, make a rendered one, transcode.",
    no_args_is_help=True,
)

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="A folder (one folder per class), or annotations.")
]
Format = Annotated[
    str | None, typer.Option("--format", help="How the data is annotated; recognised if not given.")
]
Videos = Annotated[
    Path | None, typer.Option("--videos", help="Where the clips lie, if not beside the annotation.")
]
Part = Annotated[
    int, typer.Option("--part", min=1, help="Which published split (UCF-101, HMDB-51).")
]
Missing = Annotated[
    bool, typer.Option("--allow-missing", help="Leave out clips that are not on this machine.")
]
Fold = Annotated[str | None, typer.Option("--fold", help="Test on this fold, train on the others.")]
SplitSeed = Annotated[
    int, typer.Option("--split-seed", min=0, help="Of the split, where the data names none.")
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu or cuda:0; default: CUDA if there is one.")
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the network.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
Split = Annotated[
    str | None, typer.Option("--split", help="Default: test, or val where there is no test.")
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Videos computed together.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap intervals.")]


def add_to(app: typer.Typer) -> None:
    """Enter the verbs into the command."""
    app.add_typer(data_app, name="data")
    app.command()(train)
    app.command()(evaluate)
    app.command()(bench)


@data_app.command("check")
def data_check(
    data: Data,
    format: Format = None,
    videos: Videos = None,
    part: Part = 1,
    allow_missing: Missing = False,
    fold: Fold = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes.")] = 2,
) -> None:
    """Name every bad file, count classes, measure lengths, find leaks between splits."""
    from foveate.app.data import check
    from foveate.data import DataRequest

    request = DataRequest(data, format, videos, part, allow_missing, fold)
    guard(lambda: check(request, workers))


@data_app.command("make")
def data_make(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mocap15.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    clips: Annotated[int, typer.Option("--clips", min=1, help="How many.")] = 600,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same clips.")] = 1,
    mode: Annotated[
        str, typer.Option("--mode", help="actions, timeline or audiovisual.")
    ] = "actions",
    encoding: Annotated[
        str, typer.Option("--encoding", help="x264, x264-p1 or mpeg4-gop12.")
    ] = "x264",
    size: Annotated[
        str, typer.Option("--size", metavar="WxH", help="Of the pictures.")
    ] = "320x240",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 2,
) -> None:
    """Render the built-in benchmark: real human motion, everything else procedural."""
    from foveate.app.data import make

    guard(lambda: make(name, out, clips, seed, mode, encoding, size, workers))


@data_app.command("transcode")
def data_transcode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video, or a folder of them.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, or an MP4 for one video.")],
    gop: Annotated[int, typer.Option("--gop", help="Frames from key frame to key frame.")] = 12,
    codec: Annotated[str, typer.Option("--codec", help="h264 or mpeg4.")] = "h264",
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Of the pictures; default: kept.")
    ] = None,
) -> None:
    """Encode videos so that their motion vectors can be read: one reference, no B-frames."""
    from foveate.app.data import transcode

    guard(lambda: transcode(source, out, gop, codec, size))


def train(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA", help="A folder per class, or annotations.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Weights, a run folder, or an architecture."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder.")] = None,
    look: Annotated[
        str | None,
        typer.Option("--look", help="Train on what it shows: full, resize, random, motion-patch."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with this run.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="How to train.")] = "supervised",
    format: Format = None,
    videos: Videos = None,
    part: Part = 1,
    allow_missing: Missing = False,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings: a YAML file, or a preset by name.")
    ] = None,
    sets: Sets = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings in force and stop.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Open every clip before the first step.")
    ] = True,
    device: Device = None,
    threads: Threads = 1,
    offline: Offline = False,
) -> None:
    """Train a model on labelled videos; safe to interrupt, and to go on with --resume."""
    from foveate.app.train import Request, run
    from foveate.data import DataRequest

    where = None
    if data is not None:
        where = DataRequest(data, format, videos, part, allow_missing, fold, split_seed)
    request = Request(
        where, model, look, out, resume, recipe, config, tuple(sets or ()), print_config, check,
        device, threads, offline,
    )  # fmt: skip
    guard(lambda: run(request))


def evaluate(
    data: Data,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A run folder, a preset, or a model with weights.")
    ],
    split: Split = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write one self-contained HTML page.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write figures and every prediction.")
    ] = None,
    format: Format = None,
    videos: Videos = None,
    part: Part = 1,
    allow_missing: Missing = False,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    sets: Sets = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="JSON", help="Compare with an earlier evaluation."),
    ] = None,
    batch: Batch = 1,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = 1,
    offline: Offline = False,
) -> None:
    """Measure a model on labelled videos, with intervals and executed cost."""
    from foveate.app.evaluate import Request, run
    from foveate.data import DataRequest

    request = Request(
        DataRequest(data, format, videos, part, allow_missing, fold, split_seed), model, split,
        report, json_path, tuple(sets or ()), against, batch, seed, device, threads, offline,
    )  # fmt: skip
    guard(lambda: run(request))


def bench(
    data: Data,
    models: Annotated[
        str, typer.Option("--models", "-m", help="Several, apart by commas; the first leads.")
    ],
    looks: Annotated[
        str | None,
        typer.Option("--looks", help="Such as full,random,resize,motion-patch,oracle."),
    ] = None,
    split: Split = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the table with commit and hardware.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw accuracy against MACs as SVG.")
    ] = None,
    format: Format = None,
    videos: Videos = None,
    part: Part = 1,
    allow_missing: Missing = False,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    sets: Sets = None,
    batch: Batch = 1,
    seed: Seed = 0,
    device: Device = None,
    threads: Threads = 1,
    offline: Offline = False,
) -> None:
    """Compare models, or looks, on the same videos: accuracy, executed MACs, time."""
    from foveate.app.bench import Request, run
    from foveate.data import DataRequest

    request = Request(
        DataRequest(data, format, videos, part, allow_missing, fold, split_seed), models, looks,
        split, json_path, plot, tuple(sets or ()), batch, seed, device, threads, offline,
    )  # fmt: skip
    guard(lambda: run(request))
