"""Predictions with their true labels, and every metric computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from foveate.core import Result
from foveate.evaluate import metrics
from foveate.evaluate.localisation import Localisation
from foveate.evaluate.metrics import Protocol, Statistic, Stretch
from foveate.evaluate.truth import Item

OTHER = "(other)"
TIOUS = (0.3, 0.5, 0.7)
_BINS = 10


class Measure:
    """Predictions and true labels as arrays."""

    def __init__(
        self,
        items: Sequence[Item],
        results: Sequence[Result],
        scores: np.ndarray[Any, Any],
        column: dict[str, int],
    ) -> None:
        self.items, self.results, self.scores, self.column = items, results, scores, column
        self.truth = np.zeros((len(items), len(column)))
        for row, item in enumerate(items):
            for label in item.labels:
                self.truth[row, list(column).index(label)] = 1
        self.single = bool(column) and all(len(item.labels) == 1 for item in items)
        first = [item.labels[0] for item in items] if self.single else []
        self.labels = np.array([column[label] for label in first], int)

    def statistics(self, multilabel: bool, threshold: float | None = None) -> dict[str, Statistic]:
        """Every metric that applies, by its full name; `threshold` as for `run.evaluate`."""
        named, found = Protocol("video", 1).name, dict[str, Statistic]()
        if self.single and not multilabel:
            top = metrics.hits(self.scores, self.labels)
            found[named("top1")] = metrics.mean(top)
            if self.scores.shape[1] > 5:
                found[named("top5")] = metrics.mean(metrics.hits(self.scores, self.labels, 5))
            found[named("mean-class-accuracy")] = metrics.mean_class_accuracy(top, self.labels)
            found[named("calibration-error", bins=_BINS)] = metrics.calibration_error(
                self.scores.max(1), top, _BINS
            )
            if threshold is not None:
                sure = (self.scores.max(1) >= threshold).astype(float)
                found[named("answered", threshold=threshold)] = metrics.mean(sure)
                found[named("top1-of-answered", threshold=threshold)] = lambda weights: (
                    metrics.ratio(weights @ (sure * top), weights @ sure)
                )
        elif self.column:
            ours = self.scores[:, list(self.column.values())]
            found[named("map")] = metrics.mean_average_precision(ours, self.truth)
        if any(item.stretches for item in self.items):
            for tiou in TIOUS:
                counts = np.array([self._matched(i, tiou) for i in range(len(self.items))])
                found[named("f1", tiou=tiou)] = metrics.segment_f1(counts)
            for settings, statistic in self.localisation.statistics().items():
                found[f"{named('localisation-map')},{settings}"] = statistic
        if any(result.unknown is not None for result in self.results):
            unknown = np.array([bool(result.unknown) for result in self.results], float)
            found[named("unknown")] = metrics.mean(unknown)
        found["macs-per-video"] = metrics.mean(np.array([r.cost.macs for r in self.results], float))
        found["seconds-per-video"] = metrics.mean(np.array([r.cost.seconds for r in self.results]))
        return found

    def details(self, multilabel: bool) -> dict[str, Any]:
        """Results without intervals: per class, confusion matrix, calibration."""
        names = list(self.column)
        n = self.truth.sum(0).astype(int)
        if not names:
            return {"classes": []}
        if multilabel or not self.single:
            ours = self.scores[:, list(self.column.values())]
            parts = [
                metrics.average_precision(ours[:, c], self.truth[:, c]) for c in range(len(names))
            ]
            values = [metrics.value_of(part, len(self.items)) for part in parts]
        else:
            right = metrics.hits(self.scores, self.labels)
            values = [
                float(right[self.truth[:, c] > 0].mean()) if n[c] else np.nan
                for c in range(len(names))
            ]
        classes = [
            {"label": name, "n": int(count), "value": metrics.known(value)}
            for name, count, value in zip(names, n, values, strict=True)
        ]
        found: dict[str, Any] = {"classes": classes}
        if any(item.stretches for item in self.items):
            found["localisation"] = self.localisation.by_class()
        if multilabel or not self.single:
            return found
        return {**found, **self._confusion(names), "reliability": self._reliability()}

    def _confusion(self, names: list[str]) -> dict[str, Any]:
        at = {column: i for i, column in enumerate(self.column.values())}
        predicted = np.array([at.get(int(c), len(at)) for c in self.scores.argmax(1)])
        truth = self.truth.argmax(1)
        counts = metrics.confusion_matrix(truth, predicted, len(at) + 1)
        wide = len(at) + int(counts[:, -1].any())
        columns = [*names, OTHER][:wide]
        return {"columns": columns, "confusion": counts[: len(at), :wide].tolist()}

    def _reliability(self) -> list[dict[str, float | int | None]]:
        top = metrics.hits(self.scores, self.labels)
        return [asdict(b) for b in metrics.reliability(self.scores.max(1), top, _BINS)]

    @cached_property
    def localisation(self) -> Localisation:
        """True segments and predicted ones, with the class names of the data set."""
        truth, said = [], []
        for i, result in enumerate(self.results):
            true, segments = self._timeline(i)
            truth.append([s for s in true if s[0] < s[1]])
            scores = [s.score for s in result.segments if s.index is not None]
            said.append(
                [(*s, score) for s, score in zip(segments, scores, strict=True) if s[0] < s[1]]
            )
        return Localisation(truth, said, list(self.column))

    def _matched(self, i: int, tiou: float) -> tuple[int, int, int]:
        return metrics.match_segments(*self._timeline(i), tiou)

    def _timeline(self, i: int) -> tuple[list[Stretch], list[Stretch]]:
        """True and predicted segments of one video; open ends are those of the video."""
        item, result = self.items[i], self.results[i]
        end = result.duration or max((s.end for s in result.segments), default=0.0)
        truth = [
            (s, min(e, end) if e == float("inf") else e, label) for s, e, label in item.stretches
        ]
        back = {column: name for name, column in self.column.items()}
        said = [
            (s.start, s.end, back.get(s.index, s.label))
            for s in result.segments
            if s.index is not None
        ]
        return truth, said
