"""Run twice at once in a test: a training that is interrupted and resumed, in both processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from foveate.train.recipe import run_recipe
from foveate.train.recipes import supervised
from foveate.train.run_state import RunSummary
from train import tiny_motion

# 22 clips in batches of 7: the last step of an epoch has one clip, for one of the processes.
CLIPS: Any = tiny_motion.Clips(counts={"train": 22, "val": 12})
CONFIG = tiny_motion.config(
    batch=7, epochs=2, optimizer="sgd", lr=0.02, mixup=0.0, settings={"dropout": 0.0}, accumulate=2
)
INTERRUPTED_AT = 3


def train(folder: Path, resume: bool = False, stop_at: int | None = None) -> RunSummary:
    """Train to the end, or until the leader is asked to stop after a step."""

    def progress(now: Any) -> None:
        if now.step == stop_at and os.environ.get("RANK", "0") == "0":
            os.kill(os.getpid(), signal.SIGINT)

    return run_recipe(
        supervised.RECIPE,
        CONFIG,
        CLIPS,
        folder,
        resume,
        progress,
        source=CLIPS.source(CONFIG.batch),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    tiny_motion.enter()
    # The second part begins at the step that has too few clips.
    for again, stop in ((False, INTERRUPTED_AT), (True, None)):
        summary = train(Path(sys.argv[1]), again, stop)
        print(os.environ["RANK"], summary.outcome, summary.steps)
