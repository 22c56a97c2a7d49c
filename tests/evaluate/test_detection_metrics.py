"""Average precision of boxes is that of torchmetrics' backends; strata and intervals of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foveate.data.record import FrameBoxes, ObjectBox
from foveate.evaluate.detection import (
    IOUS,
    SPEEDS,
    DetectionMeasure,
    FrameObjects,
    TrueVideo,
    overlaps,
)
from foveate.evaluate.metrics import value_of

CLASSES = ("a", "b", "c")
Rows = list[tuple[list[float], int, float]]


def scene(seed: int, videos: int = 4, frames: int = 6) -> tuple[list[TrueVideo], list[dict]]:
    """Boxes, and detections of various quality: moved, doubled, of a wrong class, or invented."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(videos):
        boxes, said = [], {}
        for frame in range(frames):
            true, rows = [], []
            for track in range(int(random.integers(0, 5))):
                low = random.uniform(0, 80, 2)
                box = [*low, *(low + random.uniform(8, 40, 2))]
                label = int(random.integers(len(CLASSES)))
                true.append(ObjectBox(CLASSES[label], tuple(box), track))
                for _ in range(int(random.integers(0, 3))):
                    moved = np.array(box) + random.normal(0, 3, 4)
                    named = label if random.random() < 0.8 else int(random.integers(len(CLASSES)))
                    rows.append((moved.tolist(), named, float(random.random())))
            boxes.append(FrameBoxes(frame, tuple(true)))
            said[frame] = FrameObjects.of(rows)
        truth.append(TrueVideo.of(boxes, CLASSES))
        found.append(said)
    return truth, found


def reference(truth: list[TrueVideo], found: list[dict], backend: str) -> dict[str, float]:
    """By torchmetrics."""
    pytest.importorskip("torchmetrics")
    pytest.importorskip(backend)
    from torchmetrics.detection import MeanAveragePrecision

    # Its own thresholds are rounded to float32, so that recalls of exactly .2 fall short of .2.
    recalls = np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision(
        backend=backend, iou_thresholds=list(IOUS), rec_thresholds=recalls
    )
    said, true = [], []
    for video, guess in zip(truth, found, strict=True):
        for frame, objects in video.frames.items():
            mine = guess[frame]
            said.append({
                "boxes": torch.tensor(mine.boxes), "labels": torch.tensor(mine.labels),
                "scores": torch.tensor(mine.scores),
            })  # fmt: skip
            true.append(
                {"boxes": torch.tensor(objects.boxes), "labels": torch.tensor(objects.labels)}
            )
    metric.update(said, true)
    return {key: float(value) for key, value in metric.compute().items() if value.ndim == 0}


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
@pytest.mark.parametrize("seed", range(4))
def test_the_values_are_those_of_torchmetrics(backend: str, seed: int) -> None:
    truth, found = scene(seed)
    want = reference(truth, found, backend)
    measure = DetectionMeasure(truth, found, len(CLASSES))
    assert value_of(measure.statistic(), len(truth)) == pytest.approx(want["map"], abs=1e-6)
    half = value_of(measure.statistic(IOUS[:1]), len(truth))
    assert half == pytest.approx(want["map_50"], abs=1e-6)
    assert 0.05 < half < 0.95


def test_a_resample_is_the_metric_of_its_videos() -> None:
    truth, found = scene(5)
    measure = DetectionMeasure(truth, found, len(CLASSES))
    weights = np.array([[2.0, 0.0, 1.0, 1.0]])
    drawn = [0, 0, 2, 3]
    again = DetectionMeasure([truth[i] for i in drawn], [found[i] for i in drawn], len(CLASSES))
    assert measure.statistic()(weights)[0] == pytest.approx(value_of(again.statistic(), 4))


def moving(step: float) -> list[FrameBoxes]:
    """One object of 20 pixels that moves by some pixels per frame."""
    places = [(10 + step * at, 10, 30 + step * at, 30) for at in range(12)]
    return [FrameBoxes(at, (ObjectBox("a", box, 1),)) for at, box in enumerate(places)]


def test_speed_is_the_overlap_with_the_frames_nearby() -> None:
    speeds = {step: TrueVideo.of(moving(step), CLASSES).speeds for step in (0.0, 0.2, 1.5)}
    assert all(value == 1 for values in speeds[0.0].values() for value in values)
    first = np.array([[10.0, 10, 30, 30]])
    near = [overlaps(first, first + 0.2 * k * np.array([1, 0, 1, 0])) for k in range(1, 11)]
    assert speeds[0.2][0][0] == pytest.approx(np.mean(near))
    assert 0.7 < speeds[0.2][6][0] < 0.99
    assert speeds[1.5][6][0] < 0.7


def test_boxes_of_another_speed_are_ignored_found_or_not() -> None:
    truth = [TrueVideo.of(moving(step), CLASSES) for step in (0.0, 1.5)]
    perfect = [dict(video.frames) for video in truth]
    blind = [perfect[0], {}]  # nothing of the fast object
    measure = DetectionMeasure(truth, blind, len(CLASSES))
    value = {speed: value_of(measure.statistic(IOUS[:1], speed), 2) for speed in SPEEDS}
    assert value["slow"] == 1
    assert value["fast"] == 0
    assert np.isnan(value["medium"])
    # A detection of an ignored box is no mistake either.
    both = DetectionMeasure(truth, perfect, len(CLASSES))
    assert value_of(both.statistic(IOUS[:1], "slow"), 2) == 1
    assert value_of(measure.statistic(), 2) == pytest.approx(0.5, abs=0.01)
    # A detection of nothing is one.
    wrong = FrameObjects(np.array([[60.0, 60, 90, 90]]), np.array([0]), np.array([1.0]))
    noisy = DetectionMeasure(truth, [{**perfect[0], 0: wrong}, {}], len(CLASSES))
    assert value_of(noisy.statistic(IOUS[:1], "slow"), 2) < 1
