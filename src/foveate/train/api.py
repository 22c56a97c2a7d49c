"""Training in one call: from labelled videos to a run folder."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.core import ConfigError
from foveate.core.config import build, nearest, read_yaml
from foveate.data import Dataset, open_labelled
from foveate.data.labelled import DataRequest, Videos, request_for
from foveate.train import recipes

if TYPE_CHECKING:
    from foveate.train.kit.state import ProgressEvent
    from foveate.train.recipe import Recipe
    from foveate.train.run_state import RunSummary

# Name → module, of everything in `train.recipes`; nothing is imported to list them.
RECIPES = {
    one.name: f"{recipes.__name__}.{one.name}{'.recipe' if one.ispkg else ''}"
    for one in pkgutil.iter_modules(recipes.__path__)
}


def train(
    videos: Videos | None = None,
    *,
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    recipe: str | Recipe = "supervised",
    epochs: int | None = None,
    look: str | Mapping[str, Any] | None = None,
    config: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str | None = None,
    offline: bool = False,
    on_progress: Callable[[ProgressEvent], None] | None = None,
    **settings: Any,
) -> RunSummary:
    """Train a model on labelled videos, as `foveate train` does.

    Training can be interrupted at any time and resumed with `resume=True`; the weights are then
    the same as without the interruption.

    Args:
        videos: A folder with one folder per class, or an annotation file; a
            `foveate.data.DataRequest`, which also gives format, fold and split seed; or a
            `foveate.data.Dataset`. None with `resume`: the videos that the run was begun with.
        out: The run folder.
        model: Weights, a run folder or an architecture; the recipe's default if None.
        recipe: `supervised`, `distill`, `contrastive`, `ensemble`, `compressed` or `adafocus`, or a
            recipe of your own.
        epochs: Passes over the data; the recipe's default if None.
        look: Train on what this look shows, by name or as settings with the name among them.
        config: A YAML file of settings, or the name of a preset such as `resnet3drs-small`.
        resume: Resume the run in `out`; settings that would change the result are refused.
        device: Where to compute; None for CUDA if available, else the CPU.
        offline: Do not use the network for weights.
        on_progress: Called after each step with a `foveate.train.ProgressEvent`; None shows a
            progress bar if standard error is a terminal.
        **settings: Fields of the recipe's configuration, such as `batch=8` or `freeze="backbone"`.

    Returns:
        A summary with `folder`, `outcome`, `figures`, `card`, `warnings` and `failures`. It can be
        used as a path: `foveate.load(run)` loads the trained model.

    Raises:
        ConfigError: A setting is unknown or out of range, or `out` holds another run.
        DataError: The data set has faults, or there is none.
        TrainError: The loss is not finite; the last checkpoint is kept.
    """
    given = {"model": None if model is None else os.fspath(model), "epochs": epochs, "look": look}
    given = {key: value for key, value in given.items() if value is not None} | settings
    folder = Path(out)
    method = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if resume:
        from foveate.train.run_state import read_training

        training = read_training(folder)
        if training.recipe != method.name:
            method = find_recipe(training.recipe)
        values = {**training.configuration, **given}
        videos = DataRequest.of(training.origin) if videos is None else videos
    else:
        values = {**({} if config is None else read_yaml(config_file(config))), **given}
    if videos is None:
        raise ConfigError("there are no videos to train on", "foveate.train('videos/', out=...)")
    checked = build(method.config, values, "settings")
    dataset, origin = open_for(method, videos)

    from foveate.train.recipe import run_recipe

    return run_recipe(
        method, checked, dataset, folder, resume, on_progress,
        origin=origin, device=device, offline=offline,
    )  # fmt: skip


def open_for(recipe: Recipe, videos: Videos) -> tuple[Dataset, dict[str, Any]]:
    """The data set for a recipe, and how to open it again.

    Raises:
        DataError: The data set has faults.
        ConfigError: The data is in folds and none is named, or there is no such fold.
    """
    if isinstance(videos, Dataset):
        return open_labelled(videos), {}
    request = request_for(videos)
    if request.format is None and recipe.unlabelled:
        request = replace(request, format="unlabelled")
    return open_labelled(request), request.origin()


def find_recipe(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ConfigError: There is no such recipe.
    """
    if name not in RECIPES:
        guess = nearest(name, RECIPES)
        hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(RECIPES)}"
        raise ConfigError(f"recipe {name}: not known", hint)
    found: Recipe = import_module(RECIPES[name]).RECIPE
    return found


def config_file(name: str | os.PathLike[str]) -> Path:
    """An existing file of settings, or a preset of the package.

    Raises:
        ConfigError: Neither.
    """
    from foveate.train.presets import find, names

    path = Path(name)
    if path.exists():
        return path
    found = find(str(name))
    if found is None:
        guess = nearest(str(name), names())
        hint = f"did you mean {guess}?" if guess else f"presets: {', '.join(names())}"
        raise ConfigError(f"config {name}: no such file or preset", hint)
    return found
