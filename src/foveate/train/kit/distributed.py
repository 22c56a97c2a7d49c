"""Processes that train together, started by torchrun; a single process is a group of one."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist

from foveate.models.device import choose_device

# While the main process validates or computes features, the others wait.
_TIMEOUT = timedelta(hours=6)
_GRACE = 0.5  # seconds


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those that train together.

    Attributes:
        rank: 0 writes logs and checkpoints.
        world: Number of processes.
        device: Where this process computes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def all_sum(self, *numbers: float) -> list[float]:
        """Each number summed over the processes, in double precision."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def all_gather(self, number: float) -> list[float]:
        """The number of every process, in the order of their ranks."""
        return self.all_sum(*(number if rank == self.rank else 0.0 for rank in range(self.world)))

    def broadcast(self, value: Any, rank: int = 0) -> Any:
        """The value of one process, in all of them."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, rank, device=self.device)
        return values[0]

    def unique(self, lines: list[str]) -> list[str]:
        """The lines of all processes, each line once."""
        found = [line for rank in range(self.world) for line in self.broadcast(lines, rank)]
        return list(dict.fromkeys(found))

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier()


def _leave() -> None:
    """Destroy the process group.

    Threads of DistributedDataParallel outlive it; one that releases its last tensor after the
    interpreter has ended aborts the process, so they get a moment to finish first.
    """
    time.sleep(_GRACE)
    dist.destroy_process_group()


@contextmanager
def join_group(device: str | None = None) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, if it did.

    They stay joined until the program ends: torchrun's rendezvous works once per process, and a
    script may train several times.

    Args:
        device: Where to compute; None for CUDA if available, else the CPU.

    Raises:
        ConfigError: This machine has no such device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = choose_device(device, local)
    if world == 1:
        yield ProcessGroup(device=place)
        return
    if not dist.is_initialized():
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_TIMEOUT)
        atexit.register(_leave)
    yield ProcessGroup(dist.get_rank(), dist.get_world_size(), place)
