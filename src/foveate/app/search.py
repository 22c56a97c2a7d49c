"""`foveate search`: pipelines for labelled videos, and networks that cost no more than a target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from foveate.app.guard import DONE, FAILED, INTERRUPTED, print_notice
from foveate.app.train import fit
from foveate.app.training_requests import (
    ArchitectureRequest,
    ScalingRequest,
    SearchRequest,
    StudyOptions,
)
from foveate.core import ConfigError
from foveate.core.config import apply_sets, build, read_yaml, to_yaml
from foveate.core.units import macs, seconds


def study(request: SearchRequest) -> int:
    """Search for pipelines, or resume; returns the exit code.

    Raises:
        FoveateError: The request is wrong, or the study cannot continue.
    """
    import yaml

    from foveate.search.pipelines import search_pipelines, space_of
    from foveate.search.study_page import TITLES, text_of
    from foveate.train.kit.interrupt import terminable

    space = space_of(request.space, *request.sets)
    if request.print_space:
        print(yaml.safe_dump(space.to_dict(), sort_keys=False), end="")
        return DONE
    if request.objective and request.minimise:
        raise ConfigError("--objective and --minimise: both name the objective", "give one of them")
    if request.minimise == "accuracy":
        raise ConfigError("--minimise accuracy: a cost is minimised", "macs or milliseconds")
    threads = request.thread_count
    if threads == "auto":
        raise ConfigError("--threads auto: a study takes a number of threads")
    named = request.objective or request.minimise or "accuracy,milliseconds"
    out = request.out or Path("studies") / (request.path.resolve().stem or "videos")
    try:
        with terminable():
            found = search_pipelines(
                request.data,
                out=out,
                space=space.to_dict(),
                trials=request.trials,
                objectives=[name.strip() for name in named.split(",")],  # type: ignore[misc]
                at_least=_bounds("--at-least", request.at_least),
                at_most=_bounds("--at-most", request.at_most),
                sampler=request.sampler,
                seed=request.seed,
                timeout=request.timeout,
                trial_time=request.trial_time,
                trial_memory=request.trial_memory and request.trial_memory * 1e9,
                workers=request.workers,
                ray=request.ray,
                refit=request.refit,
                device=request.device,
                threads=threads,
                offline=request.offline,
                on_trial=_print_trial,
            )
    except KeyboardInterrupt:
        print_notice(f"interrupted; the same command continues the study in {out}")
        return INTERRUPTED
    saved = sum(trial.saved for trial in found.trials)
    print_notice(f"{len(found.trials)} trials; sharing saved {seconds(saved)}; page: {found.page}")
    if not found.front:
        failed = [trial.reason for trial in found.trials if trial.state == "failed"]
        why = f"; the first failed trial: {failed[0]}" if failed else ""
        print_notice(f"no trial is within the bounds{why}")
        return FAILED
    bounded = [*found.settings.at_least, *found.settings.at_most]
    names = list(dict.fromkeys([*found.settings.objectives, *bounded]))
    _print(
        "Trials that no other beats, on validation clips",
        ("trial", *(TITLES[name] for name in names)),
        [
            (
                one is found.front[0],
                str(one.number),
                *(text_of(name, one.values.get(name)) for name in names),
            )
            for one in found.front
        ],
    )
    if found.best is not None:
        print_notice(f"next: foveate evaluate {request.path} --model {found.best}")
    print(found.folder)
    return DONE


def _print_trial(trial: Any) -> None:
    """One line about a trial that has ended."""
    from foveate.search.study_page import TITLES, text_of

    said = [text_of(name, trial.values[name]) for name in TITLES if name in trial.values]
    state = f"as trial {trial.same_as}" if trial.same_as is not None else trial.state
    print_notice(f"trial {trial.number}: {', '.join([state, *said, trial.reason]).rstrip(', ')}")


def _bounds(option: str, given: Sequence[str]) -> dict[Any, float]:
    """Bounds `NAME=VALUE` by name.

    Raises:
        ConfigError: One of another form.
    """
    bounds = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            bounds[name.strip()] = float(value)
        except ValueError:
            raise ConfigError(f"{option} {text}: not of the form NAME=VALUE") from None
    return bounds


def architecture(request: ArchitectureRequest) -> int:
    """Search for a block table, or resume; returns the exit code.

    Raises:
        FoveateError: The request is wrong, or the search cannot continue.
    """
    from foveate.search.architecture import RECIPE, Study

    code = _run(request, RECIPE, target=request.target)
    if code != DONE or request.print_config:
        return code
    study = Study.read(request.out)
    _print(
        "Pareto front: top-1 with shared weights on held-out clips",
        ("cost per frame", "top-1", "table"),
        [
            (
                one == study.winner,
                f"{one.cost:.2f} ms" if study.unit == "ms" else macs(one.cost),
                f"{one.top1:.3f}",
                one.table,
            )
            for one in study.candidates
            if one.front or one == study.winner
        ],
    )
    return code


def scaling(request: ScalingRequest) -> int:
    """Search for a compound scale, or resume; returns the exit code.

    Raises:
        FoveateError: The request is wrong, or the search cannot continue.
    """
    from foveate.search.scaling import RECIPE, RESULT

    code = _run(request, RECIPE, factor=request.factor)
    if code != DONE or request.print_config:
        return code
    found = json.loads((request.out / RESULT).read_text("utf-8"))
    names = ("depth", "width", "resolution", "rate")
    _print(
        "Variants: factors, cost per second of video, top-1 on validation clips",
        ("trial", *names, "cost", "top-1"),
        [
            (
                f"trial-{number}" == found["winner"],
                f"trial-{number}",
                *(f"{one[name]:.2f}" for name in names),
                macs(one["macs_per_second"]),
                f"{one['top1']:.3f}",
            )
            for number, one in enumerate(found["trials"])
        ],
    )
    return code


def _run(request: StudyOptions, recipe: Any, **given: Any) -> int:
    """Run the recipe of a search, or print its settings."""
    from foveate.search.architecture import is_begun

    values: dict[str, Any] = read_yaml(request.config) if request.config else {}
    settings = build(recipe.config, apply_sets({**values, **given}, request.sets), "settings")
    if request.print_config:
        print(to_yaml(settings), end="")
        return DONE
    again = f"repeat the command with --out {request.out}"
    return fit(
        request, recipe, settings, request.data, request.out, is_begun(request.out), again
    )  # fmt: skip


def _print(title: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Print a table whose rows begin with whether they are marked as the winner."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left")
    for name in ("", *columns):
        table.add_column(name, overflow="fold")
    for chosen, *cells in rows:
        table.add_row("*" if chosen else "", *cells)
    Console(stderr=True).print(table)
