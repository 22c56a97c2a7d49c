"""The last feature maps of a network, found without knowing its layers by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveate.core.errors import ConfigError

_LEAST = 2  # smallest height and width of a feature map


@torch.inference_mode()
def last_maps(module: nn.Module, x_bcthw: Tensor) -> Tensor:
    """Run a network up to its features and return its last feature maps.

    It works for any network on clips, also a custom one: forward hooks observe all layers.

    Args:
        module: The network, in evaluation mode.
        x_bcthw: One clip (1, 3, T, H, W).

    Returns:
        (T, C, h, w), one row per frame; maps are repeated for networks with temporal strides.

    Raises:
        ConfigError: None of its layers returns feature maps (transformers return tokens).
    """
    frames = x_bcthw.shape[2]
    last: list[Tensor] = []

    def keep(layer: Any, inputs: Any, output: Any) -> None:
        maps = _maps_of(output, frames)
        if maps is not None:
            last[:] = [maps]

    hooks = [layer.register_forward_hook(keep) for layer in module.modules()]
    try:
        getattr(module, glance_method(module))(x_bcthw)
    finally:
        for hook in hooks:
            hook.remove()
    if not last:
        raise ConfigError(
            f"activation-patch: {type(module).__name__} has no feature maps",
            "use motion-patch, which needs no network",
        )
    maps = last[0].float()
    rows = torch.arange(frames) * len(maps) // frames
    return maps[rows.to(maps.device)]


def glance_method(module: nn.Module) -> str:
    """The method that computes the maps: `features` if it exists, so that no head runs."""
    return "features" if callable(getattr(module, "features", None)) else "forward"


def _maps_of(output: Any, frames: int) -> Tensor | None:
    """A layer's output for one clip as (T', C, h, w), None if it is not a feature map."""
    if not isinstance(output, Tensor) or output.ndim not in (4, 5):
        return None
    if output.ndim == 4:  # frames in the batch dimension
        maps = output if output.shape[1] >= output.shape[-1] else output.permute(0, 3, 1, 2)
        fits = len(maps) == frames
    else:
        last = output.shape[-1] > output.shape[1]  # channels last
        maps = (output.movedim(-1, 2) if last else output.transpose(1, 2))[0]
        fits = len(output) == 1 and 1 <= len(maps) <= frames
    return maps if fits and min(maps.shape[-2:]) >= _LEAST else None
