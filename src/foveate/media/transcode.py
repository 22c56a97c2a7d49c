"""Makes a file whose codec exports motion vectors out of one whose codec does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from foveate.core import MediaError
from foveate.media.encode import Encoding, encode
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import Source
from foveate.media.video import Video

if TYPE_CHECKING:
    from foveate.core.loop import Pixels, Waveform

_AT_ONCE = 16  # frames decoded in one request
_SOUND_RATE = 16000


def transcode(
    source: Source,
    target: str | os.PathLike[str],
    encoding: Encoding,
    *,
    size: tuple[int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> int:
    """Decode a video and encode it anew, upright, with square pixels and its own frame times.

    Sound is kept as mono at 16 kHz, what models here hear. A frame that cannot be decoded is left
    out.

    Args:
        source: What `open_source` opens, but no array.
        target: The MP4 to write; it gets its name only when it is whole.
        encoding: How; see `encode.with_vectors`.
        size: `(width, height)`; the source's own if None. Odd sizes lose a row or a column.
        limits: Bounds on work.

    Returns:
        How many frames were written.

    Raises:
        MediaError: The source cannot be read or the target not written.
    """
    with Video(source, limits=limits) as video:
        times = video.times()
        if not times:
            raise MediaError(f"{video.name}: no frames to transcode")
        width, height = size or (video.info.width, video.info.height)
        even = max(2, width // 2 * 2), max(2, height // 2 * 2)
        shown: list[float] = []
        return encode(
            target,
            _frames(video, times, even, shown),
            _rate(times),
            encoding,
            times=_following(shown),
            sound=_sound(video, times[-1] + 1 / _rate(times)),
            sound_rate=_SOUND_RATE,
        )


def _frames(
    video: Video, times: tuple[float, ...], size: tuple[int, int], shown: list[float]
) -> Iterator[Pixels]:
    """All frames in order; the time of each is added to `shown` before it is given."""
    for start in range(0, len(times), _AT_ONCE):
        clip = video.frames(times[start : start + _AT_ONCE], size)
        for seconds, pixels in zip(clip.times, clip.pixels, strict=True):
            shown.append(seconds)
            yield pixels


def _following(shown: list[float]) -> Iterator[float]:
    """The times in the order in which `_frames` adds them."""
    at = 0
    while True:
        yield shown[at]
        at += 1


def _rate(times: tuple[float, ...]) -> int:
    """Frames per second by the middle step, for the encoder's rate control."""
    steps = [b - a for a, b in pairwise(times) if b > a]
    return min(240, max(1, round(1 / float(np.median(steps))))) if steps else 25


def _sound(video: Video, end: float) -> Waveform | None:
    if not video.info.has_audio:
        return None
    try:
        return video.audio(0.0, end, _SOUND_RATE)
    except MediaError:
        return None  # a track that cannot be decoded is none
