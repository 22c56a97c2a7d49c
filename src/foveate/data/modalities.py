"""What a network can be shown of a clip, by name: pictures, differences, flow, sound.

A modality is built from the frames after the transform, so a crop or a flip holds for all of them:
the flow of a flipped clip points the other way by itself. One that needs other data (sound, motion
vectors) takes it from the source. A further one is added with `register`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core import ConfigError, Sample
from foveate.core.config import nearest
from foveate.data import sound
from foveate.media.flow import SHORTER, dense_flow

STACK = 5  # consecutive differences or flow fields per time (AdaMML's public code)
BOUND = 20.0  # pixels per frame at which flow is clipped (Wang et al., TSN, ECCV 2016)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Shown:
    """What a modality is built from.

    Attributes:
        frames: (T, 1 + following, 3, S, S) uint8: at each time a frame and those after it.
        times: (T,) seconds.
        start: Seconds at which the clip starts.
        end: Seconds at which it ends.
        sample: The source.
    """

    frames: Tensor
    times: tuple[float, ...]
    start: float
    end: float
    sample: Sample


@dataclass(frozen=True)
class Modality:
    """One way to show a clip.

    Attributes:
        name: What it is called.
        channels: Channels that it gives.
        following: Frames that it needs after each time.
        build: Makes it: (channels, T, S, S), or (channels, F, columns) for sound.
        mean: Normalisation of its uint8 values after scaling to 0..1; None if the weights say it.
        std: The same.
    """

    name: str
    channels: int
    following: int
    build: Callable[[Shown], Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


_KNOWN: dict[str, Modality] = {}


def register(modality: Modality) -> Modality:
    """Make a modality known by its name.

    Raises:
        ConfigError: The name is taken.
    """
    if modality.name in _KNOWN:
        raise ConfigError(f"the modality {modality.name!r} exists already")
    _KNOWN[modality.name] = modality
    return modality


def known() -> tuple[str, ...]:
    """Names of the modalities."""
    return tuple(_KNOWN)


def find(name: str) -> Modality:
    """The modality of that name.

    Raises:
        ConfigError: There is none; the nearest name is told.
    """
    if name not in _KNOWN:
        guess = nearest(name, _KNOWN)
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(_KNOWN)}"
        raise ConfigError(f"no modality {name!r}", hint)
    return _KNOWN[name]


def difference(frames: Tensor) -> Tensor:
    """Differences of neighbouring frames, 127 where nothing changes.

    Args:
        frames: (N, ...) uint8.

    Returns:
        (N - 1, ...) uint8: (next - this + 255) * 255 / 510, truncated.
    """
    wide = frames.to(torch.int16)
    return (wide[1:] - wide[:-1] + 255).div(2, rounding_mode="floor").to(torch.uint8)


def as_grey(flow: Tensor, bound: float = BOUND) -> Tensor:
    """Displacements as 8-bit values: -bound to 0, bound to 255, no motion to 128.

    Args:
        flow: Any shape, in pixels per frame.
        bound: Pixels per frame beyond which values are clipped.
    """
    scaled = (flow.clamp(-bound, bound) + bound) * (255.0 / (2.0 * bound))
    return scaled.round().to(torch.uint8)


def _rgb(shown: Shown) -> Tensor:
    return shown.frames[:, 0].transpose(0, 1).contiguous()


def _rgb_difference(shown: Shown) -> Tensor:
    stacks = [difference(stack[: STACK + 1]).flatten(0, 1) for stack in shown.frames]
    return torch.stack(stacks, dim=1)


def _flow(shown: Shown) -> Tensor:
    return torch.stack([_flow_of(stack[: STACK + 1]) for stack in shown.frames], dim=1)


def _flow_of(frames: Tensor) -> Tensor:
    """(N, 3, S, S) frames as (2 (N - 1), S, S) uint8: x and y in turn."""
    fields = dense_flow(np.asarray(frames.permute(0, 2, 3, 1)), SHORTER)
    smooth = torch.from_numpy(fields).permute(0, 3, 1, 2)
    size = [int(side) for side in frames.shape[-2:]]
    return as_grey(F.interpolate(smooth, size, mode="bilinear", align_corners=False)).flatten(0, 1)


def _sound(shown: Shown) -> Tensor:
    middle = (shown.times[0] + shown.times[-1]) / 2
    wave = sound.around(shown.sample, middle, start=shown.start, end=shown.end)
    return sound.log_spectrogram(wave)


register(Modality("rgb", 3, 0, _rgb))
register(
    Modality("rgb-difference", 3 * STACK, STACK, _rgb_difference,
             IMAGENET_MEAN * STACK, IMAGENET_STD * STACK)
)  # fmt: skip
register(Modality("flow", 2 * STACK, STACK, _flow, (0.5,), (0.226,)))
register(Modality("sound", 1, 0, _sound))
