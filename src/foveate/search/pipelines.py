"""A search for pipelines on labelled videos: the accuracy asked for at the least cost.

Every trial is a pipeline. Its training part (everything but look, stopping rule, budget and engine
of prediction) is trained in `training/DIGEST`, a run folder that all trials with an equal training
part share, and features of frozen networks are shared by all trainings (`features/`). Then it is
measured on validation clips: accuracy with its interval, and multiply-adds and milliseconds from
the ledger of what was executed, decoding included.

The study reads the data set once and keeps only its training and validation clips (`data.json`),
which is all that trials and refitted models are given: the test split cannot be reached.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from foveate.core import ConfigError, FoveateError
from foveate.core.config import apply_sets, build, fault_of, read_yaml
from foveate.core.files import replace_file
from foveate.data import Dataset, open_labelled
from foveate.data.labelled import Videos, request_for
from foveate.primitives.base import registered
from foveate.primitives.pipeline import Pipeline
from foveate.primitives.recognisers import Network
from foveate.primitives.samplers import Uniform
from foveate.search.study import (
    Limits,
    Name,
    Runner,
    StudySettings,
    Trial,
    best_of,
    locked,
    open_study,
    read_settings,
    read_trials,
)
from foveate.search.study_page import PAGE, page_of
from foveate.search.study_space import Space
from foveate.search.study_trials import Job, Report, run_in_child

if TYPE_CHECKING:
    from foveate.evaluate.run import Evaluation, Figure
    from foveate.train.config import RecipeConfig
    from foveate.train.kit.state import ProgressEvent
    from foveate.train.recipe import Recipe

DATA, PARETO, TRAINING, FEATURES = "data.json", "pareto.json", "training", "features"
BEST, FRONT = "best", "front"  # run folders of what was trained again
DEFAULT_SPACE = Path(__file__).with_name("default_space.yaml")
_ENGINES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
_DATASET: TypeAdapter[Dataset] = TypeAdapter(Dataset)
PROTOCOL = (
    "Accuracy is that of one answer per clip of the validation split, cut from the training clips "
    "by group unless the data names one, with its 95 % bootstrap interval; test clips are not "
    "read. MACs are executed multiply-adds and milliseconds are measured, both per video and with "
    "decoding."
)


@dataclass(frozen=True)
class PipelineStudy:
    """A study and what it found so far.

    Attributes:
        folder: Of the study.
        settings: What is looked for.
        trials: All trials by number.
        front: The trials that no other beats within the bounds, the most accurate first; with one
            objective the best trial. Empty if no trial is within the bounds.
    """

    folder: Path
    settings: StudySettings
    trials: tuple[Trial, ...]
    front: tuple[Trial, ...]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> PipelineStudy:
        """Read a study, finished or not.

        Raises:
            ConfigError: No study was begun in the folder.
            MissingExtra: Optuna is not installed.
        """
        place = Path(folder)
        settings = read_settings(place)
        trials = read_trials(place, settings)
        return cls(place, settings, trials, best_of(trials, settings))

    @property
    def best(self) -> Path | None:
        """The run folder of the best pipeline, None if there is none (yet)."""
        folder = self.folder / BEST
        return folder if folder.is_dir() else None

    @property
    def page(self) -> Path:
        """The page of the study."""
        return self.folder / PAGE

    def pipeline(self, number: int) -> Pipeline:
        """The pipeline of a trial."""
        return build(Pipeline, self.trials[number].values["pipeline"], f"trial {number}")


def search_pipelines(
    videos: Videos,
    *,
    out: str | os.PathLike[str],
    space: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    trials: int = 40,
    objectives: Sequence[Name] = ("accuracy", "milliseconds"),
    at_least: Mapping[Name, float] | None = None,
    at_most: Mapping[Name, float] | None = None,
    sampler: str = "tpe",
    seed: int = 0,
    timeout: float | None = None,
    trial_time: float | None = None,
    trial_memory: float | None = None,
    workers: int = 1,
    ray: str | None = None,
    refit: str = "front",
    device: str | None = None,
    threads: int = 1,
    offline: bool = False,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> PipelineStudy:
    """Search for pipelines, or resume a search, as `foveate search VIDEOS` does.

    Args:
        videos: As for `foveate.train`.
        out: Folder of the study; the same one resumes it.
        space: A space file or its values (see `Space`); None for the default space.
        trials: In all, those before a resume included.
        objectives: `accuracy`, `macs` or `milliseconds`, or accuracy and one of the two others.
        at_least: Lower bounds, such as `{"accuracy": 0.85}`.
        at_most: Upper bounds, such as `{"milliseconds": 20}`.
        sampler: `tpe`, `nsga2` or `random`.
        seed: Of the draws.
        timeout: Seconds after which no further trial is begun.
        trial_time: Seconds for one trial.
        trial_memory: Bytes for one trial.
        workers: Trials at the same time; milliseconds are measured beside each other then.
        ray: Address of a Ray cluster whose nodes run the trials; None for this machine.
        refit: What is trained again on training and validation clips: `best`, the whole `front`,
            or `none`.
        device: Where to compute; None for CUDA if available, else the CPU.
        threads: CPU threads of each trial.
        offline: Do not use the network for weights.
        on_trial: Called with each trial that ends in this process.

    Raises:
        ConfigError: A setting or the space is wrong, or the study was begun with others.
        DataError: The data set has faults.
        MissingExtra: Optuna, or Ray, is not installed.
    """
    folder = Path(out)
    known = space_of(space)
    dataset, origin = study_data(videos)
    settings = build(
        StudySettings,
        {
            "objectives": objectives, "at_least": at_least or {}, "at_most": at_most or {},
            "sampler": sampler, "seed": seed, "space": known.to_dict(),
            "context": {
                "data": origin, "digest": dataset.digest(),
                "device": device, "threads": threads, "offline": offline,
            },
        },
        "study",
    )  # fmt: skip
    if refit not in ("best", "front", "none"):
        raise ConfigError(f"refit {refit}: unknown", "one of: best, front, none")
    open_study(folder, settings)
    replace_file(folder / DATA, _DATASET.dump_json(dataset))
    limits = Limits(trials, timeout, trial_time, trial_memory, workers)
    if ray is None:
        _runner(folder, limits, on_trial).run()
    else:
        from foveate.search.study_ray import run_on_ray

        run_on_ray(partial(step, folder.resolve(), limits), ray, workers, timeout=timeout)
    return finish(folder, refit)


def space_of(given: str | os.PathLike[str] | Mapping[str, Any] | None, *sets: str) -> Space:
    """The space of a file or its values, with settings `path.key=value` pinned on top.

    Raises:
        ConfigError: A path that does not exist, or a value out of bounds.
    """
    source, values = "space", dict(given) if isinstance(given, Mapping) else {}
    if given is None:
        values = read_yaml(DEFAULT_SPACE)
        values["engine"] = {"name": [name for name in _ENGINES if find_spec(_ENGINES[name])]}
    elif not isinstance(given, Mapping):
        source, values = str(given), read_yaml(Path(given))
    follows = {"training": ("recogniser", _recipes), "sampler": ("recogniser", _samplers)}
    return Space(Pipeline, apply_sets(values, sets), source, follows)


def _recipes(recogniser: str) -> tuple[str, ...]:
    """The trainings that a kind of recogniser can have, its own first."""
    recipes: tuple[str, ...] = getattr(registered("recognisers")[recogniser], "recipes", ())
    return recipes


def _samplers(recogniser: str) -> tuple[str, ...]:
    """The samplers that a kind of recogniser can have; none if it has one of its own."""
    known = registered("recognisers")[recogniser]
    if "sampler" not in getattr(known, "takes", ()):
        return ()
    plain = Uniform().kind
    others = [kind for kind in registered("samplers") if kind != plain]
    return (plain, *others) if issubclass(known, Network) else (plain,)


def study_data(videos: Videos) -> tuple[Dataset, dict[str, Any]]:
    """The training and validation clips of a data set, and how it was opened.

    Raises:
        DataError: The data set has faults.
        ConfigError: There are no training or no validation clips.
    """
    dataset = open_labelled(videos)
    kept = dataset.where(lambda record: record.split in ("train", "val"))
    for split in ("train", "val"):
        if split not in kept.splits:
            raise ConfigError(f"{dataset.root}: there are no {split} clips to search with")
    return kept, {} if isinstance(videos, Dataset) else request_for(videos).origin()


def read_data(folder: Path) -> Dataset:
    """The clips of a study.

    Raises:
        ConfigError: The file is missing or damaged.
    """
    try:
        return _DATASET.validate_json((folder / DATA).read_bytes())
    except OSError:
        raise ConfigError(f"{folder}: has no {DATA}") from None
    except ValidationError as error:
        raise ConfigError(f"{DATA}: {fault_of(error)}") from None


def step(folder: Path, limits: Limits) -> bool:
    """Run one trial of a study; False if there are enough."""
    return _runner(folder, limits, lambda trial: None).step()


def _runner(folder: Path, limits: Limits, on_trial: Callable[[Trial], None]) -> Runner:
    settings = read_settings(folder)
    return Runner(folder, settings, space_of(settings.space), measure, limits, on_trial)


def measure(job: Job, report: Report) -> dict[str, Any]:
    """Train a pipeline, or take the equal training of another trial, and measure it.

    The objective function of `foveate search`; it is run in a child process.
    """
    import torch

    from foveate.evaluate.api import evaluate
    from foveate.pipeline.loading import load
    from foveate.train.kit.memory import keep_freed_memory

    torch.set_num_threads(job.context["threads"])
    keep_freed_memory()
    pipeline = build(Pipeline, job.values, "pipeline")
    dataset = read_data(job.study)
    run, saved = _trained(job, pipeline, dataset, report)
    place = {"device": job.context["device"], "offline": job.context["offline"]}
    recogniser = load(run, threads=job.context["threads"], **place, **pipeline.preset())
    first = dataset.subset("val").records[0]
    recogniser.predict(first.path)  # what is built at the first call is not part of the cost
    found = evaluate(recogniser, dataset, split="val")
    return {
        **_measured(found),
        "pipeline": pipeline.model_dump(mode="json"),
        "training": run.name,
        "saved_seconds": saved,
        "warnings": [] if not found.failed else [f"{found.failed} clips could not be read"],
    }


def _measured(found: Evaluation) -> dict[str, Any]:
    """The objectives: accuracy with its interval, and the cost per video (or frame)."""

    def per(unit: str) -> Figure:
        return next(one for one in found.figures if one.name.startswith(f"{unit}-per-"))

    accuracy = found.figures[0]
    if accuracy.value is None:
        raise FoveateError(f"{accuracy.name}: not defined on the validation clips")
    return {
        "accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high,
        "metric": accuracy.name, "macs": per("macs").value,
        "milliseconds": 1000 * (per("seconds").value or 0.0), "clips": found.n,
    }  # fmt: skip


def _trained(job: Job, pipeline: Pipeline, dataset: Dataset, report: Report) -> tuple[Path, float]:
    """The run folder of a pipeline's training part, and the seconds saved by sharing."""
    from foveate.train.pipelines import recipe_of

    recipe, config = recipe_of(pipeline)
    text = json.dumps([recipe.name, config.model_dump(mode="json"), dataset.digest()])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = job.study / TRAINING / key
    # Of trials with an equal training part, one trains and the others wait for it.
    with locked(job.study / TRAINING, f"{key}.lock"):
        if _outcome(folder) is not None:
            return folder, _timing(folder, "seconds")
        _train(recipe, config, dataset, folder, job, lambda event: _report(event, report))
        return folder, _timing(folder, "features_saved")


def _report(event: ProgressEvent, report: Report) -> None:
    scores = [v for k, v in (event.figures or {}).items() if k.startswith(("top1@", "map"))]
    if scores:
        report(scores[0])


def _train(
    recipe: Recipe, config: RecipeConfig, dataset: Dataset, folder: Path, job: Job,
    on_progress: Callable[[ProgressEvent], None],
) -> None:  # fmt: skip
    from foveate.train.recipe import run_recipe
    from foveate.train.run_state import TRAINING as BEGUN

    run_recipe(
        recipe, config, dataset, folder, (folder / BEGUN).is_file(), on_progress,
        origin=job.context["data"], device=job.context["device"], offline=job.context["offline"],
        features=job.study / FEATURES,
    )  # fmt: skip


def _outcome(folder: Path) -> str | None:
    """How a training ended, None if it was not begun or is not over."""
    from foveate.train.run_state import read_training

    try:
        return read_training(folder).outcome
    except ConfigError:
        return None


def _timing(folder: Path, name: str) -> float:
    """A number of seconds from the log of a training's times, over all its calls."""
    lines = (folder / "timing.jsonl").read_text("utf-8").splitlines()
    return sum(float(json.loads(line).get(name, 0.0)) for line in lines)


def finish(folder: Path, refit: str = "front") -> PipelineStudy:
    """Train the winners again on training and validation clips, and write list and page.

    What is up to date is kept.

    Args:
        folder: Of the study.
        refit: `best`, `front` or `none`; see `search_pipelines`.
    """
    study = PipelineStudy.read(folder)
    wanted = {"none": 0, "best": 1, "front": len(study.front)}[refit]
    kept, failed = _refitted(folder), {}
    places: dict[int, str] = {}
    for at, trial in enumerate(study.front[:wanted]):
        place = f"{FRONT}/trial-{trial.number}" if at else BEST
        if kept.get(place) != trial.number:
            reason = _refit(study, trial, folder / place)
            if reason is not None:
                failed[trial.number] = reason
                continue
        places[trial.number] = place
    for place, number in kept.items():
        if places.get(number) != place:
            shutil.rmtree(folder / place, ignore_errors=True)
    rows = [
        {
            "number": trial.number, "folder": places.get(trial.number),
            "refit_failed": failed.get(trial.number), "parameters": trial.parameters,
            **trial.values,
        }
        for trial in study.front
    ]  # fmt: skip
    listed = {
        "schema": 1, "objectives": list(study.settings.objectives),
        "at_least": study.settings.at_least, "at_most": study.settings.at_most,
        "best": study.front[0].number if study.front else None, "front": rows,
    }  # fmt: skip
    replace_file(folder / PARETO, f"{json.dumps(listed, indent=1)}\n".encode())
    page = page_of(folder, study.settings, study.trials, PROTOCOL, places)
    replace_file(study.page, page.encode("utf-8", "replace"))
    return study


def _refitted(folder: Path) -> dict[str, int]:
    """The run folders of trials that were trained again, with the number of the trial."""
    try:
        rows = json.loads((folder / PARETO).read_bytes())["front"]
        return {row["folder"]: row["number"] for row in rows if row["folder"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _refit(study: PipelineStudy, trial: Trial, out: Path) -> str | None:
    """Train a trial again and put its run folder in place; returns why that failed."""
    from foveate.train.pipelines import FILE
    from foveate.train.run_state import add_preset, read_training, write_training

    key = str(trial.values["training"])
    again = study.folder / TRAINING / f"{key}-again"
    pipeline = study.pipeline(trial.number)
    if _outcome(again) is None:
        job = Job(
            trial.number, study.folder / "refit" / key, study.folder,
            pipeline.model_dump(mode="json"), {**study.settings.context, "training": key},
        )  # fmt: skip
        outcome = run_in_child(refit, job)
        if outcome.state != "complete":
            return outcome.reason

    def used(folder: Path) -> None:
        """Say how the model is used, which a training that trials share does not."""
        add_preset(folder, pipeline.preset())
        write_training(folder, replace(read_training(folder), preset=pipeline.preset()))
        pipeline.write(folder / FILE)

    _copy(again, out, used)
    return None


def _copy(run: Path, out: Path, change: Callable[[Path], None] = lambda folder: None) -> None:
    """Copy a run folder without what only training needs; it appears whole or not at all."""
    incomplete = out.with_name(f".{out.name}.partial")
    for old in (incomplete, out):
        shutil.rmtree(old, ignore_errors=True)
    ignored = shutil.ignore_patterns("checkpoints", "head", FEATURES, "looks")
    shutil.copytree(run, incomplete, ignore=ignored)
    change(incomplete)
    os.replace(incomplete, out)


def refit(job: Job, report: Report) -> dict[str, Any]:
    """Train the training part of a trial on training and validation clips; run in a child process.

    Nothing is left to choose the best epoch by, so that each stage is trained for the epochs that
    were best in the trial. Recipes other than `supervised` need validation clips in several
    places: their training of the trial is used as it is.
    """
    import torch

    from foveate.train.api import find_recipe
    from foveate.train.run_state import read_training

    torch.set_num_threads(job.context["threads"])
    trial = job.study / TRAINING / str(job.context["training"])
    out = trial.with_name(f"{trial.name}-again")
    begun = read_training(trial)
    if begun.recipe != "supervised":
        _copy(trial, out)
        return {"clips": "train"}
    recipe = find_recipe(begun.recipe)
    dataset = read_data(job.study)
    whole = replace(dataset, records=tuple(replace(r, split="train") for r in dataset.records))

    def train(configuration: Mapping[str, Any], epochs: int, folder: Path, **changed: Any) -> None:
        values = {**configuration, "epochs": epochs, "patience": None, **changed}
        config = build(recipe.config, values, "settings")
        _train(recipe, config, whole, folder, job, lambda event: None)

    epochs, head = best_epoch(trial), trial / "frozen"
    if (head / "training.json").is_file():
        first = read_training(head).configuration
        if epochs == 0:
            train(first, best_epoch(head), out)
        else:
            train(first, best_epoch(head), out / "head")
            model = str(out / "head")
            train(begun.configuration, epochs, out, model=model, freeze="none", settings={})
    else:
        train(begun.configuration, epochs, out)
    return {"clips": "train and val"}


def best_epoch(folder: Path) -> int:
    """After how many epochs a training had its best model, from `log.csv`; 0: before the first.

    Raises:
        ConfigError: There is no such log.
    """
    from foveate.train.kit.log import COLUMNS

    try:
        with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError):
        raise ConfigError(f"{folder.name}: has no log of its epochs") from None
    score, loss = len(COLUMNS), next(i for i, n in enumerate(header) if n.startswith("loss@"))
    best = max(rows, key=lambda row: (float(row[score]), -float(row[loss])))
    return 0 if best[0] == "start" else int(best[1]) + 1
