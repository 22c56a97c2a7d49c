"""Exponential moving average of weights and buffers: steadier than the last step's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class EMA:
    """Keeps the average of a model's parameters and floating-point buffers.

    average = d * average + (1 - d) * value, with d = min(decay, (1 + n) / (10 + n)) after n
    updates, so that the first steps are not remembered for ever. Counters are copied.

    Args:
        model: What is averaged; it is not changed.
        decay: Weight of the past, in 0..1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the model's present values in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in model.state_dict().items():
            kept = self.tensors[name]
            if kept.is_floating_point():
                kept.lerp_(value.to(kept.dtype), 1 - decay)
            else:
                kept.copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged values for the length of a block."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        put(model, self.tensors)
        try:
            yield
        finally:
            put(model, own)


@torch.no_grad()
def put(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy values into a model in place, keeping its memory formats."""
    for name, value in model.state_dict().items():
        value.copy_(tensors[name])
