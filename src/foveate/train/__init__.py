"""Trains networks: one recipe per method, over a small shared kit.

`foveate.train(...)` trains in one call. A recipe is a module or package in `recipes` with a typed
configuration and a `RECIPE`; `recipe` has the steps that all of them share, and `kit` the loop,
schedules, optimisers, averages of weights, checkpoints, logs and distributed processes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from foveate.core.callable_package import CallablePackage
from foveate.core.lazy import lazy_names

if TYPE_CHECKING:
    from foveate.train.api import train
    from foveate.train.kit.batches import Batch, Batches, TensorBatches
    from foveate.train.kit.state import ProgressEvent, TrainError
    from foveate.train.recipe import Job, Recipe, RecipeContext, run_recipe, train_network
    from foveate.train.recipes.supervised import SupervisedConfig
    from foveate.train.run_state import RunSummary

_MODULES = {
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
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
