"""From decoded frames to what the network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from foveate.core import Clip, Sample, Selection
from foveate.models.spec import InputSpec
from foveate.policy import window

if TYPE_CHECKING:
    from foveate.core.loop import Pixels


def decode_size(source: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """The `(width, height)` to decode to, so that the crop needs no second scaling.

    Args:
        source: Upright `(width, height)`.
        spec: What the network expects.
    """
    width, height = source
    side = spec.resize_to or spec.size
    if spec.resize == "squash":
        return side, side
    scale = side / min(width, height)
    return max(side, round(width * scale)), max(side, round(height * scale))


def crop(pixels: Pixels, spec: InputSpec) -> Pixels:
    """The centre square of (T, H, W, 3) frames, without copying."""
    if spec.crop == "none":
        return pixels
    top = (pixels.shape[1] - spec.size) // 2
    left = (pixels.shape[2] - spec.size) // 2
    return pixels[:, top : top + spec.size, left : left + spec.size]


def decode_size_for(
    source: tuple[int, int], spec: InputSpec, selection: Selection
) -> tuple[int, int]:
    """The `(width, height)` to decode to for what a policy selected.

    With boxes it is the smallest at which none has to be enlarged, at most the source's own: then
    windows of one size are cut out without a second scaling.
    """
    side = selection.size or spec.size
    if selection.boxes is None:
        return decode_size(source, replace(spec, size=side))
    smallest = min(min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in selection.boxes)
    scale = min(1.0, side / max(smallest, 1.0))
    return max(1, round(source[0] * scale)), max(1, round(source[1] * scale))


def fetch(sample: Sample, spec: InputSpec, selection: Selection) -> Clip:
    """Decode what a policy selected: whole frames where it has boxes, else the model's view.

    Args:
        sample: The source.
        spec: What the network expects.
        selection: Times, boxes and size.
    """
    info = sample.info
    size = decode_size_for((info.width, info.height), spec, selection)
    clip = sample.frames(selection.times, size)
    if selection.boxes is not None:
        return clip
    return Clip(crop(clip.pixels, replace(spec, size=selection.size or spec.size)), clip.times)


def shown(
    sample: Sample, spec: InputSpec, selections: Sequence[Selection]
) -> tuple[tuple[float, ...], Pixels]:
    """What the network is shown of a source, selection by selection, as in the loop.

    Args:
        sample: The source.
        spec: What the network expects.
        selections: What a policy selected of one window, all of one size.

    Returns:
        The times of the frames that came, and (T, side, side, 3) uint8.
    """
    frame = sample.info.width, sample.info.height
    times: list[float] = []
    parts: list[Pixels] = []
    for selection in selections:
        clip = fetch(sample, spec, selection)
        if not len(clip):
            break
        times += clip.times
        parts.append(
            clip.pixels if selection.boxes is None else cut_out(clip, frame, spec, selection)
        )
    side = (selections[0].size if selections else None) or spec.size
    empty = np.zeros((0, side, side, 3), np.uint8)
    return tuple(times), np.concatenate([empty, *parts])


def cut_out(clip: Clip, source: tuple[int, int], spec: InputSpec, selection: Selection) -> Pixels:
    """Windows of whole decoded frames: whole pixels where the size is right, else resampled.

    Args:
        clip: (T, h, w, 3) frames at `decode_size_for`; fewer than were selected where some failed.
        source: Upright `(width, height)` that the boxes refer to.
        spec: What the network expects.
        selection: With boxes.

    Returns:
        (T, side, side, 3) uint8.
    """
    assert selection.boxes is not None
    side = selection.size or spec.size
    height, width = clip.pixels.shape[1:3]
    rows = matched(clip.times, selection.times)
    stretch = np.array([width / source[0], height / source[1]] * 2)
    boxes = np.array([selection.boxes[row] for row in rows]).reshape(-1, 4) * stretch
    fits = np.abs(boxes[:, 2:] - boxes[:, :2] - side).max(initial=0) < 1 and side <= min(
        width, height
    )
    if fits:
        return window.crop(clip.pixels, np.round(boxes[:, :2]).astype(np.int64), side)
    x_tchw = torch.from_numpy(np.ascontiguousarray(clip.pixels)).permute(0, 3, 1, 2).float()
    cut = window.crop_resized(x_tchw, torch.from_numpy(boxes).float(), side)
    return np.asarray(cut.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy(), np.uint8)


def matched(shown: tuple[float, ...], asked: tuple[float, ...]) -> list[int]:
    """For each frame that came the number of the time that it answers; both ascending."""
    rows: list[int] = []
    for seconds in shown:
        row = rows[-1] + 1 if rows else 0
        while row + 1 < len(asked) and asked[row] < seconds - 1e-4:
            row += 1
        rows.append(min(row, len(asked) - 1))
    return rows


def to_views(pixels: Pixels, spec: InputSpec, device: torch.device) -> Tensor:
    """Frames as a clip for the network.

    Args:
        pixels: (T, S, S, 3) uint8 RGB.
        spec: Value range, mean and standard deviation.
        device: Where the network runs.

    Returns:
        (1, 3, T, S, S) float32, laid out channels last in memory.
    """
    x_thwc = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float().div_(255)
    if any(spec.mean):
        x_thwc -= x_thwc.new_tensor(spec.mean)
    if any(value != 1.0 for value in spec.std):
        x_thwc /= x_thwc.new_tensor(spec.std)
    return x_thwc.permute(3, 0, 1, 2).unsqueeze(0)
