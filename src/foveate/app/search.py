"""`foveate search`: networks that cost no more than a target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from foveate.app.guard import DONE
from foveate.app.requests import ArchitectureRequest, ScalingRequest, StudyOptions
from foveate.app.train import fit
from foveate.core.config import apply_sets, build, read_yaml, to_yaml
from foveate.core.units import macs


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
