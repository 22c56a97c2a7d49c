"""Activation checkpointing that leaves the running statistics of norms unchanged.

Gradients and running statistics equal those without checkpointing: norms do not count a batch a
second time in the recomputation. Source: Chen et al., "Training Deep Nets with
Sublinear Memory Cost", 2016
(arXiv 1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def again(
    part: nn.Module, x: torch.Tensor, call: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> torch.Tensor:
    """Run a part of a network and keep only its input for the backward pass.

    Args:
        part: The module, whose norms are found.
        x: Its input.
        call: The function to run instead of the module itself.
    """
    contexts = partial(_contexts, part)
    found: torch.Tensor = checkpoint(call or part, x, use_reentrant=False, context_fn=contexts)
    return found


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _statistics_kept(part)


@contextmanager
def _statistics_kept(part: nn.Module) -> Iterator[None]:
    """Keep the running statistics of all norms unchanged."""
    norms = [layer for layer in part.modules() if isinstance(layer, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if counter is None else counter.clone() for _, counter in before]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, counter), count in zip(norms, before, counts, strict=True):
            norm.momentum = momentum
            if counter is not None and count is not None:
                counter.copy_(count)
