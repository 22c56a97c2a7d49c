"""Finds out whether a file was refused because its pictures are too large.

FFmpeg's decoders refuse such pictures before anything says how large they are, and report damage:
that they were too large stands in the log alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from threading import Lock
from typing import Any

import av.error
import av.logging

from foveate.core import LimitError
from foveate.media.limits import Limits
from foveate.media.source import Reader

_SIZE = re.compile(r"[Pp]icture size (\d+)x(\d+)")  # libavutil, `av_image_check_size2`
_PACKETS = 8  # that are decoded to find out
_logging = Lock()  # what is captured, and how, is set for the whole process


def refused_size(
    open_container: Callable[[], tuple[Reader, Any]], limits: Limits
) -> tuple[int, int] | None:
    """`(width, height)` of pictures that FFmpeg found too large; None if it did not.

    Args:
        open_container: Opens the file and the container; what it raises is passed over.
        limits: The bound on pixels.
    """
    with _logging:
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture(local=False) as lines:
                _try(open_container, limits)
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)
    found = [match for line in lines if (match := _SIZE.search(line[2])) is not None]
    sizes = [(int(match[1]), int(match[2])) for match in found]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def too_large(name: str, size: tuple[int, int], limits: Limits) -> LimitError:
    """The refusal of pictures that are too large."""
    return LimitError(
        f"{name}: pictures of {size[0]}x{size[1]} pixels, the limit is {limits.pixels} pixels",
        "raise limits.pixels if you trust the file",
    )


def _try(open_container: Callable[[], tuple[Reader, Any]], limits: Limits) -> None:
    try:
        reader, container = open_container()
    except Exception:  # why is not asked here
        return
    try:
        stream = container.streams.video[0]
        codec = stream.codec_context
        codec.options = {**codec.options, "max_pixels": str(limits.pixels)}
        for packet in islice(container.demux(stream), _PACKETS):
            with suppress(av.error.FFmpegError, ValueError):
                codec.decode(packet)
    except (av.error.FFmpegError, ValueError, IndexError, AttributeError):
        pass  # no stream, or one without a decoder
    finally:
        container.close()
        reader.close()
