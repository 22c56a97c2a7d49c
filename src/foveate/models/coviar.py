"""CoViAR: three networks on the data of a compressed video, and their internal classifiers.

Source: Wu et al., "Compressed Video Action Recognition", CVPR 2018 (arXiv 1712.00636): an I-frame
network on RGB, a motion-vector network on accumulated vectors, a residual network on accumulated
residuals; each takes one picture of every segment, and the logits of segments are averaged. The
internal classifiers are those of Soufleri et al. (arXiv 2407.02713) and a light variant.

A network is ``coviar:BACKBONE`` over any timm backbone whose modules run in sequence. Stages are
executed one by one, so after an exit the later stages are not computed. On key frames a cascade
also takes a video network of the registry, which has no exits inside (`KeyFrameClips`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from foveate.core.errors import ModelError
from foveate.models import backbones
from foveate.models.clip import ClipModel, check_clip
from foveate.models.registry import create, is_video_network, register, split_name

Modality = Literal["iframe", "mv", "residual"]
Style = Literal["paper", "light"]

MODALITIES: tuple[Modality, ...] = ("iframe", "mv", "residual")
CHANNELS: dict[Modality, int] = {"iframe": 3, "mv": 2, "residual": 3}
FUSION: dict[Modality, float] = {"iframe": 2.0, "mv": 1.0, "residual": 1.0}

# Backbones by modality: those of the PKD release (CoViAR's own I-frame network is a ResNet-152),
# and sets that train on a CPU in minutes; `small` has image weights for key frames.
SETS: dict[str, dict[Modality, str]] = {
    "published": {"iframe": "resnet50", "mv": "resnet18", "residual": "resnet18"},
    "small": {
        "iframe": "efficientnet_lite0.imagenet_lite0",
        "mv": "regnetx_002",
        "residual": "regnetx_002",
    },
    "tiny": {
        "iframe": "mobilenetv3_small_100",
        "mv": "mobilenetv3_small_050",
        "residual": "mobilenetv3_small_050",
    },
}

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RANGE = 20.0  # range in pixels of the accumulated motion at the input of the vector network
_LIGHT = 128  # channels of a light head
_SIDE = 7  # smallest side of its input maps after pooling
# Heads of the release by (channels in, kernel): channels out. The 7x7 kernel of ResNet-18's first
# head has padding 1, so its map has 52 x 52 positions instead of 56 x 56.
_RELEASED = {256: {"layer1": 64}, 512: {"layer2": 256}}


@register(
    "coviar",
    tiny={"num_classes": 7, "backbone": "test_resnet", "modality": "residual"},
    tiny_input=(2, 3, 3, 32, 40),
    mixes_frames=False,
)
class CompressedNet(ClipModel):
    """One of the three networks: from segments of one modality to logits.

    Args:
        modality: ``iframe``, ``mv`` (2 channels, x then y) or ``residual``.
        backbone: Name of a 2D network; see ``backbones.build``.
        num_classes: Outputs of the classifier.
        dropout: Probability of dropping a feature before the classifier, in training.
        pretrained: Load the pretrained weights of the backbone.

    Raises:
        ModelError: Unknown modality or backbone.
    """

    def __init__(
        self,
        modality: Modality = "iframe",
        backbone: str = "resnet18",
        num_classes: int = 101,
        dropout: float = 0.0,
        pretrained: bool = False,
    ) -> None:
        if modality not in MODALITIES:
            known = ", ".join(MODALITIES)
            raise ModelError(f"there is no modality {modality!r}", f"one of: {known}")
        channels = CHANNELS[modality]
        settings = {} if channels == 3 else {"in_chans": channels}
        network = backbones.build(backbone, pretrained, **settings)
        super().__init__(backbones.width_of(network), num_classes, dropout)
        self.modality: Modality = modality
        self.backbone = network
        # As in the release, motion vectors and residuals are normalised by a BatchNorm.
        self.data_bn = None if modality == "iframe" else nn.BatchNorm2d(channels)
        self._pieces: list[tuple[str, list[nn.Module]]] | None = None

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (B, T, C) of every segment of (B, channels, T, H, W)."""
        return self._pooled(self.backbone(self.enter(x)), x)

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        """Segments (B, channels, T, H, W) as normalised images (B·T, channels, H, W).

        Raises:
            ModelError: The clip has another shape.
        """
        check_clip(x, CHANNELS[self.modality])
        images = x.transpose(1, 2).flatten(0, 1)
        if self.data_bn is not None:
            images = self.data_bn(images)
        return images

    @property
    def stages(self) -> list[str]:
        """Names of the stages of the backbone in order; after the last one it is complete."""
        if self._pieces is None:
            self._pieces = _pieces_of(self.backbone, CHANNELS[self.modality])
        return [name for name, _ in self._pieces]

    def run_stages(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Run the stages lazily, one per iteration.

        Yields:
            Name and map (B·T, C, h, w) of every stage; finally ``""`` and features (B, T, C).
        """
        names = self.stages
        assert self._pieces is not None
        maps = self.enter(x)
        for name, modules in self._pieces:
            for module in modules:
                maps = module(maps)
            if name != names[-1]:
                yield name, maps
        yield "", self._pooled(maps, x)

    def run_part(self, x: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Run the stages `begin` to `end - 1` on the output of the stages before.

        Args:
            x: Normalised images, or the maps (B·T, C, h, w) of stage `begin - 1`.
            begin: Index of the first stage, see `stages`.
            end: Index after the last stage.
        """
        assert len(self.stages) >= end
        assert self._pieces is not None
        for _, modules in self._pieces[begin:end]:
            for module in modules:
                x = module(x)
        return x

    def _pooled(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = features.unflatten(0, (x.shape[0], -1))
        return found


class KeyFrameClips(nn.Module):
    """A video network, such as a MoViNet, on the key frames as one clip: a single stage.

    Args:
        network: From clips (B, 3, T, H, W) to logits (B, classes).
    """

    modality: Modality = "iframe"
    stages = ("final",)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) of key frames (B, 3, T, H, W)."""
        logits: torch.Tensor = self.network(x)
        return logits

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        """The clips themselves."""
        check_clip(x)
        return x

    def run_stages(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield ``""`` and logits (B, 1, classes)."""
        yield "", self(x).unsqueeze(1)

    def run_part(self, x: torch.Tensor, begin: int, end: int) -> torch.Tensor:
        """Logits (B, classes); there is one stage."""
        return self.forward(x)

    def classify(self, logits: torch.Tensor) -> torch.Tensor:
        """What the stage gave are logits."""
        return logits


def split_stages(backbone: nn.Module) -> list[tuple[str, list[nn.Module]]]:
    """Split a backbone into stages, to be run in sequence.

    A stage ends with each child of a ``blocks`` or ``stages`` sequence, or with each child that is
    a sequence or a stage itself (``layer1``); modules before belong to the first one.
    """
    flat: list[tuple[str, nn.Module, bool]] = []
    for name, child in backbone.named_children():
        if name in ("blocks", "stages") and isinstance(child, nn.Sequential):
            flat += [(f"{name}.{at}", part, True) for at, part in child.named_children()]
        else:
            chain = isinstance(child, nn.Sequential) and len(child) > 0
            flat.append((name, child, chain or type(child).__name__.endswith("Stage")))
    pieces: list[tuple[str, list[nn.Module]]] = []
    modules: list[nn.Module] = []
    for name, module, ends in flat:
        modules.append(module)
        if ends and not name.startswith(("conv", "stem")):
            pieces.append((name, modules))
            modules = []
    return [*pieces, ("final", modules)]


def _pieces_of(backbone: nn.Module, channels: int) -> list[tuple[str, list[nn.Module]]]:
    """The stages of a backbone, if running them in sequence equals running it.

    Raises:
        ModelError: The backbone does not just run its modules in sequence.
    """
    pieces = split_stages(backbone)
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        with torch.no_grad():
            some = next(backbone.parameters())
            probe = torch.randn(1, channels, 64, 64, device=some.device, dtype=some.dtype)
            found = probe
            for _, parts in pieces:
                for part in parts:
                    found = part(found)
            same = torch.allclose(found, backbone(probe), rtol=1e-3, atol=1e-4)
    except (RuntimeError, TypeError, ValueError, AssertionError):
        same = False
    finally:
        for module, training in modes:
            module.training = training
    if not same or len(pieces) < 2:
        raise ModelError(
            f"{type(backbone).__name__} cannot be run stage by stage",
            "use a ResNet, RegNet, EfficientNet or MobileNet",
        )
    return pieces


class InternalClassifier(nn.Module):
    """A classifier on the maps of a stage.

    ``paper`` is that of the release: convolution without bias, BatchNorm, pooling to 4x4, linear
    layer, no activation. ``light`` average-pools maps to about 7x7, then 1x1 convolution to 128
    channels, BatchNorm, ReLU, global pooling, linear layer: it is cheaper on large early maps.

    Args:
        channels: Channels of the maps.
        num_classes: Outputs.
        style: ``paper`` or ``light``.
        width: Output channels of the convolution of `paper`; None means those of the maps.
        kernel: Kernel size of `paper`; the padding is always 1.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        style: Style = "light",
        width: int | None = None,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        if style not in ("paper", "light"):
            raise ModelError(f"there is no head {style!r}", "one of: paper, light")
        paper = style == "paper"
        self.shrinks = not paper
        width = (width or channels) if paper else _LIGHT
        side = 4 if paper else 1
        convolution = (
            nn.Conv2d(channels, width, kernel, padding=1, bias=False)
            if paper
            else nn.Conv2d(channels, width, 1, bias=False)
        )
        layers: list[nn.Module] = [convolution, nn.BatchNorm2d(width)]
        self.maps = nn.Sequential(*layers, *([] if paper else [nn.ReLU()]))
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Linear(width * side * side, num_classes)

    def shrunk(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, h, w) pooled to the size that the head needs; idempotent."""
        by = min(maps.shape[-2:]) // _SIDE
        return functional.avg_pool2d(maps, by) if self.shrinks and by > 1 else maps

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map maps (N, C, h, w), pooled or not, to logits (N, classes)."""
        maps = self.maps(self.shrunk(maps))
        logits: torch.Tensor = self.classifier(self.pool(maps).flatten(1))
        return logits


def released_head(backbone: str, stage: str, channels: int) -> tuple[int, int]:
    """Channels and kernel of the release's head at a stage, or channels of the map and 3x3."""
    if backbone.startswith("resnet50"):
        return _RELEASED.get(channels, {}).get(stage, channels), 3
    return channels, 7 if backbone.startswith("resnet18") and stage == "layer1" else 3


class ExitNetwork(nn.Module):
    """A network with internal classifiers; stages after the exit that is used are not computed.

    The backbone is frozen: it stays in evaluation mode even after `train()`, so its running
    statistics do not change, and it gets no gradients.

    Args:
        network: The network; its classifier is the last exit.
        stages: Names of the stages with a head, from `network.stages`; None means all but the last
            two, which are the last maps and their pooling.
        style: Style of the heads.
        backbone: Name of the backbone, for the shapes of the release's heads.

    Raises:
        ModelError: There is no such stage.
    """

    def __init__(
        self,
        network: CompressedNet | KeyFrameClips,
        stages: Sequence[str] | None = None,
        style: Style = "light",
        backbone: str = "",
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        inner = network.stages[:-1]
        chosen = list(inner[:-1] if stages is None else stages)
        for stage in chosen:
            if stage not in inner:
                raise ModelError(f"there is no stage {stage!r}", f"one of: {', '.join(inner)}")
        widths = self._widths(64) if chosen else {}
        # Number of stages before each exit; the last exit is after all stages.
        self._ends = [1 + inner.index(stage) for stage in sorted(chosen, key=inner.index)]
        self._ends.append(len(network.stages))
        self.heads = nn.ModuleDict()
        for stage in sorted(chosen, key=inner.index):
            assert isinstance(network, CompressedNet)  # the other has no stages inside
            width, kernel = released_head(backbone, stage, widths[stage])
            head = InternalClassifier(widths[stage], network.num_classes, style, width, kernel)
            self.heads[stage.replace(".", "_")] = head

    @property
    def exits(self) -> list[str]:
        """Names of the exits in order; the last is ``final``."""
        return [*self.heads, "final"]

    def train(self, mode: bool = True) -> ExitNetwork:
        """Set the mode of the heads; the network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def maps(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Inputs of the exits' heads, computed lazily and without gradients.

        Yields:
            Name of the exit and its map (B·T, C, h, w); finally ``final`` and features (B, T, C).
        """
        stages = self.network.run_stages(x)
        while True:
            with torch.no_grad():  # not around a yield, where it would affect the caller
                found = next(stages, None)
            if found is None:
                return
            name = found[0].replace(".", "_") or "final"
            if name in self.heads or name == "final":
                yield name, found[1]

    def segment_logits(self, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Logits (B, T, classes) of the exits, computed lazily."""
        for name, maps in self.maps(x):
            if name == "final":
                yield name, self.network.classify(maps)
            else:
                yield name, self.heads[name](maps).unflatten(0, (x.shape[0], -1))

    def advance(self, at: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run from the previous exit to exit `at`, and its head.

        Args:
            at: Index of the exit, see `exits`.
            x: For the first exit segments (B, channels, T, H, W), else the maps that the previous
                exit returned.

        Returns:
            Logits (B, classes), the mean over segments, and maps (B, T, C, h, w) for the next
            exit (features (B, T, C) at the last one).
        """
        batch = x.shape[0]
        images = self.network.enter(x) if at == 0 else x.flatten(0, 1)
        begin = self._ends[at - 1] if at else 0
        maps = self.network.run_part(images, begin, self._ends[at])
        name = self.exits[at]
        head = self.network.classify if name == "final" else self.heads[name]
        logits = head(maps).unflatten(0, (batch, -1)).mean(1)
        return logits, maps.unflatten(0, (batch, -1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits (B, classes) of all exits: the mean over segments."""
        return {name: logits.mean(1) for name, logits in self.segment_logits(x)}

    @torch.no_grad()
    def _widths(self, side: int) -> dict[str, int]:
        channels = CHANNELS[self.network.modality]
        some: Any = next(self.network.parameters())
        x = torch.zeros(1, channels, 1, side, side, device=some.device, dtype=some.dtype)
        return {name: maps.shape[1] for name, maps in self.network.run_stages(x) if name}


def even_stages(network: CompressedNet | KeyFrameClips, count: int) -> list[str]:
    """At most `count` stages for internal classifiers, evenly spaced, without the last maps.

    For a ResNet, three are those of the release (arXiv 2407.02713).
    """
    inner = network.stages[:-2]
    count = min(count, len(inner))
    return [inner[round((i + 1) * len(inner) / count) - 1] for i in range(count)]


def fuse(logits: dict[Modality, torch.Tensor]) -> torch.Tensor:
    """CoViAR's late fusion of logits (B, classes): I-frame 2, motion vectors 1, residual 1."""
    return torch.stack([FUSION[name] * value for name, value in logits.items()]).sum(0)


def normalise(
    modality: Modality, x: torch.Tensor, mean: Sequence[float] = _MEAN, std: Sequence[float] = _STD
) -> torch.Tensor:
    """Normalise inputs as in the release.

    Vectors: -20..20 pixels are mapped to integers 0..255, then to -0.5..0.5. Residuals: shifted by
    128, clipped, mapped to -0.5..0.5 and divided by ImageNet's standard deviation. I-frames:
    ImageNet's mean and standard deviation (arXiv 1712.00636 and its code).

    Args:
        modality: Modality of ``x``.
        x: (..., channels, H, W): RGB 0..255, residuals -255..255, or motion in pixels.
        mean: For I-frames in 0..1, if the backbone's weights need another one than ImageNet's.
        std: Standard deviation, likewise.
    """
    x = x.float()
    if modality == "mv":
        return (x * (127.5 / _RANGE) + 128).clamp(0, 255).floor() / 255 - 0.5
    if modality == "residual":
        return ((x + 128).clamp(0, 255) / 255 - 0.5) / x.new_tensor(_STD)[:, None, None]
    return (x / 255 - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]


def mirrored(modality: Modality, x: torch.Tensor) -> torch.Tensor:
    """Horizontal flip of (..., channels, H, W) before `normalise`; x of motion is negated."""
    flipped = x.flip(-1)
    if modality != "mv":
        return flipped
    return torch.stack([-flipped[..., 0, :, :], flipped[..., 1, :, :]], -3)


def square(x: torch.Tensor, size: int) -> torch.Tensor:
    """Centre crop of (N, channels, H, W) to a square, resized to ``size`` pixels.

    Motion is not rescaled: its values stay in pixels of the coded picture.
    """
    height, width = x.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = x[..., top : top + side, left : left + side].float()
    return functional.interpolate(
        cut, (size, size), mode="bilinear", align_corners=False, antialias=side > size
    )


@register(
    "coviar-exits",
    tiny={"num_classes": 7, "backbone": "test_resnet", "modality": "residual"},
    tiny_input=(2, 3, 3, 32, 40),
    mixes_frames=False,
    classifier=False,
)
def coviar_exits(
    num_classes: int = 101,
    backbone: str = "resnet18",
    modality: Modality = "iframe",
    stages: Sequence[str] | None = None,
    heads: Style = "light",
) -> ExitNetwork:
    """Build one of CoViAR's networks with internal classifiers, a part of a cascade.

    On key frames, `backbone` may be a video network of the registry.
    """
    network: CompressedNet | KeyFrameClips
    if is_video_network(backbone) and modality == "iframe":
        network = KeyFrameClips(create(split_name(backbone)[0], num_classes=num_classes))
    else:
        network = CompressedNet(modality, backbone, num_classes)
    return ExitNetwork(network, stages, heads, backbone)
