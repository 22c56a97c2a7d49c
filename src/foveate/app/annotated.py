"""Annotated video: every frame of an input with its result drawn over it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from foveate.core import FoveateError, Result, Sample
from foveate.media import Limits, VideoWriter, open_source
from foveate.media.video import every_frame
from foveate.viz import annotate_video, letterbox

MOST_ROWS = 1080  # larger sources are scaled down to this height


class Annotated:
    """Draws inputs into one MP4, one after another, or into one MP4 each in a folder.

    Args:
        target: A file (complete when `finish` returns), or an existing folder.
        results: Of all inputs: a single file has the size of the largest.
        limits: Limits on decoding.
        inputs: Files that must not be overwritten.
        fps: Frames per second of folders of pictures.
    """

    def __init__(
        self,
        target: Path,
        results: Sequence[Result],
        limits: Limits,
        inputs: Iterable[Path] = (),
        fps: float | None = None,
    ) -> None:
        self._fps = fps
        self._folder = target if target.is_dir() else None
        self._target = target
        self._limits = limits
        self._writer: VideoWriter | None = None
        sizes = [drawn_size(*r.trace.size) for r in results if r.trace is not None]
        self._largest = (max(s[0] for s in sizes), max(s[1] for s in sizes)) if sizes else None
        self._size = (0, 0)
        self._offset = 0.0
        self._taken = {os.path.realpath(path) for path in inputs}
        self.written: list[Path] = []

    def add(self, source: Path | BinaryIO, result: Result) -> None:
        """Draw one input.

        Raises:
            FoveateError: It cannot be read again, or the video cannot be written.
        """
        with closing(open_source(source, fps=self._fps, limits=self._limits)) as video:
            if self._folder is not None:
                self._begin(self._free(self._folder, _stem(source)), video, None)
            elif self._writer is None:
                self._begin(self._target, video, self._largest)
            assert self._writer is not None
            last = _Last(self._writer, self._offset, self._size)
            # Drawn at the output's size, so that text over a small source is sharp too.
            size = fitted((video.info.width, video.info.height), self._size)
            annotate_video(every_frame(video, size), result, last)
            self._offset = last.seconds + 1.0 / (video.info.rate or 25.0)
        if self._folder is not None:
            self.finish()

    def _free(self, folder: Path, stem: str) -> Path:
        """An output path that is not an input or another output of this run."""
        names = (f"{stem}{mark}.annotated.mp4" for mark in chain([""], (f"-{n}" for n in count(2))))
        paths = (folder / name for name in names)
        path = next(p for p in paths if os.path.realpath(p) not in self._taken)
        self._taken.add(os.path.realpath(path))
        return path

    def abandon(self) -> None:
        """Remove the unfinished file."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _begin(self, path: Path, video: Sample, size: tuple[int, int] | None) -> None:
        width, height = size or drawn_size(video.info.width, video.info.height)
        self._size = (max(2, width // 2 * 2), max(2, height // 2 * 2))
        self._offset = 0.0
        self._writer = VideoWriter(path, self._size, video.info.rate or 25.0)
        self.written.append(path)

    def finish(self) -> None:
        """Complete the current file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _stem(source: Path | BinaryIO) -> str:
    return source.stem if isinstance(source, Path) else Path(source.name).stem.strip("<>")


def drawn_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a source is drawn: its own, or scaled down."""
    scale = min(1.0, MOST_ROWS / max(height, 1))
    return max(2, round(width * scale)), max(2, round(height * scale))


def fitted(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest `(width, height)` of the source's shape that fits in `size`."""
    scale = min(size[0] / source[0], size[1] / source[1])
    return (
        min(size[0], max(1, round(source[0] * scale))),
        min(size[1], max(1, round(source[1] * scale))),
    )


class _Last:
    """Shifts times and letterboxes frames to the writer's size; keeps the last time."""

    def __init__(self, writer: VideoWriter, offset: float, size: tuple[int, int]) -> None:
        self._writer = writer
        self._offset = offset
        self._size = size
        self.seconds = offset

    def write(self, frame: Any, seconds: float) -> None:
        self.seconds = self._offset + seconds
        self._writer.write(letterbox(frame, self._size), self.seconds)


def thumbnails(
    source: Path | BinaryIO,
    result: Result,
    limits: Limits,
    fps: float | None = None,
    most: int = 6,
) -> list[Any]:
    """A few of the frames that were looked at, as `(seconds, JPEG bytes)` for the report.

    The windows that the network saw are drawn into them.
    """
    from foveate.viz import to_jpeg
    from foveate.viz.overlay import draw_box, draw_tokens
    from foveate.viz.time_index import TimeIndex

    index, trace = TimeIndex.of(result), result.trace
    looked = sorted(set(index.times))
    if trace is None or not looked:
        return []
    chosen = (
        [looked[i * len(looked) // most] for i in range(most)] if len(looked) > most else looked
    )
    try:
        with closing(open_source(source, fps=fps, limits=limits)) as video:
            width, height = video.info.width, video.info.height
            size = (max(1, round(width * 120 / height)), 120)
            clip = video.frames(chosen, size)
    except FoveateError:
        return []
    found = []
    for time, frame in zip(clip.times, clip.pixels, strict=True):
        image = frame.copy()
        tokens = index.shown(time)
        if tokens is not None:
            draw_tokens(image, tokens, trace.size)
        for box in index.boxes(time):
            draw_box(image, box, trace.size, 2)
        for one in index.found(time):
            draw_box(image, (one.box[0], one.box[1], one.box[2], one.box[3]), trace.size, 1)
        found.append((time, to_jpeg(image)))
    return found
