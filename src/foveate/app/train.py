"""`foveate train`: a run folder from labelled videos."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from foveate.app.guard import tell_faults
from foveate.app.options import LOOKS_OF_TRAINING, look_named
from foveate.app.progress import bar
from foveate.app.requests import TrainRequest as Request
from foveate.core import ConfigError
from foveate.core.config import apply_sets, build, read_yaml, to_yaml
from foveate.data import DataError, DataRequest, Dataset
from foveate.evaluate.api import unlabelled
from foveate.train.api import config_file, open_for, recipe_module, settings_class


def run(request: Request) -> int:
    """Train; returns the exit code.

    Raises:
        FoveateError: The request is wrong, or the training cannot go on.
    """
    if request.resume is not None:
        return _resume(request, request.resume)
    values: dict[str, Any] = read_yaml(config_file(request.config)) if request.config else {}
    if request.model is not None:
        values["model"] = request.model
    if request.look is not None:
        values["look"] = {"name": look_named(request.look, LOOKS_OF_TRAINING)}
    recipe = recipe_module(request.recipe)
    if request.look is not None and "look" not in settings_class(recipe).model_fields:
        raise ConfigError(
            f"--look {request.look}: the recipe {request.recipe} sees whole clips",
            "train with --recipe supervised or distill",
        )
    settings = build(settings_class(recipe), apply_sets(values, request.sets), "settings")
    if request.print_config:
        print(to_yaml(settings), end="")
        return 0
    if request.data is None or request.out is None:
        raise ConfigError("train needs data and --out", "type: foveate train DATA --out runs/1")
    return _fit(request, recipe, settings, request.data, request.out)


def _resume(request: Request, folder: Path) -> int:
    """Go on with a run as it was begun; only settings that change no number may differ."""
    from foveate.train.session import read_training

    training = read_training(folder)
    recipe = recipe_module(training.recipe)
    values = apply_sets(dict(training.configuration), request.sets)
    settings = build(settings_class(recipe), values, "settings")
    data = request.data or DataRequest.of(training.origin)
    return _fit(request, recipe, settings, data, folder, resume=True)


def _fit(
    request: Request,
    recipe: Any,
    settings: Any,
    data: DataRequest,
    out: Path,
    resume: bool = False,
) -> int:
    import torch

    from foveate.train.memory import keep_freed_memory

    # The processes that torchrun starts say things once.
    leads = os.environ.get("RANK", "0") == "0"
    try:
        dataset, origin = open_for(recipe, data)
    except DataError as error:
        if leads:
            tell_faults(error)
        raise
    if leads:
        kind = "without labels" if unlabelled(dataset) else f"of {len(dataset.classes)} classes"
        _say(", ".join(f"{len(dataset.subset(name))} {name}" for name in dataset.splits)
             + f" clips {kind}")  # fmt: skip
        if request.check and not resume:
            _check(dataset)
    torch.set_num_threads(request.threads)
    keep_freed_memory()
    summary = recipe.fit(
        settings, dataset, out, resume,
        origin=origin, device=request.device, offline=request.offline,
    )  # fmt: skip
    return _tell(summary, leads)


def _check(dataset: Dataset) -> None:
    """Say which clips cannot be used before the first step; too many of them stop here.

    Raises:
        DataError: More of them than a loader would put up with.
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
            "mend them or take them out (foveate data check names them)",
        )


def _tell(summary: Any, leads: bool) -> int:
    """What came of it; 130 where it was interrupted."""
    from foveate.app.guard import DONE, INTERRUPTED

    if leads:
        for line in (*summary.warnings, *(f"left out: {line}" for line in summary.failures)):
            _say(line)
        figures = ", ".join(f"{name} {value:.3f}" for name, value in summary.figures.items())
        speed = (
            f"{summary.epochs} epochs, {summary.steps} steps in {summary.seconds:.0f} s "
            f"({summary.clips_per_second:.1f} clips/s, "
            f"{summary.loader_share:.0%} of it waiting for clips)"
        )
        _say(f"{summary.outcome}: {speed}")
        if figures:
            _say(f"best epoch: {figures}")
        if summary.outcome == "interrupted":
            _say(f"go on with: foveate train --resume {summary.folder}")
        else:
            print(summary.folder)
    return INTERRUPTED if summary.outcome == "interrupted" else DONE


def _say(line: str) -> None:
    print(line, file=sys.stderr)
