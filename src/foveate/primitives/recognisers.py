"""Recognisers: every architecture of the zoo, and every method of several networks.

A recogniser says which network is trained, and by which recipes it can be. Fields are the arguments
of the architecture's builder or of the method's recipe; those that are None are left to it.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from foveate.primitives.base import Primitive, Search
from foveate.primitives.modalities import RGB, AnyModality, Patch, Sound

_Dropout = Annotated[float, Field(ge=0, lt=1), Search.float(0, 0.8)]
_Width = Annotated[int, Field(ge=4, le=512)]
_Backbone = Annotated[str, Field(min_length=1)]
_Weights = Annotated[
    str | None,
    Field(description="tag of published weights, or a run folder to start from; None: random"),
]
_BackboneSettings = Annotated[
    dict[str, JsonValue] | None,
    Field(description="arguments of timm's class, such as depth and embed_dim"),
]
LITE0 = "efficientnet_lite0"


class Recogniser(Primitive):
    """Base of all recognisers.

    Attributes:
        group: As for every primitive.
        recipes: The recipes that train it, its own first.
        classes: Whether clips are classified; a detector finds objects in frames.
        takes: The parts of a pipeline that act on it, of sampler, look and transforms.
    """

    group: ClassVar[str] = "recognisers"
    recipes: ClassVar[tuple[str, ...]] = ("supervised", "distill", "ensemble")
    classes: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset()

    def training_settings(self) -> dict[str, Any]:
        """The recipe's settings that say which networks are trained; without those left to it."""
        values = self.model_dump(mode="json", exclude={"kind"})
        return {key: value for key, value in values.items() if value is not None}


class Network(Recogniser):
    """Base of recognisers of one network that maps clips to classes.

    Attributes:
        default_input: Side in pixels, frames and frames per second with random weights, where the
            pipeline does not say them; None if the registry knows the architecture's.
        naming: Fields that are a part of the architecture's name.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"sampler", "look", "transforms"})
    default_input: ClassVar[tuple[int, int, float] | None] = (224, 16, 8.0)
    naming: ClassVar[frozenset[str]] = frozenset()

    weights: _Weights = None

    def architecture(self) -> str:
        """Its name in the registry, with a backbone if it takes one."""
        return self.kind

    def model(self) -> str:
        """What training starts from: weights, a run folder, or the architecture."""
        name = self.architecture()
        if self.weights is None:
            return name
        if os.path.lexists(self.weights) or os.path.basename(self.weights) != self.weights:
            return self.weights  # a run folder
        arch, colon, backbone = name.partition(":")
        return f"{arch}.{self.weights}{colon}{backbone}"

    def arguments(self) -> dict[str, Any]:
        """Arguments of the architecture's builder; those that are None are left out."""
        values = self.model_dump(mode="json", exclude={"kind", "weights", *self.naming})
        return {key: value for key, value in values.items() if value is not None}

    def training_settings(self) -> dict[str, Any]:
        """Model and builder arguments of the recipe, and the input if nothing else says it."""
        values: dict[str, Any] = {"model": self.model(), "settings": self.arguments()}
        if self.default_input is not None and not self.pretrained():
            values |= dict(zip(("size", "frames", "rate"), self.default_input, strict=True))
        return values

    def pretrained(self) -> bool:
        """Whether it starts from weights."""
        return self.weights is not None


class _OverBackbone(Network):
    """Base of networks over an image backbone."""

    naming: ClassVar[frozenset[str]] = frozenset({"backbone"})
    default_input: ClassVar[tuple[int, int, float] | None] = (224, 8, 4.0)

    backbone: _Backbone = Field(
        LITE0, description="timm's name; with a tag (resnet50.a1_in1k) its image weights"
    )
    dropout: _Dropout = 0.5

    def architecture(self) -> str:
        return f"{self.kind}:{self.backbone}"

    def pretrained(self) -> bool:
        return self.weights is not None or "." in self.backbone


class TSN(_OverBackbone):
    """An image network on sparse frames, with the mean over their logits (ECCV 2016)."""

    kind: Literal["tsn"] = "tsn"
    backbone_settings: _BackboneSettings = None


class TSM(_OverBackbone):
    """An image network whose blocks shift channels to neighbouring frames (ICCV 2019)."""

    kind: Literal["tsm"] = "tsm"
    online: Annotated[bool, Search.choice(False, True)] = Field(
        False, description="shift only from the frame before, for streams"
    )
    naming: ClassVar[frozenset[str]] = frozenset({"backbone", "online"})

    def architecture(self) -> str:
        return f"{'tsm-online' if self.online else 'tsm'}:{self.backbone}"


class Inflated(_OverBackbone):
    """An image network with temporal convolutions between its layers, (2+1)D."""

    kind: Literal["inflated"] = "inflated"


class Tubelet(_OverBackbone):
    """A vision transformer over tubelets, with attention over space and time (ICCV 2021)."""

    kind: Literal["tubelet"] = "tubelet"
    backbone: _Backbone = Field(
        "vit_small_patch16_224", description="timm's name; with a tag its image weights"
    )
    dropout: _Dropout = 0.0
    tubelet: Annotated[int, Field(ge=1, le=16), Search.choice(1, 2, 4)] = Field(
        2, description="frames of a tubelet"
    )
    backbone_settings: _BackboneSettings = None


class I3D(Network):
    """Inflated Inception-v1 (CVPR 2017)."""

    kind: Literal["i3d"] = "i3d"
    dropout: _Dropout = 0.5
    divide: Annotated[int, Field(ge=1, le=16), Search.choice(1, 2, 4)] = Field(
        1, description="divisor of all numbers of channels"
    )


class C3D(Network):
    """Eight 3x3x3 convolutions on 16 frames of 112 pixels (ICCV 2015)."""

    default_input: ClassVar[tuple[int, int, float] | None] = (112, 16, 8.0)

    kind: Literal["c3d"] = "c3d"
    dropout: _Dropout = 0.5
    width: Annotated[_Width, Search.choice(16, 32, 64)] = Field(
        64, description="of the first layer"
    )
    hidden: Annotated[int, Field(ge=8, le=8192), Search.choice(512, 1024, 4096)] = Field(
        4096, description="units of each fully connected layer"
    )
    size: Annotated[int, Field(ge=32, le=512)] = Field(112, description="of its input, fixed")
    frames: Annotated[int, Field(ge=8, le=64)] = Field(16, description="of a piece, fixed")

    def training_settings(self) -> dict[str, Any]:
        return {**super().training_settings(), "size": self.size}


class ECO(Network):
    """An image network's maps of sparse frames, stacked for a 3D network (ECCV 2018)."""

    kind: Literal["eco"] = "eco"
    variant: Annotated[Literal["lite", "full"], Search.choice("lite", "full")] = "lite"
    dropout: _Dropout = 0.5
    divide: Annotated[int, Field(ge=1, le=16), Search.choice(1, 2, 4)] = Field(
        1, description="divisor of all numbers of channels"
    )
    naming: ClassVar[frozenset[str]] = frozenset({"variant"})

    def architecture(self) -> str:
        return f"eco-{self.variant}"


_DEPTHS = Literal[10, 18, 34, 50, 101, 152, 200]


class R3D(Network):
    """A 3D ResNet (Hara et al., CVPR 2018)."""

    default_input: ClassVar[tuple[int, int, float] | None] = (112, 16, 8.0)

    kind: Literal["r3d"] = "r3d"
    depth: Annotated[_DEPTHS, Search.choice(10, 18, 34, 50)] = 50
    dropout: _Dropout = 0.0
    width: Annotated[_Width, Search.choice(16, 32, 64)] = Field(64, description="of the stem")


class R2Plus1D(R3D):
    """A 3D ResNet with kernels separated into space and time (CVPR 2018)."""

    kind: Literal["r2plus1d"] = "r2plus1d"  # type: ignore[assignment]
    depth: Annotated[_DEPTHS, Search.choice(10, 18, 34, 50)] = 34


class ResNet3DRS(Network):
    """A 3D ResNet with the scaling and the training of ResNet-RS (arXiv 2109.01696)."""

    default_input: ClassVar[tuple[int, int, float] | None] = (224, 32, 12.5)

    kind: Literal["resnet3d-rs"] = "resnet3d-rs"
    depth: Annotated[Literal[50, 101, 152, 200, 270, 300, 350], Search.choice(50, 101)] = 50
    dropout: _Dropout = 0.5
    stochastic_depth: Annotated[float, Field(ge=0, lt=1), Search.float(0, 0.4)] = 0.1
    width: Annotated[_Width, Search.choice(16, 32, 64)] = Field(64, description="of the stem")
    blocks_per_group: Annotated[int, Field(ge=0, le=48)] = Field(
        0, description="instead of those of the depth; 0: those"
    )
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    naming: ClassVar[frozenset[str]] = frozenset({"depth"})

    def architecture(self) -> str:
        return f"resnet3d-rs-{self.depth}"


class MoViNet(Network):
    """A mobile video network of whole clips, or causal for streams (CVPR 2021)."""

    default_input: ClassVar[tuple[int, int, float] | None] = None

    kind: Literal["movinet"] = "movinet"
    table: Annotated[
        Literal["t0", "a0", "a1", "a2", "a3", "a4", "a5"], Search.choice("a0", "a1", "a2")
    ] = Field("a0", description="which table of blocks of the paper")
    form: Annotated[
        Literal["stream-lite", "stream", "base"], Search.choice("stream-lite", "stream", "base")
    ] = Field(
        "stream-lite", description="lite: no squeeze-excitation, ReLU6; of a0, a1 and a2 only"
    )
    dropout: Annotated[float | None, Field(ge=0, lt=1), Search.float(0, 0.8)] = Field(
        None, description="None: as published"
    )
    naming: ClassVar[frozenset[str]] = frozenset({"table", "form"})

    @model_validator(mode="after")
    def _released(self) -> MoViNet:
        if self.form == "stream-lite" and self.table not in ("a0", "a1", "a2"):
            raise ValueError(f"{self.table} has no form stream-lite; stream or base")
        return self

    def architecture(self) -> str:
        return f"movinet-{self.table}" + ("" if self.form == "base" else f"-{self.form}")


class TorchvisionVideo(Network):
    """A video network of torchvision, with its Kinetics-400 weights (`weights: k400`)."""

    kind: Literal["torchvision"] = "torchvision"
    name: Annotated[
        Literal[
            "r3d-18", "mc3-18", "r2plus1d-18", "s3d", "mvit-v2-s", "swin3d-t", "swin3d-s",
            "swin3d-b",
        ],
        Search.choice("r3d-18", "mc3-18", "r2plus1d-18", "s3d"),
    ] = "r3d-18"  # fmt: skip
    dropout: Annotated[float | None, Field(ge=0, lt=1), Search.float(0, 0.8)] = Field(
        None, description="None: as published"
    )
    naming: ClassVar[frozenset[str]] = frozenset({"name"})
    default_input: ClassVar[tuple[int, int, float] | None] = None

    def architecture(self) -> str:
        return self.name


class Model(Network):
    """Any model by its name: an architecture, weights (`ARCH.TAG`), or a run folder."""

    default_input: ClassVar[tuple[int, int, float] | None] = None

    kind: Literal["model"] = "model"
    name: str = Field(min_length=1)
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="arguments of the architecture's builder"
    )

    def model(self) -> str:
        return self.name if self.weights is None else self.weights

    def arguments(self) -> dict[str, Any]:
        return dict(self.settings)


class AdaFocus(Recogniser):
    """A glance at whole frames, and a focus network on patches that a policy chooses.

    Fields are settings of the recipe `adafocus`, which see.
    """

    recipes: ClassVar[tuple[str, ...]] = ("adafocus",)
    takes: ClassVar[frozenset[str]] = frozenset({"sampler"})

    kind: Literal["adafocus"] = "adafocus"
    variant: Annotated[Literal["v1", "v2", "uni"], Search.choice("v1", "v2", "uni")] = Field(
        "v2", description="v1: three stages with PPO; v2: end to end; uni: frames and windows"
    )
    glance: str | None = Field(None, description="backbone, or run folder of a tsn")
    focus: str | None = Field(None, description="likewise")
    size: Annotated[int | None, Field(ge=32, le=1024)] = Field(
        None, description="side of the frames in pixels"
    )
    glance_size: Annotated[int | None, Field(ge=32, le=1024), Search.int(64, 128, step=32)] = None
    patch: Annotated[int | None, Field(ge=16, le=1024), Search.int(64, 128, step=32)] = Field(
        None, description="side of what the focus network is shown"
    )
    hidden: Annotated[int | None, Field(ge=8, le=8192)] = None
    dropout: Annotated[float | None, Field(ge=0, lt=1), Search.float(0, 0.8)] = None


class AdaMML(Recogniser):
    """A policy that chooses the modalities of each segment.

    Fields are settings of the recipe `adamml`, which see.
    """

    recipes: ClassVar[tuple[str, ...]] = ("adamml",)

    kind: Literal["adamml"] = "adamml"
    modalities: tuple[AnyModality, ...] = Field((RGB(), Sound()), min_length=1)
    visual: str | None = Field(None, description="backbone or video network on frames")
    motion: str | None = Field(None, description="backbone on rgbdiff, flow and mv")
    exit: str | None = Field(None, description="stage of visual with an early answer")
    policy: str | None = Field(None, description="backbone of the policy on frames")
    proxy: Annotated[Literal["rgbdiff", "mv", "flow"] | None, Search.choice("rgbdiff", "mv")] = (
        Field(None, description="what the policy sees in place of flow")
    )
    size: Annotated[int | None, Field(ge=32, le=1024), Search.int(64, 160, step=32)] = None
    policy_size: Annotated[int | None, Field(ge=32, le=1024)] = None
    frames: Annotated[int | None, Field(ge=1, le=64), Search.int(2, 8)] = Field(
        None, description="of a segment"
    )
    seconds: Annotated[float | None, Field(gt=0, le=60)] = Field(None, description="of a segment")
    segments: Annotated[int | None, Field(ge=1, le=64)] = Field(
        None, description="of a clip in a step of training"
    )
    window: Annotated[int | None, Field(ge=1, le=256)] = None
    kept: Annotated[int | None, Field(ge=1, le=256)] = None

    def training_settings(self) -> dict[str, Any]:
        """The recipe's settings; there is one network on sound, and one size of patches."""
        values = super().training_settings()
        for one in self.modalities:
            if isinstance(one, Sound):
                values |= {"audio": one.backbone, "columns": one.columns}
            elif isinstance(one, Patch):
                values["patch_size"] = one.size
        return {**values, "modalities": [one.kind for one in self.modalities]}


class Compressed(Recogniser):
    """Networks on key frames, motion vectors and residuals of the file, with exits (a cascade).

    Fields are settings of the recipe `compressed`, which see.
    """

    recipes: ClassVar[tuple[str, ...]] = ("compressed",)

    kind: Literal["compressed"] = "compressed"
    iframe: str | None = Field(None, description="backbone on key frames, or a video network")
    mv: str | None = Field(None, description="backbone on motion vectors")
    residual: str | None = Field(None, description="backbone on residuals")
    size: Annotated[int | None, Field(ge=32, le=1024), Search.int(64, 160, step=32)] = None
    segments: Annotated[int | None, Field(ge=1, le=64), Search.int(1, 5)] = Field(
        None, description="groups of pictures classified in a clip"
    )
    exits: Annotated[int | None, Field(ge=1, le=16), Search.int(1, 4)] = Field(
        None, description="classifiers inside each network"
    )
    dropout: Annotated[float | None, Field(ge=0, lt=1), Search.float(0, 0.8)] = None


class Detector(Recogniser):
    """A detector of objects, run on key frames; trained on boxes.

    Fields are settings of the recipe `detector`, which see.
    """

    recipes: ClassVar[tuple[str, ...]] = ("detector",)
    classes: ClassVar[bool] = False

    kind: Literal["detector"] = "detector"
    detector: str = Field(
        "ssdlite320-mobilenet-v3-large", description="architecture, such as rfcn:resnet18"
    )
    detector_settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="arguments of the architecture's builder"
    )
    size: Annotated[int | None, Field(ge=8, le=4096)] = None


class LSTS(Detector):
    """A detector with a cheaper part for the frames between key frames (LSTS).

    Fields are settings of the recipe `lsts`, which see.
    """

    recipes: ClassVar[tuple[str, ...]] = ("lsts",)

    kind: Literal["lsts"] = "lsts"  # type: ignore[assignment]
    interval: Annotated[int | None, Field(ge=2), Search.int(4, 16, step=2)] = Field(
        None, description="frames from key frame to key frame"
    )
    neck: dict[str, JsonValue] = Field(
        default_factory=dict, description="arguments of lsts: embedding, init, count, update, ..."
    )
