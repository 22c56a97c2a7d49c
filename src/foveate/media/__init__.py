"""Opens any source, and decodes no more than is requested."""

from __future__ import annotations

import os
from typing import Any

from foveate.core import Sample
from foveate.media.array import ArrayVideo
from foveate.media.folder import RATE, FrameFolder
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.names import SUFFIXES, find_media
from foveate.media.source import display_name, name_of
from foveate.media.video import Video
from foveate.media.write import VideoWriter

__all__ = [
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "ArrayVideo",
    "FrameFolder",
    "Limits",
    "Video",
    "VideoWriter",
    "display_name",
    "find_media",
    "name_of",
    "open_source",
]


def open_source(
    source: Any, *, fps: float | None = None, limits: Limits = DEFAULT_LIMITS
) -> Sample:
    """Open a path, bytes, a binary file object, a folder of numbered pictures, or a (T, H, W, 3)
    uint8 array.

    Args:
        source: What to open; a `Sample` is taken as it is.
        fps: Frames per second of arrays and folders; 25 if None.
        limits: Bounds on work.

    Raises:
        MediaError: With the reason, if it is no video that can be opened.
    """
    raw = isinstance(source, bytes | bytearray | memoryview)
    if not raw and (hasattr(source, "shape") or isinstance(source, list | tuple)):
        return ArrayVideo(source, fps or RATE)
    if isinstance(source, Sample):
        return source
    if isinstance(source, str | os.PathLike) and os.path.isdir(source):
        return FrameFolder(source, fps or RATE, limits=limits)
    return Video(source, limits=limits)
