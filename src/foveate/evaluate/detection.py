"""Average precision of detections in video, as COCO defines it, with strata by speed.

Detections of a class are matched to boxes frame by frame, the most confident first; precision is
interpolated at 101 recalls and averaged over classes, and for mAP over IoU thresholds from .5 to
.95. The values are those of pycocotools and faster-coco-eval (tested); it is implemented here
because an interval needs the metric of every resample of videos, and strata need boxes that are
ignored, and neither can be had from those packages without matching again.

Sources: Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation code; Zhu et al.,
"Flow-Guided Feature Aggregation for Video Object Detection", ICCV 2017, section 5.2 (speed).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.data.record import FrameBoxes
from foveate.evaluate.metrics import Floats, Statistic, nanmean

IOUS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
SPEEDS = {"slow": (0.9, 1.01), "medium": (0.7, 0.9), "fast": (-1.0, 0.7)}  # motion IoU from, to
NEARBY = 10  # frames before and after, to which a box is compared for its motion IoU
MOST = 100  # detections of a class in a frame that count
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class FrameObjects:
    """Objects in one frame: `xyxy` boxes (N, 4), class indices (N,), and scores (N,) if found."""

    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[float], int, float]]) -> FrameObjects:
        """From (box, class, score) of each."""
        boxes = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
        labels = np.array([row[1] for row in rows], np.int64)
        return cls(boxes, labels, np.array([row[2] for row in rows], np.float64))


@dataclass(frozen=True)
class TrueVideo:
    """The boxes of a video.

    Attributes:
        frames: By number of the frame.
        speeds: Motion IoU of each of its boxes: the mean IoU with the same object in the frames
            nearby (FGFA); NaN without a track. A frame may be left out.
    """

    frames: dict[int, FrameObjects]
    speeds: dict[int, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, boxes: Sequence[FrameBoxes], classes: Sequence[str]) -> TrueVideo:
        """From a record's boxes, with the class indices of a data set."""
        at = {name: index for index, name in enumerate(classes)}
        frames = {
            one.frame: FrameObjects.of([(o.box, at[o.label], 1.0) for o in one.objects])
            for one in boxes
        }
        tracks: dict[int, dict[int, Any]] = defaultdict(dict)
        for one in boxes:
            for found in one.objects:
                if found.track is not None:
                    tracks[found.track][one.frame] = found.box
        speeds = {
            one.frame: np.array([_motion_iou(tracks, o.track, one.frame) for o in one.objects])
            for one in boxes
        }
        return cls(frames, speeds)


class DetectionMeasure:
    """Detections with the true boxes of several videos.

    Args:
        truth: One per video.
        found: Of the same videos, by number of the frame; frames that are not annotated are left
            out.
        classes: Number of classes.
    """

    def __init__(
        self, truth: Sequence[TrueVideo], found: Sequence[Mapping[int, FrameObjects]], classes: int
    ) -> None:
        self.truth, self.found, self.classes = truth, found, classes

    def statistic(
        self,
        ious: Sequence[float] = IOUS,
        speed: str | None = None,
        only: int | None = None,
    ) -> Statistic:
        """Mean average precision of weights (R, videos).

        Args:
            ious: Thresholds of overlap.
            speed: A key of `SPEEDS`: boxes of another speed are ignored, found or not.
            only: Of this class alone.
        """
        chosen = range(self.classes) if only is None else (only,)
        ranked = [_Ranked(self._pairs[c], len(self.truth), ious, speed) for c in chosen]

        def statistic(weights: Floats) -> Floats:
            parts = [
                one.average_precision(weights, at) for one in ranked for at in range(len(ious))
            ]
            return nanmean(np.stack(parts, 1))

        return statistic

    def boxes(self, only: int) -> int:
        """Number of boxes of a class."""
        return sum(len(pair.speeds) for pair in self._pairs[only])

    @cached_property
    def _pairs(self) -> list[list[_Pair]]:
        """For each class its frames with boxes or detections."""
        found: list[list[_Pair]] = [[] for _ in range(self.classes)]
        for video, (truth, said) in enumerate(zip(self.truth, self.found, strict=True)):
            for frame, objects in truth.frames.items():
                guess = said.get(frame, FrameObjects.of([]))
                speeds = truth.speeds.get(frame, np.full(len(objects.labels), np.nan))
                for label in {*objects.labels.tolist(), *guess.labels.tolist()}:
                    true, mine = objects.labels == label, guess.labels == label
                    order = np.argsort(-guess.scores[mine], kind="stable")[:MOST]
                    found[label].append(
                        _Pair(
                            video, guess.scores[mine][order],
                            overlaps(guess.boxes[mine][order], objects.boxes[true]),
                            speeds[true],
                        )
                    )  # fmt: skip
        return found


@dataclass(frozen=True)
class _Pair:
    """Detections (D,), best first, and boxes (G,) of one class in one frame of a video."""

    video: int
    scores: Floats
    overlaps: Floats
    speeds: Floats


class _Ranked:
    """The detections of one class in all frames, best first, with their fate at every IoU."""

    def __init__(
        self, pairs: Sequence[_Pair], videos: int, ious: Sequence[float], speed: str | None
    ) -> None:
        self.boxes = np.zeros(videos)
        scores, owners, fates = [], [], []
        for pair in pairs:
            ignored = np.zeros(len(pair.speeds), bool)
            if speed is not None:
                low, high = SPEEDS[speed]
                ignored = ~((pair.speeds >= low) & (pair.speeds < high))
            self.boxes[pair.video] += (~ignored).sum()
            scores.append(pair.scores)
            owners.append(np.full(len(pair.scores), pair.video))
            fates.append(np.stack([_matched(pair.overlaps, ignored, iou) for iou in ious]))
        empty = np.zeros((len(ious), 0), np.int8)
        order = np.argsort(-np.concatenate([np.zeros(0), *scores]), kind="stable")
        self.owners = np.concatenate([np.zeros(0, int), *owners])[order]
        self.fates = np.concatenate([empty, *fates], 1)[:, order]

    def average_precision(self, weights: Floats, at: int) -> Floats:
        """(R,) of the `at`-th IoU; NaN where there are no boxes."""
        boxes = weights @ self.boxes
        counts = np.flatnonzero(self.fates[at] >= 0)
        # Behind the last right one, recall does not rise any more.
        right = self.fates[at][counts] > 0
        counts = counts[: len(right) - right[::-1].argmax() if right.any() else 0]
        ours, right = weights[:, self.owners[counts]], self.fates[at][counts] > 0
        hits, seen = (ours * right).cumsum(1), ours.cumsum(1)
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        out = np.full(len(weights), np.nan)
        for row in np.flatnonzero(boxes > 0):
            recall = hits[row] / boxes[row]
            places = np.searchsorted(recall, _RECALLS, side="left")
            reached = places < len(recall)
            out[row] = precision[row][places[reached]].sum() / len(_RECALLS)
        return out


def _matched(overlap: Floats, ignored: NDArray[np.bool_], iou: float) -> NDArray[np.int8]:
    """For each detection: 1 matched, 0 not, -1 matched to a box that is ignored.

    Args:
        overlap: (D, G), the most confident detection first.
        ignored: (G,) boxes that count neither way.
        iou: Least overlap.
    """
    fates = np.zeros(len(overlap), np.int8)
    free = np.ones(len(ignored), bool)
    least = min(iou, 1 - 1e-10)
    for row in np.flatnonzero((overlap >= least).any(1)):
        values = overlap[row]
        for group, fate in ((~ignored, 1), (ignored, -1)):  # ignored boxes only if no other fits
            open_boxes = np.flatnonzero(free & group & (values >= least))
            if len(open_boxes):
                # Of equal overlaps COCO's code takes the last box.
                best = open_boxes[::-1][values[open_boxes[::-1]].argmax()]
                free[best] = False
                fates[row] = fate
                break
    return fates


def overlaps(first: Floats, second: Floats) -> Floats:
    """IoU (N, M) of boxes (N, 4) and (M, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    found: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return found


def _motion_iou(tracks: Mapping[int, Mapping[int, Any]], track: int | None, frame: int) -> float:
    if track is None:
        return float("nan")
    boxes = tracks[track]
    near = [
        boxes[f] for f in range(frame - NEARBY, frame + NEARBY + 1) if f in boxes and f != frame
    ]
    if not near:
        return float("nan")
    return float(overlaps(np.array([boxes[frame]]), np.array(near)).mean())
