"""Reproducible random numbers: every step has its own stream.

The stream of a step depends on the seed, the step and the rank only, so neither an interruption
nor a validation in between nor the number of workers can shift it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

State = tuple[dict[str, Any], dict[str, torch.Tensor]]
"""Plain values and tensors of all generators."""


def mix(*parts: int | str) -> int:
    """One seed (63 bits) from several numbers and words, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_all(*parts: int | str) -> None:
    """Seed Python, NumPy and torch (every device)."""
    seed = mix(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator(*parts: int | str) -> torch.Generator:
    """A new generator on the CPU, seeded with `parts`."""
    return torch.Generator().manual_seed(mix(*parts))


def capture() -> State:
    """The states of Python's, NumPy's and torch's generators."""
    version, words, gauss = random.getstate()
    _, key, pos, has_gauss, cached = np.random.get_state(legacy=True)
    values: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": {"pos": int(pos), "has_gauss": int(has_gauss), "gauss": float(cached)},
    }
    tensors = {
        "rng/torch": torch.get_rng_state(),
        "rng/numpy": torch.from_numpy(np.asarray(key).astype(np.int64)),
    }
    if torch.cuda.is_available():
        for device, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"rng/cuda{device}"] = state
    return values, tensors


def restore(values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Restore what `capture` returned."""
    version, words, gauss = values["python"]
    random.setstate((version, tuple(words), gauss))
    key = tensors["rng/numpy"].numpy().astype(np.uint32)
    numpy_values = (values["numpy"][name] for name in ("pos", "has_gauss", "gauss"))
    np.random.set_state(("MT19937", key, *numpy_values))
    torch.set_rng_state(tensors["rng/torch"].contiguous())
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            if f"rng/cuda{device}" in tensors:
                torch.cuda.set_rng_state(tensors[f"rng/cuda{device}"], device)


@contextmanager
def preserved() -> Iterator[None]:
    """Restore the caller's generators at the end of a block."""
    values, tensors = capture()
    try:
        yield
    finally:
        restore(values, tensors)
