"""Measures recognisers: metrics that carry their protocol, intervals, cost, results as JSON.

`foveate.evaluate(...)` and `foveate.bench(...)` are in `evaluate.api`: they open videos and models
by name. What they call with a recogniser and a data set is `evaluate.run.evaluate` and
`evaluate.bench.bench`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from foveate.core.callable_package import CallablePackage

if TYPE_CHECKING:
    from foveate.evaluate.api import evaluate
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
    "evaluate": "api",
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
    "evaluate",
    "interval",
    "read_result",
    "write_result",
]


sys.modules[__name__].__class__ = CallablePackage  # `foveate.evaluate(...)`


def __getattr__(name: str) -> Any:
    """Import the home of a public name on its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
