"""Two gloo processes that torchrun starts give what one gives at the same total batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from foveate.models.weights.run import load_run
from foveate.train.kit.distributed import ProcessGroup
from train import tiny_motion, two_processes

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")


def torchrun(folder: Path) -> list[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
        two_processes.__file__, str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = done.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, signal.SIGKILL)  # torchrun and what it started
        raise
    assert done.returncode == 0, errors[-3000:]
    return sorted(out.splitlines())


@pytest.mark.slow
def test_two_processes_are_one_to_rounding_even_when_resumed(tmp_path: Path) -> None:
    tiny_motion.enter()
    two_processes.train(tmp_path / "one")
    told = [["interrupted", str(two_processes.INTERRUPTED_AT)], ["finished", "8"]]
    expected = [" ".join([str(rank), *words]) for rank in (0, 1) for words in told]
    assert torchrun(tmp_path / "two") == sorted(expected)
    logs = [tiny_motion.rows(tmp_path / name) for name in ("one", "two")]
    assert [(r["event"], r["step"]) for r in logs[0]] == [(r["event"], r["step"]) for r in logs[1]]
    for ours, theirs in zip(*logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        if ours["event"] == "step":
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    one, two = (load_run(tmp_path / name).network.state_dict() for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


def test_one_process_is_a_group_of_one() -> None:
    group = ProcessGroup()
    assert group.is_main
    assert group.all_sum(1.0, 2.5) == [1.0, 2.5]
    assert group.all_gather(3.0) == [3.0]
    assert group.broadcast({"a": 1}) == {"a": 1}
    assert group.unique(["a", "b", "a"]) == ["a", "b"]
    group.barrier()
