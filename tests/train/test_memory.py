"""What a step needs, what is free, and freed memory that is kept (in a process of its own)."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch
from torch import nn

import forks
from foveate.train.kit import memory

PROGRAM = """
import resource, torch
from foveate.train.kit.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
before = faults()
assert keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_not_asked_for_twice(tmp_path: Path) -> None:
    script = tmp_path / "faults.py"
    script.write_text(PROGRAM)
    done = forks.python(script)
    assert done.code == 0, done.err
    before, after = map(int, done.out.split())
    assert before > 1000
    assert after < before / 10


def test_the_peak_of_a_step_is_that_of_its_tensors() -> None:
    layer = nn.Linear(1000, 1000, bias=False)
    x = torch.rand(500, 1000)

    def step() -> None:
        y = layer(x)  # 2 MB, kept for the backward pass of the square
        del y
        (layer(x) ** 2).sum().backward()

    peak = memory.peak_bytes(step, torch.device("cpu")) / memory._OVERHEAD
    # Output, square or its gradient, gradient of the output, gradient of the weight.
    assert 8e6 <= peak <= 12.1e6


def test_activations_may_take_what_the_target_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, layer = torch.device("cpu"), nn.Linear(1000, 1000, bias=False)
    monkeypatch.setattr(memory, "_resident_bytes", lambda: 1e9)
    assert memory.activation_bytes(layer, cpu) == min(2e9, 0.8 * memory._free_bytes()) - 12e6
    monkeypatch.setattr(memory, "_free_bytes", lambda: 1e9)
    assert memory.activation_bytes(layer, cpu) == 0.8e9 - 12e6
