"""C3D: eight 3x3x3 convolutions and two fully connected layers.

Source: Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015
(arXiv 1412.0767), figure 3. The fifth pooling is padded by one row and column, as in the published
Caffe network, so that a 112 x 112 clip of 16 frames becomes a 512 x 1 x 4 x 4 map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import ClipModel, check_clip, he_normal
from foveate.models.registry import register

# Name, width as a multiple of the first, whether a pooling follows.
_LAYERS = (
    ("conv1", 1, True),
    ("conv2", 2, True),
    ("conv3a", 4, False),
    ("conv3b", 4, True),
    ("conv4a", 8, False),
    ("conv4b", 8, True),
    ("conv5a", 8, False),
    ("conv5b", 8, True),
)


@register(
    "c3d",
    tiny={"num_classes": 7, "size": 32, "width": 8, "hidden": 24},
    tiny_input=(2, 3, 16, 32, 32),
)
class C3D(ClipModel):
    """The network of figure 3; longer clips are split into pieces of ``frames`` and averaged.

    Args:
        num_classes: Outputs of the classifier (487 for Sports-1M).
        dropout: Probability of dropping a unit of the fully connected layers, in training.
        frames: Length of a piece, fixed by the fully connected layers (16 in the paper).
        size: Side of the square input, fixed by the fully connected layers (112 in the paper).
        width: Channels of the first layer (64 in the paper).
        hidden: Units of each fully connected layer (4096 in the paper).
    """

    def __init__(
        self,
        num_classes: int = 487,
        dropout: float = 0.5,
        frames: int = 16,
        size: int = 112,
        width: int = 64,
        hidden: int = 4096,
    ) -> None:
        super().__init__(hidden, num_classes, dropout)
        if frames < 16 or frames % 16 or size < 32 or size % 16:
            raise ModelError(f"C3D halves {frames} frames four times and {size} pixels five times")
        self.frames, self.size = frames, size
        self.convs = nn.ModuleDict()
        channels = 3
        for name, multiple, _ in _LAYERS:
            self.convs[name] = nn.Conv3d(channels, width * multiple, 3, padding=1)
            channels = width * multiple
        # The padded pooling maps n rows to n // 2 + 1: 7 to 4, 2 to 2.
        side = size // 32 + 1
        self.fc6 = nn.Linear(channels * (frames // 16) * side * side, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        he_normal(self)

    def dense(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs (B, hidden) of both fully connected layers for clips of ``frames``."""
        for name, _, pooled in _LAYERS:
            x = F.relu(self.convs[name](x))
            if name == "conv1":
                x = F.max_pool3d(x, (1, 2, 2))
            elif name == "conv5b":
                x = F.max_pool3d(x, 2, 2, (0, 1, 1))
            elif pooled:
                x = F.max_pool3d(x, 2)
        fc6 = F.relu(self.fc6(x.flatten(1)))
        return fc6, F.relu(self.fc7(self.dropout(fc6)))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, pieces, hidden) of clips (B, 3, pieces * frames, size, size).

        Raises:
            ModelError: Another length or size than the network was built for.
        """
        check_clip(x)
        batch, _, frames, height, width = x.shape
        if frames % self.frames or (height, width) != (self.size, self.size):
            raise ModelError(
                f"this C3D takes a multiple of {self.frames} frames of {self.size} x {self.size}, "
                f"not {frames} of {height} x {width}",
                "create it with frames= and size= for other clips",
            )
        pieces = x.unflatten(2, (-1, self.frames)).transpose(1, 2).flatten(0, 1)
        found: torch.Tensor = self.dense(pieces)[1].unflatten(0, (batch, -1))
        return found
