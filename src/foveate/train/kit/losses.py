"""Losses per sample, for classes that exclude each other and for classes that do not."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from foveate.core import ConfigError


def soft_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy of each sample, (B,).

    Args:
        logits: (B, classes).
        target: (B,) class indices, or (B, classes) probabilities that sum to one.
        smoothing: Share of the target that is spread evenly over all classes.
    """
    if target.ndim == 1:
        return F.cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)
    target = target.float()
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logits.shape[1]
    return -(target * logits.float().log_softmax(1)).sum(1)


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
