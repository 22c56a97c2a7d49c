"""torchvision's video networks with the interface of this package.

R3D, MC3 and R(2+1)D of 18 layers (Tran et al., arXiv 1711.11248), S3D (Xie et al., arXiv
1712.04851), MViTv2-S (Li et al., arXiv 2112.01526) and Video Swin (Liu et al., arXiv 2106.13230).
The networks are torchvision's; only their head is replaced.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.core.lazy import import_extra
from foveate.models.clip import ClipModel, check_clip, over_space
from foveate.models.registry import register

if TYPE_CHECKING:
    from types import ModuleType


def video_library() -> ModuleType:
    """Import torchvision's video networks when one is first built: it takes seconds.

    Raises:
        MissingExtra: torchvision is not installed.
    """
    return import_extra("torchvision.models.video", "zoo")


def kinetics_labels() -> tuple[str, ...]:
    """Names of the 400 classes of torchvision's weights, in order."""
    return tuple(video_library().R3D_18_Weights.KINETICS400_V1.meta["categories"])


class VideoNetwork(ClipModel):
    """A torchvision network without its head, and a classifier.

    Args:
        trunk: The network with its head replaced by the identity.
        num_features: Number of input channels of the head.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
    """

    def __init__(
        self, trunk: nn.Module, num_features: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__(num_features, num_classes, dropout)
        self.trunk: Any = trunk


class VideoResNet(VideoNetwork):
    """R3D, MC3 and R(2+1)D: one position per temporal step of the last maps."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, steps, 512) of clips (B, 3, T, H, W)."""
        check_clip(x)
        x = self.trunk.stem(x)
        for layer in (self.trunk.layer1, self.trunk.layer2, self.trunk.layer3, self.trunk.layer4):
            x = layer(x)
        return over_space(x)


class VideoS3D(VideoNetwork):
    """S3D: one position per window of two temporal steps of the last maps."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, windows, 1024) of clips (B, 3, T, H, W)."""
        check_clip(x)
        maps = self.trunk.features(x)
        # The published window is 2 x 7 x 7; smaller maps use their whole size.
        side = [min(own, 7) for own in maps.shape[3:]]
        steps = F.avg_pool2d(maps.flatten(1, 2), side, 1).mean((2, 3)).unflatten(1, maps.shape[1:3])
        steps = steps.transpose(1, 2)
        if steps.shape[1] > 1:
            steps = (steps[:, 1:] + steps[:, :-1]) / 2
        assert isinstance(steps, torch.Tensor)
        return steps


class VideoMViT(VideoNetwork):
    """MViT: the class token as the only position; for one clip length and size."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, 1, C) of clips (B, 3, T, H, W).

        Raises:
            ModelError: Another length or size than that of the position encoding.
        """
        check_clip(x)
        time, (height, width) = (
            self.trunk.pos_encoding.temporal_size, self.trunk.pos_encoding.spatial_size,
        )  # fmt: skip
        if (x.shape[2] // 2, x.shape[3] // 4, x.shape[4] // 4) != (time, height, width):
            raise ModelError(
                f"this MViT takes {2 * time} frames of {4 * height} x {4 * width}, "
                f"not {x.shape[2]} of {x.shape[3]} x {x.shape[4]}",
            )
        token: torch.Tensor = self.trunk(x)
        return token.unsqueeze(1)


class VideoSwin(VideoNetwork):
    """Video Swin: one position per two frames."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, ceil(T / 2), C) of clips (B, 3, T, H, W)."""
        check_clip(x)
        trunk = self.trunk
        maps_bthwc = trunk.norm(trunk.features(trunk.pos_drop(trunk.patch_embed(x))))
        found: torch.Tensor = maps_bthwc.mean((2, 3))
        return found


def resnet(name: str, num_classes: int = 400, dropout: float = 0.0, blocks: int = 2) -> VideoResNet:
    """A VideoResNet with that many blocks per stage (2 in the published networks)."""
    video = video_library()
    if blocks == 2:
        trunk = getattr(video, name)(weights=None)
    else:
        own: Any = video.resnet
        makers, stem = {
            "r3d_18": ([own.Conv3DSimple] * 4, own.BasicStem),
            "mc3_18": ([own.Conv3DSimple] + [own.Conv3DNoTemporal] * 3, own.BasicStem),
            "r2plus1d_18": ([own.Conv2Plus1D] * 4, own.R2Plus1dStem),
        }[name]
        trunk = own.VideoResNet(own.BasicBlock, makers, [blocks] * 4, stem)
    trunk.fc = nn.Identity()
    return VideoResNet(trunk, 512, num_classes, dropout)


for _name in ("r3d_18", "mc3_18", "r2plus1d_18"):
    register(
        _name.replace("_", "-"), tiny={"num_classes": 7, "blocks": 1}, tiny_input=(2, 3, 4, 24, 32)
    )(partial(resnet, _name))


@register("s3d", tiny={"num_classes": 7}, tiny_input=(2, 3, 14, 32, 40))
def s3d(num_classes: int = 400, dropout: float = 0.2) -> VideoS3D:
    """Build torchvision's S3D (8,320,048 parameters with 400 classes)."""
    trunk = video_library().s3d(weights=None)
    trunk.classifier = nn.Identity()
    return VideoS3D(trunk, 1024, num_classes, dropout)


@register(
    "mvit-v2-s",
    tiny={"num_classes": 7, "frames": 4, "size": 32, "width": 16, "depth": 2},
    tiny_input=(2, 3, 4, 32, 32),
)
def mvit_v2_s(
    num_classes: int = 400,
    dropout: float = 0.5,
    frames: int = 16,
    size: int = 224,
    width: int = 96,
    depth: int = 16,
) -> VideoMViT:
    """Build torchvision's MViTv2-S (34,537,744 parameters with 400 classes).

    Args:
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
        frames: Length of the clips, fixed by the position encoding.
        size: Side of the square frames, also fixed.
        width: Channels of the first stage; like ``frames``, ``size`` and ``depth`` only for small
            test networks.
        depth: Number of blocks.

    Raises:
        ModelError: Only some of the last four are changed.
    """
    video = video_library()
    if (frames, size, width, depth) == (16, 224, 96, 16):
        trunk = video.mvit_v2_s(weights=None)
        wide = 768
    elif (width, depth) == (96, 16):
        raise ModelError("torchvision's MViTv2-S takes 16 frames of 224 pixels only")
    else:
        own: Any = video.mvit
        setting = [
            own.MSBlockConfig(
                num_heads=1, input_channels=width, output_channels=width, kernel_q=[3, 3, 3],
                kernel_kv=[3, 3, 3], stride_q=[1, 1, 1], stride_kv=[1, 2, 2],
            )
            for _ in range(depth)
        ]  # fmt: skip
        trunk = own.MViT(
            (size, size), frames, setting, residual_pool=True, residual_with_cls_embed=False,
            rel_pos_embed=True, proj_after_attn=True,
        )  # fmt: skip
        wide = width
    trunk.head = nn.Identity()
    return VideoMViT(trunk, wide, num_classes, dropout)


def swin(
    name: str, num_classes: int = 400, dropout: float = 0.0, depth: int | None = None
) -> VideoSwin:
    """A Video Swin; with a depth, a small network of that many blocks in two stages."""
    video = video_library()
    if depth is None:
        trunk = getattr(video, name)(weights=None)
    else:
        trunk = video.swin_transformer.SwinTransformer3d(
            [2, 4, 4], 16, [depth, depth], [2, 4], [4, 3, 3]
        )
    wide = trunk.num_features
    trunk.head = nn.Identity()
    return VideoSwin(trunk, wide, num_classes, dropout)


for _name in ("swin3d_t", "swin3d_s", "swin3d_b"):
    register(
        _name.replace("_", "-"), tiny={"num_classes": 7, "depth": 2}, tiny_input=(2, 3, 4, 32, 40)
    )(partial(swin, _name))
