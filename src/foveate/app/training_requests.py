"""Options of the commands that train and search: `train`, `fit`, `pipeline`, `search`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.app.requests import Data, PrintConfig, RunOptions, Sets, SplitOptions

if TYPE_CHECKING:
    from foveate.data import DataRequest


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(RunOptions, SplitOptions):
    """What is trained on, and its run folder."""

    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]", help="A folder with one folder per class, or annotations."
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="The run folder.")
    ] = None
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Continue this run.")
    ] = None
    print_config: PrintConfig = False
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Open every clip before the first step.")
    ] = True

    @property
    def data(self) -> DataRequest | None:
        """The data set, None if it is that of the run to resume."""
        return None if self.path is None else self.request_for(self.path)


@dataclass(frozen=True, kw_only=True)
class TrainRequest(TrainingOptions):
    """Train a model on labelled videos; an interrupted run continues with --resume."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="Weights, a run folder or an architecture."
        ),
    ] = None
    look: Annotated[
        str | None,
        typer.Option(
            "--look",
            metavar="LOOK",
            help="Train on what a look shows: full, resize, motion-patch, motion-tokens …",
        ),
    ] = None
    finish: Annotated[
        Path | None,
        typer.Option("--finish", metavar="RUN", help="End this run with its best model so far."),
    ] = None
    recipe: Annotated[str, typer.Option("--recipe", metavar="NAME", help="How to train.")] = (
        "supervised"
    )
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings: a YAML file or a preset's name."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class FitRequest(TrainingOptions):
    """Train a pipeline on labelled videos; an interrupted run continues with --resume."""

    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline",
            "-p",
            metavar="PIPELINE",
            help="A YAML or JSON file, a name of `foveate pipeline list`, or a run folder.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ShowPipelineRequest:
    """Print a pipeline: what it does, and all its settings as YAML."""

    name: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="A name, a file, or a run folder.")
    ]
    sets: Sets = field(default_factory=list)
    json: Annotated[bool, typer.Option("--json", help="Print only the settings, as JSON.")] = False


@dataclass(frozen=True, kw_only=True)
class ValidateRequest:
    """Check pipelines, and whether their recipes take their settings; nothing is trained."""

    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML or JSON files.")]


@dataclass(frozen=True, kw_only=True)
class VideosOptions(RunOptions, SplitOptions):
    """Labelled videos to search with."""

    path: Data

    @property
    def data(self) -> DataRequest:
        """The data set."""
        return self.request_for(self.path)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(VideosOptions):
    """A search for a network."""

    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the study.")]
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings as YAML.")
    ] = None
    print_config: PrintConfig = False


@dataclass(frozen=True, kw_only=True)
class SearchRequest(VideosOptions):
    """Find pipelines for labelled videos; the same command again resumes. `study` may be left out.

    DIR/pareto.json lists what no other trial beats, DIR/study.html draws it, and DIR/best is the
    run folder of the best. The test split is never read.
    """

    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder of the study; default: studies/NAME."
        ),
    ] = None
    space: Annotated[
        Path | None,
        typer.Option("--space", metavar="FILE", help="What is varied, as YAML; see --print-space."),
    ] = None
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=1, help="In all, resumed ones included.")
    ] = 40
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="NAMES",
            help="accuracy, macs, milliseconds, or accuracy and a cost; default: "
            "accuracy,milliseconds.",
        ),
    ] = None
    minimise: Annotated[
        str | None,
        typer.Option("--minimise", metavar="NAME", help="The only objective: a cost."),
    ] = None
    at_least: Annotated[
        list[str],
        typer.Option("--at-least", metavar="NAME=VALUE", help="Lower bound; repeatable."),
    ] = field(default_factory=list)
    at_most: Annotated[
        list[str],
        typer.Option("--at-most", metavar="NAME=VALUE", help="Upper bound; repeatable."),
    ] = field(default_factory=list)
    sampler: Annotated[
        str, typer.Option("--sampler", metavar="NAME", help="tpe, nsga2 or random.")
    ] = "tpe"
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the draws.")] = 0
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0, help="Begin no trial after that."),
    ] = None
    trial_time: Annotated[
        float | None,
        typer.Option("--trial-time", metavar="SECONDS", min=0, help="Limit of one trial."),
    ] = None
    trial_memory: Annotated[
        float | None,
        typer.Option("--trial-memory", metavar="GB", min=0, help="Limit of one trial."),
    ] = None
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="Trials at the same time.")
    ] = 1
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Run trials on a Ray cluster: auto, or its address."
        ),
    ] = None
    refit: Annotated[
        str,
        typer.Option(
            "--refit",
            metavar="WHICH",
            help="Train again on training and validation clips: best, front or none.",
        ),
    ] = "front"
    print_space: Annotated[
        bool, typer.Option("--print-space", help="Print what is varied, as a space file.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ArchitectureRequest(StudyOptions):
    """Find a MoViNet of a given cost; the same command again resumes an interrupted search.

    The most accurate network within the target is trained into DIR/winner, a run folder; all
    candidates are in DIR/pareto.json.
    """

    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="COST", help="Per frame: 2ms (CPU, one thread) or 20MMAC."
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class ScalingRequest(StudyOptions):
    """Scale a MoViNet in depth, width, resolution and frame rate; resumes like architecture.

    Every variant is trained into DIR/trial-N, a run folder; DIR/scaling.json lists them.
    """

    factor: Annotated[
        float,
        typer.Option(
            "--factor", metavar="X", help="Cost per second of video over that of the base."
        ),
    ]
