"""Mixing the clips of a batch with soft labels: mixup and cutmix."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def soft(y: Tensor, classes: int) -> Tensor:
    """Labels as (B, classes) float32; indices become one-hot, anything else stays."""
    return F.one_hot(y, classes).float() if y.ndim == 1 else y.float()


def mixup(
    x: Tensor, y: Tensor, random: np.random.Generator, *, classes: int, alpha: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Each clip blended with another one, and the labels with it.

    Zhang et al., "mixup: Beyond empirical risk minimization" (ICLR 2018), section 2. One share is
    drawn per batch, from Beta(alpha, alpha).

    Args:
        x: (B, ...) float.
        y: (B,) indices or (B, classes) shares.
        random: Draws the share and which clips are blended.
        classes: Number of classes.
        alpha: Small values leave most clips nearly unchanged.

    Returns:
        Blended clips, and labels (B, classes).
    """
    share = float(random.beta(alpha, alpha))
    other = torch.from_numpy(random.permutation(len(x))).to(x.device)
    shares = soft(y, classes)
    return torch.lerp(x[other], x, share), torch.lerp(shares[other], shares, share)


def cutmix(
    x: Tensor, y: Tensor, random: np.random.Generator, *, classes: int, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """A rectangle of each clip, the same in all frames, taken from another one.

    Yun et al., "CutMix" (ICCV 2019), section 3.1; labels are mixed by the area that was replaced.

    Args:
        x: (B, ..., H, W).
        y: (B,) indices or (B, classes) shares.
        random: Draws the rectangle and which clips are combined.
        classes: Number of classes.
        alpha: Of the Beta distribution of the area that stays.

    Returns:
        Clips with a rectangle replaced, and labels (B, classes).
    """
    height, width = x.shape[-2:]
    side = (1.0 - float(random.beta(alpha, alpha))) ** 0.5
    y0, x0 = float(random.random()) * height, float(random.random()) * width
    top, bottom = (int(np.clip(y0 + s * side * height / 2, 0, height)) for s in (-1, 1))
    left, right = (int(np.clip(x0 + s * side * width / 2, 0, width)) for s in (-1, 1))
    other = torch.from_numpy(random.permutation(len(x))).to(x.device)
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = x[other][..., top:bottom, left:right]
    stays = 1.0 - (bottom - top) * (right - left) / (height * width)
    shares = soft(y, classes)
    return mixed, torch.lerp(shares[other], shares, stays)
