"""Streams of chance that depend on their names only."""

from __future__ import annotations

import random

import numpy as np
import torch

from foveate.train.kit import randomness


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_a_stream_has_a_name() -> None:
    seen = []
    for parts in ((0, "step", 1), (0, "step", 2), (1, "step", 1), (0, "batch", 1)):
        randomness.seed_all(*parts)
        first = draws()
        draws()
        randomness.seed_all(*parts)
        assert draws() == first
        seen.append(first)
    assert len(set(seen)) == 4
    assert randomness.mix(1, 23) != randomness.mix(12, 3)


def test_the_callers_generators_come_back() -> None:
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    np.random.normal()  # leaves half a pair behind
    expected_state = randomness.capture()
    expected = draws(), float(np.random.normal())
    randomness.restore(*expected_state)
    with randomness.preserved():
        randomness.seed_all(9)
        draws()
    assert (draws(), float(np.random.normal())) == expected
