"""One network per fold of FS-4, kept as run folders: what looks are compared on.

The built-in `fights` weights have seen every clip, so no look may be judged by them. Here each fold
has a network of its own (a linear probe on frozen Kinetics-600 features, or all layers), whose
held-out clips are the other sources.

Run: ``python -m benchmarks.motion_folds FIGHT_SURV OUT [--model NAME] [--seed 0]``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.fights import PROBE, config_of

from foveate.data import Dataset, folds, read
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.run_state import read_training


def train_folds(dataset: Dataset, out: Path, seed: int, changes: dict[str, Any]) -> None:
    """A run folder `out/FOLD` for every fold that has none yet; the features are shared."""
    for fold in folds(dataset):
        folder = out / fold.name
        if folder.exists() and read_training(folder).outcome is not None:
            continue
        since = time.process_time()
        config = config_of(seed, **{**PROBE, **changes})
        run_recipe(
            supervised.RECIPE, config, fold.dataset, folder, on_progress=lambda moment: None,
            features=out / "features",
        )  # fmt: skip
        print(f"fold {fold.name}: {time.process_time() - since:.0f} s of CPU", flush=True)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with clips.csv")
    parser.add_argument("out", type=Path, help="where the run folders go")
    parser.add_argument("--model", help="another network than that of the recipe")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    changes = {} if options.model is None else {"model": options.model}
    train_folds(read(options.data), options.out, options.seed, changes)


if __name__ == "__main__":
    main()
