"""`foveate search`: networks that cost no more than a target."""

from __future__ import annotations

from typing import Any

from foveate.app.guard import DONE
from foveate.app.requests import ArchitectureRequest
from foveate.app.train import fit
from foveate.core import FoveateError
from foveate.core.config import apply_sets, build, read_yaml, to_yaml
from foveate.core.units import macs


def architecture(request: ArchitectureRequest) -> int:
    """Search, or resume a search; returns the exit code.

    Raises:
        FoveateError: The request is wrong, or the search cannot continue.
    """
    values: dict[str, Any] = read_yaml(request.config) if request.config else {}
    values["target"] = request.target
    from foveate.search.architecture import RECIPE, ArchitectureConfig, Study, is_begun

    settings = build(ArchitectureConfig, apply_sets(values, request.sets), "settings")
    if request.print_config:
        print(to_yaml(settings), end="")
        return DONE
    again = f"repeat the command with --out {request.out}"
    code = fit(
        request, RECIPE, settings, request.data, request.out, is_begun(request.out), again
    )  # fmt: skip
    if code == DONE:
        _print(Study.read(request.out))
    return code


def _print(study: Any) -> None:
    """Print the networks that no other one beats, the winner marked."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title="Pareto front: top-1 with shared weights on held-out clips")
    for name in ("", "cost per frame", "top-1", "table"):
        table.add_column(name, overflow="fold")
    for one in study.candidates:
        if one.front or one == study.winner:
            cost = f"{one.cost:.2f} ms" if study.unit == "ms" else macs(one.cost)
            table.add_row("*" if one == study.winner else "", cost, f"{one.top1:.3f}", one.table)
    Console(stderr=True).print(table)
    if study.winner.cost > study.target:
        raise FoveateError(
            "no network within the target was found; the winner is the cheapest",
            "give a larger target, or a smaller space (--set width=.25)",
        )
