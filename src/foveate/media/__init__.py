"""Opens any source and decodes what is asked and no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from foveate.media.array import ArrayVideo
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import display_name, name_of
from foveate.media.video import Video
from foveate.media.write import VideoWriter

__all__ = [
    "DEFAULT_LIMITS",
    "ArrayVideo",
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
) -> Video | ArrayVideo:
    """Open a path, bytes, a binary file object, or a (T, H, W, 3) uint8 array with `fps`.

    Raises:
        MediaError: With the reason, if it is no video that can be opened.
    """
    raw = isinstance(source, bytes | bytearray | memoryview)
    if not raw and (hasattr(source, "shape") or isinstance(source, list | tuple)):
        return ArrayVideo(source, fps or 25.0)
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
