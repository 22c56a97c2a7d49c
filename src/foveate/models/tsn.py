"""TSN: a 2D network on sparse frames of a clip, with the mean over their logits.

Source: Wang et al., "Temporal Segment Networks: Towards Good Practices for Deep Action
Recognition", ECCV 2016 (arXiv 1608.00859), section 3.1: K segments, one frame of each, average
consensus. The network has no temporal layers: ``tsn:BACKBONE`` over any timm backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from foveate.models import backbones
from foveate.models.clip import ClipModel, check_clip, frames_of
from foveate.models.patch_tokens import encode, patch_of, places_of, split_kept
from foveate.models.registry import register


@register(
    "tsn",
    tiny={"num_classes": 7, "backbone": "test_resnet"},
    tiny_input=(2, 3, 3, 32, 40),
    mixes_frames=False,
)
class TSN(ClipModel):
    """Average consensus over frames.

    Args:
        backbone: Name of a 2D network; see ``backbones.build``.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
        pretrained: Load the pretrained weights of the backbone.
        backbone_settings: Arguments of timm's class, such as `depth` or `embed_dim`.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 400,
        dropout: float = 0.5,
        pretrained: bool = False,
        backbone_settings: Mapping[str, Any] | None = None,
    ) -> None:
        network = backbones.build(backbone, pretrained, **(backbone_settings or {}))
        super().__init__(backbones.width_of(network), num_classes, dropout)
        sides = patch_of(network)
        self.patch = None if sides is None else (1, *sides)
        self.backbone = network

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, T, C) of every frame of clips (B, 3, T, H, W).

        Over a vision transformer clips (B, 4, T, H, W) say which tokens are computed; see
        `models.patch_tokens`.
        """
        if self.patch is not None:
            x, kept = split_kept(x, self.patch)
            if kept is not None:
                return self.token_features(x, kept)
        check_clip(x)
        found: torch.Tensor = self.backbone(frames_of(x)).unflatten(0, (x.shape[0], -1))
        return found

    def token_features(self, x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the features (B, T, C) from the kept patches (B, T, rows, columns) of clips."""
        check_clip(x)
        frames = x.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        vit: Any = self.backbone
        weight = vit.patch_embed.proj.weight.unsqueeze(2)
        places = places_of(vit, *kept.shape[2:])
        found: torch.Tensor = encode(vit, frames, kept.flatten(0, 1).unsqueeze(1), weight, places)
        return found.view(len(x), -1, found.shape[1])
