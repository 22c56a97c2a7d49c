"""Boxes of detectors in NumPy: their place in the source, and how they follow its motion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from foveate.core import Detections, View
from foveate.core.loop import Box
from foveate.policy.looks.keys import STILL

Array = np.ndarray[Any, Any]
MOVING = 0.25  # share of the cells of a box from which those that move count alone


def in_source(
    found: Mapping[str, Array], time: float, size: tuple[int, int], region: Box, least: float
) -> Detections:
    """Boxes in pixels of the upright source, of what was found in a view of a region of it.

    Args:
        found: `boxes` (n, 4) xyxy in pixels of the view, `scores` and `labels`.
        time: Of the frame.
        size: `(H, W)` of the view.
        region: Of the source, that the view shows.
        least: Boxes that score lower are left out.
    """
    kept = found["scores"] >= least
    scale = np.array([(region[2] - region[0]) / size[1], (region[3] - region[1]) / size[0]] * 2)
    corner = np.array([region[0], region[1]] * 2)
    boxes = found["boxes"][kept].astype(np.float64) * scale + corner
    return Detections(time, boxes, found["scores"][kept], found["labels"][kept])


def following(motion: View, last: Detections) -> Detections:
    """The boxes of a frame after the motion since then.

    Args:
        motion: Fields (1, T, h, w, 3), one per frame; see `moved`.
        last: The boxes.
    """
    boxes = last.boxes
    for field in motion.array[0]:
        boxes = moved(boxes, field, motion.regions[0])
    return replace(last, boxes=boxes, time=motion.times[-1])


def moved(boxes: Array, field: Array, region: Box) -> Array:
    """Boxes moved by the motion inside each: the median of the cells that move, or of all.

    Those that move count alone where they are a quarter of the cells: of a thin object the box has
    more background than object.

    Args:
        boxes: (n, 4) xyxy in source pixels.
        field: (h, w, 3) displacement since the frame before in source pixels, and whether it is
            known.
        region: Of the source, that the field covers.

    Returns:
        (n, 4).
    """
    if not len(boxes):
        return boxes
    rows, columns = field.shape[:2]
    wide, high = (region[2] - region[0]) / columns, (region[3] - region[1]) / rows
    found = np.array(boxes, np.float64)
    cells = (found - np.array([region[0], region[1]] * 2)) / np.array([wide, high] * 2)
    # Cells whose middle is inside; a box between two middles belongs to the cell of its own.
    first = np.round(cells[:, :2]).astype(int)
    last = np.maximum(np.round(cells[:, 2:]).astype(int), first + 1)
    first = np.clip(first, 0, [columns - 1, rows - 1])
    last = np.clip(last, first + 1, [columns, rows])
    for box, (left, top), (right, bottom) in zip(found, first, last, strict=True):
        inside = field[top:bottom, left:right].reshape(-1, 3)
        known = inside[inside[:, 2] > 0, :2]
        moving = known[np.abs(known).max(1, initial=0) > STILL]
        if len(moving) >= MOVING * len(known):
            known = moving
        if len(known):
            shift = np.sort(known, 0)[len(known) // 2]  # NumPy's median takes ten times as long
            box += np.concatenate([shift, shift])
    return found
