"""The executor of detectors: whole on key frames, cheaper on the frames between.

Its parts are `key`; `nonkey`, the low part of a network with LSTS; `move`, which lets boxes follow
the codec's motion vectors; and `warp`, which lets the features of the key frame follow optical flow
(DFF, Zhu et al., arXiv 1611.07715, with DIS flow in place of a flow network).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core import Detections, Evidence, InputSpec, ModelError, View, Views
from foveate.core.loop import Box
from foveate.media.flow import dense_flow
from foveate.models.detectors import Found, Maps
from foveate.models.layers.folded import fold_norms
from foveate.models.video_detector import VideoState, split_state, stack_states
from foveate.pipeline.executors import calling, to_tensor
from foveate.policy.looks.keys import STILL

Array = np.ndarray[Any, Any]
MOVING = 0.25  # share of the cells of a box from which those that move count alone


@dataclass(frozen=True)
class DetectState:
    """What is remembered of one source.

    Attributes:
        video: Of the temporal necks.
        features: Maps that the last key frame was detected on.
        size: `(H, W)` of the frames.
        last: The boxes of the last frame.
        picture: (H, W, 3) uint8, the last key frame.
    """

    video: VideoState
    features: Maps
    size: tuple[int, int]
    last: Detections
    picture: Array


class DetectExecutor:
    """Runs a detector, or a detector with LSTS; satisfies `core.Executor`.

    Args:
        module: A `Detector` or a `VideoDetector`, in evaluation mode.
        device: Where it runs.
        spec: How frames are prepared.
        min_score: Detections that score lower are left out.
    """

    head: str | None = None
    persistent = True

    def __init__(
        self, module: Any, device: torch.device, spec: InputSpec, min_score: float = 0.0
    ) -> None:
        # Convolutions of small networks take half the time on a CPU with channels last.
        folded = fold_norms(module.eval())
        self.module: Any = folded.to(device, memory_format=torch.channels_last)
        self.device, self.spec, self.min_score = device, spec, min_score
        self.temporal = hasattr(module, "nonkey")
        self.parts: tuple[str, ...] = (
            "key",
            *(["nonkey"] if self.temporal else []),
            "move",
            "warp",
        )
        self._macs = cache(self._counted)

    def input(self, part: str) -> InputSpec:
        """How frames are prepared."""
        return self.spec

    def stage(self, part: str) -> str:
        """Name of the part's work in the ledger."""
        return part

    def batch_key(self, part: str, views: Views, state: DetectState | None) -> Hashable:
        """Frames of one size share a call; see `core.Executor`."""
        shapes = tuple(view.array.shape[1:] for view in views.values())
        return part, shapes, None if state is None else state.size

    def cost(self, part: str, views: Views, state: DetectState | None) -> int:
        """Multiply-adds; see `core.Executor`.

        They are counted on frames of zeros, so a head that works on single proposals is counted
        with as many as it finds there.
        """
        if part == "move":
            return 0
        rows, frames, height, width = next(iter(views.values())).array.shape[:4]
        return int(rows * frames * self._macs(part, (height, width), state is None))

    @torch.inference_mode()
    def run(
        self, part: str, views: Sequence[Views], states: Sequence[DetectState | None]
    ) -> tuple[list[DetectState], list[Evidence]]:
        """Run a part for several sources; see `core.Executor`.

        Raises:
            ModelError: Another part than `key` comes first.
        """
        for state in states:
            if state is None and part != "key":
                raise ModelError(f"the part {part!r} needs a key frame before it")
        if part == "move":
            found = [
                self._moved(view["motion"], state)
                for view, state in zip(views, states, strict=True)
            ]
        else:
            found = self._frames(part, [view["rgb"] for view in views], list(states))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return [state for state, _ in found], [evidence for _, evidence in found]

    def _frames(
        self, part: str, views: list[View], states: list[Any]
    ) -> list[tuple[DetectState, Evidence]]:
        """Run the network on a frame of each source, or on several frames, one after another."""
        frames = to_tensor(np.concatenate([view.array for view in views]), self.spec, self.device)
        found: list[list[Detections]] = [[] for _ in views]
        changes: list[Array] = [np.zeros(0)] * len(views)
        for step in range(frames.shape[2]):
            x = frames[:, :, step].contiguous(memory_format=torch.channels_last)
            size = (x.shape[2], x.shape[3])
            with calling(self.module, x.shape):
                if part == "warp":
                    current = [view.array[0, step] for view in views]
                    features, videos = _warped(current, states), [s.video for s in states]
                else:
                    features, videos = self._features(part, x, states)
                boxes = self.module.detect(features, [size] * len(x))
            for row, view in enumerate(views):
                last = self._in_source(boxes[row], view.times[step], size, view.regions[step])
                found[row].append(last)
                own = {name: maps[row : row + 1] for name, maps in features.items()}
                if part == "key":
                    states[row] = DetectState(videos[row], own, size, last, view.array[0, step])
                    continue
                changes[row] = _change(own, states[row].features)
                states[row] = replace(states[row], video=videos[row], last=last)
        return [
            (
                state,
                Evidence(
                    detections=tuple(one), proposals={"change": change} if len(change) else {}
                ),
            )
            for state, one, change in zip(states, found, changes, strict=True)
        ]

    def _features(
        self, part: str, x: Tensor, states: Sequence[Any]
    ) -> tuple[Maps, list[VideoState]]:
        if not self.temporal:
            return self.module.high(self.module.low(x)), [VideoState()] * len(x)
        before = [VideoState() if state is None else state.video for state in states]
        features, video = getattr(self.module, part)(x, stack_states(before))
        return features, split_state(video, len(x))

    def _moved(self, motion: View, state: Any) -> tuple[DetectState, Evidence]:
        """Let the boxes of one source follow the motion since the last frame."""
        boxes = state.last.boxes
        for field in motion.array[0]:
            boxes = moved(boxes, field, motion.regions[0])
        state = replace(state, last=replace(state.last, boxes=boxes, time=motion.times[-1]))
        return state, Evidence(detections=(state.last,))

    def _in_source(
        self, found: Found, time: float, size: tuple[int, int], region: Box
    ) -> Detections:
        """Boxes in pixels of the upright source, of what was found in a view of a region of it."""
        kept = found["scores"] >= self.min_score
        boxes, scores, labels = (
            found[name][kept].cpu().numpy() for name in ("boxes", "scores", "labels")
        )
        scale = np.array([(region[2] - region[0]) / size[1], (region[3] - region[1]) / size[0]] * 2)
        corner = np.array([region[0], region[1]] * 2)
        return Detections(time, boxes.astype(np.float64) * scale + corner, scores, labels)

    def _counted(self, part: str, size: tuple[int, int], first: bool) -> int:
        from torch.utils.flop_counter import FlopCounterMode

        x = torch.zeros(1, 3, *size, device=self.device)
        with torch.no_grad():
            features, videos = self._features("key", x, [None])
            counter = FlopCounterMode(display=False)
            state = None if first else DetectState(videos[0], features, size, _NOTHING, np.zeros(0))
            with counter:
                if part != "warp":
                    features, _ = self._features(part, x, [state])
                self.module.detect(features, [size])
        return counter.get_total_flops() // 2


_NOTHING = Detections(0.0, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))


def _change(now: Maps, key: Maps) -> Array:
    """Relative difference of the features from those of the key frame, one value per map."""
    return np.array([
        float((now[name] - key[name]).norm() / key[name].norm().clamp_min(1e-6)) for name in now
    ])  # fmt: skip


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


def _warped(current: Sequence[Array], states: Sequence[DetectState]) -> Maps:
    """The features of each key frame where its content is now, for frames (H, W, 3) uint8."""
    flows = [
        dense_flow(np.stack([now, state.picture]))[0] / np.array(now.shape[1::-1], np.float32)
        for now, state in zip(current, states, strict=True)
    ]
    flow = torch.from_numpy(np.stack(flows))
    return {
        name: warped(torch.cat([state.features[name] for state in states]), flow)
        for name in states[0].features
    }


def warped(maps: Tensor, flow: Tensor) -> Tensor:
    """Feature maps sampled where the flow leads.

    Args:
        maps: (N, C, H, W) of a key frame.
        flow: (N, h, w, 2) from the present frame to the key frame, as a share of the frame's width
            and height.
    """
    height, width = maps.shape[2:]
    shift = F.interpolate(flow.to(maps).permute(0, 3, 1, 2), size=(height, width), mode="area")
    x = ((torch.arange(width).to(maps) + 0.5) / width).expand(height, width)
    y = ((torch.arange(height).to(maps) + 0.5) / height)[:, None].expand(height, width)
    places = torch.stack([x, y], -1) + shift.permute(0, 2, 3, 1)
    return F.grid_sample(maps, 2 * places - 1, padding_mode="border", align_corners=False)
