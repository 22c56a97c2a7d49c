"""ECO: a 2D network on frames, and a 3D network on its feature maps.

Source: Zolfaghari et al., "ECO: Efficient Convolutional Network for Online Video Understanding",
ECCV 2018 (arXiv 1804.09066), section 3 and figures 2 and 3. The 2D part is BN-Inception up to the
first 3x3 pair of module 3c; the 3D part is the upper half of a 3D ResNet-18 with normalisation
before the convolutions. The full network also runs the rest of BN-Inception and concatenates both
features. Poolings round up, as in the published Caffe networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.clip import ClipModel, check_clip, he_normal
from foveate.models.registry import register


@dataclass(frozen=True)
class Inception:
    """Channels of a BN-Inception module with the branches 1x1, 3x3, double 3x3 and pooling.

    Attributes:
        one: Of the 1x1 branch, 0 without one.
        three: Of the 3x3 branch: reduction, output.
        double: Of the double 3x3 branch: reduction, output.
        pool: Of the projection after the pooling; 0 for no projection.
        stride: 2 in the modules that downsample.
        largest: Max-pooling instead of average pooling.
    """

    one: int
    three: tuple[int, int]
    double: tuple[int, int]
    pool: int
    stride: int = 1
    largest: bool = False


MODULES = {
    "inception_3a": Inception(64, (64, 64), (64, 96), 32),
    "inception_3b": Inception(64, (64, 96), (64, 96), 64),
    "inception_3c": Inception(0, (128, 160), (64, 96), 0, 2, True),
    "inception_4a": Inception(224, (64, 96), (96, 128), 128),
    "inception_4b": Inception(192, (96, 128), (96, 128), 128),
    "inception_4c": Inception(160, (128, 160), (128, 160), 128),
    "inception_4d": Inception(96, (128, 192), (160, 192), 128),
    "inception_4e": Inception(0, (128, 192), (192, 256), 0, 2, True),
    "inception_5a": Inception(352, (192, 320), (160, 224), 128),
    "inception_5b": Inception(352, (192, 320), (192, 224), 128, 1, True),
}


class ConvBN(nn.Module):
    """A 2D convolution with bias, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/s, W/s)."""
        return F.relu(self.bn(self.conv(x)))


class InceptionModule(nn.Module):
    """A module of BN-Inception (Ioffe and Szegedy, arXiv 1502.03167, figure 5)."""

    def __init__(self, inputs: int, config: Inception) -> None:
        super().__init__()
        self.config = config
        stride = config.stride
        self.one = ConvBN(inputs, config.one, 1) if config.one else None
        self.three_reduce = ConvBN(inputs, config.three[0], 1)
        self.three = ConvBN(config.three[0], config.three[1], 3, stride)
        self.double_reduce = ConvBN(inputs, config.double[0], 1)
        self.double_1 = ConvBN(config.double[0], config.double[1], 3)
        self.double_2 = ConvBN(config.double[1], config.double[1], 3, stride)
        self.pool_proj = ConvBN(inputs, config.pool, 1) if config.pool else None
        beside = config.pool or inputs
        self.outputs = config.one + config.three[1] + config.double[1] + beside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/s, W/s)."""
        return self.join(x, self.double_1(self.double_reduce(x)))

    def join(self, x: torch.Tensor, double: torch.Tensor) -> torch.Tensor:
        """Run the module, given the first half of its double branch."""
        branches = [] if self.one is None else [self.one(x)]
        branches += [self.three(self.three_reduce(x)), self.double_2(double)]
        pooled = self._pool(x)
        branches.append(pooled if self.pool_proj is None else self.pool_proj(pooled))
        return torch.cat(branches, 1)

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        if self.config.stride == 2:
            return F.max_pool2d(x, 3, 2, ceil_mode=True)
        if self.config.largest:
            return F.max_pool2d(x, 3, 1, 1, ceil_mode=True)
        return F.avg_pool2d(x, 3, 1, 1, ceil_mode=True)


class Residual3d(nn.Module):
    """A pre-activation block of two 3x3x3 convolutions.

    The next block gets the sum of branch and shortcut, and its normalised and rectified form. A
    projected shortcut takes the latter.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 2 if inputs != outputs else 1
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1)
        self.bn1 = nn.BatchNorm3d(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1)
        self.down = nn.Conv3d(inputs, outputs, 3, 2, 1) if stride == 2 else None
        self.bn = nn.BatchNorm3d(outputs)

    def forward(
        self, total: torch.Tensor, rectified: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the sum so far and its rectified form to the next sum and its rectified form."""
        y = self.conv2(F.relu(self.bn1(self.conv1(rectified))))
        total = y + (total if self.down is None else self.down(rectified))
        return total, F.relu(self.bn(total))


class ECO(ClipModel):
    """ECO lite, or full.

    Args:
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
        full: Also run the rest of the 2D network.
        divide: Divisor of all numbers of channels; 1 gives the published networks.
    """

    def __init__(
        self, num_classes: int = 400, dropout: float = 0.5, full: bool = False, divide: int = 1
    ) -> None:
        wide = 1024 // divide if full else 0
        super().__init__(512 // divide + wide, num_classes, dropout)
        self.full = full
        stem = 64 // divide
        self.conv1 = ConvBN(3, stem, 7, 2)
        self.conv2_reduce = ConvBN(stem, stem, 1)
        self.conv2 = ConvBN(stem, 192 // divide, 3)
        self.inception = nn.ModuleDict()
        channels = 192 // divide
        for name, config in MODULES.items():
            if not full and name == "inception_3c":
                break
            module = InceptionModule(channels, _divided(config, divide))
            self.inception[name] = module
            channels = module.outputs
        between = _divided(MODULES["inception_3c"], divide).double
        if not full:
            # The lite network ends inside module 3c and needs none of its other branches.
            self.inception_3c_reduce = ConvBN(channels, between[0], 1)
            self.inception_3c_1 = ConvBN(between[0], between[1], 3)
        widths = [128 // divide, 256 // divide, 512 // divide]
        self.res3a = nn.Conv3d(between[1], widths[0], 3, 1, 1)
        self.res3a_bn = nn.BatchNorm3d(widths[0])
        self.residual = nn.ModuleDict({"res3b": Residual3d(widths[0], widths[0])})
        for level in (1, 2):
            before, after = widths[level - 1], widths[level]
            self.residual[f"res{level + 3}a"] = Residual3d(before, after)
            self.residual[f"res{level + 3}b"] = Residual3d(after, after)
        he_normal(self)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, 1, num_features) of clips (B, 3, T, H, W).

        Raises:
            ModelError: T is not a multiple of 4; the 3D part halves it twice. Or, for the full
                network, H or W is not a multiple of 32.
        """
        check_clip(x)
        if self.full and (x.shape[3] % 32 or x.shape[4] % 32):
            raise ModelError(
                f"ECO full takes sizes that are multiples of 32, not {x.shape[3]} x {x.shape[4]}"
            )
        if x.shape[2] % 4:
            raise ModelError(f"ECO takes a multiple of four frames, not {x.shape[2]}")
        batch = x.shape[0]
        y = x.transpose(1, 2).flatten(0, 1)
        y = F.max_pool2d(self.conv1(y), 3, 2, ceil_mode=True)
        y = F.max_pool2d(self.conv2(self.conv2_reduce(y)), 3, 2, ceil_mode=True)
        y = self.inception["inception_3b"](self.inception["inception_3a"](y))
        fork = self._fork(y)
        found = self._in_time(fork.unflatten(0, (batch, -1)).transpose(1, 2))
        if self.full:
            found = torch.cat([self._beside(y, fork, batch), found], 1)
        return found.unsqueeze(1)

    def _fork(self, y: torch.Tensor) -> torch.Tensor:
        """The input maps (B * T, 96, H/8, W/8) of the 3D part."""
        if not self.full:
            lite: torch.Tensor = self.inception_3c_1(self.inception_3c_reduce(y))
            return lite
        module = self.inception["inception_3c"]
        assert isinstance(module, InceptionModule)
        full: torch.Tensor = module.double_1(module.double_reduce(y))
        return full

    def _in_time(self, maps: torch.Tensor) -> torch.Tensor:
        """Features (B, 512) of the 3D part for maps (B, 96, T, H, W)."""
        total = self.res3a(maps)
        rectified = F.relu(self.res3a_bn(total))
        for block in self.residual.values():
            total, rectified = block(total, rectified)
        return rectified.mean((2, 3, 4))

    def _beside(self, y: torch.Tensor, fork: torch.Tensor, batch: int) -> torch.Tensor:
        """Features (B, 1024) of the rest of the 2D network: the mean over frames."""
        for name, module in self.inception.items():
            assert isinstance(module, InceptionModule)
            if name == "inception_3c":
                y = module.join(y, fork)
            elif name not in ("inception_3a", "inception_3b"):
                y = module(y)
        found: torch.Tensor = y.mean((2, 3)).unflatten(0, (batch, -1))
        return found.mean(1)


def _divided(config: Inception, divide: int) -> Inception:
    """A module's configuration with all channels divided."""
    return Inception(
        config.one // divide,
        (config.three[0] // divide, config.three[1] // divide),
        (config.double[0] // divide, config.double[1] // divide),
        config.pool // divide,
        config.stride,
        config.largest,
    )


@register("eco-lite", tiny={"num_classes": 7, "divide": 8}, tiny_input=(2, 3, 4, 64, 72))
def eco_lite(num_classes: int = 400, dropout: float = 0.5, divide: int = 1) -> ECO:
    """Build ECO lite, whose 2D network ends where the 3D part begins."""
    return ECO(num_classes, dropout, full=False, divide=divide)


@register("eco-full", tiny={"num_classes": 7, "divide": 8}, tiny_input=(2, 3, 4, 32, 64))
def eco_full(num_classes: int = 400, dropout: float = 0.5, divide: int = 1) -> ECO:
    """Build ECO full, which also runs the rest of BN-Inception."""
    return ECO(num_classes, dropout, full=True, divide=divide)
