"""Exponential moving average of weights and buffers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class EMA:
    """Keeps the average of a model's parameters and floating-point buffers.

    average = d * average + (1 - d) * value, with d = min(decay, (1 + n) / (10 + n)) after n
    updates, so that the first steps are soon forgotten. Counters are copied.

    Args:
        model: What is averaged; it is not changed.
        decay: Weight of the past, in 0..1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = _copied(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the model's current values to the average."""
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
        """The model with the averaged values, within a block."""
        own = _copied(model)
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
