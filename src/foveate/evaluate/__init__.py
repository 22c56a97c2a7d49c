"""Evaluation: metrics named with their protocol, bootstrap intervals, cost, results as JSON.

`foveate.evaluate(...)` and `foveate.bench(...)` are in `evaluate.api` and open videos and models by
name. They call `evaluate.run.evaluate` and `evaluate.bench.bench` with a recogniser and a data set.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from foveate.core.callable_package import CallablePackage
from foveate.core.lazy import lazy_names

if TYPE_CHECKING:
    from foveate.evaluate.api import evaluate
    from foveate.evaluate.bootstrap import Comparison, Interval, compare, interval
    from foveate.evaluate.metrics import Protocol
    from foveate.evaluate.results import read_result, write_result
    from foveate.evaluate.run import Evaluation, compare_runs

_MODULES = {
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
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
