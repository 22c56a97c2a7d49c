"""Boxes of the objects in the frames of a video: the labels of video object detection."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.core.loop import Box
from foveate.data.readers.request import Request, composed
from foveate.data.record import FrameBoxes, ObjectBox, Record
from foveate.media.folder import picture_names

_BEYOND = 1.0  # pixels by which published boxes leave their picture


def checked_box(box: Box, size: tuple[float, float] | None = None) -> Box:
    """A box as it is, or clipped to its frame.

    Args:
        box: `xyxy` in pixels.
        size: `(width, height)` of the frame, None if it is unknown.

    Raises:
        ValueError: With a line that says what is wrong with it.
    """
    x1, y1, x2, y2 = box
    if not all(map(math.isfinite, box)):
        raise ValueError("a coordinate of the box is not finite")
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"an empty box ({x2 - x1:g}x{y2 - y1:g} pixels)")
    if size is None:
        return box
    width, height = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise ValueError(
            f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is outside the frame of "
            f"{width:g}x{height:g} pixels"
        )
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


@dataclass
class VideoBoxes:
    """Collects the boxes of one video while its annotation is read.

    Attributes:
        path: Of the video.
        where: File and line that name it.
        split: As for `Record`.
        group: As for `Record`.
        frames: Objects by frame; a frame without objects has an empty list.
        first: Number that the annotation gives the first frame, for messages.
    """

    path: Path
    where: str
    split: str | None = None
    group: str | None = None
    frames: dict[int, list[ObjectBox]] = field(default_factory=dict)
    first: int = 0

    def add(self, frame: int, found: ObjectBox) -> None:
        """Add an object.

        Raises:
            ValueError: The frame has an object of that track, or the very same object.
        """
        objects = self.frames.setdefault(frame, [])
        number = frame + self.first
        for other in objects:
            if found.track is not None and other.track == found.track:
                raise ValueError(f"track {found.track} is twice in frame {number}")
            if other == found:
                raise ValueError(f"the same box is twice in frame {number}")
        objects.append(found)

    def record(self) -> Record:
        """The record; its labels are the classes of its boxes, in alphabetical order."""
        labels = {found.label for objects in self.frames.values() for found in objects}
        boxes = tuple(
            FrameBoxes(frame, tuple(objects)) for frame, objects in sorted(self.frames.items())
        )
        return Record(
            self.path, tuple(sorted(labels)), split=self.split, group=self.group,
            where=self.where, boxes=boxes,
        )  # fmt: skip


class Pictures:
    """Positions of pictures in their folders; each folder is listed once."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, int]] = {}

    def count(self, folder: Path) -> int:
        """How many frames a folder has; 0 if it cannot be listed."""
        return len(self._numbers(folder))

    def frame(self, folder: Path, name: str) -> int | None:
        """The frame, counted from 0, that a picture of a folder is; None if it is none."""
        numbers = self._numbers(folder)
        return numbers.get(name, numbers.get(composed(name)))

    def _numbers(self, folder: Path) -> dict[str, int]:
        if folder not in self._known:
            try:
                names = picture_names(folder)
            except OSError:
                names = []
            self._known[folder] = {composed(name): at for at, name in enumerate(names)}
        return self._known[folder]


def noting(request: Request, where: str, read: Callable[..., None], *given: Any) -> None:
    """Call what reads one line; a `ValueError` of it is a fault of that line."""
    try:
        read(*given)
    except ValueError as error:
        request.fault(where, str(error))
