"""The last maps with places that a network computes, whatever its layers are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveate.core.errors import ConfigError

_LEAST = 2  # places in each direction of what still counts as a map


@torch.inference_mode()
def last_maps(module: nn.Module, x_bcthw: Tensor) -> Tensor:
    """Run a network up to its features and return its last maps.

    Any network of clips will do, a user's own too, so its layers are watched while it runs instead
    of being asked for by name.

    Args:
        module: In evaluation mode.
        x_bcthw: One clip (1, 3, T, H, W).

    Returns:
        (T, C, h, w), one row per frame; networks that shrink time repeat theirs.

    Raises:
        ConfigError: None of its layers gives maps (transformers give tokens).
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
            f"activation-patch: {type(module).__name__} gives no maps of places",
            "use motion-patch, which asks no network",
        )
    maps = last[0].float()
    rows = torch.arange(frames) * len(maps) // frames
    return maps[rows.to(maps.device)]


def glance_method(module: nn.Module) -> str:
    """The method that computes the maps: `features` where there is one, so that no head runs."""
    return "features" if callable(getattr(module, "features", None)) else "forward"


def _maps_of(output: Any, frames: int) -> Tensor | None:
    """(T', C, h, w) of a layer's output for one clip, None where it has no places."""
    if not isinstance(output, Tensor) or output.ndim not in (4, 5):
        return None
    if output.ndim == 4:  # frames are the batch
        maps = output if output.shape[1] >= output.shape[-1] else output.permute(0, 3, 1, 2)
        fits = len(maps) == frames
    else:
        last = output.shape[-1] > output.shape[1]  # channels, of which there are most
        maps = (output.movedim(-1, 2) if last else output.transpose(1, 2))[0]
        fits = len(output) == 1 and 1 <= len(maps) <= frames
    return maps if fits and min(maps.shape[-2:]) >= _LEAST else None
