"""Pipelines by name, and training from a pipeline: `foveate.fit`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.core import ConfigError
from foveate.core.config import apply_sets, build, nearest, read_yaml
from foveate.data.labelled import DataRequest, Videos
from foveate.models.weights.builtin import run_folder
from foveate.pipeline.presets import PRESETS, Preset, edit
from foveate.primitives.base import registered
from foveate.primitives.pipeline import Pipeline
from foveate.primitives.recognisers import Model
from foveate.train import presets as recipe_presets
from foveate.train.api import RECIPES, find_recipe, open_for

if TYPE_CHECKING:
    from foveate.train.config import RecipeConfig
    from foveate.train.kit.state import ProgressEvent
    from foveate.train.recipe import Recipe
    from foveate.train.run_state import RunSummary

FILE = "pipeline.json"  # in the run folder, beside run.json

AnyPipeline = Pipeline | Mapping[str, Any] | str | os.PathLike[str]
"""A pipeline, its values, its file, its name, or a run folder that was made of one."""


def fit(
    pipeline: AnyPipeline | None = None,
    videos: Videos | None = None,
    *,
    out: str | os.PathLike[str],
    resume: bool = False,
    device: str | None = None,
    offline: bool = False,
    on_progress: Callable[[ProgressEvent], None] | None = None,
) -> RunSummary:
    """Train a pipeline on labelled videos, as `foveate fit` does.

    The run folder is one of `foveate.train`, with `pipeline.json` beside `run.json`.

    Args:
        pipeline: A `foveate.Pipeline`, its values, a YAML or JSON file, a name of
            `foveate pipeline list`, or a run folder; None with `resume`: the run's own.
        videos: As for `foveate.train`.
        out: The run folder.
        resume: Resume the run in `out`.
        device: Where to compute; None for CUDA if available, else the CPU.
        offline: Do not use the network for weights.
        on_progress: As for `foveate.train`.

    Returns:
        A summary; see `foveate.train`.

    Raises:
        ConfigError: A setting is unknown or out of range, or `out` holds another run.
        DataError: The data set has faults, or there is none.
        TrainError: The loss is not finite; the last checkpoint is kept.
    """
    from foveate.train.recipe import run_recipe
    from foveate.train.run_state import read_training

    folder = Path(out)
    chosen = find(folder if resume and pipeline is None else pipeline or Pipeline())
    recipe, config = recipe_of(chosen)
    if videos is None and resume:
        videos = DataRequest.of(read_training(folder).origin)
    if videos is None:
        raise ConfigError(
            "there are no videos to train on", "foveate.fit(pipeline, 'videos/', ...)"
        )
    dataset, origin = open_for(recipe, videos)
    return run_recipe(
        recipe, config, dataset, folder, resume, on_progress,
        origin=origin, device=device, offline=offline, preset=chosen.preset(),
        before=lambda: chosen.write(folder / FILE),
    )  # fmt: skip


def recipe_of(pipeline: Pipeline, source: str = "pipeline") -> tuple[Recipe, RecipeConfig]:
    """The recipe of a pipeline, and its checked settings.

    Raises:
        ConfigError: A setting that the recipe, or the preset of the run, does not take.
    """
    recipe = find_recipe(pipeline.training.kind)
    config = build(recipe.config, pipeline.settings(), f"{source}: recipe {recipe.name}")
    edit(Preset(), pipeline.preset(), source)
    return recipe, config


def find(pipeline: AnyPipeline, sets: list[str] | None = None) -> Pipeline:
    """The pipeline that is meant.

    Args:
        pipeline: See `fit`.
        sets: Settings `path.key=value` that are changed.

    Raises:
        ConfigError: There is no such file or name, or a fault in it.
    """
    source = "pipeline"
    if isinstance(pipeline, Pipeline):
        values: Any = pipeline.model_dump()
        if not sets:
            return pipeline
    elif isinstance(pipeline, Mapping):
        values = pipeline
    else:
        source = os.fspath(pipeline)
        values = _values(source)
    return build(Pipeline, apply_sets(dict(values), sets or ()), source)


def names() -> dict[str, Pipeline]:
    """The pipelines that come with the package: presets, and settings of recipes."""
    found = {name: _of_preset(preset) for name, preset in PRESETS.items()}
    return found | {name: of_settings(_recipe_preset(name)) for name in recipe_presets.names()}


def of_settings(values: Mapping[str, Any], recipe: str | None = None) -> Pipeline:
    """The pipeline of a recipe's settings.

    Args:
        values: Settings, as of a file for `foveate train --config`.
        recipe: The recipe; None for the first one that has all of them.
    """
    values = dict(values)
    first = sorted(RECIPES, key=lambda name: name != "supervised")
    fits = (n for n in first if values.keys() <= find_recipe(n).config.model_fields.keys())
    kind = recipe or next(fits, "supervised")
    known = registered("recognisers")
    recogniser = {"kind": kind} if kind in known else {"kind": "model"}
    if "model" in values and kind not in known:
        recogniser |= {"name": values.pop("model"), "settings": values.pop("settings", {})}
    else:
        own = known[kind].model_fields
        recogniser |= {key: values.pop(key) for key in list(values) if key in own}
    sampler = {key: values.pop(key) for key in ("frames", "rate") if values.get(key) is not None}
    fields = registered("training")[kind].model_fields.keys() - {"settings", "kind"}
    training = {key: values.pop(key) for key in list(values) if key in fields and
                values[key] is not None}  # fmt: skip
    look = values.pop("look", None)
    return build(
        Pipeline,
        {
            "recogniser": recogniser,
            "sampler": {"kind": "uniform", **sampler},
            "training": {"kind": kind, **training, "settings": values},
            **({} if look is None else {"look": look}),
        },
        kind,
    )


def _values(source: str) -> dict[str, Any]:
    """The values of a file, a run folder, or a name."""
    path = Path(source)
    if run_folder(source) is not None or (path / "training.json").is_file():
        if (path / FILE).is_file():
            return read_yaml(path / FILE)
        raise ConfigError(f"{source}: was not trained from a pipeline (no {FILE})")
    if path.is_file() or path.suffix in (".yaml", ".yml", ".json"):
        return read_yaml(path)
    if source in PRESETS or source in recipe_presets.names():
        return names()[source].model_dump()
    known = [*PRESETS, *recipe_presets.names()]
    guess = nearest(source, known)
    hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(known)}"
    raise ConfigError(f"pipeline {source}: no such file or name", hint)


def _recipe_preset(name: str) -> dict[str, Any]:
    path = recipe_presets.find(name)
    assert path is not None
    return read_yaml(path)


def _of_preset(preset: Preset) -> Pipeline:
    return Pipeline(
        recogniser=Model(name=preset.model), look=preset.look, stopping=preset.decide,
        budget=preset.budget,
    )  # fmt: skip
