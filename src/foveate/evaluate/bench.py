"""Several recognisers on the same videos: accuracy against executed cost and time."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foveate.core import ConfigError
from foveate.evaluate.figures import Point, cost_svg
from foveate.evaluate.results import write_result
from foveate.evaluate.run import Evaluation, Figure, compare_runs, evaluate
from foveate.evaluate.truth import Labelled
from foveate.pipeline.recogniser import Recogniser
from foveate.viz.units import si

# Stages of the ledger by what a reader asks about.
_PARTS = {
    "decode": ("open", "index", "decode", "audio"),
    "selector": ("policy", "cuts"),
    "network": ("transform", "network", "head"),
}


@dataclass(frozen=True)
class Row:
    """One recogniser.

    Attributes:
        name: As in the call.
        accuracy: Its first figure (top-1, or mAP where labels are several).
        macs: Executed multiply-adds per video.
        seconds: Seconds per video, opening and decoding included.
        median_ms: Median over videos.
        parts_ms: Mean milliseconds per video spent decoding, selecting and in the network.
        frames: Decoded frames per video.
        videos_per_second: Wall clock over the whole split.
        n: Videos behind the figures.
        failed: Videos that could not be read.
        against: Paired comparison of top-1 with the first row, in words; None for the first.
    """

    name: str
    accuracy: Figure
    macs: Figure
    seconds: Figure
    median_ms: float
    parts_ms: dict[str, float]
    frames: float
    videos_per_second: float
    n: int
    failed: int
    against: str | None = None


@dataclass(frozen=True)
class Table:
    """What `bench` measured; `evaluations` has every video."""

    rows: list[Row]
    evaluations: dict[str, Evaluation]
    protocol: str
    seed: int

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

    def markdown(self) -> str:
        """The table as text that reads well unrendered."""
        head = ["recogniser", self.rows[0].accuracy.name, "95 % interval", "MACs/video", "ms/video",
                "median", "decode", "selector", "network", "videos/s", "n"]  # fmt: skip
        lines = [head] + [_cells(row) for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        rule = ["-" * width for width in widths]
        text = "\n".join(
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
            for line in [head, rule, *lines[1:]]
        )
        notes = [row.against for row in self.rows if row.against]
        notes += [f"{row.name}: {row.failed} videos failed" for row in self.rows if row.failed]
        return "\n".join([text, "", self.protocol + ".", *notes]) + "\n"

    def svg(self, cost: str = "macs") -> str:
        """Accuracy against cost: `macs` or `ms`, per video.

        Raises:
            ConfigError: Another cost.
        """
        if cost not in ("macs", "ms"):
            raise ConfigError(f"no cost {cost!r}", "known: macs, ms")
        points = [
            Point(
                row.name,
                (row.macs.value or 0.0) if cost == "macs" else 1000 * (row.seconds.value or 0.0),
                *(_number(v) for v in (row.accuracy.value, row.accuracy.low, row.accuracy.high)),
            )
            for row in self.rows
        ]
        axis = "executed MACs per video" if cost == "macs" else "milliseconds per video"
        return cost_svg(points, axis, self.rows[0].accuracy.name)


def bench(
    recognisers: Mapping[str, Recogniser],
    dataset: Labelled,
    split: str | None = "test",
    *,
    groups: bool = True,
    batch: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> Table:
    """Measure recognisers on the same videos, one after the other.

    Args:
        recognisers: By the names for the table; the others are compared with the first.
        dataset: From `foveate.data.read`.
        split: Which videos; None for all.
        groups: As for `evaluate`.
        batch: As for `evaluate`.
        seed: Of the bootstrap.
        progress: Told after each video: recogniser, videos done, videos in all, video.

    Raises:
        ConfigError: No recognisers, or what `evaluate` raises.
    """
    if not recognisers:
        raise ConfigError("there is no recogniser to measure")
    evaluations: dict[str, Evaluation] = {}
    rows: list[Row] = []
    for name, recogniser in recognisers.items():

        def told(done: int, total: int, video: str, name: str = name) -> None:
            if progress is not None:
                progress(name, done, total, video)

        started = time.perf_counter()
        found = evaluate(
            recogniser, dataset, split, groups=groups, batch=batch, seed=seed, progress=told
        )
        spent = time.perf_counter() - started
        rows.append(_row(name, found, spent, next(iter(evaluations.items()), None), seed))
        evaluations[name] = found
    protocol = next(iter(evaluations.values())).protocol
    return Table(rows, evaluations, protocol, seed)


def _row(
    name: str, found: Evaluation, spent: float, first: tuple[str, Evaluation] | None, seed: int
) -> Row:
    videos = found.answered()
    against = None
    if first is not None and found.figures[0].name.startswith("top1"):
        against = compare_runs(found, first[1], seed=seed).sentence(
            name, first[0], found.figures[0].name
        )
    return Row(
        name=name,
        accuracy=found.figures[0],
        macs=found.figure("macs-per-video"),
        seconds=found.figure("seconds-per-video"),
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
        videos_per_second=len(found.predictions) / spent,
        n=found.n,
        failed=found.failed,
        against=against,
    )  # fmt: skip


def _cells(row: Row) -> list[str]:
    return [
        row.name,
        f"{_number(row.accuracy.value):.3f}",
        f"{_number(row.accuracy.low):.3f} to {_number(row.accuracy.high):.3f}",
        si(row.macs.value or 0.0),
        f"{1000 * (row.seconds.value or 0.0):.1f}",
        f"{row.median_ms:.1f}",
        *(f"{row.parts_ms[part]:.1f}" for part in _PARTS),
        f"{row.videos_per_second:.1f}",
        str(row.n),
    ]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
