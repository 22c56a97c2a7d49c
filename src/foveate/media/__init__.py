"""Opens any source, and decodes no more than is requested."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from typing import Any

from foveate.core import Sample
from foveate.media.array import ArrayVideo, FrameStream, open_frames
from foveate.media.decoding import EXACT, Decoding
from foveate.media.folder import FrameFolder
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.names import SUFFIXES, find_media
from foveate.media.source import display_name, name_of
from foveate.media.video import Video
from foveate.media.write import VideoWriter

__all__ = [
    "DEFAULT_LIMITS",
    "SUFFIXES",
    "ArrayVideo",
    "Decoding",
    "FrameFolder",
    "FrameStream",
    "Limits",
    "Video",
    "VideoWriter",
    "display_name",
    "find_media",
    "name_of",
    "open_source",
]


def open_source(
    source: Any,
    *,
    fps: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    decoding: Decoding = EXACT,
    vectors: bool = False,
) -> Sample:
    """Open a path, bytes, a binary file object, a folder of numbered pictures, a (T, H, W, 3)
    uint8 array, or an iterable of (frame, seconds).

    Args:
        source: What to open; a `Sample` is taken as it is.
        fps: Frames per second of arrays, folders and iterables of frames without times; of a
            folder 25 if None.
        limits: Bounds on work.
        decoding: Settings of the decoder of a file.
        vectors: Whether motion vectors of a file will be asked for first, see `Video`.

    Raises:
        MediaError: With the reason, if it is no video that can be opened.
    """
    if isinstance(source, Sample):
        return source
    if isinstance(source, str | os.PathLike):
        if os.path.isdir(source) and os.fspath(source):
            return FrameFolder(source, fps, limits=limits)
        return Video(source, limits=limits, decoding=decoding, vectors=vectors)
    if hasattr(source, "shape") and not isinstance(source, memoryview):
        return open_frames(source, fps, name_of(source), limits)
    if isinstance(source, Iterable) and not (
        isinstance(source, bytes | bytearray | memoryview | Mapping | Set)
        or hasattr(source, "read")
    ):
        return open_frames(source, fps, name_of(source), limits)
    return Video(source, limits=limits, decoding=decoding, vectors=vectors)
