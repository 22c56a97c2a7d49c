"""Image detectors in two parts, `low` and `high`, so that a video detector can run one of them.

torchvision's SSDlite, FCOS, RetinaNet and Faster R-CNN keep their own code: an adapter calls their
backbone in two parts and passes its maps to the rest of them. R-FCN (Dai et al., arXiv 1605.06409)
is a Faster R-CNN whose second stage is position-sensitive pooling of score maps at stride 16.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError
from foveate.core.lazy import import_extra
from foveate.core.spec import InputSpec
from foveate.models.registry import register

if TYPE_CHECKING:
    from types import ModuleType

Maps = dict[str, Tensor]
"""Feature maps (N, C, H, W) by name, the largest first."""

Found = dict[str, Tensor]
"""Of one image: `boxes` (n, 4) xyxy in pixels of the network's input, `scores` (n,) in 0..1,
`labels` (n,) int64, indices of classes without a background class."""

Target = dict[str, Tensor]
"""Of one image: `boxes` (n, 4) and `labels` (n,), as in `Found`."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def detection_library() -> ModuleType:
    """Import torchvision's detectors when one is first built: it takes seconds.

    Raises:
        MissingExtra: torchvision is not installed.
    """
    return import_extra("torchvision.models.detection", "zoo")


class Detector(nn.Module):
    """Base of detectors; the whole network is `detect(high(low(x)), sizes)`."""

    def low(self, x: Tensor) -> Maps:
        """The first, cheap part of the backbone.

        Args:
            x: (N, 3, H, W), prepared as the `InputSpec` of the architecture says.

        Returns:
            All that `high` needs; the last map is the deepest one.
        """
        raise NotImplementedError

    def high(self, low: Maps) -> Maps:
        """The feature maps that the head takes, from those of `low`."""
        raise NotImplementedError

    def detect(self, features: Maps, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Boxes of each image.

        Args:
            features: Of `high`.
            sizes: `(H, W)` of each image in the batch, without padding.
        """
        raise NotImplementedError

    def loss(
        self, features: Maps, targets: Sequence[Target], sizes: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """The terms of the training loss by name; the network must be in training mode.

        Args:
            features: Of `high`.
            targets: Boxes and labels of each image.
            sizes: As for `detect`.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> list[Found]:
        """Boxes of images (N, 3, H, W)."""
        return self.detect(self.high(self.low(x)), [(x.shape[2], x.shape[3])] * len(x))


class TorchvisionDetector(Detector):
    """A detector of torchvision.

    Its own `forward` runs with the transform and the backbone replaced by what they gave, so that
    matching, losses and post-processing of every family remain torchvision's code.

    Args:
        model: The detector.
        low_blocks: Blocks at stride 16 of a ResNet that belong to `low`; None for 4 of a
            ResNet-101 (as LSTS has it), else 1. Other backbones have a fixed part.
        background: Whether the model's class 0 is the background.
    """

    def __init__(
        self, model: nn.Module, low_blocks: int | None = None, background: bool = True
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.background = int(background)
        steps, self._cut = _steps(self.model.backbone, low_blocks)
        if not 0 < self._cut < len(steps):
            raise ModelError(f"low_blocks={low_blocks}: leaves nothing for one of the two parts")
        self._low_blocks = low_blocks

    def low(self, x: Tensor) -> Maps:
        """The first blocks; see `Detector`."""
        height, width = _padded(x.shape[-2:], self.model.transform.size_divisible)
        x = F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))
        return self._run({"x": x}, 0, self._cut)

    def high(self, low: Maps) -> Maps:
        """The other blocks, and the feature pyramid; see `Detector`."""
        backbone = self.model.backbone
        maps = self._run(low, self._cut, None)
        del maps["x"]
        if hasattr(backbone, "fpn"):
            maps = backbone.fpn(OrderedDict(maps))
        return dict(maps)

    def _run(self, maps: Maps, start: int, end: int | None) -> Maps:
        """Run some of the backbone's modules; `x` is the last map, the others are kept outputs."""
        kept = {name: value for name, value in maps.items() if name != "x"}
        x = maps["x"]
        for module, name in _steps(self.model.backbone, self._low_blocks)[0][start:end]:
            x = module(x)
            if name is not None:
                kept[name] = x
        return {**kept, "x": x}

    def detect(self, features: Maps, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Boxes of each image; see `Detector`."""
        found = self._rest(features, sizes, None)
        return [{**one, "labels": one["labels"] - self.background} for one in found]

    def loss(
        self, features: Maps, targets: Sequence[Target], sizes: Sequence[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """torchvision's loss; see `Detector`.

        Raises:
            ModelError: The network is in evaluation mode.
        """
        if not self.training:
            raise ModelError("a loss needs the network in training mode", "call train() first")
        own = [{**one, "labels": one["labels"] + self.background} for one in targets]
        losses: dict[str, Tensor] = self._rest(features, sizes, own)
        return losses

    def _rest(
        self, features: Maps, sizes: Sequence[tuple[int, int]], targets: list[Target] | None
    ) -> Any:
        """The model's own `forward` behind its backbone."""
        from torchvision.models.detection.image_list import ImageList

        # Pooling of regions is not implemented in half precision, and boxes need the bits.
        features = {name: maps.float() for name, maps in features.items()}
        some = next(iter(features.values()))
        largest = [max(side) for side in zip(*sizes, strict=True)]
        shape = _padded(largest, self.model.transform.size_divisible)
        # Only shape, type and device of the pixels are looked at from here on.
        pixels = some.new_empty(()).expand(len(sizes), 3, *shape)
        rest = copy.copy(self.model)
        rest._modules = {
            **self.model._modules,
            "transform": _Transformed(ImageList(pixels, list(sizes))),
            "backbone": _Given(OrderedDict(features)),
        }
        with torch.autocast(some.device.type, enabled=False):
            return rest([pixels[0, :, :height, :width] for height, width in sizes], targets)


class _Given(nn.Module):
    """Stands for a backbone that was run already."""

    def __init__(self, features: OrderedDict[str, Tensor]) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return self.features


class _Transformed(nn.Module):
    """Stands for torchvision's transform of images that are prepared already."""

    def __init__(self, images: Any) -> None:
        super().__init__()
        self.images = images

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[Any, Any]:
        return self.images, targets

    def postprocess(self, found: Any, shapes: Any, original: Any) -> Any:
        return found


def _padded(size: Sequence[int], divisible: int) -> tuple[int, int]:
    """Height and width rounded up to what the backbone wants, as torchvision does."""
    height, width = (-(-side // divisible) * divisible for side in size)
    return height, width


def _steps(backbone: Any, low_blocks: int | None) -> tuple[list[tuple[nn.Module, str | None]], int]:
    """The modules of a backbone in order, the name under which an output is kept, and the cut."""
    steps: list[tuple[nn.Module, str | None]] = []
    if not hasattr(backbone, "body"):  # SSDlite: the first output lies in the middle of a block
        first, second = backbone.features
        steps = [(module, None) for module in first]
        cut = len(steps)
        steps[-1] = first[-1], "0"
        steps.append((second, "1"))
        return steps + [(block, str(i)) for i, block in enumerate(backbone.extra, 2)], cut
    cut = 0
    for name, child in backbone.body.items():
        blocks = list(child) if name.startswith("layer") else [child]
        if name == "layer3":
            cut = len(steps) + (low_blocks or (4 if len(blocks) > 20 else 1))
        steps += [(block, None) for block in blocks]
        steps[-1] = blocks[-1], backbone.body.return_layers.get(name)
        if name == "7":  # MobileNetV3: the first block at stride 16
            cut = len(steps)
    return steps, cut


# --- families -----------------------------------------------------------------------------


def _resnet(backbone: str) -> Any:
    """A ResNet of torchvision without weights.

    Raises:
        ModelError: The detectors take no such backbone.
    """
    if backbone not in RESNETS:
        raise ModelError(f"no backbone {backbone!r} for this detector", f"one of: {RESNETS}")
    models: Any = import_extra("torchvision.models", "zoo")
    return getattr(models, backbone)(weights=None)


def _pyramid(backbone: str, levels: list[int] | None = None, extra: Any = None) -> Any:
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    return _resnet_fpn_extractor(_resnet(backbone), 5, levels, extra)


def _pyramid_to_p7(backbone: str) -> Any:
    """The pyramid of detectors of one stage: from stride 8 on, two levels above the network."""
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    return _pyramid(backbone, [2, 3, 4], LastLevelP6P7(256, 256))


@register(
    "ssdlite320-mobilenet-v3-large",
    classifier=False,
    tiny={"num_classes": 3},
    tiny_input=(2, 3, 1, 64, 64),
    input=InputSpec(320, 25.0, 1, (0.5,) * 3, (0.5,) * 3, resize="squash", crop="none"),
)
def ssdlite320_mobilenet_v3_large(num_classes: int = 90) -> Detector:
    """SSDlite on MobileNetV3-Large (arXiv 1905.02244); `low` ends with the first output."""
    build = detection_library().ssdlite320_mobilenet_v3_large
    return TorchvisionDetector(
        build(weights=None, weights_backbone=None, num_classes=num_classes + 1)
    )


@register(
    "fcos",
    classifier=False,
    tiny={"num_classes": 3, "backbone": "resnet18"},
    tiny_input=(2, 3, 1, 64, 64),
    input=InputSpec(800, 25.0, 1, MEAN, STD, crop="none"),
)
def fcos(
    num_classes: int = 91, backbone: str = "resnet50", low_blocks: int | None = None
) -> Detector:
    """FCOS (arXiv 1904.01355) on a ResNet with a feature pyramid, as torchvision has it."""
    model = detection_library().FCOS(_pyramid_to_p7(backbone), num_classes)
    return TorchvisionDetector(model, low_blocks, background=False)


@register(
    "retinanet",
    classifier=False,
    tiny={"num_classes": 3, "backbone": "resnet18"},
    tiny_input=(2, 3, 1, 64, 64),
    input=InputSpec(800, 25.0, 1, MEAN, STD, crop="none"),
)
def retinanet(
    num_classes: int = 91, backbone: str = "resnet50", low_blocks: int | None = None
) -> Detector:
    """RetinaNet (arXiv 1708.02002) on a ResNet with a feature pyramid, as torchvision has it."""
    model = detection_library().RetinaNet(_pyramid_to_p7(backbone), num_classes)
    return TorchvisionDetector(model, low_blocks, background=False)


@register(
    "faster-rcnn",
    classifier=False,
    tiny={"num_classes": 3, "backbone": "resnet18"},
    tiny_input=(2, 3, 1, 64, 64),
    input=InputSpec(800, 25.0, 1, MEAN, STD, crop="none"),
)
def faster_rcnn(
    num_classes: int = 90, backbone: str = "resnet50", low_blocks: int | None = None
) -> Detector:
    """Faster R-CNN (arXiv 1506.01497) with a feature pyramid, on a ResNet or `mobilenet_v3_large`.

    Both are as torchvision has them.
    """
    library = detection_library()
    if backbone == "mobilenet_v3_large":
        build = library.fasterrcnn_mobilenet_v3_large_fpn
        model = build(weights=None, weights_backbone=None, num_classes=num_classes + 1)
    else:
        model = library.FasterRCNN(_pyramid(backbone), num_classes + 1)
    return TorchvisionDetector(model, low_blocks)


@register(
    "rfcn",
    classifier=False,
    tiny={"num_classes": 3, "backbone": "resnet18", "channels": 64},
    tiny_input=(2, 3, 1, 64, 64),
    input=InputSpec(600, 25.0, 1, MEAN, STD, crop="none"),
)
def rfcn(
    num_classes: int = 30,
    backbone: str = "resnet101",
    low_blocks: int | None = None,
    channels: int = 1024,
    anchors: Sequence[int] = (128, 256, 512),
) -> Detector:
    """R-FCN as LSTS uses it: a ResNet at stride 16, whose features the two stages share evenly.

    Args:
        num_classes: Classes without the background.
        backbone: A ResNet; its last stage is dilated.
        low_blocks: Blocks of `layer3` in the cheap part.
        channels: Of the features; the first half feeds the proposals, the second half the boxes.
        anchors: Sides of the square anchors in pixels; the other shapes have the same area.
    """
    detection_library()
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.rpn import RegionProposalNetwork
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    net = _resnet(backbone)
    _dilate(net.layer4)
    body = IntermediateLayerGetter(net, {"layer4": "0"})
    trunk = _Trunk(body, nn.Conv2d(net.inplanes, channels, 3, padding=6, dilation=6))
    generator = AnchorGenerator((tuple(anchors),), ((0.5, 1.0, 2.0),))
    proposals = RegionProposalNetwork(
        generator,
        _Proposals(channels // 2, generator.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7, bg_iou_thresh=0.3, batch_size_per_image=256, positive_fraction=0.5,
        pre_nms_top_n={"training": 6000, "testing": 6000},
        post_nms_top_n={"training": 300, "testing": 300}, nms_thresh=0.7,
    )  # fmt: skip
    pool = _PositionSensitive(channels // 2, num_classes + 1)
    heads = RoIHeads(
        pool, nn.Identity(), _Split(num_classes + 1),
        fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=128, positive_fraction=0.25,
        bbox_reg_weights=None, score_thresh=0.05, nms_thresh=0.3, detections_per_img=300,
    )  # fmt: skip
    transform = GeneralizedRCNNTransform(600, 1000, list(MEAN), list(STD))
    model = GeneralizedRCNN(trunk, proposals, heads, transform)
    return TorchvisionDetector(model, low_blocks)


def _dilate(layer: nn.Module) -> None:
    """Let the last stage of a ResNet keep its resolution, with dilated convolutions."""
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            if module.kernel_size == (3, 3):
                # Before the first stride the pixels are still next to each other.
                first = module.stride == (2, 2)
                module.dilation = module.padding = (1, 1) if first else (2, 2)
            module.stride = (1, 1)


class _Trunk(nn.Module):
    """A ResNet at stride 16 and the convolution above it."""

    def __init__(self, body: nn.Module, above: nn.Module) -> None:
        super().__init__()
        self.body, self.above = body, above
        _small(above)

    def fpn(self, maps: Maps) -> Maps:
        return {"0": F.relu(self.above(maps["0"]))}

    def forward(self, x: Tensor) -> Maps:
        return self.fpn(self.body(x))


class _Proposals(nn.Module):
    """Objectness and boxes of the anchors, from the first half of the channels."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.channels = channels
        self.score = nn.Conv2d(channels, anchors, 1)
        self.box = nn.Conv2d(channels, 4 * anchors, 1)
        _small(self)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        half = [one[:, : self.channels] for one in maps]
        return [self.score(one) for one in half], [self.box(one) for one in half]


class _PositionSensitive(nn.Module):
    """Class scores and boxes of proposals: means over 7x7 parts, each from maps of its own.

    The boxes are the same for all classes. Only those of the foreground are computed: the published
    network has another four channels for the background, which nothing is learned from.
    """

    SIDE = 7

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.channels = channels
        self.scores = nn.Conv2d(channels, classes * self.SIDE**2, 1)
        self.boxes = nn.Conv2d(channels, 4 * self.SIDE**2, 1)
        _small(self)

    def forward(
        self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        from torchvision.ops import ps_roi_pool

        half = maps["0"][:, -self.channels :]
        # Pooling rounds the corners of a proposal to cells, and torchvision's leaves out the last
        # row and column. A proposal that begins there or beyond would pool nothing, and nothing
        # has the same score for every class: one more row and column, and no corner beyond them.
        last = half.new_tensor([half.shape[3] - 1, half.shape[2] - 1] * 2) * 16
        last[2:] = torch.inf
        inside = [torch.minimum(boxes, last) for boxes in proposals]
        pooled = [
            ps_roi_pool(F.pad(layer(half), (0, 1, 0, 1)), inside, self.SIDE, 1 / 16).mean((2, 3))
            for layer in (self.scores, self.boxes)
        ]
        return torch.cat(pooled, 1)


class _Split(nn.Module):
    """Scores (n, classes) and, once for each class, boxes (n, 4 classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        scores, boxes = pooled.split((self.classes, 4), 1)
        return scores, boxes.repeat(1, self.classes)


def _small(module: nn.Module) -> None:
    for one in module.modules():
        if isinstance(one, nn.Conv2d):
            nn.init.normal_(one.weight, std=0.01)
            assert one.bias is not None
            nn.init.zeros_(one.bias)


DETECTORS: dict[str, Callable[..., Detector]] = {
    "ssdlite320-mobilenet-v3-large": ssdlite320_mobilenet_v3_large,
    "fcos": fcos,
    "retinanet": retinanet,
    "faster-rcnn": faster_rcnn,
    "rfcn": rfcn,
}
