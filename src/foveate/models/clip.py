"""Base class of networks on whole clips: features, classifier, consensus."""

from __future__ import annotations

import math

import torch
from torch import nn

from foveate.core.errors import ModelError


class ClipModel(nn.Module):
    """A network that takes a whole clip and returns one set of logits.

    ``features`` returns pooled features of every temporal position: frames or segments for 2D
    networks, temporal steps of the last maps for 3D networks. The logits of
    a clip are the mean of the positions' logits (the average consensus of Wang et al., "Temporal
    Segment Networks", ECCV 2016, section 3.1). A subclass implements ``features``.

    Args:
        num_features: Number of channels of the features.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.

    Attributes:
        patch: Frames, height and width in pixels of a patch, where patch tokens can be left out
            (see `models.patch_tokens`); None elsewhere.
    """

    patch: tuple[int, int, int] | None = None

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        if num_classes < 1:
            raise ModelError(f"a classifier needs at least one class, not {num_classes}")
        self.num_features = num_features
        self.num_classes = num_classes
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pooled features (B, positions, num_features) of clips (B, 3, T, H, W)."""
        raise NotImplementedError

    def classify(self, pooled_features: torch.Tensor) -> torch.Tensor:
        """Return logits (..., classes) for features (..., num_features)."""
        pooled_features = pooled_features.to(self.classifier.weight.dtype)
        logits: torch.Tensor = self.classifier(self.dropout(pooled_features))
        return logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify clips (B, 3, T, H, W): logits (B, classes).

        Raises:
            ModelError: The network does not support the shape of the clip.
        """
        return self.classify(self.features(x)).mean(1)


def check_clip(x: torch.Tensor, channels: int = 3) -> None:
    """Raise ModelError unless ``x`` is a clip (B, channels, T >= 1, H, W)."""
    if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
        raise ModelError(f"a clip has the shape (B, {channels}, T, H, W), not {tuple(x.shape)}")


def frames_of(x: torch.Tensor) -> torch.Tensor:
    """The frames of clips (B, 3, T, H, W) as a batch for a 2D network: (B * T, 3, H, W).

    In channels-last memory format: depthwise convolutions then take two thirds of the time on a
    CPU.
    """
    frames = x.transpose(1, 2).flatten(0, 1)
    return frames.contiguous(memory_format=torch.channels_last)


def over_space(x_bcthw: torch.Tensor) -> torch.Tensor:
    """Return the mean over height and width of maps (B, C, T, H, W) as (B, T, C)."""
    return x_bcthw.mean((3, 4)).transpose(1, 2)


def he_normal(model: nn.Module) -> None:
    """He-normal (fan-out) initialisation of kernels, norms to identity (arXiv 1502.01852)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            fan_out = module.weight.shape[0] * math.prod(module.kernel_size) // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
