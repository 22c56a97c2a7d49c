"""TSN: a 2D network on sparse frames of a clip, with the mean over their logits.

Source: Wang et al., "Temporal Segment Networks: Towards Good Practices for Deep Action
Recognition", ECCV 2016 (arXiv 1608.00859), section 3.1: K segments, one frame of each, average
consensus. The network has no temporal layers: ``tsn:BACKBONE`` over any timm backbone.
"""

from __future__ import annotations

import torch

from foveate.models import backbones
from foveate.models.clip import ClipModel, check_clip, frames_of
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
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 400,
        dropout: float = 0.5,
        pretrained: bool = False,
    ) -> None:
        network = backbones.build(backbone, pretrained)
        super().__init__(backbones.width_of(network), num_classes, dropout)
        self.backbone = network

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, T, C) of every frame of clips (B, 3, T, H, W)."""
        check_clip(x)
        found: torch.Tensor = self.backbone(frames_of(x)).unflatten(0, (x.shape[0], -1))
        return found
