"""What a network can be shown of a video, by name: one table for training and prediction.

A modality of frames is made of pictures that were cut out already, so a crop or a flip holds for
all of them: the flow of a flipped clip points the other way by itself. Sound and what the codec
holds are read from the source. A further modality is added with `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import ConfigError, Sample
from foveate.core.config import nearest
from foveate.media import spectrogram
from foveate.media.flow import SHORTER, dense_flow

STACK = 5  # consecutive differences or flow fields per time (AdaMML's public code)
BOUND = 20.0  # pixels per frame at which flow is clipped (Wang et al., TSN, ECCV 2016)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Modality:
    """One way to show a video.

    Attributes:
        name: What it is called.
        channels: Channels that it gives.
        source: `frames` are built of decoded pictures; `sound` of the sound track, as spectrograms
            or, named `waveform`, as .975 s of samples at 16 kHz; `groups` are
            read from the compressed file (`core.Sample.pictures`). Both `vectors` and `motion` are
            read by `core.Sample.motion`. `vectors` is what a network is shown: the field of each
            picture that was asked for, a key picture's replaced by its neighbour's. `motion` is
            how far things moved from one time to the next, through all pictures between, and where
            that is not known: by it boxes and features are moved.
        following: Frames that it needs after each time.
        build: Of `frames`: makes (H, W, channels) of one time's stack (1 + following, H, W, 3)
            uint8.
        mean: Normalisation of its uint8 values after scaling to 0..1; None if the weights say it.
        std: The same.
    """

    name: str
    channels: int
    source: Literal["frames", "sound", "groups", "vectors", "motion"] = "frames"
    following: int = 0
    build: Callable[[Bytes], Array] = lambda stack: stack[0]
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
        ConfigError: Unknown name; the message gives the nearest one.
    """
    if name not in _KNOWN:
        guess = nearest(name, _KNOWN)
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(_KNOWN)}"
        raise ConfigError(f"no modality {name!r}", hint)
    return _KNOWN[name]


def difference(frames: Bytes) -> Bytes:
    """Differences of neighbouring frames, 127 where nothing changes.

    Args:
        frames: (N, ...) uint8.

    Returns:
        (N - 1, ...) uint8: (next - this + 255) * 255 / 510, truncated.
    """
    wide = frames.astype(np.int16)
    return np.asarray((wide[1:] - wide[:-1] + 255) // 2, np.uint8)


def as_grey(flow: npt.NDArray[np.float32], bound: float = BOUND) -> Bytes:
    """Displacements as 8-bit values: -bound to 0, bound to 255, no motion to 128.

    Args:
        flow: Any shape, in pixels per frame.
        bound: Pixels per frame beyond which values are clipped.
    """
    scaled = (np.clip(flow, -bound, bound) + bound) * (255.0 / (2.0 * bound))
    return np.asarray(np.round(scaled), np.uint8)


def stacks(times: Sequence[float], following: int, step: float, end: float) -> tuple[float, ...]:
    """Each time and the `following` frames after it; stacks that would pass the end move back.

    Args:
        times: Seconds.
        following: Frames that each stack has beyond the first.
        step: Seconds from one frame of the source to the next.
        end: Seconds at which the clip ends.

    Returns:
        `len(times) * (1 + following)` times, stack after stack.
    """
    last = end - (following + 0.5) * step
    return tuple(
        max(0.0, min(t, last) + i * step) if following else t
        for t in times
        for i in range(1 + following)
    )


def sound_of(sample: Sample, middle: float, *, start: float = 0.0, end: float) -> Array:
    """The log spectrogram (256, 256) of the sound around a time; see `spectrogram.around`."""
    return spectrogram.log_spectrogram(spectrogram.around(sample, middle, start=start, end=end))


def _differences(stack: Bytes) -> Bytes:
    """(H, W, 3 N) of N + 1 frames: difference after difference."""
    found = difference(stack)
    return np.ascontiguousarray(found.transpose(1, 2, 0, 3)).reshape(*stack.shape[1:3], -1)


def _flow(stack: Bytes) -> Bytes:
    """(H, W, 2 N) of N + 1 frames: x and y in turn."""
    height, width = stack.shape[1:3]
    fields = dense_flow(stack, SHORTER)
    smooth = [
        cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR) for field in fields
    ]
    return as_grey(np.concatenate(smooth, 2))


register(Modality("rgb", 3))
register(
    Modality("rgb-difference", 3 * STACK, following=STACK, build=_differences,
             mean=IMAGENET_MEAN * STACK, std=IMAGENET_STD * STACK)
)  # fmt: skip
register(Modality("flow", 2 * STACK, following=STACK, build=_flow, mean=(0.5,), std=(0.226,)))
register(Modality("sound", 1, source="sound"))
register(Modality("waveform", 1, source="sound"))
register(Modality("iframe", 3, source="groups"))
register(Modality("mv", 2, source="groups"))
register(Modality("residual", 3, source="groups"))
register(Modality("vectors", 2, source="vectors"))
# Two channels of displacement in source pixels, and whether it is known.
register(Modality("motion", 3, source="motion"))
