"""Non-maximum suppression in NumPy, for networks and for graphs that run without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def suppressed(boxes: Array, scores: Array, labels: Array, overlap: float) -> Array:
    """Non-maximum suppression within classes.

    Args:
        boxes: (n, 4) xyxy.
        scores: (n,).
        labels: (n,).
        overlap: Intersection over union beyond which the lower score goes.

    Returns:
        Indices of the boxes that stay, the best first.
    """
    order = np.argsort(-scores, kind="stable")
    box = boxes[order]
    sides = np.minimum(box[:, None, 2:], box[:, 2:]) - np.maximum(box[:, None, :2], box[:, :2])
    common = sides.clip(0).prod(-1)
    area = (box[:, 2:] - box[:, :2]).prod(-1)
    alike = labels[order][:, None] == labels[order]
    covers = alike & (common > overlap * (area[:, None] + area - common))
    gone = np.zeros(len(order), bool)
    kept = []
    for at in range(len(order)):
        if not gone[at]:
            kept.append(at)
            gone |= covers[at]
    found: Array = order[kept]
    return found


def selected(
    boxes: Array, scores: Array, labels: Array, size: tuple[int, int], least: float, overlap: float
) -> dict[str, Array]:
    """The boxes of one image that score enough and are not another one's duplicates.

    Args:
        boxes: (n, 4) xyxy as shares of the image.
        scores: (n,).
        labels: (n,).
        size: `(H, W)` of the image in pixels.
        least: Boxes that score no more are left out.
        overlap: See `suppressed`.

    Returns:
        `boxes` in pixels, `scores` and `labels`, the best first.
    """
    kept = scores > least
    whole = np.array([size[1], size[0]] * 2, boxes.dtype)
    own = np.minimum((boxes[kept] * whole).clip(0), whole)
    chosen = suppressed(own, scores[kept], labels[kept], overlap)
    return {"boxes": own[chosen], "scores": scores[kept][chosen], "labels": labels[kept][chosen]}
