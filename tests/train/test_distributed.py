"""Two gloo processes give what one gives at the same total batch."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

import forks
from foveate.models.weights.run import load_run
from foveate.train.kit.distributed import ProcessGroup
from train import tiny_motion, two_processes

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs gloo")


def two(folder: Path) -> list[str]:
    """What two processes say, with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def run(rank: str) -> forks.Done:
        environment = {**group, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"}
        return forks.python(two_processes.__file__, folder, environment=environment)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, "01"))
    assert [one.code for one in done] == [0, 0], b"".join(one.err for one in done)[-3000:].decode()
    return sorted(line for one in done for line in one.out.decode().splitlines())


@pytest.mark.slow
def test_two_processes_are_one_to_rounding_even_when_resumed(tmp_path: Path) -> None:
    tiny_motion.enter()
    two_processes.train(tmp_path / "one")
    told = [["interrupted", str(two_processes.INTERRUPTED_AT)], ["finished", "8"]]
    expected = [" ".join([str(rank), *words]) for rank in (0, 1) for words in told]
    assert two(tmp_path / "two") == sorted(expected)
    logs = [tiny_motion.rows(tmp_path / name) for name in ("one", "two")]
    assert [(r["event"], r["step"]) for r in logs[0]] == [(r["event"], r["step"]) for r in logs[1]]
    for ours, theirs in zip(*logs, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        if ours["event"] == "step":
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    ours, theirs = (load_run(tmp_path / name).network.state_dict() for name in ("one", "two"))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6)


def test_one_process_is_a_group_of_one() -> None:
    group = ProcessGroup()
    assert group.is_main
    assert group.all_sum(1.0, 2.5) == [1.0, 2.5]
    assert group.all_gather(3.0) == [3.0]
    assert group.broadcast({"a": 1}) == {"a": 1}
    assert group.unique(["a", "b", "a"]) == ["a", "b"]
    group.barrier()
