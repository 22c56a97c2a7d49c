"""Losses per sample: one class per clip, or several."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from foveate.core import ConfigError

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(logits, target, label smoothing) → losses (B,)."""


def loss_for(multilabel: bool) -> Loss:
    """The loss of a data set with several labels per clip, or with one."""
    return multilabel_loss if multilabel else class_loss


def class_loss(logits: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of each sample, (B,), in float32.

    Args:
        logits: (B, classes).
        target: (B,) class indices, or (B, classes) probabilities.
        smoothing: Share of the target that is spread evenly over all classes.
    """
    target = target if target.ndim == 1 else target.float()
    return F.cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)


def multilabel_loss(
    logits: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Mean over classes of the binary cross-entropy of each sample, (B,).

    Args:
        logits: (B, classes).
        target: (B, classes) in 0..1.
        smoothing: How far targets are moved towards one half.
    """
    if target.shape != logits.shape:
        raise ConfigError(f"labels {tuple(target.shape)} for scores {tuple(logits.shape)}")
    target = target.float() * (1 - smoothing) + 0.5 * smoothing
    return F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(1)
