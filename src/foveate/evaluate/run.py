"""Evaluation: a recogniser over the videos of a split, with what each of them cost."""

from __future__ import annotations

import copy
import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from foveate.core import ConfigError, Result
from foveate.data.readers.unlabelled import LABEL as UNLABELLED
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import (
    BOOTSTRAP,
    REPEATS,
    Comparison,
    compare_correct,
    interval,
)
from foveate.evaluate.measure import Measure
from foveate.evaluate.metrics import known
from foveate.evaluate.results import SCHEMA, Hardware, commit, hardware, now
from foveate.evaluate.truth import Item, Labelled, columns_of, items_of
from foveate.pipeline.recogniser import Recogniser

Progress = Callable[[int, int, str], None]
"""Called after each video with (videos done, videos in all, name)."""

_COLUMNS = (
    "name", "group", "truth", "predicted", "score", "right", "ok", "macs", "seconds", "frames",
    "error",
)  # fmt: skip
PROPORTIONS = ("top1", "top5", "mean-class-accuracy", "answered", "top1-of-answered", "unknown")


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Plain):
    """A metric with its interval; None where it does not exist (an absent class).

    `method` names how the interval was computed; it is `none` where all resamples of a metric
    that is not a proportion agree on its bound, which says nothing about its uncertainty.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    level: float = 0.95
    units: int
    unit: str
    method: str = BOOTSTRAP


class Prediction(_Plain):
    """One video: its labels, its prediction, its cost."""

    name: str
    group: str | None = None
    truth: list[str]
    ok: bool = True
    error: str | None = None
    top: list[tuple[str, float]] = Field(default_factory=list)
    truth_score: float | None = None
    macs: int = 0
    seconds: float = 0.0
    frames: int = 0
    stages: dict[str, float] = Field(default_factory=dict, description="seconds by stage")
    exits: dict[str, int] = Field(default_factory=dict, description="windows by deciding exit")
    fallback: float | None = Field(None, description="share of looks that fell back")
    warnings: list[str] = Field(default_factory=list)
    segments: list[tuple[float, float, str, float]] = Field(
        default_factory=list, description="start and end in seconds, label, score"
    )


class ClassFigure(_Plain):
    """One class: how many videos have it, and its accuracy (or average precision)."""

    label: str
    n: int
    value: float | None


class ClassLocalisation(_Plain):
    """One class of a timeline.

    Attributes:
        label: The class.
        segments: Its true segments.
        average_precision: By threshold of temporal IoU, such as `tiou=0.5`; averages are named
            `tiou=0.3:0.1:0.7` and `tiou=0.5:0.05:0.95`. None without true segments.
    """

    label: str
    segments: int
    average_precision: dict[str, float | None]


class Control(_Plain):
    """A model on altered clips, or a baseline.

    Attributes:
        name: `whole`, `first frame`, `middle frame`, `last frame`, `shuffled`, `reversed` or
            `motion energy`.
        top1: Its accuracy.
        loss: Paired difference, whole clips minus this; None for whole clips.
        agreement: Share of clips with the same prediction as the whole clip.
    """

    name: str
    top1: Figure
    loss: Comparison | None
    agreement: float


class Controls(_Plain):
    """What the model needs of a clip; see `evaluate.controls`.

    Attributes:
        n: Clips measured.
        left_out: Clips that could not be decoded, or are too long.
        most_frequent_class: Its share of the clips.
        margin: Accuracy that a single frame may lose and still count as good as the clip.
        rows: Whole clips, the altered ones and the baseline.
        rule: Number of the rule that chose the conclusion.
        rules: All rules.
        conclusion: What the controls suggest, in one sentence.
    """

    n: int
    left_out: int
    most_frequent_class: float
    margin: float
    rows: list[Control]
    rule: int
    rules: str
    conclusion: str


class Evaluation(_Plain):
    """The result of `evaluate`; `to_json` writes it, `from_json` reads it.

    Attributes:
        n: Videos behind the figures, without the failed ones.
        failed: Videos that could not be read; each is listed in `predictions`.
        digest: Of the records of the split.
        seeds: Of the bootstrap.
        confusion: Rows are true classes; the last column may be `(other)`: a label of the model
            that is not a class of the data.
    """

    schema_: int = Field(default=SCHEMA, alias="schema")
    model: str
    preset: str | None
    split: str | None
    protocol: str
    n: int
    failed: int
    digest: str
    seeds: list[int]
    commit: str
    date: str
    hardware: Hardware
    figures: list[Figure]
    classes: list[ClassFigure]
    columns: list[str] = Field(default_factory=list)
    confusion: list[list[int]] = Field(default_factory=list)
    reliability: list[dict[str, float | int | None]] = Field(default_factory=list)
    predictions: list[Prediction]
    localisation: list[ClassLocalisation] = Field(default_factory=list)
    controls: Controls | None = None

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True
    )

    def to_json(self, indent: int | None = None) -> str:
        """One JSON object."""
        return self.model_dump_json(by_alias=True, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Evaluation:
        """Read back what `to_json` wrote."""
        return cls.model_validate_json(text)

    def figure(self, metric: str) -> Figure:
        """The figure whose name is `metric` or begins with `metric@`."""
        for figure in self.figures:
            if figure.name == metric or figure.name.startswith(f"{metric}@"):
                return figure
        raise ConfigError(
            f"no figure {metric!r}", f"known: {', '.join(f.name for f in self.figures)}"
        )

    def exits(self) -> dict[str, int]:
        """Windows decided at each exit, over all videos; the most frequent exit first."""
        total: Counter[str] = Counter()
        for prediction in self.answered():
            total.update(prediction.exits)
        return dict(total.most_common())

    def to_csv(self) -> str:
        """A row per video: its labels, best label, cost, and the error of those that failed."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for one in self.predictions:
            best: tuple[Any, Any] = one.top[0] if one.top else ("", "")
            right = int(best[0] in one.truth) if one.top and one.truth else ""
            writer.writerow(
                [
                    one.name, one.group or "", "|".join(one.truth), *best, right, int(one.ok),
                    one.macs, one.seconds, one.frames, one.error or "",
                ]
            )  # fmt: skip
        return out.getvalue()

    def answered(self) -> list[Prediction]:
        """The videos that did not fail."""
        return [prediction for prediction in self.predictions if prediction.ok]


def evaluate(
    recogniser: Recogniser,
    dataset: Labelled,
    split: str | None = "test",
    *,
    groups: bool = True,
    batch: int = 1,
    seed: int = 0,
    repeats: int = REPEATS,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a recogniser over the videos of a split and measure it.

    Videos that fail are counted and listed, and left out of the figures. Where records carry
    times, the timeline is measured too (F1 of segments). Of videos without labels only the cost
    is measured.

    Args:
        recogniser: From `foveate.load`.
        dataset: From `foveate.data.read`.
        split: Which videos; None for all.
        groups: Resample groups instead of videos where the records have groups.
        batch: Videos whose windows share one call of the network.
        seed: Of the bootstrap.
        repeats: Bootstrap resamples.
        threshold: Videos whose best label scores lower count as not answered: their share and the
            accuracy over the others are measured too, and segments that score lower are `none`.
        progress: Called after each video.

    Raises:
        ConfigError: An empty split, a class the recogniser does not know, or no video could be
            read.
    """
    items, classes = items_of(dataset, split), tuple(dataset.classes)
    if classes == (UNLABELLED,):
        items, classes = [replace(item, labels=[]) for item in items], ()
    columns = columns_of(classes, recogniser.labels, recogniser.name)
    names = dict(zip(classes, (recogniser.labels[c] for c in columns), strict=True))
    answers = list(results_of(recogniser, items, batch, threshold, progress))
    results = [result for result, _ in answers]
    predictions = [
        prediction_of(item, result, names, recogniser.preset.top_k).model_copy(
            update={"fallback": fell}
        )
        for item, (result, fell) in zip(items, answers, strict=True)
    ]
    good = [i for i, result in enumerate(results) if result.ok]
    if not good:
        first = f"{predictions[0].name}: {predictions[0].error}"
        raise ConfigError(f"none of the {len(items)} videos could be read (the first: {first})")
    measure = Measure(
        [items[i] for i in good],
        [results[i] for i in good],
        _scores([results[i] for i in good], len(recogniser.labels)),
        dict(zip(classes, columns, strict=True)),
    )
    units = units_of([items[i].group for i in good]) if groups else None
    statistics = measure.statistics(dataset.multilabel, threshold)
    figures = [
        figure_of(name, statistic, len(good), units, repeats=repeats, seed=seed)
        for name, statistic in statistics.items()
    ]
    return Evaluation(
        model=recogniser.name,
        preset=recogniser.preset_name,
        split=split,
        protocol=_protocol(recogniser, split, units is not None, repeats),
        n=len(good),
        failed=len(items) - len(good),
        digest=dataset.digest(split) if split is not None else "",
        seeds=[seed],
        commit=commit(),
        date=now(),
        hardware=hardware(),
        figures=figures,
        predictions=predictions,
        **measure.details(dataset.multilabel),
    )


def compare_runs(
    first: Evaluation, second: Evaluation, *, seed: int = 0, repeats: int = REPEATS
) -> Comparison:
    """Paired difference of top-1 between two runs over the videos that neither failed on.

    Raises:
        ConfigError: The runs have no video in common.
    """
    other = {p.name: p for p in second.answered()}
    pairs = [(p, other[p.name]) for p in first.answered() if p.name in other]
    if not pairs:
        raise ConfigError(f"{first.model} and {second.model} were measured on different videos")
    right = [np.array([_right(p) for p in side]) for side in zip(*pairs, strict=True)]
    units = units_of([p.group for p, _ in pairs])
    return compare_correct(right[0], right[1], units, seed=seed, repeats=repeats)


def units_of(groups: Sequence[str | None]) -> list[str] | None:
    """What the bootstrap resamples: groups, and each video without one; None for single videos."""
    if all(group is None for group in groups):
        return None
    return [group if group is not None else f"\n{i}" for i, group in enumerate(groups)]


def _right(prediction: Prediction) -> float:
    return float(bool(prediction.top) and prediction.top[0][0] in prediction.truth)


def results_of(
    recogniser: Recogniser,
    items: Sequence[Item],
    batch: int,
    threshold: float | None,
    progress: Progress | None,
) -> Iterable[tuple[Result, float | None]]:
    # Calibration and mean average precision need every score, not only the best few.
    whole = copy.copy(recogniser)
    changes: dict[str, Any] = {"top_k": len(recogniser.labels)}
    if threshold is not None:
        changes["none_below"] = threshold
    whole.preset = recogniser.preset.model_copy(update=changes)
    sources = (item.source for item in items)
    for done, result in enumerate(whole.predict_many(sources, batch=batch), 1):
        if progress is not None:
            progress(done, len(items), items[done - 1].name)
        # Only the fallbacks of a trace are used, and long videos have long traces.
        steps = result.trace.steps if result.trace is not None else []
        fell = fmean(step.fallback for step in steps) if steps else None
        yield result.model_copy(update={"trace": None}), fell


def _scores(results: Sequence[Result], classes: int) -> np.ndarray[Any, Any]:
    scores = np.zeros((len(results), classes))
    for row, result in enumerate(results):
        for score in result.labels:
            scores[row, score.index] = score.score
    return scores


def prediction_of(item: Item, result: Result, names: dict[str, str], kept: int) -> Prediction:
    """One row of the evaluation, with the class names of the data set."""
    back = {label: name for name, label in names.items()}
    wanted = {names[label] for label in item.labels}
    right = [score.score for score in result.labels if score.label in wanted]
    error = None
    if result.error is not None:
        # Results contain no folders of this machine; the name is in its own field.
        message = result.error.message.replace(str(item.source), item.name)
        error = message.removeprefix(f"{item.name}: ")
    return Prediction(
        name=item.name,
        group=item.group,
        truth=item.labels,
        ok=result.ok,
        error=error,
        top=[(back.get(s.label, s.label), s.score) for s in result.labels[:kept]],
        truth_score=max(right) if right else None,
        macs=result.cost.macs,
        seconds=result.cost.seconds,
        frames=result.cost.frames_decoded,
        stages={stage.name: stage.seconds for stage in result.cost.stages},
        exits=result.exits,
        warnings=result.warnings,
        segments=[
            (s.start, s.end, back.get(s.label, s.label), s.score)
            for s in result.segments
            if s.index is not None
        ],
    )


def figure_of(
    name: str,
    statistic: metrics.Statistic,
    samples: int,
    groups: Sequence[str] | None,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Figure:
    """A metric with the interval that suits it; arguments as for `bootstrap.interval`."""
    metric = name.partition("@")[0]
    found = interval(
        statistic, samples, groups, repeats=repeats, seed=seed, proportion=metric in PROPORTIONS
    )
    value, low, high, method = known(found.value), known(found.low), known(found.high), found.method
    if low == high and value in (0.0, 1.0) and "@" in name and metric not in PROPORTIONS:
        low, high, method = None, None, "none"
    return Figure(
        name=name, value=value, low=low, high=high, level=found.level,
        units=found.units, unit=found.unit, method=method,
    )  # fmt: skip


def _protocol(recogniser: Recogniser, split: str | None, grouped: bool, repeats: int) -> str:
    preset = recogniser.preset
    window = "the model's clip length" if preset.window is None else f"{preset.window:g} s"
    return (
        f"split {split or 'all'}; one answer per video, mean over windows of {window}; look "
        f"{preset.look.name}, decide {preset.decide.name}; 95 % percentile bootstrap over "
        f"{'groups' if grouped else 'videos'}, {repeats} resamples "
        "(Wilson's interval where all agree)"
    )
