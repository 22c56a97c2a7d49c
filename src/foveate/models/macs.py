"""Multiply-adds, counted from the operations that a model runs."""

from __future__ import annotations

import copy

import torch
from torch import nn


def macs_of(model: nn.Module, shape: tuple[int, ...], method: str = "forward") -> int:
    """Return the multiply-adds of one call.

    A family can compute them from its layer table in a method `macs(shape, method)`, which equals
    the count (a contract test compares them); for others they are counted, which takes two seconds
    at the first use.

    Args:
        model: A network, also a custom one.
        shape: Input shape, for clips (B, C, T, H, W).
        method: The method to call: ``"forward"``, or ``"features"`` to leave the head out.
    """
    own = getattr(model, "macs", None)
    return int(own(shape, method)) if callable(own) else count_macs(model, shape, method)


def on_meta(model: nn.Module) -> nn.Module:
    """Return a copy of a model on the ``meta`` device, with shapes but without values."""
    memo: dict[int, torch.Tensor] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = tensor.detach().to("meta")
        memo[id(tensor)] = (
            nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        )
    return copy.deepcopy(model, memo)


def count_macs(model: nn.Module, shape: tuple[int, ...], method: str = "forward") -> int:
    """Count the multiply-adds of convolutions and matrix products of one call.

    The call is made on the ``meta`` device: nothing is computed, so large models and clips take
    milliseconds. Where that fails (values decide what is run, or the module is scripted), a copy of
    the model is run on zeros.

    Args:
        model: A module in its unfused form.
        shape: Input shape, for clips (B, C, T, H, W).
        method: The method to call: ``"forward"``, or ``"features"`` to leave the head out.

    Returns:
        Multiply-adds (half of what torch counts as floating-point operations).
    """
    # Imported here because it imports hundreds of modules of torch.
    from torch.utils.flop_counter import FlopCounterMode

    some = next(model.parameters(), torch.empty(0))

    def counted(model: nn.Module, device: torch.device | str) -> int:
        for parameter in model.parameters():  # torch's counter wants gradients of what is trained
            if not nn.parameter.is_lazy(parameter):
                parameter.requires_grad_(False)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            getattr(model.eval(), method)(torch.zeros(shape, device=device, dtype=some.dtype))
        return counter.get_total_flops() // 2

    try:
        return counted(on_meta(model), "meta")
    except Exception:  # a module of a user can raise anything
        return counted(copy.deepcopy(model), some.device)
