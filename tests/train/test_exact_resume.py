"""Killed with SIGKILL at any moment and inside saves, a run ends with the same bits.

A few kills of `benchmarks/resume.py`, which does more of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks import resume

from foveate.train.kit.checkpoint import Checkpoints
from train import tiny_motion

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path, workers: int) -> None:
    found = resume.measure(2, seed=workers, folder=tmp_path, counts=(workers,))
    assert found["kills"] == 2
    assert found["different"] == []
    assert found["equal"] == found["runs"]


@pytest.mark.parametrize("phase", resume.PHASES)
def test_a_kill_in_every_phase_of_a_save(tmp_path: Path, phase: str) -> None:
    """The killer falls where it says: what it leaves is a whole checkpoint or none."""
    data = tiny_motion.on_disk(tmp_path / "clips", {"train": 24, "val": 3})
    folder = tmp_path / "run"
    assert not resume.finish(resume.child(folder, data, 0, resume.killer(2, phase)))
    kept = Checkpoints(folder / "checkpoints")
    last = kept.latest()
    assert last is not None
    assert kept.warnings == []
    assert len(kept.steps()) == (2 if phase == "renamed" else 1)
    partial = list(kept.folder.glob(".*.partial"))
    assert len(partial) == (0 if phase == "renamed" else 1)
    kept.clean()
    assert not list(kept.folder.glob(".*"))
