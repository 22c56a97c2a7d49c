"""Transforms of clips: pre-processing and augmentation as primitives.

`Augment` applies a list of them in training; `registered("transforms")` has all of them by kind.
"""

from __future__ import annotations

from foveate.primitives.augment.base import Augmentation, Transform, describe
from foveate.primitives.augment.compose import Augment, compose, input_of, mirrors
from foveate.primitives.augment.filters import (
    BilateralBlur,
    BoxBlur,
    Canny,
    DefocusBlur,
    DirectedEdges,
    Filter,
    Fog,
    GaussianBlur,
    GlassBlur,
    MedianBlur,
    MotionBlur,
    Pooling,
    Rain,
    Sharpness,
    Snow,
    Spatter,
    ZoomBlur,
)
from foveate.primitives.augment.geometry import (
    Affine,
    CentreCrop,
    CropAndPad,
    CropToAspect,
    Elastic,
    Flip,
    GridDistortion,
    Jigsaw,
    Pad,
    PadToAspect,
    Perspective,
    QuarterTurns,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeShorter,
    Stretch,
    VerticalFlip,
)
from foveate.primitives.augment.meta import (
    Blend,
    Identity,
    OneOf,
    Sequential,
    SomeOf,
    Sometimes,
    WithChannels,
)
from foveate.primitives.augment.pixels import (
    CLAHE,
    Add,
    Autocontrast,
    Brightness,
    ChannelDropout,
    ChannelShuffle,
    ColourJitter,
    ColourTemperature,
    Contrast,
    Cutout,
    Equalize,
    Gamma,
    Grey,
    Hue,
    Jpeg,
    LogContrast,
    Noise,
    Posterize,
    RandAugment,
    Replace,
    Saturation,
    SigmoidContrast,
    Solarize,
    TrivialAugment,
)

__all__ = [
    "CLAHE", "Add", "Affine", "Augment", "Augmentation", "Autocontrast", "BilateralBlur", "Blend",
    "BoxBlur", "Brightness", "Canny", "CentreCrop", "ChannelDropout", "ChannelShuffle",
    "ColourJitter", "ColourTemperature", "Contrast", "CropAndPad", "CropToAspect", "Cutout",
    "DefocusBlur", "DirectedEdges", "Elastic", "Equalize", "Filter", "Flip", "Fog", "Gamma",
    "GaussianBlur", "GlassBlur", "Grey", "GridDistortion", "Hue", "Identity", "Jigsaw", "Jpeg",
    "LogContrast", "MedianBlur", "MotionBlur", "Noise", "OneOf", "Pad", "PadToAspect",
    "Perspective", "Pooling", "Posterize", "QuarterTurns", "Rain", "RandAugment", "RandomCrop",
    "RandomResizedCrop", "Replace", "Resize", "ResizeShorter", "Saturation", "Sequential",
    "Sharpness", "SigmoidContrast", "Snow", "Solarize", "SomeOf", "Sometimes", "Spatter",
    "Stretch", "Transform", "TrivialAugment", "VerticalFlip", "WithChannels", "ZoomBlur",
    "compose", "describe", "input_of", "mirrors",
]  # fmt: skip
