"""Batch norms folded into the convolutions before them, for inference."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_weights

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def fold_norms(module: M) -> M:
    """Fold, in place, each batch norm that follows a convolution among the children of a module.

    The norm becomes an identity, and outputs agree up to rounding. Children must be declared in the
    order in which they are called, as in the residual blocks and `Conv2dNormActivation` of
    torchvision.

    Args:
        module: In evaluation mode.

    Returns:
        The same module.
    """
    last: nn.Module | None = None
    for name, child in list(module.named_children()):
        norm: Any = child
        # Both nn.BatchNorm2d and torchvision's FrozenBatchNorm2d.
        is_norm = hasattr(norm, "running_var") and hasattr(norm, "eps")
        if isinstance(last, nn.Conv2d) and is_norm and len(norm.running_var) == last.out_channels:
            weight, bias = fuse_conv_bn_weights(
                last.weight, last.bias, norm.running_mean, norm.running_var, norm.eps,
                norm.weight, norm.bias,
            )  # fmt: skip
            last.weight, last.bias = weight, bias
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child)
        last = child
    return module
