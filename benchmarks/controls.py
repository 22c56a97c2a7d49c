"""Does a model for FS-4 look at motion? Controls on the test clips of all four folds.

A linear probe on the frozen Kinetics-600 network is trained per fold (recipe and protocol of
`benchmarks/fights.py`); its test clips are answered whole, as still frames, shuffled and reversed
through the pipeline, beside a motion-energy baseline that leaves one source out.

Run: ``python benchmarks/controls.py FIGHT_SURV [--seed 0] [--json PATH]``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from fights import PROBE, config_of
from foveate.data import folds, read
from foveate.evaluate.controls import RULES, ControlAnswers, control_answers, summary
from foveate.evaluate.results import write_result
from foveate.pipeline.loading import load
from foveate.train.kit.memory import keep_freed_memory
from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised

PROTOCOL = (
    "FS-4: 240 clips, 4 folds by source, linear probe on a frozen movinet-a0-stream-lite.k600 per "
    "fold; foveate evaluate --controls on the test clips of all folds together, frames scaled to "
    "at most 256 rows; 95 % percentile bootstrap and exact sign test over sources; conclusion by "
    f"{RULES}"
)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with clips.csv")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write a result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    dataset = read(options.data)
    parts: list[ControlAnswers] = []
    for fold in folds(dataset):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            config = config_of(options.seed, **PROBE)
            run_recipe(supervised.RECIPE, config, fold.dataset, run, on_progress=lambda event: None)
            parts.append(
                control_answers(load(str(run)), fold.dataset, "test", batch=4, seed=options.seed)
            )
        print(f"fold {fold.name}: {len(parts[-1].truth)} clips", flush=True)
    joined = ControlAnswers(
        np.concatenate([part.truth for part in parts]),
        {
            name: np.concatenate([part.predicted[name] for part in parts])
            for name in parts[0].predicted
        },
        [group for part in parts for group in part.groups or []],
        sum(part.left_out for part in parts),
    )
    found = summary(joined, seed=options.seed)
    for row in found.rows:
        print(row)
    print(found.conclusion)
    if options.json is not None:
        figures = found.model_dump(mode="json")
        write_result(options.json, "controls on FS-4", PROTOCOL, found.n, [options.seed], figures)


if __name__ == "__main__":
    main()
