"""`StepResult`: what a model says about one moment of one camera, and how old that is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from foveate.core.result import Detection, Score

DropCause = Literal["rate", "budget", "overload", "queue", "paused", "damaged", "end"]


class StepResult(BaseModel):
    """The answer of one step of a live camera; plain, finite values that can be written as JSON.

    Attributes:
        kind: Always `step`, which tells it apart from an event in one stream of JSON lines.
        camera: Unique name of the camera.
        source: Its address without credentials.
        epoch: Number of the connection, from 1. Times and states begin anew with each.
        number: Number of the step within the epoch, from 0.
        time: Seconds of the newest frame that was looked at, from the first frame of the epoch.
        wall: When that frame was received, in seconds of the Unix clock.
        age: Seconds from the receipt of that frame to this answer.
        since: Seconds in the epoch of the step before, None at the first step of an epoch.
        window: Start and end in seconds of what the scores are about, as far as it was seen.
        size: `(width, height)` of the upright source in pixels.
        scores: Score in 0..1 of every class by label; empty for detectors.
        unknown: Whether the footage is unlike what the model was trained on, so that no label is
            meant; None if the model cannot say.
        detections: Objects found since the last step.
        dropped: Frames that were not looked at since the last step, by cause: `rate` (the model
            needs fewer), `budget` (the camera is quiet, or its budget is spent), `overload` (older
            than the newest), `queue` (the queue was full), `paused`, `damaged` (not decodable),
            `end` (in the queue when the connection ended).
        latency: Seconds by stage: `wait` (from receipt to the begin of the step), then the stages
            of the ledger such as `decode`, `transform`, `network`, `head`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["step"] = "step"
    camera: str
    source: str
    epoch: int = Field(ge=1)
    number: int = Field(0, ge=0)
    time: float
    wall: float
    age: float = Field(ge=0)
    since: float | None = None
    window: tuple[float, float] | None = None
    size: tuple[int, int]
    scores: dict[str, float] = Field(default_factory=dict)
    unknown: bool | None = None
    detections: tuple[Detection, ...] = ()
    dropped: dict[DropCause, int] = Field(default_factory=dict)
    latency: dict[str, float] = Field(default_factory=dict)

    def best(self, count: int = 5) -> list[Score]:
        """The labels with the highest scores, best first."""
        places = {label: index for index, label in enumerate(self.scores)}
        order = sorted(self.scores.items(), key=lambda pair: -pair[1])[:count]
        return [Score(label=label, index=places[label], score=score) for label, score in order]

    def to_json(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()

    def __str__(self) -> str:
        """One line: camera, time, best label, age."""
        best = self.best(1)
        found = f"{best[0].label} {best[0].score:.2f}" if best else f"{len(self.detections)} boxes"
        return f"{self.camera} {self.time:.2f} s: {found}, {1000 * self.age:.0f} ms old"
