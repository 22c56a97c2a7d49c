"""Which files below a folder are videos and pictures, by their endings, and which are neither."""

from __future__ import annotations

import os
from pathlib import Path

from foveate.media.source import is_pipe

# Endings of the containers and raw streams that `container.FORMATS` and `MOV` open.
SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".qt", ".mqv", ".mp4v", ".mpg4", ".f4v", ".ismv", ".mj2", ".psp",
     ".insv", ".3gp", ".3gpp", ".3g2", ".3gp2", ".mkv", ".mk3d", ".webm", ".avi", ".divx",
     ".xvid", ".amv", ".ts", ".m2ts", ".mts", ".m2t", ".tp", ".trp", ".tod", ".mpg", ".mpeg",
     ".mpe", ".vob", ".mod", ".m2p", ".m1v", ".m2v", ".mpv", ".flv", ".gif", ".apng", ".ogv",
     ".ogg", ".ogm", ".wmv", ".asf", ".h264", ".h26l", ".264", ".avc", ".h265", ".hevc", ".265",
     ".h266", ".vvc", ".266", ".h263", ".vc1", ".av1", ".ivf", ".obu", ".y4m", ".dv", ".dif",
     ".mjpeg", ".mjpg", ".nut"]
)  # fmt: skip
# Endings of single pictures; only JPEG and PNG can be the frames of a clip (`media.folder`).
IMAGES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic",
     ".heif", ".avif", ".tbn", ".thm", ".svg"]
)  # fmt: skip
# What storage systems and file managers put beside the user's files, in lower case.
_SYSTEM = frozenset(
    ["@eadir", "@__thumb", "@recycle", "@recently-snapshot", "@tmp", "@sharebin", "@sharesnap",
     "#recycle", "#snapshot", "~snapshot", "$recycle.bin", "recycler", "recycled",
     "system volume information", "lost+found", "network trash folder", "temporary items",
     "thevolumesettingsfolder", "__macosx", "thumbs.db", "ehthumbs.db",
     "ehthumbs_vista.db", "desktop.ini"]
)  # fmt: skip
_SYSTEM_ENDINGS = (".trickplay", "@synoeastream", "@synoresource")


def is_video(name: str) -> bool:
    """Whether a file name has a video's ending."""
    return Path(name).suffix.lower() in SUFFIXES


def is_image(name: str) -> bool:
    """Whether a file name has the ending of a single picture."""
    return Path(name).suffix.lower() in IMAGES


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to a storage system or file manager."""
    lower = name.lower()
    return name.startswith(".") or lower in _SYSTEM or lower.endswith(_SYSTEM_ENDINGS)


def find_media(folder: str | os.PathLike[str]) -> list[Path]:
    """Files below a folder with a video's ending, sorted; links to folders are not followed."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_system(name))
        found += [
            Path(root) / name for name in sorted(files) if is_video(name) and not is_system(name)
        ]
    # A named pipe is read where it is named itself: waiting for its writer may take forever.
    return [path for path in found if not is_pipe(path)]
