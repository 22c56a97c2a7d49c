"""A glance: the maps of places that a network makes of small frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from foveate.core import ConfigError
from foveate.models import macs_of
from foveate.models.spec import InputSpec
from foveate.pipeline import views

_LEAST = 2  # places in each direction of what still counts as a map


class Glance:
    """The last maps with places that a module computes, whatever its layers are called.

    Args:
        module: A network of clips (B, 3, T, H, W), in evaluation mode.
        spec: Value range of its frames.
        device: Where it runs.
        side: Of the square frames that it will be shown.

    Raises:
        ConfigError: None of its layers gives maps (transformers give tokens).
    """

    def __init__(self, module: Any, spec: InputSpec, device: Any, side: int) -> None:
        self._module, self._spec, self._device = module, spec, torch.device(device)
        self._call = "features" if hasattr(module, "features") else "forward"
        trial = np.zeros((max(1, spec.clip_frames), side, side, 3), np.uint8)
        if self._last_maps(trial) is None:
            raise ConfigError(
                f"activation-patch: {type(module).__name__} gives no maps of places",
                "use motion-patch, which asks no network",
            )

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Maps (T, C, h, w) of frames (T, H, W, 3)."""
        maps = self._last_maps(pixels)
        if maps is None:
            raise ConfigError(f"activation-patch: no maps of {len(pixels)} frames")
        return np.asarray(maps.cpu().numpy(), np.float32)

    def macs(self, frames: int, side: int) -> int:
        """Multiply-adds of a glance at that many frames."""
        return macs_of(self._module, (1, 3, frames, side, side), self._call)

    @torch.inference_mode()
    def _last_maps(self, pixels: npt.NDArray[np.uint8]) -> Tensor | None:
        """Maps with one row per frame; networks that shrink time repeat theirs."""
        last: list[Tensor] = []

        def keep(module: Any, inputs: Any, output: Any) -> None:
            maps = _maps_of(output, len(pixels))
            if maps is not None:
                last[:] = [maps]

        hooks = [layer.register_forward_hook(keep) for layer in self._module.modules()]
        try:
            getattr(self._module, self._call)(views.to_views(pixels, self._spec, self._device))
        finally:
            for hook in hooks:
                hook.remove()
        if not last:
            return None
        maps = last[0].float()
        rows = torch.arange(len(pixels)) * len(maps) // len(pixels)
        return maps[rows.to(maps.device)]


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
