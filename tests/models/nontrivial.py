"""Random weights that activate all branches, so that comparisons are meaningful."""

from __future__ import annotations

import torch
from torch import nn


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Set every parameter and statistic to a value that matters; fresh ReZero scalars are zero.

    Args:
        model: Changed in place and returned in evaluation mode.
        seed: Of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = torch.randn(parameter.shape, generator=generator)
            if name.endswith("rezero"):
                parameter.copy_(0.8 + 0.2 * values)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * values)
            else:
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
                parameter.copy_(values * (2.0 / fan_in) ** 0.5)
        for name, buffer in sorted(model.named_buffers()):
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model.eval()


def clip(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """A random clip (B, 3, T, H, W) in 0..1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
