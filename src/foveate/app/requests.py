"""The commands and their options, each declared once as a dataclass.

A field is an option or argument of the command and the docstring is its help text. Options that
several commands have are in base classes. `add_command` makes a command of such a class; the
module that does the work is imported when the command runs, so that help is printed at once.
"""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from foveate.app.guard import guard

if TYPE_CHECKING:
    from foveate.data import DataRequest
    from foveate.live.outputs import EventTargets
    from foveate.pipeline.threads import Threads

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="A folder with one folder per class, or annotations.")
]
Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Files, folders, '*.mp4', or - for stdin."),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--fps", metavar="FPS", help="Frames per second of folders of pictures; default: 25."
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="A run folder, preset, weights or pipeline."
    ),
]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")
]
Page = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write a self-contained HTML page.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not use the network.")]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the settings in effect and exit.")
]
DEFAULT_MODEL = "movinet-a0-stream-lite.k600"
DEFAULT_DETECTOR = "fastestdet.coco"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a network runs, and its settings."""

    sets: Sets = field(default_factory=list)
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="DEVICE", help="cpu or cuda:0; default: CUDA if present."),
    ] = None
    threads: Annotated[
        str,
        typer.Option(
            "--threads", metavar="N|auto", help="CPU threads of the network; auto: by measuring."
        ),
    ] = "1"
    offline: Offline = False

    @property
    def thread_count(self) -> Threads:
        """The number of threads, or `auto`.

        Raises:
            ConfigError: It is neither.
        """
        from foveate.core import ConfigError

        if self.threads == "auto":
            return "auto"
        if not self.threads.isdecimal() or int(self.threads) < 1:
            raise ConfigError(f"--threads {self.threads}: must be at least 1, or auto")
        return int(self.threads)


@dataclass(frozen=True, kw_only=True)
class EngineOptions(RunOptions):
    """Which engine runs a network."""

    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", metavar="NAME", help="torch, onnxruntime, openvino, litert, or auto."
        ),
    ] = None
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="fp32, bf16 or int8.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class PresetOptions(EngineOptions):
    """What a model looks at, and when it stops."""

    look: Annotated[
        str | None,
        typer.Option(
            "--look",
            metavar="LOOK",
            help="uniform, keyframes-first, motion-patch, motion-tokens, resize and others",
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="BUDGET",
            help="Such as 100MMAC/s, 2ms/frame or 3fps; with calibrated exits 5GMAC or 20ms.",
        ),
    ] = None
    order: Annotated[
        str | None,
        typer.Option(
            "--order", metavar="ORDER", help="Order of a cascade's modalities: measured, published."
        ),
    ] = None
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", metavar="K", help="Number of labels to print.")
    ] = None
    no_unknown: Annotated[
        bool,
        typer.Option(
            "--no-unknown", help="Give a label even to footage unlike the training clips."
        ),
    ] = False
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A preset as YAML (see --print-config)."),
    ] = None
    print_config: PrintConfig = False

    def changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The changes to the preset, as (preset fields, limits)."""
        from foveate.app import options

        return options.changes(
            self.config, self.sets, self.look, self.budget, self.top_k, self.order, self.no_unknown
        )


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """How annotations are read."""

    format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Annotation format; default: detected."),
    ] = None
    videos: Annotated[
        Path | None,
        typer.Option("--videos", metavar="DIR", help="Folder of the clips, if not beside DATA."),
    ] = None
    part: Annotated[
        int,
        typer.Option(
            "--part", metavar="N", min=1, help="Which published split (UCF-101, HMDB-51)."
        ),
    ] = 1
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Skip clips that do not exist.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SplitOptions(ClipOptions):
    """How clips are assigned to training, validation and test."""

    fold: Annotated[
        str | None,
        typer.Option("--fold", metavar="NAME", help="Test on this fold, train on the others."),
    ] = None
    split_seed: Annotated[
        int,
        typer.Option(
            "--split-seed", metavar="N", min=0, help="Seed of the split, if the data has none."
        ),
    ] = 0

    def request_for(self, path: Path) -> DataRequest:
        """The data set at `path`, read with these options."""
        from foveate.data import DataRequest

        return DataRequest(
            path, self.format, self.videos, self.part, self.allow_missing, self.fold,
            self.split_seed,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(PresetOptions, SplitOptions):
    """What is measured on labelled videos."""

    path: Data
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Default: test, or val if there is no test."),
    ] = None
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Videos per forward pass.")
    ] = 1
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the bootstrap intervals.")
    ] = 0

    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="A,B", help="Only videos of these classes."),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="P",
            min=0,
            max=1,
            help="Answers and segments that score lower do not count as answers.",
        ),
    ] = None
    csv_path: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write a row per video (bench: per model)."),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no tables.")] = False

    @property
    def data(self) -> DataRequest:
        """The data set."""
        return self.request_for(self.path)


@dataclass(frozen=True, kw_only=True)
class EventOptions:
    """Where the events of cameras go."""

    events: Annotated[
        str | None,
        typer.Option("--events", metavar="FILE|-", help="Append events as JSON Lines; rotated."),
    ] = None
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            metavar="FILE",
            help="Write events to this SQLite file; default with --webhook or --mqtt: events.db.",
        ),
    ] = None
    clips: Annotated[
        Path | None,
        typer.Option("--clips", metavar="DIR", help="Record a clip of each event."),
    ] = None
    webhook: Annotated[
        str | None,
        typer.Option(
            "--webhook",
            metavar="URL",
            help="POST events; signed if FOVEATE_WEBHOOK_SECRET is set.",
        ),
    ] = None
    mqtt: Annotated[
        str | None,
        typer.Option(
            "--mqtt", metavar="URL", help="Publish events: mqtt://USER:PASSWORD@HOST:PORT/TOPIC."
        ),
    ] = None
    on_event: Annotated[
        str | None,
        typer.Option(
            "--on-event",
            metavar="COMMAND",
            help="Run for each event, such as 'notify-send {label} {camera}'; no shell.",
        ),
    ] = None

    @property
    def targets(self) -> EventTargets:
        """Where events go."""
        from foveate.live.outputs import EventTargets

        return EventTargets(**{f.name: getattr(self, f.name) for f in fields(EventOptions)})


@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """Inputs, and what is written about them."""

    inputs: Inputs = field(default_factory=list)
    json_path: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write JSON Lines, one Result per input."),
    ] = None
    report: Page = None
    video: Annotated[
        str | None,
        typer.Option(
            "--video", metavar="PATH", help="Write an annotated MP4, or one per input to FOLDER/."
        ),
    ] = None
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Inputs per forward pass.")
    ] = 1
    fps: Rate = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no tables.")] = False
    trace: Annotated[
        bool, typer.Option("--trace/--no-trace", help="Record which frames were looked at.")
    ] = True


@dataclass(frozen=True, kw_only=True)
class PredictRequest(MediaOptions, PresetOptions):
    """Recognise what happens in media files, or in every video of a folder."""

    model: Model = DEFAULT_MODEL


@dataclass(frozen=True, kw_only=True)
class DetectRequest(MediaOptions, EngineOptions):
    """Detect objects in media files: boxes, labels, scores and, with --track, their tracks.

    The whole network runs on key frames; between them boxes follow the motion vectors of the file,
    or a model that was trained for it runs its low part.
    """

    model: Model = DEFAULT_DETECTOR
    every: Annotated[
        str | None,
        typer.Option(
            "--every",
            metavar="N|auto|codec",
            help="Frames between key frames; auto: by motion; codec: the file's own key frames.",
        ),
    ] = None
    between: Annotated[
        str | None,
        typer.Option(
            "--between",
            metavar="HOW",
            help="On other frames: nonkey, move, copy or warp; default: the first one possible.",
        ),
    ] = None
    look_ahead: Annotated[
        bool,
        typer.Option("--look-ahead", help="Key frames in the middle of their intervals."),
    ] = False
    hold: Annotated[
        bool, typer.Option("--hold", help="Run nothing where the file says that nothing moved.")
    ] = False
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", metavar="P", min=0, max=1, help="Leave out lower scores."),
    ] = None
    track: Annotated[bool, typer.Option("--track", help="Give each object a number over time.")] = (
        False
    )
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="BUDGET", help="Such as 100MMAC/s or 8ms/frame; with --every auto."
        ),
    ] = None
    csv_path: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a row per box.")
    ] = None
    coco: Annotated[
        Path | None,
        typer.Option("--coco", metavar="FILE", help="Write the boxes as COCO video annotations."),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A preset as YAML (see --print-config)."),
    ] = None
    print_config: PrintConfig = False

    def changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The changes to the preset, as (preset fields, limits).

        Raises:
            ConfigError: `--every` is neither a number nor auto or codec.
        """
        from foveate.app import options
        from foveate.core import ConfigError

        every: int | str | None = self.every
        if every is not None and every not in ("auto", "codec"):
            if not self.every or not self.every.isdecimal():
                raise ConfigError(
                    f"--every {self.every}: not a number of frames", "or say auto or codec"
                )
            every = int(self.every)
        asked = {"every": every, "between": self.between}
        asked |= {"look_ahead": self.look_ahead or None, "hold": self.hold or None}
        look = {key: value for key, value in asked.items() if value is not None}
        own: dict[str, Any] = {"look": {"name": "key-frames", **look}} if look else {}
        if self.min_score is not None:
            own["min_score"] = self.min_score
        if self.track:
            own["track"] = True
        return options.changes(self.config, self.sets, None, self.budget, None, own=own)


@dataclass(frozen=True, kw_only=True)
class WatchRequest(PresetOptions, EventOptions):
    """Watch cameras (RTSP, HTTP, devices), or files as if they were live, until Ctrl-C."""

    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Addresses, devices (0, /dev/video0), files, cams.yaml."
        ),
    ] = field(default_factory=list)
    model: Model = DEFAULT_MODEL
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="BUDGET",
            help="Of all cameras together: 50%cpu; of each: 100MMAC/s, 2ms/frame or 3fps.",
        ),
    ] = None
    pace: Annotated[
        str,
        typer.Option(
            "--pace", metavar="PACE", help="Of files: real, or fast (no frame is missed)."
        ),
    ] = "fast"
    json_path: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Append every step as a line of JSON."),
    ] = None
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", metavar="HOST:PORT", help="Serve /metrics (Prometheus) and /healthz."
        ),
    ] = None
    max_wait: Annotated[
        float,
        typer.Option(
            "--max-wait", metavar="SECONDS", min=0, help="Wait for frames that can share a call."
        ),
    ] = 0.0
    duration: Annotated[
        float | None,
        typer.Option("--duration", metavar="SECONDS", min=0.01, help="Stop after so long."),
    ] = None
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log lines of JSON to standard error.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no table of cameras.")] = False

    @property
    def shared_budget(self) -> str | None:
        """The budget of all cameras together, None without one."""
        from foveate.live.share import cpu_share

        return self.budget if self.budget and cpu_share(self.budget) is not None else None

    def changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The changes to the preset; a budget of all cameras together is none of a preset."""
        from foveate.app import options

        own = None if self.shared_budget else self.budget
        return options.changes(
            self.config, self.sets, self.look, own, self.top_k, self.order, self.no_unknown
        )


@dataclass(frozen=True, kw_only=True)
class ExplainRequest:
    """Show where a look looks and why: frame, motion map or glance, window, track, gate, exit."""

    inputs: Inputs
    look: Annotated[
        str | None,
        typer.Option(
            "--look",
            metavar="LOOK",
            help="A look that chooses windows; default: the model's own, or motion-patch.",
        ),
    ] = None
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Gives input size and rate; run only if it chooses windows or modalities itself.",
        ),
    ] = DEFAULT_MODEL
    video: Annotated[
        Path | None,
        typer.Option("--video", metavar="FILE", help="Write an MP4: frame, map, window, track."),
    ] = None
    report: Page = None
    fps: Rate = None
    sets: Sets = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class EventsRequest:
    """List the events in a store that `foveate watch --store` wrote, or export them."""

    store: Annotated[Path, typer.Argument(metavar="STORE", help="The SQLite file.")]
    cameras: Annotated[
        list[str], typer.Option("--camera", metavar="NAME", help="Of this camera; repeatable.")
    ] = field(default_factory=list)
    labels: Annotated[
        list[str], typer.Option("--label", metavar="NAME", help="Of this class; repeatable.")
    ] = field(default_factory=list)
    zones: Annotated[
        list[str], typer.Option("--zone", metavar="NAME", help="In this zone; repeatable.")
    ] = field(default_factory=list)
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="provisional or closed.")
    ] = None
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Began at or after: 2026-05-01, 2026-05-01T12:30, 2h, 7d.",
        ),
    ] = None
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Began before; as for --since.")
    ] = None
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", metavar="P", min=0, max=1, help="Least highest score."),
    ] = None
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="Only the latest N.")
    ] = None
    json_path: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write JSON Lines, one event per line."),
    ] = None
    csv_path: Annotated[
        str | None, typer.Option("--csv", metavar="FILE|-", help="Write a table.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(MeasureOptions):
    """Measure a model on labelled videos, with intervals and executed cost."""

    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="A run folder, a preset or weights."),
    ] = None
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", metavar="FILE", help="Measure these timelines instead of a model."
        ),
    ] = None
    report: Page = None
    json_path: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write figures and every prediction."),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="JSON", help="Compare with an earlier evaluation."),
    ] = None
    timelines: Annotated[
        Path | None,
        typer.Option(
            "--timelines",
            metavar="FILE",
            help="Write predicted segments: .csv or ActivityNet .json.",
        ),
    ] = None
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Also measure still, shuffled and reversed clips, and motion energy."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class BenchRequest(MeasureOptions):
    """Compare models, or looks, on the same videos: accuracy, executed MACs, time."""

    models: Annotated[
        str,
        typer.Option(
            "--models",
            "--presets",
            "-m",
            metavar="A,B",
            help="Run folders, presets, weights or pipelines; the first is the reference.",
        ),
    ]
    looks: Annotated[
        str | None,
        typer.Option(
            "--looks", metavar="A,B", help="Such as own,full,random,resize,motion-patch,oracle."
        ),
    ] = None
    json_path: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the table with commit and hardware."),
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Plot accuracy against cost as SVG."),
    ] = None
    plot_cost: Annotated[
        str,
        typer.Option(
            "--plot-cost",
            metavar="NAME",
            help="In the plot: macs, ms, or cpu-ms of all cores.",
        ),
    ] = "macs"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Write a model as graphs that run without PyTorch; DIR is a run folder for predict.

    --calibrate names videos on which the ranges of int8 values are measured; with --data, the
    accuracy of the model and of the export is measured on labelled videos.
    """

    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder, a preset or weights.")
    ]
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new or empty folder.")]
    format: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="onnx, openvino, litert or torchexport."),
    ] = "onnx"
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="fp32 or int8.")
    ] = None
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="N,N", help="Sides of frames, if not the model's own."),
    ] = None
    calibrate: Annotated[
        list[str],
        typer.Option("--calibrate", metavar="CLIPS", help="A video or a folder; repeatable."),
    ] = field(default_factory=list)
    labelled: Annotated[
        Path | None, typer.Option("--data", metavar="DATA", help="Labelled videos.")
    ] = None
    sets: Sets = field(default_factory=list)
    offline: Offline = False

    @property
    def data(self) -> DataRequest | None:
        """The labelled videos, None without."""
        from foveate.data import DataRequest

        return None if self.labelled is None else DataRequest(self.labelled)


@dataclass(frozen=True, kw_only=True)
class BenchEnginesRequest:
    """Measure a model in every engine on this machine; --engine auto remembers the fastest."""

    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder, a preset or weights.")
    ]
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=1, help="Calls of each engine.")
    ] = 20
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=1, help="CPU threads of the network.")
    ] = 1
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the table.")
    ] = None
    sets: Sets = field(default_factory=list)
    offline: Offline = False


@dataclass(frozen=True, kw_only=True)
class CheckRequest(ClipOptions):
    """List every bad file, count classes, measure durations, find leaks between splits."""

    path: Data
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="Worker processes.")
    ] = 2


@dataclass(frozen=True, kw_only=True)
class MakeRequest:
    """Render the built-in benchmark: real human motion, everything else procedural."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="mocap15.")]
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")]
    clips: Annotated[int, typer.Option("--clips", metavar="N", min=1, help="Number of clips.")] = (
        600
    )
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Equal seeds give equal clips.")
    ] = 1
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="MODE", help="actions, timeline, audiovisual or detection."),
    ] = "actions"
    degrade: Annotated[
        str | None,
        typer.Option(
            "--degrade",
            metavar="NAMES",
            help="blur, occlusion, defocus; default: all of them in mode detection, else none.",
        ),
    ] = None
    degraded: Annotated[
        str, typer.Option("--degraded", metavar="SPLITS", help="Splits that are degraded.")
    ] = "test"
    encoding: Annotated[
        str, typer.Option("--encoding", metavar="NAME", help="x264, x264-p1 or mpeg4-gop12.")
    ] = "x264"
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Frame size.")] = "320x240"
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="Worker processes.")
    ] = 2


@dataclass(frozen=True, kw_only=True)
class TranscodeRequest:
    """Encode videos so that their motion vectors can be read: one reference, no B-frames."""

    source: Annotated[Path, typer.Argument(metavar="IN", help="A video, or a folder of videos.")]
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, or an MP4 for one video.")]
    gop: Annotated[int, typer.Option("--gop", metavar="N", help="Frames between key frames.")] = 12
    codec: Annotated[str, typer.Option("--codec", metavar="NAME", help="h264 or mpeg4.")] = "h264"
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Frame size; default: unchanged.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class TimelinesRequest:
    """Convert timelines: ActivityNet JSON, Label Studio JSON, CSV; also results of predict."""

    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Timelines, or the --json file of predict.")
    ]
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")]
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="activitynet, label-studio or csv; default: by the suffix of OUT.",
        ),
    ] = None
    fps: Annotated[
        float, typer.Option("--fps", metavar="RATE", min=0.1, help="Label Studio's frame rate.")
    ] = 24.0


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """Import the checkpoint of another project; every tensor in it must match."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help=".safetensors, .npz, .pth or .pt.")]
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Name to load it by.")]
    system: Annotated[
        str | None,
        typer.Option("--system", metavar="NAME", help="The project; default: all are tried."),
    ] = None
    sets: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the original network."),
    ] = field(default_factory=list)
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="Text file; line i is the name of class i."),
    ] = None
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="SPDX", help="SPDX identifier, if the owner states one."),
    ] = None


def add_command(
    app: typer.Typer, name: str, request: type[Any], module: str, function: str = "run"
) -> None:
    """Add a command whose options are the fields of a dataclass.

    Args:
        app: The command or group that it is added to.
        name: Name of the command.
        request: Dataclass of the options. Its own fields come first in the help, then those of
            its base classes.
        module: Module of `foveate.app` that is imported when the command runs.
        function: Function of the module; it takes the request and returns the exit code.
    """
    hints = get_type_hints(request, include_extras=True)
    own = request.__annotations__
    parameters = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=_default(one),
            annotation=hints[one.name],
        )
        for one in sorted(fields(request), key=lambda one: one.name not in own)
    ]  # fmt: skip

    def call(**values: Any) -> None:
        def work() -> int:
            code: int = getattr(import_module(f"foveate.app.{module}"), function)(request(**values))
            return code

        guard(work)

    call.__doc__ = request.__doc__
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app.command(name)(call)


def _default(option: Field[Any]) -> Any:
    if option.default_factory is not MISSING:
        return option.default_factory()
    return inspect.Parameter.empty if option.default is MISSING else option.default
