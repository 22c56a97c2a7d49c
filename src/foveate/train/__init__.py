"""Trains networks: one readable recipe per method over a small shared kit.

A recipe is a module with a typed configuration and a `fit`; `supervised` is one. The kit is the
loop, schedules, optimisers, averages of weights, checkpoints, logs and processes that train
together.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from foveate.core.callable_package import CallablePackage

if TYPE_CHECKING:
    from foveate.train.api import train
    from foveate.train.kit.batches import Batch, Batches, TensorBatches
    from foveate.train.kit.checkpoint import Checkpoints
    from foveate.train.kit.state import Moment, TrainError
    from foveate.train.recipes.supervised import SupervisedConfig, fit
    from foveate.train.run_state import RunSummary

_HOMES = {
    "Batch": "kit.batches",
    "Batches": "kit.batches",
    "Checkpoints": "kit.checkpoint",
    "Moment": "kit.state",
    "RunSummary": "run_state",
    "SupervisedConfig": "recipes.supervised",
    "TensorBatches": "kit.batches",
    "TrainError": "kit.state",
    "fit": "recipes.supervised",
    "train": "api",
}

__all__ = [
    "Batch",
    "Batches",
    "Checkpoints",
    "Moment",
    "RunSummary",
    "SupervisedConfig",
    "TensorBatches",
    "TrainError",
    "fit",
    "train",
]


sys.modules[__name__].__class__ = CallablePackage  # `foveate.train(...)`


def __getattr__(name: str) -> Any:
    """Import the home of a public name on its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
