"""The page of a study: its Pareto front, the history of its trials, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from foveate.core import units
from foveate.evaluate.figures import Point, cost_svg, history_svg
from foveate.search.study import (
    DIRECTIONS,
    INTERRUPTED,
    StudySettings,
    Trial,
    best_of,
    importances,
)
from foveate.viz.pages import render

PAGE = "study.html"
TITLES = {"accuracy": "accuracy", "macs": "MACs per video", "milliseconds": "ms per video"}


def text_of(name: str, value: float | None) -> str:
    """A measured value with its unit."""
    if value is None:
        return units.UNKNOWN
    if name == "accuracy":
        return units.percent(value)
    return units.macs(value) if name == "macs" else units.seconds(value / 1000)


def page_of(
    folder: Path, settings: StudySettings, trials: tuple[Trial, ...], protocol: str,
    folders: Mapping[int, str],
) -> str:  # fmt: skip
    """Build the page.

    Args:
        folder: Of the study.
        settings: Of the study.
        trials: All of them.
        protocol: How values were measured, in one line.
        folders: Run folders of the trials that were trained again, by number.

    Returns:
        Self-contained HTML.
    """
    shown = tuple(one for one in trials if one.state != INTERRUPTED)
    front = best_of(trials, settings)
    measured = [one for one in shown if one.state == "complete"]
    pareto = ""
    if len(settings.objectives) == 2:
        (cost,) = set(settings.objectives) - {"accuracy"}
        points = [_point(one, cost, one not in front) for one in measured if one.same_as is None]
        points.sort(key=lambda point: not point.muted)  # the front is drawn above the others
        pareto = cost_svg(points, TITLES[cost], "accuracy")
    bounded = [*settings.objectives, *settings.at_least, *settings.at_most]
    measures = [name for name in DIRECTIONS if name in bounded or _any(measured, name)]
    return render(
        "study.html.j2",
        title=f"Study {folder.name}",
        counts={
            "trials": len(shown),
            "failed": sum(one.state == "failed" for one in shown),
            "pruned": sum(one.state == "pruned" for one in shown),
            "seconds": sum(one.seconds for one in shown),
            "saved": sum(one.saved for one in shown),
        },
        front=front,
        folders=folders,
        measures=measures,
        titles=[TITLES[name] for name in measures],
        pareto=pareto,
        histories=[
            history_svg(
                {one.number: one.values[name] for one in measured},
                TITLES[name],
                units.si if name == "macs" else partial(text_of, name),
                DIRECTIONS[name] == "maximize",
            )
            for name in settings.objectives
        ],
        importances={
            TITLES[name]: shares for name, shares in importances(folder, settings).items()
        },
        trials=shown,
        protocol=protocol,
    )


def _any(trials: list[Trial], name: str) -> bool:
    return any(name in one.values for one in trials)


def _point(trial: Trial, cost: str, muted: bool) -> Point:
    values = trial.values
    low, high = (values.get(end) for end in ("low", "high"))
    return Point(
        f"trial {trial.number}", values[cost], values["accuracy"],
        math.nan if low is None else low, math.nan if high is None else high, muted=muted,
    )  # fmt: skip
