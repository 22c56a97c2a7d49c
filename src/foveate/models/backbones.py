"""2D backbones: from frames to pooled features.

Any classification network of timm can be used by its timm name; a tag after a dot selects timm's
pretrained weights. Names of ``backbones_weights.py`` are weights from other sources and take
precedence.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from foveate.core.errors import ModelError, WeightsError
from foveate.core.lazy import import_extra
from foveate.core.text import did_you_mean
from foveate.models.backbones_weights import BACKBONES, load_backbone
from foveate.models.patch_tokens import accept_any_size
from foveate.models.spec import InputSpec

Triple = tuple[float, float, float]


def build(name: str, pretrained: bool = False, **settings: Any) -> nn.Module:
    """Build a backbone without classifier: images (N, 3, H, W) to features (N, C).

    Args:
        name: ``resnet50``, ``resnet50.a1_in1k``, or a name of ``backbones_weights.py``.
        pretrained: Load its pretrained weights.
        **settings: For timm, such as ``img_size``.

    Raises:
        ModelError: There is no such backbone.
        MissingExtra: timm is not installed.
        WeightsError: Its weights are not available.
    """
    known = BACKBONES.get(name)
    if known is not None:
        network = load_backbone(known) if pretrained else known.build()
        return _with_channels(network, int(settings.get("in_chans", 3)))
    timm = import_extra("timm", "zoo")
    if not timm.is_model(name.partition(".")[0]):
        hint = did_you_mean(name, [*timm.list_models(), *BACKBONES])
        raise ModelError(f"there is no backbone {name!r}", hint)
    try:
        built: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **settings)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        cause = " ".join(str(error).split())[:200]
        if pretrained:
            hint = "check the tag and the network, or build it without pretrained weights"
            raise WeightsError(f"no weights for {name!r} ({cause})", hint) from error
        raise ModelError(f"the backbone {name!r} cannot be built ({cause})") from error
    accept_any_size(built)
    return built


def _with_channels(backbone: nn.Module, channels: int) -> nn.Module:
    """Adapt the first convolution of an RGB backbone to another number of channels.

    Each new kernel is the scaled mean over the old ones: the
    cross-modality initialisation of Wang et al., "Temporal Segment Networks", ECCV 2016, section
    3.2. timm does the same for its own weights.
    """
    if channels == 3:
        return backbone
    first = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise ModelError(f"{type(backbone).__name__} has no convolution to adapt")
    mean = first.weight.detach().mean(1, keepdim=True) * (first.in_channels / channels)
    first.weight = nn.Parameter(mean.repeat(1, channels, 1, 1))
    first.in_channels = channels
    return backbone


def width_of(backbone: nn.Module) -> int:
    """Number of features of a backbone; some networks have more than their last stage."""
    wide: Any = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return int(wide)


def asks_for_weights(model: str) -> bool:
    """Whether the backbone in a model's name has a tag, which selects pretrained weights."""
    return "." in model.partition(":")[2]


def normalisation(name: str) -> tuple[Triple, Triple, int]:
    """Mean, standard deviation and image size that a backbone's weights were trained with.

    Raises:
        ModelError: There is no such backbone.
        MissingExtra: timm is not installed.
    """
    if name in BACKBONES:
        known = BACKBONES[name]
        return known.mean, known.std, known.size
    timm = import_extra("timm", "zoo")
    try:
        config = timm.get_pretrained_cfg(name)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"timm has no weights {name!r}") from error
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224
    return tuple(config.mean), tuple(config.std), int(config.input_size[1])


def input_of(name: str, frames: int = 8, rate: float = 4.0) -> InputSpec:
    """The input of a segment network (TSN, TSM) over a backbone.

    Args:
        name: Name of the backbone.
        frames: Number of segments of a clip.
        rate: Frames per second at which they are sampled.
    """
    mean, std, size = normalisation(name)
    return InputSpec(size, rate, frames, mean=mean, std=std)
