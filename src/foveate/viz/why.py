"""Why a window was chosen: the frame with its window, beside the map that was searched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from foveate.core import FoveateError
from foveate.core.units import clock, percent
from foveate.viz import lettering
from foveate.viz.images import Pixels, check_frame
from foveate.viz.overlay import BACKGROUND, WINDOW, draw_box, draw_tokens, text_size
from foveate.viz.time_index import Box, FrameTokens

_FALLBACK = (235, 110, 90)
_TRAIL = (120, 210, 255)
_INK = (240, 242, 244)
_BRIGHT = 0.995  # quantile of the map that is drawn at full brightness


@dataclass(frozen=True)
class Reason:
    """Where one frame was looked at, and why.

    Attributes:
        time: Seconds from the first frame.
        box: `xyxy` in source pixels, None for the model's own view.
        gate: Excess capture of the window, None where nothing was measured.
        fallback: Whether the policy found no window and fell back to the whole frame.
        heat: (h, w) the map that the window was searched in, None without one.
        source: What the map was made of, such as `vectors`.
        follows: Whether the window goes with a subject that crosses the picture.
        said: Describes the frame instead of source and gate.
        tokens: The patch tokens that are computed, None for all.
    """

    time: float
    box: Box | None
    gate: float | None = None
    fallback: bool = False
    heat: npt.NDArray[np.float32] | None = None
    source: str = ""
    follows: bool = False
    said: str = ""
    tokens: FrameTokens | None = None


def draw_reason(
    frame: Pixels, reason: Reason, size: tuple[int, int], trail: Sequence[Reason] = ()
) -> Pixels:
    """Draw one frame and the reason for its window.

    Args:
        frame: (H, W, 3) uint8 RGB, any scale of the source.
        reason: Of this frame.
        size: `(width, height)` of the source that boxes refer to.
        trail: Reasons of the frames before it, oldest first.

    Returns:
        (H, 2 W, 3) uint8 RGB: the frame and its map.

    Raises:
        FoveateError: The frame is not of that shape and type.
    """
    check_frame(frame)
    height, width = frame.shape[:2]
    letters = text_size(height, width)
    left = frame.copy()
    if reason.tokens is not None:
        draw_tokens(left, reason.tokens, size)
    scale = width / size[0], height / size[1]
    _draw_trail(left, [*trail, reason], scale, max(1, letters // 9))
    right = heat_picture(reason.heat, (width, height))
    if reason.box is not None:
        for part in (left, right):
            colour = _FALLBACK if reason.fallback else WINDOW
            draw_box(part, reason.box, size, max(1, round(letters / 6)), colour)
    return np.concatenate([left, right], 1)


def with_footer(picture: Pixels, reason: Reason) -> Pixels:
    """A picture of `draw_reason` with a line of text below, as in the video.

    Args:
        picture: (H, W, 3) uint8 RGB.
        reason: Described by the text.

    Returns:
        (H + footer, W, 3) uint8 RGB.
    """
    height, width = picture.shape[:2]
    letters = text_size(height, width // 2)
    footer = Image.new("RGB", (width, 2 * letters), BACKGROUND)
    line = lettering.fit(lettering.spell(describe(reason)), letters, width - letters)
    colour = _FALLBACK if reason.fallback else _INK
    at = letters // 2, round(1.4 * letters)
    lettering.draw(ImageDraw.Draw(footer), line, at, letters, colour)
    return np.concatenate([picture, np.asarray(footer)])


def describe(reason: Reason) -> str:
    """The reason as one line: time, source, gate, and whether the whole frame was used."""
    if reason.said:
        return f"{clock(reason.time, 1)}   {reason.said}"
    words = [clock(reason.time, 1), f"motion: {reason.source or 'not measured'}"]
    if reason.gate is not None:
        words.append(f"gate {percent(reason.gate)}")
    view = "whole view" if not reason.box else "window"
    if reason.tokens is not None:
        view = f"{len(reason.tokens[2])} of {math.prod(reason.tokens[1])} tokens"
    words.append("fallback" if reason.fallback else view)
    return "   ".join(words)


def heat_picture(heat: npt.NDArray[np.float32] | None, size: tuple[int, int]) -> Pixels:
    """A map as an image of that `(width, height)`; black where it is zero or missing."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    if heat is None or not heat.size or not heat.max() > 0:
        return picture
    top = max(float(np.quantile(heat, _BRIGHT)), 1e-6 + 0.2 * float(heat.max()))
    grey = np.clip(heat / top * 255, 0, 255).astype(np.uint8)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def strip(pictures: Sequence[Pixels], gap: int = 6) -> Pixels:
    """Images of one height side by side, with white gaps of `gap` pixels."""
    if not pictures:
        raise FoveateError("a strip needs at least one image")
    bar = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [piece for picture in pictures for piece in (picture, bar)][:-1]
    return np.concatenate(parts, 1)


def _draw_trail(
    image: Pixels, reasons: Sequence[Reason], scale: tuple[float, float], thick: int
) -> None:
    """The path of the window's centre."""
    centres = [
        ((r.box[0] + r.box[2]) / 2 * scale[0], (r.box[1] + r.box[3]) / 2 * scale[1])
        for r in reasons
        if r.box is not None and not r.fallback
    ]
    if len(centres) > 1:
        points = np.round(np.array(centres)).astype(np.int32)
        cv2.polylines(image, [points], False, _TRAIL, thick, cv2.LINE_AA)
