"""The answer: what was seen, when, what it cost and where the program looked.

`Result` is schema 1 of `docs/design.md`; its JSON Schema is committed as `docs/result.schema.json`.
All fields are plain values, so a Result can be written, sent and read back without the library.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Plain):
    """One label of the model with its score in 0..1."""

    label: str
    index: int
    score: float


class Segment(_Plain):
    """A stretch of time, in seconds from the first frame, with one label.

    `index` is None for the label `none` (no class reached the threshold).
    """

    start: float
    end: float
    label: str
    index: int | None = None
    score: float


class StageCost(_Plain):
    """What one stage did: calls, executed multiply-adds, seconds, decoded frames, bytes read."""

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
        """The stage of that name, or an empty one if it never ran."""
        return next((s for s in self.stages if s.name == name), StageCost(name=name))


class TraceStep(_Plain):
    """One turn of the loop: when it looked, at which frames, where, and why it went on.

    Attributes:
        time: Seconds from the first frame of the last frame looked at.
        frames: Times of the frames looked at, in seconds.
        boxes: `[x1, y1, x2, y2]` in pixels of the upright source frame.
        modalities: What was looked at, such as `rgb` or `motion`.
        exit: Name of the exit that answered, None if the step did not answer.
        gate: Confidence that the policy decided on, if it has one.
        fallback: True where a policy could not do what it wanted and looked at everything.
    """

    time: float
    frames: list[float] = Field(default_factory=list)
    boxes: list[list[float]] = Field(default_factory=list)
    modalities: list[str] = Field(default_factory=list)
    exit: str | None = None
    gate: float | None = None
    fallback: bool = False


class Trace(_Plain):
    """Every turn of the loop, with the upright size `[width, height]` of the source."""

    size: list[int]
    steps: list[TraceStep] = Field(default_factory=list)


class Failure(_Plain):
    """Why an input gave no answer: the kind of error and its one-line message."""

    kind: str
    message: str


class Result(_Plain):
    """What happened in one source, or over one step of a stream.

    `exits` says how many windows were decided at each exit of the network.
    """

    # `schema` is the published name of the field; pydantic keeps an unused method of that name.
    schema_: int = Field(default=SCHEMA, alias="schema")
    source: str
    model: str
    preset: str | None = None
    ok: bool = True
    error: Failure | None = None
    duration: float | None = None
    labels: list[Score] = Field(default_factory=list)
    segments: list[Segment] = Field(default_factory=list)
    cost: Cost = Field(default_factory=Cost)
    exits: dict[str, int] = Field(default_factory=dict)
    trace: Trace | None = None
    warnings: list[str] = Field(default_factory=list)

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True
    )

    @property
    def top(self) -> Score | None:
        """The best label, or None if there is none."""
        return self.labels[0] if self.labels else None

    def to_json(self, indent: int | None = None) -> str:
        """One JSON object (one line unless `indent` is given)."""
        return self.model_dump_json(by_alias=True, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read back what `to_json` wrote."""
        return cls.model_validate_json(text)

    @classmethod
    def failed(cls, source: str, model: str, kind: str, message: str) -> Self:
        """A Result for an input that could not be read."""
        return cls(source=source, model=model, ok=False, error=Failure(kind=kind, message=message))
