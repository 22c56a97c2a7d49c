"""Processes that train together, started by torchrun; one process alone is a team of one."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist

# While the leader validates or computes features, the others wait.
_PATIENCE = timedelta(hours=6)
_LAST_TURN = 0.5  # seconds


@dataclass(frozen=True)
class Team:
    """This process's place among those that train together.

    Attributes:
        rank: Its number; 0 writes logs and checkpoints.
        world: How many there are.
        device: Where it computes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over the processes, in double precision."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def each(self, number: float) -> list[float]:
        """The number of every process, in the order of their ranks."""
        return self.total(*(number if rank == self.rank else 0.0 for rank in range(self.world)))

    def share(self, values: Any, rank: int = 0) -> Any:
        """One process's plain values, for everybody; what the others give is not looked at."""
        if self.world == 1:
            return values
        data = torch.zeros(0, dtype=torch.uint8)
        if self.rank == rank:
            data = torch.frombuffer(bytearray(json.dumps(values).encode()), dtype=torch.uint8)
        length = torch.tensor([len(data)], device=self.device)
        dist.broadcast(length, rank)
        if self.rank != rank:
            data = torch.zeros(int(length), dtype=torch.uint8)
        data = data.to(self.device)
        dist.broadcast(data, rank)
        return json.loads(bytes(data.cpu().numpy()))

    def joined(self, lines: list[str]) -> list[str]:
        """The lines of all processes, each line once."""
        found = [line for rank in range(self.world) for line in self.share(lines, rank)]
        return list(dict.fromkeys(found))

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.world > 1:
            dist.barrier()


def _leave() -> None:
    """End the group.

    What DistributedDataParallel keeps of it lives on in PyTorch, threads included. A thread that
    lets go of its last tensor after the interpreter's end aborts the process, so it gets its turn
    before.
    """
    time.sleep(_LAST_TURN)
    dist.destroy_process_group()


@contextmanager
def team(device: str | None = None) -> Iterator[Team]:
    """Join the processes that torchrun started, if it did, for the length of a block.

    They stay joined until the program ends: torchrun's meeting place works once per process, and
    a script may train several times.

    Args:
        device: Where to compute; CUDA if there is one when None.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device is None:
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if world == 1:
        yield Team(device=place)
        return
    if not dist.is_initialized():
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
        atexit.register(_leave)
    yield Team(dist.get_rank(), dist.get_world_size(), place)
