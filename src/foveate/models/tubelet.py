"""Transformers of tubelets: the tokens of a clip attend to each other over space and time.

An image transformer whose patch embedding is inflated: Arnab et al., "ViViT: A Video Vision
Transformer", ICCV 2021 (arXiv 2103.15691), model 1 (joint space-time attention) and section 3.4
(filter inflation: the image kernel, repeated over the frames of a tubelet and divided by their
number). Position embeddings in time are added to those in space; they are initialised to zero.
``tubelet:BACKBONE`` over any ``VisionTransformer`` of timm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from foveate.core.errors import ModelError
from foveate.models import backbones
from foveate.models.clip import ClipModel, check_clip
from foveate.models.patch_tokens import Patch, encode, patch_of, places_of, split_kept
from foveate.models.registry import register


@register(
    "tubelet",
    tiny={"num_classes": 7, "backbone": "test_vit", "backbone_settings": {"depth": 2}},
    tiny_input=(2, 3, 4, 32, 48),
)
class TubeletTransformer(ClipModel):
    """Joint space-time attention over tubelets.

    Args:
        backbone: Name of a vision transformer of timm; see ``backbones.build``.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
        pretrained: Load the pretrained weights of the image transformer.
        tubelet: Frames of a tubelet.
        slots: Position embeddings in time; for clips of other lengths they are resampled.
        backbone_settings: Arguments of timm's class, such as `depth`, `embed_dim` or `patch_size`.

    Raises:
        ModelError: The backbone is no vision transformer on patches.
    """

    patch: Patch

    def __init__(
        self,
        backbone: str = "vit_small_patch16_224",
        num_classes: int = 400,
        dropout: float = 0.0,
        pretrained: bool = False,
        tubelet: int = 2,
        slots: int = 8,
        backbone_settings: Mapping[str, Any] | None = None,
    ) -> None:
        network: Any = backbones.build(backbone, pretrained, **(backbone_settings or {}))
        sides = patch_of(network)
        if sides is None:
            raise ModelError(
                f"tubelet: {backbone} is no vision transformer on patches",
                "use one such as vit_small_patch16_224",
            )
        if tubelet < 1 or slots < 1:
            raise ModelError(f"tubelet={tubelet}, slots={slots}: must be positive")
        super().__init__(backbones.width_of(network), num_classes, dropout)
        self.patch = (tubelet, *sides)
        self.backbone = network
        image = network.patch_embed.proj.weight
        network.patch_embed.proj.weight = nn.Parameter(
            image.detach().unsqueeze(2).repeat(1, 1, tubelet, 1, 1) / tubelet
        )
        self.time = nn.Parameter(torch.zeros(1, slots, network.embed_dim))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, 1, C) of clips (B, 3, T, H, W).

        Clips (B, 4, T, H, W) say which tokens are computed; see `models.patch_tokens`.
        """
        return self.token_features(*split_kept(x, self.patch))

    def token_features(self, x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Return the features (B, 1, C) from the kept patches (B, T, rows, columns) of clips.

        A tubelet is computed if the patch of its first frame is kept.

        Raises:
            ModelError: The clip does not consist of whole tubelets.
        """
        check_clip(x)
        frames, height, width = self.patch
        slots, rows, columns = x.shape[2] // frames, x.shape[3] // height, x.shape[4] // width
        if (slots * frames, rows * height, columns * width) != x.shape[2:]:
            raise ModelError(
                f"a clip of {tuple(x.shape[2:])} does not consist of tubelets of {self.patch}",
                "choose frames and size as multiples",
            )
        image = places_of(self.backbone, rows, columns)
        prefix = image.shape[1] - rows * columns
        time = self.time.transpose(1, 2)
        if slots != time.shape[2]:
            time = functional.interpolate(time, slots, mode="linear", align_corners=False)
        places = (image[:, None, prefix:] + time.transpose(1, 2)[:, :, None]).flatten(1, 2)
        places = torch.cat([image[:, :prefix], places], 1)
        kept = None if kept is None else kept[:, ::frames]
        weight: Any = self.backbone.patch_embed.proj.weight
        return encode(self.backbone, x, kept, weight, places).unsqueeze(1)
