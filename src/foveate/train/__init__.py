"""Trains networks: one recipe per method, over a small shared kit.

`foveate.train(...)` trains in one call. A recipe is a module or package in `recipes` with a typed
configuration and a `RECIPE`; `recipe` has the steps that all of them share, and `kit` the loop,
schedules, optimisers, averages of weights, checkpoints, logs and distributed processes.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from foveate.core.callable_package import CallablePackage

if TYPE_CHECKING:
    from foveate.train.api import train
    from foveate.train.kit.batches import Batch, Batches, TensorBatches
    from foveate.train.kit.state import ProgressEvent, TrainError
    from foveate.train.recipe import Job, Recipe, RecipeContext, run_recipe, train_network
    from foveate.train.recipes.supervised import SupervisedConfig
    from foveate.train.run_state import RunSummary

# Name → the module that defines it, imported on first use.
_DEFINED_IN = {
    "Batch": "kit.batches",
    "Batches": "kit.batches",
    "Job": "recipe",
    "ProgressEvent": "kit.state",
    "Recipe": "recipe",
    "RecipeContext": "recipe",
    "RunSummary": "run_state",
    "SupervisedConfig": "recipes.supervised",
    "TensorBatches": "kit.batches",
    "TrainError": "kit.state",
    "run_recipe": "recipe",
    "train": "api",
    "train_network": "recipe",
}

__all__ = [
    "Batch", "Batches", "Job", "ProgressEvent", "Recipe", "RecipeContext", "RunSummary",
    "SupervisedConfig", "TensorBatches", "TrainError", "run_recipe", "train", "train_network",
]  # fmt: skip

# `foveate.train(...)`: an import of any module below binds the package's name in `foveate`, so a
# plain function there would be replaced by the package.
sys.modules[__name__].__class__ = CallablePackage


def __getattr__(name: str) -> Any:
    """Import a public name on its first use (PEP 562)."""
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
