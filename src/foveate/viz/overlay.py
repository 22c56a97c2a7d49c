"""The answer drawn into the frames: label, score, time and where the program looked.

All measures follow the size of the text, and that follows the height of the frame, so that a
thumbnail and a 4K frame carry the same picture. What has no room is left out, never squeezed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import FoveateError, Result, Score, Segment
from foveate.core.units import clock, percent, share
from foveate.viz import lettering
from foveate.viz.moments import Box, Moments
from foveate.viz.palette import colour_of, colours_of, rgb

Pixels = npt.NDArray[np.uint8]
Rect = tuple[int, int, int, int]  # x1, y1, x2, y2; the ends are outside

_PAPER = (14, 17, 21)
# White text on white frames keeps a contrast above 4.5 : 1 through this much paper.
_OPACITY = 0.72
_WHITE = (255, 255, 255)
_SOFT = (205, 211, 218)
_TRACK = (92, 99, 108)
_BOX = (255, 204, 77)
_SMALLEST = 9


class FrameWriter(Protocol):
    """What `annotate_video` writes into, such as a video file that is being encoded."""

    def write(self, frame: Pixels, seconds: float) -> None:
        """Take one (H, W, 3) uint8 RGB frame and the time at which it is shown."""


def annotate(frame: Pixels, result: Result, seconds: float) -> Pixels:
    """Draw what a Result says about one moment onto a copy of the frame.

    Args:
        frame: (H, W, 3) uint8 RGB; any scale of the source.
        result: What was recognised. A Result without segments shows the clip's best label.
        seconds: Time of the frame from the first one.

    Returns:
        A new (H, W, 3) uint8 RGB frame.

    Raises:
        FoveateError: The frame is not of that shape and type.
    """
    return _annotate(frame, result, seconds, Moments.of(result), colours_of(result.segments))


def annotate_video(
    frames: Iterable[tuple[float, Pixels]], result: Result, writer: FrameWriter
) -> int:
    """Annotate frames one by one into a writer, which stays open.

    Args:
        frames: `(seconds, frame)` in the order of time; frames as in `annotate`.
        result: What was recognised.
        writer: Takes the annotated frames.

    Returns:
        How many frames were written.

    Raises:
        FoveateError: A frame is not (H, W, 3) uint8.
    """
    moments, colours = Moments.of(result), colours_of(result.segments)
    written = 0
    for seconds, frame in frames:
        writer.write(_annotate(frame, result, seconds, moments, colours), seconds)
        written += 1
    return written


def text_size(height: int, width: int) -> int:
    """Size of the main text, in pixels, on a frame of that size."""
    # The constant part helps small frames, which are mostly looked at enlarged or from afar.
    return max(_SMALLEST, round(0.036 * min(height, 0.75 * width) + 5))


def _annotate(
    frame: Pixels, result: Result, seconds: float, moments: Moments, colours: dict[str, str]
) -> Pixels:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise FoveateError(f"a frame must be (H, W, 3) uint8, not {frame.shape} {frame.dtype}")
    image = np.array(frame, order="C")
    height, width = image.shape[:2]
    # Below this not even a bar could be told from the picture.
    if height < 16 or width < 16:
        return image
    size = text_size(height, width)
    _draw_boxes(image, moments.boxes(seconds), result.trace.size if result.trace else [], size)
    segment = _shown(result, moments, seconds)
    if segment is not None:
        _draw_segment(image, segment, rgb(colour_of(segment, colours)), size)
    # Both corners at the top need this much room beside the segment at the bottom.
    if height >= 8 * size and width >= 8 * size and math.isfinite(seconds):
        _draw_time(image, seconds, size)
        if height >= 11 * size and width >= 22 * size and len(result.labels) > 1:
            _draw_top(image, result.labels[:3], size)
    return image


def _shown(result: Result, moments: Moments, seconds: float) -> Segment | None:
    """The segment of that time; a Result that has none is one long segment of its best label."""
    if result.segments or result.top is None:
        return moments.segment(seconds)
    top = result.top
    return Segment(
        start=0, end=result.duration or 0.0, label=top.label, index=top.index, score=top.score
    )


def _draw_segment(image: Pixels, segment: Segment, colour: tuple[int, int, int], size: int) -> None:
    """A card at the bottom left: label, score, and a bar as long as the score."""
    height, width = image.shape[:2]
    cramped = width < 10 * size
    margin, pad = (1, 3) if cramped else (size // 2, max(2, round(size * 0.55)))
    bar = max(2, round(size * 0.22))
    # One width for every label, or the card would jump from segment to segment.
    card = min(width - 2 * margin, 17 * size)
    tall = min(height - 2, round(size * 1.15) + bar + round(2.6 * pad))
    x1, y2 = margin, height - margin
    y1, x2 = y2 - tall, x1 + card
    _card(image, (x1, y1, x2, y2), size // 3)
    room = card - 2 * pad
    base = y1 + pad + round(size * 0.88)
    number = percent(segment.score)
    taken = lettering.width(number, size)
    # A name is worth more than its number where there is room for one of them.
    if room - taken >= 5 * size:
        lettering.draw(image, number, (x2 - pad - taken, base), size, _SOFT)
        room_name = room - taken - size // 2
    else:
        room_name = room
    name = lettering.fit(_name(segment.label, segment.index), size, room_name, bold=True)
    lettering.draw(image, name, (x1 + pad, base), size, _WHITE, bold=True)
    top = y2 - pad - bar
    _fill(image, (x1 + pad, top, x2 - pad, top + bar), _TRACK)
    _fill(image, (x1 + pad, top, x1 + pad + round(room * share(segment.score)), top + bar), colour)


def _draw_time(image: Pixels, seconds: float, size: int) -> None:
    """The time at the top right; its card is as wide as the digits need, and those are even."""
    text = clock(seconds, 1)
    small = max(_SMALLEST, round(size * 0.8))
    margin, pad = size // 2, max(2, round(small * 0.45))
    wide = lettering.width("0" * len(text), small)
    x2 = image.shape[1] - margin
    rect = (x2 - wide - 2 * pad, margin, x2, margin + round(small * 1.05) + 2 * pad)
    _card(image, rect, size // 3)
    at = (rect[0] + pad + (wide - lettering.width(text, small)) // 2, rect[3] - pad - small // 5)
    lettering.draw(image, text, at, small, _WHITE)


def _draw_top(image: Pixels, labels: list[Score], size: int) -> None:
    """The best labels of the whole clip, small, at the top left."""
    small = max(_SMALLEST, round(size * 0.7))
    margin, pad, line = size // 2, max(2, round(small * 0.6)), round(small * 1.45)
    card = min(image.shape[1] // 2, 16 * small)
    x1, y1 = margin, margin
    rect = (x1, y1, x1 + card, y1 + line * len(labels) + 2 * pad - line // 4)
    _card(image, rect, size // 3)
    for row, score in enumerate(labels):
        base = y1 + pad + row * line + round(small * 0.9)
        number = percent(score.score)
        taken = lettering.width(number, small)
        lettering.draw(image, number, (rect[2] - pad - taken, base), small, _SOFT)
        room = card - 2 * pad - taken - small // 2
        name = lettering.fit(_name(score.label, score.index), small, room)
        lettering.draw(image, name, (x1 + pad, base), small, _WHITE)


def _name(label: str, index: int | None) -> str:
    """A label as it can be drawn; one that is mostly code points is led by its class number."""
    # No card has room for more, and measuring text is not free.
    spelled = lettering.spell(label[:200])
    if index is not None and 2 * spelled.count("U+") >= len(label) > 0:
        return f"#{index} {spelled}"
    return spelled


def _draw_boxes(image: Pixels, boxes: tuple[Box, ...], source: list[int], size: int) -> None:
    """Where the program looked, scaled from the source to this frame."""
    height, width = image.shape[:2]
    if len(source) != 2 or min(source) <= 0:
        source = [width, height]
    scale_x, scale_y = width / source[0], height / source[1]
    thick = max(1, round(size / 9))
    for x1, y1, x2, y2 in boxes:
        rect = (
            _within(x1 * scale_x, width),
            _within(y1 * scale_y, height),
            _within(x2 * scale_x, width),
            _within(y2 * scale_y, height),
        )
        # A dark line inside keeps the box visible on a bright picture.
        _frame(image, rect, 2 * thick, _PAPER)
        _frame(image, rect, thick, _BOX)


def _within(value: float, end: int) -> int:
    return round(min(max(value, 0.0), float(end)))


def _frame(image: Pixels, rect: Rect, thick: int, colour: tuple[int, int, int]) -> None:
    """Four lines inside a rectangle."""
    x1, y1, x2, y2 = rect
    _fill(image, (x1, y1, x2, min(y1 + thick, y2)), colour)
    _fill(image, (x1, max(y2 - thick, y1), x2, y2), colour)
    _fill(image, (x1, y1, min(x1 + thick, x2), y2), colour)
    _fill(image, (max(x2 - thick, x1), y1, x2, y2), colour)


def _fill(image: Pixels, rect: Rect, colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (max(0, value) for value in rect)
    image[y1:y2, x1:x2] = colour


def _card(image: Pixels, rect: Rect, radius: int) -> None:
    """Darken a rectangle with round corners, as paper for text."""
    x1, y1, x2, y2 = (max(0, value) for value in rect)
    part = image[y1:y2, x1:x2]
    if not part.size:
        return
    keep, paper = _shade(part.shape[0], part.shape[1], radius)
    # Sixteen bits suffice for the blend and take half the time of floats.
    part[:] = (part * keep + paper) >> 8


@lru_cache(maxsize=16)
def _shade(
    height: int, width: int, radius: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """How much of the picture stays under a card, in 256ths, and the paper that joins it.

    Returns:
        (H, W, 1) and (H, W, 3) uint16; their blend with uint8 pixels stays below 65,536.
    """
    mask = np.zeros((height, width), np.uint8)
    r = max(0, min(radius, (min(height, width) - 1) // 2))
    mask[r : height - r] = 255
    mask[:, r : width - r] = 255
    for x in (r, width - 1 - r):
        for y in (r, height - 1 - r):
            cv2.circle(mask, (x, y), r, 255, -1, cv2.LINE_AA)
    cover = np.round(mask.astype(np.float32)[..., None] * (_OPACITY * 256 / 255))
    keep = (256 - cover).astype(np.uint16)
    paper = (cover * np.asarray(_PAPER, np.float32)).astype(np.uint16)
    return keep, paper
