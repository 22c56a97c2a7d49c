"""Results: labels with their times, the cost, and a trace of what the model looked at.

`Result` has schema 2 (`docs/reference/results.md`); `docs/result.schema.json` is generated from it.
All fields are plain values, so that results can be stored and read without the library. JSON has
neither NaN nor infinity, so no field accepts them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from foveate.core import result_text
from foveate.core.config import build
from foveate.core.errors import ConfigError, ResultError
from foveate.core.lazy import import_extra

if TYPE_CHECKING:
    import pandas
    import supervision

SCHEMA: Literal[2] = 2
READABLE = (1, 2)  # schema 2 only added fields that have defaults

_NOT_JSON = "not JSON"
_MAX_LINE = 200_000_000  # bytes

Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Score(_Plain):
    """One label of the model with its score in 0..1."""

    label: str
    index: int
    score: float


class Segment(_Plain):
    """A time span, in seconds from the first frame, with one label.

    `index` is None for the labels `none` (no class reached the threshold) and `unknown` (the
    footage is unlike the clips that the model was trained on).
    """

    start: float
    end: float
    label: str
    index: int | None = None
    score: float


class Detection(_Plain):
    """One object in one frame.

    Attributes:
        time: Seconds from the first frame.
        box: `[x1, y1, x2, y2]` in pixels of the upright source frame.
        label: Name of its class.
        index: Index of its class.
        score: In 0..1.
        track: The same number for one object in several frames, None without tracking.
    """

    time: float
    box: Box
    label: str
    index: int
    score: float = Field(ge=0, le=1)
    track: int | None = None

    @field_validator("box")
    @classmethod
    def _ordered(cls, box: list[float]) -> list[float]:
        x1, y1, x2, y2 = box
        if x2 < x1 or y2 < y1:
            raise ValueError("a box is [x1, y1, x2, y2] with x1 <= x2 and y1 <= y2")
        return box


class StageCost(_Plain):
    """The work of one stage: calls, executed multiply-adds, seconds, decoded frames, bytes read."""

    name: str
    calls: int = 0
    macs: int = 0
    seconds: float = 0.0
    frames: int = 0
    bytes: int = 0


class Cost(_Plain):
    """The ledger of one Result; the totals are sums over the stages."""

    stages: list[StageCost] = Field(default_factory=list)
    macs: int = 0
    seconds: float = 0.0
    frames_decoded: int = 0
    bytes_read: int = 0

    @classmethod
    def of(cls, stages: list[StageCost]) -> Self:
        """Build a ledger from its stages, with the totals summed."""
        return cls(
            stages=stages,
            macs=sum(stage.macs for stage in stages),
            seconds=sum(stage.seconds for stage in stages),
            frames_decoded=sum(stage.frames for stage in stages),
            bytes_read=sum(stage.bytes for stage in stages),
        )

    def stage(self, name: str) -> StageCost:
        """The stage of that name, or an empty one if it did not run."""
        return next((s for s in self.stages if s.name == name), StageCost(name=name))


class Tokens(_Plain):
    """The patch tokens of a vision transformer that were computed.

    Attributes:
        grid: `[rows, columns]` of the patches of a frame.
        region: `[x1, y1, x2, y2]` in pixels of the upright source frame that the grid covers.
        kept: Of each frame the numbers of its tokens, row by row from the upper left.
    """

    grid: list[int]
    region: list[float]
    kept: list[list[int]]


class TraceStep(_Plain):
    """One step of the loop: the frames and regions that were looked at, and the decision.

    Attributes:
        time: Time of the last frame looked at, in seconds from the first frame.
        frames: Times of all frames looked at, in seconds.
        boxes: `[x1, y1, x2, y2]` in pixels of the upright source frame.
        modalities: Modalities that were used, such as `rgb` or `motion`.
        exit: Name of the exit that gave the result, None if the step gave none.
        gate: Confidence on which the decision was based, None without one.
        fallback: True if the policy could not be applied and the whole frame was used.
        part: The part of the model that was run, such as `glance`; None if it has one part.
        proposals: Output of a policy network by name: boxes, frame weights, decisions.
        tokens: The patch tokens that were computed, None if all were.
    """

    time: float
    frames: list[float] = Field(default_factory=list)
    boxes: list[list[float]] = Field(default_factory=list)
    modalities: list[str] = Field(default_factory=list)
    exit: str | None = None
    gate: float | None = None
    fallback: bool = False
    part: str | None = None
    proposals: dict[str, list[float]] | None = None
    tokens: Tokens | None = None


class Trace(_Plain):
    """All steps of the loop.

    Attributes:
        size: Upright `[width, height]` of the source.
        steps: In the order in which they were made.
        decode: Settings of the decoder that change pixels, such as `{"skip_loop_filter": "all"}`.
    """

    size: list[int]
    steps: list[TraceStep] = Field(default_factory=list)
    decode: dict[str, str | int] = Field(default_factory=dict)


class Failure(_Plain):
    """Why an input failed: the kind of error and its one-line message."""

    kind: str
    message: str


class Result(_Plain):
    """The result for one source, or for one step of a stream.

    Attributes:
        schema_: Version of the fields (`schema` in JSON).
        source: Name of the file or of another source.
        model: Name of the model.
        preset: Name of the preset, None for a plain model.
        task: `classify` gives labels and segments, `detect` gives detections.
        ok: False if the source failed; `error` has the reason.
        error: None if there was none.
        duration: Seconds of the source, None if unknown.
        labels: Best first.
        segments: In temporal order.
        detections: In temporal order.
        unknown: Whether most of the source is unlike the clips that the model was trained on, so
            that no label is meant; None if the model cannot say, and in files of earlier versions.
        cost: Calls, multiply-adds, seconds, frames and bytes of every stage.
        exits: Number of windows that were decided at each exit of the network.
        trace: All steps of the loop, None if they were not recorded.
        warnings: Damage inside a usable source, windows with too few pictures for the model, a
            budget that was exceeded.
        age: Of a live source: seconds from the capture of the frame to the result.
        dropped: Of a live source: frames that were skipped since the last step.
    """

    # `schema` is the published name of the field; pydantic keeps an unused method of that name.
    schema_: Literal[2] = Field(default=SCHEMA, alias="schema")
    source: str
    model: str
    preset: str | None = None
    task: Literal["classify", "detect"] = "classify"
    ok: bool = True
    error: Failure | None = None
    duration: float | None = None
    labels: list[Score] = Field(default_factory=list)
    segments: list[Segment] = Field(default_factory=list)
    detections: list[Detection] = Field(default_factory=list)
    unknown: bool | None = None
    cost: Cost = Field(default_factory=Cost)
    exits: dict[str, int] = Field(default_factory=dict)
    trace: Trace | None = None
    warnings: list[str] = Field(default_factory=list)
    age: float | None = Field(None, ge=0)
    dropped: int = Field(0, ge=0)

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @property
    def top(self) -> Score | None:
        """The best label, or None if there is none."""
        return self.labels[0] if self.labels else None

    def __str__(self) -> str:
        """One line: source, best label, number of segments, cost."""
        return result_text.line(self)

    def __repr__(self) -> str:
        """The same, for interactive use: the trace of a long video would fill pages."""
        return f"{type(self).__name__}({result_text.line(self)})"

    def summary(self) -> str:
        """A few lines: labels, segments or detections, cost by stage, warnings."""
        return result_text.summary(self)

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        return result_text.html(self)

    def to_pandas(self, what: result_text.What = "segments") -> pandas.DataFrame:
        """A table of the segments or of other items; the first column is the source.

        Args:
            what: `labels`, `segments`, `detections` (with the columns x1, y1, x2, y2), or `steps`
                (of the loop, from the trace).

        Raises:
            ValueError: Unknown `what`.
            MissingExtra: pandas is not installed.
        """
        if what not in result_text.COLUMNS:
            raise ValueError(f"no table {what!r}; there are {', '.join(result_text.COLUMNS)}")
        frame: pandas.DataFrame = import_extra("pandas", "pandas").DataFrame(
            result_text.rows(self, what), columns=list(result_text.COLUMNS[what])
        )
        return frame

    @property
    def times(self) -> list[float]:
        """Seconds of all frames with an answer, ascending: looked at, held, or with detections."""
        steps = self.trace.steps if self.trace else []
        looked = {time for step in steps for time in step.frames}
        return sorted(looked | {detection.time for detection in self.detections})

    def to_supervision(self) -> dict[float, supervision.Detections]:
        """The detections as `supervision.Detections` by the time of the frame, in seconds.

        Frames without any are there if the trace knows them. `class_id` is the index of the class,
        `data["class_name"]` its label; `tracker_id` is set where objects were tracked.

        Raises:
            MissingExtra: supervision is not installed.
        """
        library = import_extra("supervision", "supervision")
        frames: dict[float, list[Detection]] = {time: [] for time in self.times}
        for one in self.detections:
            frames[one.time].append(one)
        return {time: _supervision(library, found) for time, found in frames.items()}

    def to_json(self, indent: int | None = None) -> str:
        """One JSON object (one line unless `indent` is given)."""
        return self.model_dump_json(by_alias=True, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read JSON that `to_json` wrote, of this schema version or an earlier one.

        Fields that an earlier version does not have get their defaults.

        Raises:
            ResultError: Not JSON, not a Result, or of an unknown schema version.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise ResultError(_NOT_JSON) from None
        if not isinstance(values, dict):
            raise ResultError(f"not a result but a JSON {type(values).__name__}")
        return cls._of(values)

    @classmethod
    def _of(cls, values: dict[str, Any]) -> Self:
        number = values.get("schema")
        if number is None:
            raise ResultError("not a result: it has no schema number")
        if type(number) is not int or number not in READABLE:
            known = " and ".join(str(one) for one in READABLE)
            raise ResultError(
                f"results of schema {number!r} cannot be read", f"supported: schema {known}"
            )
        try:
            return build(cls, {**values, "schema": SCHEMA}, "result")
        except ConfigError as error:
            raise ResultError(error.cause, error.hint) from None

    @classmethod
    def failed(cls, source: str, model: str, kind: str, message: str) -> Self:
        """A Result for an input that failed."""
        return cls(source=source, model=model, ok=False, error=Failure(kind=kind, message=message))


def _supervision(library: Any, found: list[Detection]) -> supervision.Detections:
    """One frame; an empty one has arrays of the right shapes."""
    import numpy as np

    tracks = [one.track for one in found]
    made: supervision.Detections = library.Detections(
        xyxy=np.array([one.box for one in found], np.float32).reshape(-1, 4),
        confidence=np.array([one.score for one in found], np.float32),
        class_id=np.array([one.index for one in found], int),
        tracker_id=np.array(tracks, int) if found and None not in tracks else None,
        data={"class_name": np.array([one.label for one in found], str)},
    )
    return made


def read_results(path: str | os.PathLike[str]) -> list[Result]:
    """Read a file of JSON Lines, as `foveate predict --json` writes them.

    Args:
        path: One Result per line; empty lines are skipped.

    Returns:
        The Results in the order of the lines, including failed ones (`ok=False`).

    Raises:
        ResultError: The file cannot be read, or a line is not a Result; the error names the line.
    """
    file = Path(path)
    results = []
    try:
        with file.open("rb") as lines:
            # Line by line with a limit: a device or a damaged file may never end.
            for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE + 1), b""), 1):
                if len(line) > _MAX_LINE:
                    raise ResultError(f"{file}: line {number}: longer than {_MAX_LINE} bytes")
                if line.strip():
                    results.append(_read_line(line, f"{file}: line {number}"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ResultError(f"{file}: cannot be read ({reason})") from None
    return results


def _read_line(line: bytes, where: str) -> Result:
    try:
        return Result.from_json(line)
    except ResultError as error:
        hint = error.hint
        if error.cause == _NOT_JSON:
            hint = "a file of results has one JSON object on each line"
        raise ResultError(f"{where}: {error.cause}", hint) from None
