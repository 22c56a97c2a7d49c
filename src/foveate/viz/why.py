"""Why a window was chosen: the frame with window and track beside the map it was searched in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from foveate.core import FoveateError
from foveate.core.units import clock, percent
from foveate.viz import lettering
from foveate.viz.overlay import text_size

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

_WINDOW = (255, 204, 77)
_FALLBACK = (235, 110, 90)
_TRAIL = (120, 210, 255)
_PAPER = (14, 17, 21)
_INK = (240, 242, 244)
_BRIGHT = 0.995  # quantile of the map that is drawn at full brightness


@dataclass(frozen=True)
class Reason:
    """Where one frame was looked at, and why.

    Attributes:
        time: Seconds from the first frame.
        box: `xyxy` in source pixels, None for the model's own view.
        gate: Excess capture of the window, None where nothing was measured.
        fallback: Whether the policy could not do what it is for.
        heat: (h, w) the map that the window was searched in, None without one.
        source: What the map was made of, such as `vectors`.
    """

    time: float
    box: Box | None
    gate: float | None = None
    fallback: bool = False
    heat: npt.NDArray[np.float32] | None = None
    source: str = ""


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
        (H + footer, 2 W, 3) uint8 RGB: the frame, its map, and a line of text below.

    Raises:
        FoveateError: The frame is not of that shape and type.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise FoveateError(f"a frame must be (H, W, 3) uint8, not {frame.shape} {frame.dtype}")
    height, width = frame.shape[:2]
    letters = text_size(height, width)
    left = frame.copy()
    scale = width / size[0], height / size[1]
    _draw_trail(left, [*trail, reason], scale, max(1, letters // 9))
    right = heat_picture(reason.heat, (width, height))
    for part in (left, right):
        _draw_box(part, reason, scale, max(1, letters // 7))
    footer = np.empty((2 * letters, 2 * width, 3), np.uint8)
    footer[:] = _PAPER
    line = lettering.fit(describe(reason), letters, 2 * width - letters)
    colour = _FALLBACK if reason.fallback else _INK
    lettering.draw(footer, line, (letters // 2, round(1.4 * letters)), letters, colour)
    return np.concatenate([np.concatenate([left, right], 1), footer])


def describe(reason: Reason) -> str:
    """The reason as one line: time, source, gate, and whether the whole frame was used."""
    words = [clock(reason.time, 1), f"motion: {reason.source or 'not measured'}"]
    if reason.gate is not None:
        words.append(f"gate {percent(reason.gate)}")
    words.append("fallback" if reason.fallback else "whole view" if not reason.box else "window")
    return "   ".join(words)


def heat_picture(heat: npt.NDArray[np.float32] | None, size: tuple[int, int]) -> Pixels:
    """A map as a picture of that `(width, height)`; black where nothing moves or is known."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    if heat is None or not heat.size or not heat.max() > 0:
        return picture
    top = max(float(np.quantile(heat, _BRIGHT)), 1e-6 + 0.2 * float(heat.max()))
    grey = np.clip(heat / top * 255, 0, 255).astype(np.uint8)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def strip(pictures: Sequence[Pixels], gap: int = 6) -> Pixels:
    """Pictures of one height side by side on paper, as documentation shows them."""
    if not pictures:
        raise FoveateError("a strip needs one picture at least")
    bar = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [piece for picture in pictures for piece in (picture, bar)][:-1]
    return np.concatenate(parts, 1)


def _draw_trail(
    image: Pixels, reasons: Sequence[Reason], scale: tuple[float, float], thick: int
) -> None:
    """The way of the window's middle."""
    middles = [
        ((r.box[0] + r.box[2]) / 2 * scale[0], (r.box[1] + r.box[3]) / 2 * scale[1])
        for r in reasons
        if r.box is not None and not r.fallback
    ]
    if len(middles) > 1:
        points = np.round(np.array(middles)).astype(np.int32)
        cv2.polylines(image, [points], False, _TRAIL, thick, cv2.LINE_AA)


def _draw_box(image: Pixels, reason: Reason, scale: tuple[float, float], thick: int) -> None:
    if reason.box is None:
        return
    x1, y1, x2, y2 = (round(v * scale[i % 2]) for i, v in enumerate(reason.box))
    far = image.shape[1] - 1, image.shape[0] - 1
    corners = (max(0, x1), max(0, y1)), (min(far[0], x2), min(far[1], y2))
    cv2.rectangle(image, *corners, _PAPER, 3 * thick)
    cv2.rectangle(image, *corners, _FALLBACK if reason.fallback else _WINDOW, thick)
