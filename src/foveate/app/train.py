"""`foveate train`: a run folder from labelled videos."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.app.guard import DONE, INTERRUPTED, print_faults
from foveate.app.options import LOOKS_OF_TRAINING, look_named
from foveate.app.progress import bar
from foveate.app.requests import RunOptions
from foveate.app.training_requests import TrainRequest as Request
from foveate.core import ConfigError
from foveate.core.config import apply_sets, build, read_yaml, to_yaml
from foveate.data import DataError, DataRequest, Dataset
from foveate.evaluate.api import unlabelled
from foveate.train.api import config_file, find_recipe, open_for
from foveate.train.kit.interrupt import terminable
from foveate.train.pipelines import FILE

if TYPE_CHECKING:
    from foveate.primitives.pipeline import Pipeline


def run(request: Request) -> int:
    """Train; returns the exit code.

    Raises:
        FoveateError: The request is wrong, or the training cannot continue.
    """
    return interruptible(lambda: _run(request), request.resume or request.out, "train")


def interruptible(work: Callable[[], int], out: Path | None, verb: str) -> int:
    """Do the work of a command that trains; if it is interrupted, say how to continue.

    Args:
        work: Returns the exit code.
        out: The run folder, None if none was named.
        verb: The command.
    """
    with terminable():
        try:
            return work()
        except KeyboardInterrupt:
            if _is_main():
                begun = out is not None and (out / "training.json").is_file()
                hint = _resume_hint(out, verb) if begun else "nothing was written"
                _say(f"foveate: interrupted; {hint}")
            return INTERRUPTED


def _run(request: Request) -> int:
    if request.finish is not None:
        return _finish(request.finish)
    if request.resume is not None:
        return _resume(request, request.resume)
    values: dict[str, Any] = read_yaml(config_file(request.config)) if request.config else {}
    if request.model is not None:
        values["model"] = request.model
    if request.look is not None:
        values["look"] = {"name": look_named(request.look, LOOKS_OF_TRAINING)}
    recipe = find_recipe(request.recipe)
    if request.look is not None and "look" not in recipe.config.model_fields:
        raise ConfigError(
            f"--look {request.look}: the recipe {request.recipe} sees whole clips",
            "train with --recipe supervised or distill",
        )
    settings = build(recipe.config, apply_sets(values, request.sets), "settings")
    if request.print_config:
        print(to_yaml(settings), end="")
        return 0
    if request.data is None or request.out is None:
        raise ConfigError("train needs data and --out", "type: foveate train DATA --out runs/1")
    return fit(request, recipe, settings, request.data, request.out)


def _resume(request: Request, folder: Path) -> int:
    """Resume a run; only settings that do not affect the result may differ."""
    from foveate.train.run_state import read_training

    training = read_training(folder)
    recipe = find_recipe(training.recipe)
    values = apply_sets(dict(training.configuration), request.sets)
    settings = build(recipe.config, values, "settings")
    data = request.data or DataRequest.of(training.origin)
    return fit(request, recipe, settings, data, folder, resume=True)


def _finish(folder: Path) -> int:
    """End a run with its best model so far."""
    from foveate.train.run_state import finish_run

    card = finish_run(folder)
    _say(f"finished with the best model so far: {_listed(card.figures)}")
    _say("a process that trains it stops after its current step")
    print(folder)
    return DONE


def fit(
    request: RunOptions,
    recipe: Any,
    settings: Any,
    data: DataRequest,
    out: Path,
    resume: bool = False,
    again: str = "",
    pipeline: Pipeline | None = None,
) -> int:
    """Open the data, run a recipe and print the summary; returns the exit code.

    Args:
        request: Threads, device and whether the network is used.
        recipe: The `Recipe`.
        settings: Its checked settings.
        data: The data set.
        out: The run folder.
        resume: Resume the run that is there.
        again: How to resume; empty for `foveate train --resume`.
        pipeline: What recipe and settings were made of; it is written to the run folder.

    Raises:
        FoveateError: See `run_recipe`.
    """
    import torch

    from foveate.models.device import choose_device
    from foveate.train.kit.memory import keep_freed_memory
    from foveate.train.recipe import run_recipe

    is_main = _is_main()
    threads = request.thread_count
    if threads == "auto":
        raise ConfigError("--threads auto: training takes a number of threads")
    choose_device(request.device)
    try:
        dataset, origin = open_for(recipe, data)
    except DataError as error:
        if is_main:
            print_faults(error)
        raise
    if is_main:
        kind = "without labels" if unlabelled(dataset) else f"of {len(dataset.classes)} classes"
        _say(", ".join(f"{len(dataset.subset(name))} {name}" for name in dataset.splits)
             + f" clips {kind}")  # fmt: skip
    torch.set_num_threads(threads)
    keep_freed_memory()
    checks = is_main and not resume and getattr(request, "check", False)

    def before() -> None:
        if checks:
            _check(dataset)
        if is_main and pipeline is not None:
            pipeline.write(out / FILE)

    summary = run_recipe(
        recipe, settings, dataset, out, resume,
        origin=origin, device=request.device, offline=request.offline, before=before,
        preset=None if pipeline is None else pipeline.preset(),
    )  # fmt: skip
    if not is_main:
        return _code(summary)
    return _print_summary(summary, data, unlabelled(dataset), again)


def _check(dataset: Dataset) -> None:
    """Print which clips cannot be used; too many of them are an error.

    Raises:
        DataError: More of them than a loader tolerates.
    """
    from foveate.data.checking import examine
    from foveate.data.loader import tolerated

    with bar(1.0) as shown:
        report = examine(
            dataset,
            progress=lambda done, total: shown.update(done / max(total, 1), "opening clips"),
        )
    for where, clip, why in report.bad:
        _say(f"bad clip: {where}: {clip}: {why}" if where != clip else f"bad clip: {clip}: {why}")
    for line in report.leaks:
        _say(f"leak: {line}")
    allowed = tolerated(len(dataset))
    if len(report.bad) > allowed:
        raise DataError(
            f"{len(report.bad)} of {len(dataset)} clips cannot be used, more than {allowed}",
            "fix or remove them (foveate data check lists them)",
        )


def _code(summary: Any) -> int:
    return INTERRUPTED if summary.outcome == "interrupted" else DONE


def _print_summary(summary: Any, data: DataRequest, pretrained: bool, again: str) -> int:
    """Print the summary and what to type next; returns the exit code."""
    for line in (*summary.warnings, *(f"left out: {line}" for line in summary.failures)):
        _say(line)
    features = f", {summary.features_seconds:.0f} s of it for features" * (
        summary.features_seconds >= 1
    )
    _say(
        f"{summary.outcome}: {summary.epochs} epochs, {summary.steps} steps in "
        f"{summary.seconds:.0f} s{features} ({summary.clips_per_second:.1f} clips/s, "
        f"{summary.loader_share:.0%} of it waiting for clips)"
    )
    for name, figures in summary.stages.items():
        _say(f"{name}: {_listed(figures) or 'no epoch is over'}")
    if summary.figures:
        _say(f"best: {_listed(summary.figures)}")
    if summary.outcome == "interrupted":
        _say(f"go on with: {again}" if again else _resume_hint(summary.folder))
        return INTERRUPTED
    model = _model_of(summary)
    fold = "" if data.fold is None else f" --fold {data.fold}"
    if model is not None and pretrained:
        _say(f"next: foveate train LABELLED --model {model} --out OUT")
    elif model is not None:
        _say(f"next: foveate evaluate {data.path}{fold} --model {model}")
    print(summary.folder)
    return DONE


def _model_of(summary: Any) -> Path | None:
    """The folder of the trained model: the run folder, or that of its only stage with a model."""
    from foveate.models.weights.builtin import CARD

    folders = [summary.folder, *(summary.folder / name for name in summary.stages)]
    models = [folder for folder in folders if (folder / CARD).is_file()]
    return models[0] if models[:1] == [summary.folder] or len(models) == 1 else None


def _listed(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _resume_hint(folder: Path | None, verb: str = "train") -> str:
    return f"go on with: foveate {verb} --resume {folder}"


def _is_main() -> bool:
    """Whether this process prints; of those that torchrun starts, one does."""
    return os.environ.get("RANK", "0") == "0"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
