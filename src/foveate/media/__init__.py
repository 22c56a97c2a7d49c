"""Opens any source and decodes what is asked and no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from foveate.core import Sample
from foveate.media.array import ArrayVideo
from foveate.media.folder import RATE, FrameFolder
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import display_name, name_of
from foveate.media.video import Video
from foveate.media.write import VideoWriter

__all__ = [
    "DEFAULT_LIMITS",
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

SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg",
     ".vob", ".flv", ".gif", ".apng", ".3gp", ".3g2", ".ogv", ".ogg", ".wmv", ".asf", ".h264",
     ".264", ".h265", ".hevc", ".265", ".ivf", ".obu", ".y4m", ".dv", ".mjpeg", ".mjpg", ".nut"]
)  # fmt: skip


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


def find_media(folder: str | os.PathLike[str]) -> list[Path]:
    """Files below a folder with a video's ending, sorted; links to folders are not followed."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root) / name
            for name in sorted(files)
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    return found
