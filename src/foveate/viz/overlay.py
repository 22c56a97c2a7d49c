"""Results drawn into frames: label, score, time and where the program looked.

A label has one score, which is named: of its window or, without segments, of the whole clip.

All measures are multiples of the text size, which follows the height of the frame, so that a
thumbnail and a 4K frame show the same layout. What does not fit is left out, never squeezed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw

from foveate.core import Detection, Result, Score, Segment
from foveate.core.units import clock, percent, share
from foveate.viz import lettering
from foveate.viz.images import Pixels, check_frame
from foveate.viz.palette import COLOURS, OTHER, colour_of, colours_of, rgb
from foveate.viz.time_index import Box, FrameTokens, TimeIndex

BACKGROUND = (14, 17, 21)
# White text on white frames keeps a contrast above 4.5 : 1 at this opacity.
_CARD = (*BACKGROUND, 184)
_SOFT = (205, 211, 218)
_TRACK = (92, 99, 108)
WINDOW = (255, 204, 77)
_SMALLEST = 9


class FrameWriter(Protocol):
    """What `annotate_video` writes into, such as a `VideoWriter`."""

    def write(self, frame: Pixels, seconds: float) -> None:
        """Take one (H, W, 3) uint8 RGB frame and the time at which it is shown."""


def annotate(frame: Pixels, result: Result, seconds: float) -> Pixels:
    """Draw a Result into a copy of one frame.

    Args:
        frame: (H, W, 3) uint8 RGB; any scale of the source.
        result: What was recognised. A Result without segments shows the clip's best label.
        seconds: Time of the frame from the first one.

    Returns:
        A new (H, W, 3) uint8 RGB frame.

    Raises:
        FoveateError: The frame is not of that shape and type.
    """
    return _annotate(frame, result, seconds, TimeIndex.of(result), colours_of(result.segments))


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
    index, colours = TimeIndex.of(result), colours_of(result.segments)
    written = 0
    for seconds, frame in frames:
        writer.write(_annotate(frame, result, seconds, index, colours), seconds)
        written += 1
    return written


def text_size(height: int, width: int) -> int:
    """Size of the main text, in pixels, on a frame of that size."""
    # The constant part helps small frames, which are mostly viewed enlarged.
    return max(_SMALLEST, round(0.036 * min(height, 0.75 * width) + 5))


def draw_box(
    image: Pixels, box: Box, source: Sequence[int], thick: int, colour: lettering.Colour = WINDOW
) -> None:
    """Draw the outline of a box into `image`, in place.

    Args:
        image: (H, W, 3) uint8 RGB, contiguous.
        box: `(x1, y1, x2, y2)` in pixels of the source.
        source: `(width, height)` of the source; where it is missing, boxes are in image pixels.
        thick: Of the coloured line and of the dark one inside it, in pixels.
        colour: Of the outer line.
    """
    limits = image.shape[1], image.shape[0]
    if len(source) != 2 or min(source) <= 0:
        source = limits
    x1, y1, x2, y2 = (
        round(min(max(value * limits[i % 2] / source[i % 2], 0.0), limits[i % 2]))
        for i, value in enumerate(box)
    )
    # The dark line keeps the box visible on a bright frame.
    for inset in range(2 * thick):
        left, top, right, bottom = x1 + inset, y1 + inset, x2 - 1 - inset, y2 - 1 - inset
        if left <= right and top <= bottom:
            line = colour if inset < thick else BACKGROUND
            cv2.rectangle(image, (left, top), (right, bottom), line)


def draw_tokens(image: Pixels, tokens: FrameTokens, source: Sequence[int]) -> None:
    """Darken the patches of `image` that were not computed, in place.

    Args:
        image: (H, W, 3) uint8 RGB.
        tokens: The part of the source that the grid covers, rows and columns of the grid, and the
            numbers of the patches that were computed.
        source: `(width, height)` of the source; where it is missing, the region is in image pixels.
    """
    region, (rows, columns), numbers = tokens
    height, width = image.shape[:2]
    x, y = (width / source[0], height / source[1]) if len(source) == 2 and all(source) else (1, 1)
    xs = np.linspace(region[0] * x, region[2] * x, columns + 1).round().astype(int)
    ys = np.linspace(region[1] * y, region[3] * y, rows + 1).round().astype(int)
    computed = np.zeros((height, width), bool)
    for number in numbers:
        row, column = divmod(number, columns)
        if row < rows:
            computed[ys[row] : ys[row + 1], xs[column] : xs[column + 1]] = True
    image[~computed] //= 3


def _annotate(
    frame: Pixels, result: Result, seconds: float, index: TimeIndex, colours: dict[str, str]
) -> Pixels:
    check_frame(frame)
    image = np.array(frame, order="C")
    height, width = image.shape[:2]
    # Smaller frames have no space for even a bar.
    if height < 16 or width < 16:
        return image
    size = text_size(height, width)
    tokens = index.shown(seconds)
    if tokens is not None:
        draw_tokens(image, tokens, result.trace.size if result.trace else [])
    for box in index.boxes(seconds):
        draw_box(image, box, result.trace.size if result.trace else [], max(1, round(size / 9)))
    for one in index.found(seconds):
        _draw_detection(image, one, result.trace.size if result.trace else [], size)
    segment = index.segment(seconds)
    if segment is not None:
        _draw_score(image, segment, "window", rgb(colour_of(segment, colours)), size)
    elif not result.segments and result.top is not None and result.task == "classify":
        _draw_score(image, result.top, "clip", rgb(OTHER), size)
    # The time at the top needs this much space besides the score at the bottom.
    if height >= 8 * size and width >= 8 * size and math.isfinite(seconds):
        _draw_time(image, seconds, size)
    return image


def _draw_detection(image: Pixels, one: Detection, source: Sequence[int], size: int) -> None:
    """A box in the colour of its track, or else of its class, with a line of text at its top."""
    colour = rgb(COLOURS[(one.index if one.track is None else one.track) % len(COLOURS)])
    draw_box(image, (one.box[0], one.box[1], one.box[2], one.box[3]), source, 1, colour)
    small, (height, width) = max(_SMALLEST, round(0.55 * size)), image.shape[:2]
    if len(source) != 2 or min(source) <= 0:
        source = width, height
    number = "" if one.track is None else f" #{one.track}"
    text = lettering.fit(f"{lettering.spell(one.label[:200])}{number} {one.score:.0%}", small,
                         width // 2)  # fmt: skip
    wide, tall = lettering.width(text, small) + small // 2, round(1.3 * small)
    left = min(max(0, round(one.box[0] * width / source[0])), width - wide)
    # Above the box: it may be smaller than the text.
    top = min(max(0, round(one.box[1] * height / source[1]) - tall), height - tall)
    if left >= 0 and top >= 0:
        with _card(image, (left, top), (wide, tall), small) as canvas:
            lettering.draw(canvas, text, (small // 4, small), small)


def _draw_score(
    image: Pixels, item: Score | Segment, scope: str, colour: lettering.Colour, size: int
) -> None:
    """A card at the bottom left: label, what its score is of, and a bar as long as the score."""
    height, width = image.shape[:2]
    cramped = width < 10 * size
    margin, pad = (1, 3) if cramped else (size // 2, max(2, round(size * 0.55)))
    bar = max(2, round(size * 0.22))
    # The same width for every label, or the card would jump from segment to segment.
    wide = min(width - 2 * margin, 17 * size)
    tall = min(height - 2, round(size * 1.15) + bar + round(2.6 * pad))
    with _card(image, (margin, height - margin - tall), (wide, tall), size) as canvas:
        x1, x2, y2 = pad, wide - pad, tall - pad
        _row(canvas, item, scope, (x1, x2), pad + round(size * 0.88), size)
        for x, fill in ((x2, _TRACK), (x1 + round((x2 - x1) * share(item.score)), colour)):
            if x > x1:
                canvas.rectangle((x1, y2 - bar, x - 1, y2 - 1), fill)


def _draw_time(image: Pixels, seconds: float, size: int) -> None:
    """The time at the top right; its card is as wide as that many zeros."""
    text = clock(seconds, 1)
    small = max(_SMALLEST, round(size * 0.8))
    margin, pad = size // 2, max(2, round(small * 0.45))
    zeros = lettering.width("0" * len(text), small)
    wide, tall = zeros + 2 * pad, round(small * 1.05) + 2 * pad
    with _card(image, (image.shape[1] - margin - wide, margin), (wide, tall), size) as canvas:
        at = (pad + (zeros - lettering.width(text, small)) // 2, tall - pad - small // 5)
        lettering.draw(canvas, text, at, small)


def _row(
    canvas: ImageDraw.ImageDraw,
    item: Score | Segment,
    scope: str,
    span: tuple[int, int],
    base: int,
    size: int,
) -> None:
    """A label at the left of `span` and its score at the right, both on the baseline `base`."""
    number, small = f"{scope} {percent(item.score)}", max(_SMALLEST, round(0.8 * size))
    free, taken = span[1] - span[0], lettering.width(number, small)
    # Where there is space for only one of them, the label is worth more than its score.
    if free - taken >= 5 * size:
        lettering.draw(canvas, number, (span[1] - taken, base), small, _SOFT)
        free -= taken + size // 2
    # No card has space for more characters, and measuring text takes time.
    name = lettering.spell(item.label[:200])
    # A label that is mostly code points is preceded by its class number.
    if item.index is not None and 2 * name.count("U+") >= len(item.label) > 0:
        name = f"#{item.index} {name}"
    lettering.draw(
        canvas, lettering.fit(name, size, free, bold=True), (span[0], base), size, bold=True
    )


@contextmanager
def _card(
    image: Pixels, at: tuple[int, int], extent: tuple[int, int], size: int
) -> Iterator[ImageDraw.ImageDraw]:
    """A dark translucent card with its top left corner at `at`, as a canvas to draw on.

    Only this part of the image is given to Pillow, because conversion takes longer than drawing.
    """
    part = image[at[1] : at[1] + extent[1], at[0] : at[0] + extent[0]]
    card = Image.fromarray(part)
    # In this mode Pillow blends translucent colours into an RGB image.
    canvas = ImageDraw.Draw(card, "RGBA")
    canvas.rounded_rectangle((0, 0, extent[0] - 1, extent[1] - 1), size // 3, _CARD)
    yield canvas
    part[:] = np.asarray(card)
