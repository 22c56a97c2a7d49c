"""Evaluation of a detector on videos with boxes: average precision, and executed cost per frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foveate.core import ConfigError, Result
from foveate.data.sources import frame_times
from foveate.evaluate import metrics
from foveate.evaluate.detection import IOUS, SPEEDS, DetectionMeasure, FrameObjects, TrueVideo
from foveate.evaluate.metrics import Statistic
from foveate.evaluate.results import commit, hardware, now
from foveate.evaluate.run import (
    ClassFigure,
    Evaluation,
    Prediction,
    Progress,
    evaluate,
    figure_of,
    prediction_of,
    results_of,
    units_of,
)
from foveate.evaluate.truth import Labelled, columns_of, items_of
from foveate.media import open_source
from foveate.media.folder import RATE
from foveate.pipeline.recogniser import Recogniser

RESAMPLES = 500  # each needs the precision of every class at every overlap again


@dataclass
class Detected:
    """What a detector found in the videos of a split, beside their boxes.

    Attributes:
        predictions: Of all videos, those that failed included.
        groups: Of each video that did not fail, in order, as all that follow.
        truth: Their boxes.
        found: Their detections, by number of the frame.
        frames: How many frames they have.
        results: Cost and warnings.
    """

    predictions: list[Prediction] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    truth: list[TrueVideo] = field(default_factory=list)
    found: list[dict[int, FrameObjects]] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


def detected(
    recogniser: Recogniser,
    dataset: Labelled,
    split: str | None,
    *,
    batch: int = 1,
    progress: Progress | None = None,
) -> Detected:
    """Run a detector over the videos of a split; arguments as for `run.evaluate`.

    Detections of every score count. Classes of the model that are none of the data are left out.

    Raises:
        ConfigError: The model is no detector, lacks a class, or no video could be read.
    """
    items, classes = items_of(dataset, split), tuple(dataset.classes)
    records = (dataset if split is None else dataset.subset(split)).records
    columns = columns_of(classes, recogniser.labels, recogniser.name)
    index = {column: at for at, column in enumerate(columns)}
    names = dict(zip(classes, (recogniser.labels[c] for c in columns), strict=True))
    out = Detected()
    with _every_score(recogniser):
        results = results_of(recogniser, items, batch, None, progress)
        for item, record, (result, _) in zip(items, records, results, strict=True):
            if result.ok and result.task != "detect":
                raise ConfigError(
                    f"{recogniser.name}: classifies whole clips, and the data has boxes",
                    "name a detector, as foveate train --recipe lsts makes one",
                )
            out.predictions.append(prediction_of(item, result, names, 0))
            if result.ok:
                times = _times(item.source)
                out.groups.append(item.group)
                out.truth.append(TrueVideo.of(record.boxes, classes))
                out.found.append(_by_frame(result, times, index))
                out.frames.append(len(times))
                out.results.append(result.model_copy(update={"detections": []}))
    if not out.results:
        first = f"{out.predictions[0].name}: {out.predictions[0].error}"
        raise ConfigError(f"none of the {len(items)} videos could be read (the first: {first})")
    return out


def evaluate_any(
    recogniser: Recogniser,
    dataset: Labelled,
    split: str | None,
    *,
    groups: bool = True,
    batch: int = 1,
    seed: int = 0,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure detections where the videos have boxes, labels otherwise; see `run.evaluate`."""
    if getattr(dataset, "has_boxes", False):
        return evaluate_detections(
            recogniser, dataset, split, groups=groups, batch=batch, seed=seed, progress=progress
        )
    return evaluate(
        recogniser, dataset, split, groups=groups,
        batch=batch, seed=seed, threshold=threshold, progress=progress,
    )  # fmt: skip


def evaluate_detections(
    recogniser: Recogniser,
    dataset: Labelled,
    split: str | None,
    *,
    groups: bool = True,
    batch: int = 1,
    seed: int = 0,
    repeats: int = RESAMPLES,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a detector on the videos of a split; arguments and errors as for `run.evaluate`.

    Frames that are not annotated are not measured.
    """
    out = detected(recogniser, dataset, split, batch=batch, progress=progress)
    classes, videos = tuple(dataset.classes), len(out.truth)
    measure = DetectionMeasure(out.truth, out.found, len(classes))
    units = units_of(out.groups) if groups else None
    statistics = {**_precision(measure), **_costs(out)}
    values = [metrics.value_of(measure.statistic(only=at), videos) for at in range(len(classes))]
    return Evaluation(
        model=recogniser.name,
        preset=recogniser.preset_name,
        split=split,
        protocol=_protocol(recogniser, split, units is not None, repeats),
        n=videos,
        failed=len(out.predictions) - videos,
        digest=dataset.digest(split) if split is not None else "",
        seeds=[seed],
        commit=commit(),
        date=now(),
        hardware=hardware(),
        figures=[
            figure_of(name, statistic, videos, units, repeats=repeats, seed=seed)
            for name, statistic in statistics.items()
        ],
        classes=[
            ClassFigure(label=label, n=measure.boxes(at), value=metrics.known(values[at]))
            for at, label in enumerate(classes)
        ],
        predictions=out.predictions,
    )


@contextmanager
def _every_score(recogniser: Recogniser) -> Iterator[None]:
    """Let a detector give all boxes: average precision needs those of low scores."""
    executor: Any = recogniser.executor
    before = getattr(executor, "min_score", None)
    if before is None:
        yield
        return
    executor.min_score = 0.0
    try:
        yield
    finally:
        executor.min_score = before


def _times(source: Any) -> tuple[float, ...]:
    """Seconds of all frames of a video."""
    sample = open_source(source, fps=RATE)
    try:
        return frame_times(sample)
    finally:
        sample.close()


def _by_frame(
    result: Result, times: Sequence[float], index: dict[int, int]
) -> dict[int, FrameObjects]:
    """Detections by the number of the frame that is nearest in time."""
    rows: dict[int, list[tuple[Sequence[float], int, float]]] = defaultdict(list)
    edges = (np.array(times[1:]) + np.array(times[:-1])) / 2
    for one in result.detections:
        if one.index in index:
            frame = int(np.searchsorted(edges, one.time))
            rows[frame].append((one.box, index[one.index], one.score))
    return {frame: FrameObjects.of(found) for frame, found in rows.items()}


def _precision(measure: DetectionMeasure) -> dict[str, Statistic]:
    """mAP50, mAP, and mAP50 by speed where objects have tracks."""
    found = {"map50@frame": measure.statistic(IOUS[:1]), "map@frame": measure.statistic()}
    if any(not np.isnan(speeds).all() for one in measure.truth for speeds in one.speeds.values()):
        for speed in SPEEDS:
            found[f"map50@frame,speed={speed}"] = measure.statistic(IOUS[:1], speed)
    return found


def _costs(out: Detected) -> dict[str, Statistic]:
    """Executed work per frame of the video, and per call of each part of the model."""
    costs = [result.cost for result in out.results]
    found = {
        "macs-per-frame@video": _ratio([cost.macs for cost in costs], out.frames),
        "seconds-per-frame@video": _ratio([cost.seconds for cost in costs], out.frames),
    }
    for name in dict.fromkeys(s.name for cost in costs for s in cost.stages if s.macs):
        stages = [cost.stage(name) for cost in costs]
        calls = [stage.calls for stage in stages]
        found[f"calls-per-frame@video,part={name}"] = _ratio(calls, out.frames)
        found[f"macs-per-call@video,part={name}"] = _ratio([s.macs for s in stages], calls)
        found[f"seconds-per-call@video,part={name}"] = _ratio([s.seconds for s in stages], calls)
    return found


def _ratio(values: Sequence[float], counts: Sequence[float]) -> Statistic:
    above, below = np.array(values, float), np.array(counts, float)
    return lambda weights: metrics.ratio(weights @ above, weights @ below)


def _protocol(recogniser: Recogniser, split: str | None, grouped: bool, repeats: int) -> str:
    return (
        f"split {split or 'all'}; COCO average precision (101 recalls, at most 100 detections of a "
        f"class in a frame), mAP over IoU .5 to .95; speed by motion IoU with the 10 frames before "
        f"and after (slow above .9, fast below .7); look {recogniser.preset.look.name}; 95 % "
        f"percentile bootstrap over {'groups' if grouped else 'videos'}, {repeats} resamples"
    )
