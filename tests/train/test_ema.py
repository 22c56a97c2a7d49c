"""The average of weights: its formula, its use for a block, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.train.kit.ema import EMA


def test_it_follows_its_formula_and_copies_counters() -> None:
    model = nn.BatchNorm1d(1)
    ema = EMA(model, 0.9)
    average = 1.0
    for n in range(30):
        with torch.no_grad():
            model.weight.fill_(float(n))
            model.num_batches_tracked.fill_(n)
        ema.update(model)
        decay = min(0.9, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * n
        assert float(ema.tensors["weight"]) == pytest.approx(average, rel=1e-5)
    assert int(ema.tensors["num_batches_tracked"]) == 29


def test_it_is_there_for_a_block_and_gone_afterwards_even_after_an_error() -> None:
    model = nn.Linear(1, 1)
    ema = EMA(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(5.0)
    own = {name: value.clone() for name, value in model.state_dict().items()}

    def fail() -> None:
        with ema.applied(model):
            assert torch.equal(model.weight, ema.tensors["weight"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert not torch.equal(model.weight, ema.tensors["weight"])
