"""Opens any source and decodes what is asked and no more."""

from __future__ import annotations

from typing import Any

from foveate.media.array import ArrayVideo
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.names import SUFFIXES, find_media
from foveate.media.source import display_name, name_of
from foveate.media.video import Video
from foveate.media.write import VideoWriter

__all__ = [
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "ArrayVideo",
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
) -> Video | ArrayVideo:
    """Open a path, bytes, a binary file object, or a (T, H, W, 3) uint8 array with `fps`.

    Raises:
        MediaError: With the reason, if it is no video that can be opened.
    """
    raw = isinstance(source, bytes | bytearray | memoryview)
    if not raw and (hasattr(source, "shape") or isinstance(source, list | tuple)):
        return ArrayVideo(source, fps or 25.0)
    return Video(source, limits=limits)
