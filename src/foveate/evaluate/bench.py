"""Several recognisers on the same videos: accuracy against executed cost and time."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.core import ConfigError
from foveate.core.text import plural
from foveate.core.units import si
from foveate.evaluate.bootstrap import Comparison
from foveate.evaluate.detection_run import evaluate_any
from foveate.evaluate.figures import Point, cost_svg
from foveate.evaluate.metrics import short_name
from foveate.evaluate.results import write_result
from foveate.evaluate.run import Evaluation, Figure, compare_runs
from foveate.evaluate.truth import Labelled
from foveate.pipeline.recogniser import Recogniser

# Stages of the ledger in each column of the table.
_PARTS = {
    "decode": ("open", "index", "decode", "audio"),
    "selector": ("policy", "motion", "cuts"),
    "network": (
        "transform",
        "network",
        "head",
        "glance",
        "focus",
        "classifier",
        "key",
        "nonkey",
        "move",
        "warp",
    ),
}
_COLUMNS = (
    "name", "metric", "value", "low", "high", "difference", "difference_low", "difference_high",
    "p", "macs", "seconds", "cpu_seconds", "frames", "n", "failed",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One recogniser.

    Attributes:
        name: As in the call.
        accuracy: Its first figure (top-1, or mAP where labels are several), None without labels.
        macs: Executed multiply-adds per video, or per frame where boxes are measured.
        seconds: Seconds per video or frame, opening and decoding included.
        cpu_seconds: Seconds per video of all cores of this process, everything included.
        median_ms: Median over videos.
        parts_ms: Mean milliseconds per video spent decoding, selecting and in the network.
        frames: Decoded frames per video.
        videos_per_second: Wall clock over the whole split.
        n: Videos behind the figures.
        failed: Videos that could not be read.
        fallback: Share of looks on which the policy fell back.
        against: Paired comparison of top-1 with the reference as a sentence; None for itself.
        difference: The same as numbers.
        agreement: Share of videos with the same prediction as the reference.
    """

    name: str
    accuracy: Figure | None
    macs: Figure
    seconds: Figure
    cpu_seconds: float
    median_ms: float
    parts_ms: dict[str, float]
    frames: float
    videos_per_second: float
    n: int
    failed: int
    fallback: float
    against: str | None = None
    difference: Comparison | None = None
    agreement: float | None = None


# Cost in a plot → its axis, and its value in a row.
COSTS: dict[str, tuple[str, Callable[[Row], float | None]]] = {
    "macs": ("executed MACs per {unit}", lambda row: row.macs.value),
    "ms": ("milliseconds per {unit}", lambda row: 1000 * (row.seconds.value or 0.0)),
    "cpu-ms": ("CPU milliseconds per video", lambda row: 1000 * row.cpu_seconds),
}


@dataclass(frozen=True)
class Table:
    """The result of `bench`; `evaluations` has every video."""

    rows: list[Row]
    evaluations: dict[str, Evaluation]
    protocol: str
    seed: int
    reference: str = ""

    @property
    def unit(self) -> str:
        """What costs are counted by: `video`, or `frame` where boxes are measured."""
        return self.rows[0].macs.name.removeprefix("macs-per-").partition("@")[0]

    def figures(self) -> dict[str, Any]:
        """The rows as plain values."""
        rows = []
        for row in self.rows:
            values = {
                key: value.model_dump() if isinstance(value, Figure) else value
                for key, value in asdict(row).items()
            }
            rows.append(values)
        return {"rows": rows}

    def to_json(self) -> str:
        """The rows and the protocol as one JSON object."""
        return json.dumps(
            {"protocol": self.protocol, "seed": self.seed, **self.figures()}, indent=1
        )

    def write(self, path: str | os.PathLike[str], name: str) -> None:
        """Write the rows as a result file with commit, date and hardware.

        Raises:
            FoveateError: The file cannot be written.
        """
        n = max(row.n for row in self.rows)
        write_result(Path(path), name, self.protocol, n, [self.seed], self.figures())

    def to_csv(self) -> str:
        """A row per recogniser, with unrounded values."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in self.rows:
            figure, less = row.accuracy, row.difference
            accuracy = (
                [""] * 4 if figure is None
                else [figure.name, figure.value, figure.low, figure.high]
            )  # fmt: skip
            paired = [""] * 4 if less is None else [less.difference, less.low, less.high, less.p]
            writer.writerow(
                [
                    row.name, *accuracy, *paired, row.macs.value, row.seconds.value,
                    row.cpu_seconds, row.frames, row.n, row.failed,
                ]
            )  # fmt: skip
        return out.getvalue()

    def markdown(self) -> str:
        """The table as aligned Markdown."""
        figure = self.rows[0].accuracy
        labelled = figure is not None
        head = [
            "recogniser",
            *([short_name(figure.name), "95 % interval"] if figure is not None else []),
            f"less {self.reference}" if labelled else f"agrees with {self.reference}",
            f"MACs/{self.unit}", f"ms/{self.unit}", "median", "decode", "selector", "network",
            "CPU s", "videos/s", "fallback", "n",
        ]  # fmt: skip
        lines = [head] + [_cells(row) for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        rule = ["-" * width for width in widths]
        text = "\n".join(
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
            for line in [head, rule, *lines[1:]]
        )
        notes = [row.against for row in self.rows if row.against]
        for row in self.rows:
            if row.failed:
                first = next(one for one in self.evaluations[row.name].predictions if not one.ok)
                failed = plural(row.failed, "video")
                notes.append(f"{row.name}: {failed} failed, the first {first.name}: {first.error}")
        return "\n".join([text, "", self.protocol + ".", *notes]) + "\n"

    def svg(self, cost: str = "macs") -> str:
        """Accuracy against cost: a key of `COSTS`.

        Raises:
            ConfigError: Another cost, or videos without labels.
        """
        if cost not in COSTS:
            raise ConfigError(f"no cost {cost!r}", f"known: {', '.join(COSTS)}")
        points = [
            Point(
                row.name,
                COSTS[cost][1](row) or 0.0,
                *(_number(v) for v in (figure.value, figure.low, figure.high)),
            )
            for row in self.rows
            if (figure := row.accuracy) is not None
        ]
        if not points:
            raise ConfigError("videos without labels have no accuracy to draw")
        axis = COSTS[cost][0].format(unit=self.unit)
        first = self.rows[0].accuracy
        return cost_svg(points, axis, short_name(first.name) if first is not None else "")


def bench(
    recognisers: Mapping[str, Recogniser],
    dataset: Labelled,
    split: str | None = "test",
    *,
    groups: bool = True,
    batch: int = 1,
    seed: int = 0,
    reference: str | None = None,
    threshold: float | None = None,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> Table:
    """Measure recognisers on the same videos, one after the other.

    Args:
        recognisers: By the names for the table.
        dataset: From `foveate.data.read`.
        split: Which videos; None for all.
        groups: As for `evaluate`.
        batch: As for `evaluate`.
        seed: Of the bootstrap.
        reference: Name of the one that the others are compared with; the first if None.
        threshold: As for `evaluate`.
        progress: Called after each video with (recogniser, videos done, videos in all, name).

    Raises:
        ConfigError: No recognisers, or what `evaluate` raises.
    """
    if not recognisers:
        raise ConfigError("no recogniser to measure")
    reference = reference or next(iter(recognisers))
    if reference not in recognisers:
        raise ConfigError(f"no recogniser {reference!r} to compare with")
    evaluations: dict[str, Evaluation] = {}
    spent: dict[str, tuple[float, float]] = {}
    for name, recogniser in recognisers.items():

        def report(done: int, total: int, video: str, name: str = name) -> None:
            if progress is not None:
                progress(name, done, total, video)

        started = time.perf_counter(), time.process_time()
        evaluations[name] = evaluate_any(
            recogniser, dataset, split, groups=groups, batch=batch, seed=seed,
            threshold=threshold, progress=report,
        )  # fmt: skip
        spent[name] = time.perf_counter() - started[0], time.process_time() - started[1]
    first = evaluations[reference]
    rows = [
        _row(name, found, spent[name], None if name == reference else (reference, first), seed)
        for name, found in evaluations.items()
    ]
    looks = ", ".join(dict.fromkeys(r.preset.look.name for r in recognisers.values()))
    protocol = first.protocol.replace(f"look {recognisers[reference].preset.look.name}",
                                      f"looks {looks}")  # fmt: skip
    return Table(rows, evaluations, protocol, seed, reference)


def _row(
    name: str,
    found: Evaluation,
    spent: tuple[float, float],
    first: tuple[str, Evaluation] | None,
    seed: int,
) -> Row:
    videos, figure = found.answered(), found.figures[0]
    unit = "frame" if figure.name.startswith("map50@frame") else "video"
    difference = against = None
    if first is not None and figure.name.startswith("top1"):
        difference = compare_runs(found, first[1], seed=seed)
        against = difference.sentence(name, first[0], short_name(figure.name))
    return Row(
        name=name,
        accuracy=figure if found.classes else None,
        macs=found.figure(f"macs-per-{unit}"),
        seconds=found.figure(f"seconds-per-{unit}"),
        cpu_seconds=spent[1] / len(found.predictions),
        median_ms=1000 * statistics.median(video.seconds for video in videos),
        parts_ms={
            part: 1000 * statistics.fmean(
                sum(
                    seconds
                    for stage, seconds in video.stages.items()
                    if stage.partition("-")[0] in stages  # `decode-mv` is decoding
                )
                for video in videos
            )
            for part, stages in _PARTS.items()
        },
        frames=statistics.fmean(video.frames for video in videos),
        videos_per_second=len(found.predictions) / spent[0],
        n=found.n,
        failed=found.failed,
        fallback=statistics.fmean(video.fallback or 0.0 for video in videos),
        against=against,
        difference=difference,
        agreement=None if first is None else _agreement(found, first[1]),
    )  # fmt: skip


def _agreement(found: Evaluation, other: Evaluation) -> float | None:
    """Share of the videos that both processed for which their predictions agree."""
    theirs = {video.name: video.top[0][0] for video in other.answered() if video.top}
    both = [video for video in found.answered() if video.top and video.name in theirs]
    if not both:
        return None
    return statistics.fmean(video.top[0][0] == theirs[video.name] for video in both)


def _cells(row: Row) -> list[str]:
    cells = [row.name]
    if row.accuracy is not None:
        cells += [
            f"{_number(row.accuracy.value):.3f}",
            f"{_number(row.accuracy.low):.3f} to {_number(row.accuracy.high):.3f}",
        ]
        less = row.difference
        cells.append(
            "" if less is None else f"{less.difference:+.3f} ({less.low:+.3f} to {less.high:+.3f})"
        )
    else:
        cells.append("" if row.agreement is None else f"{row.agreement:.2f}")
    return [
        *cells,
        si(row.macs.value or 0.0),
        f"{1000 * (row.seconds.value or 0.0):.1f}",
        f"{row.median_ms:.1f}",
        *(f"{row.parts_ms[part]:.1f}" for part in _PARTS),
        f"{row.cpu_seconds:.3f}",
        f"{row.videos_per_second:.1f}",
        f"{row.fallback:.2f}",
        str(row.n),
    ]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
