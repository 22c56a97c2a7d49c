"""Measures recognisers: metrics that carry their protocol, intervals, cost, results as JSON.

`evaluate` and `bench` are reached as `foveate.evaluate.run.evaluate` and
`foveate.evaluate.bench.bench`: exporting a function under the name of its module would make the
name mean two things.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.evaluate.bootstrap import Comparison, Interval, compare, interval
    from foveate.evaluate.metrics import Protocol
    from foveate.evaluate.results import read_result, write_result
    from foveate.evaluate.run import Evaluation, compare_runs

_HOMES = {
    "Comparison": "bootstrap",
    "Evaluation": "run",
    "Interval": "bootstrap",
    "Protocol": "metrics",
    "compare": "bootstrap",
    "compare_runs": "run",
    "interval": "bootstrap",
    "read_result": "results",
    "write_result": "results",
}

__all__ = [
    "Comparison",
    "Evaluation",
    "Interval",
    "Protocol",
    "compare",
    "compare_runs",
    "interval",
    "read_result",
    "write_result",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
