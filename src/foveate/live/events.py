"""Events: from the scores of single steps to what began and ended, by camera, class and zone.

An event begins where a score reaches `start_threshold` and lasts until the score has been below
the lower `end_threshold` for `min_gap` seconds (hysteresis). Its start is where the score rose
above the lower threshold. It is announced once, as `provisional`, when it has lasted `min_seconds`,
and given again as `closed` when it is over; an event that never lasts so long is never given.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foveate.core import ConfigError, ResultError
from foveate.core.config import Config, nearest
from foveate.core.result import Box
from foveate.live.areas import Polygon, contains
from foveate.live.step import StepResult

Reason = Literal["score", "gap", "length", "stream", "interrupted"]


class Thresholds(Config):
    """Thresholds of one class; what is None is as for all classes."""

    start_threshold: float | None = Field(
        None, gt=0, le=1, description="score at which an event begins"
    )
    end_threshold: float | None = Field(None, ge=0, le=1, description="score below which it ends")


class EventSettings(Config):
    """When an event begins and when it is over."""

    start_threshold: float = Field(0.6, gt=0, le=1, description="score at which an event begins")
    end_threshold: float = Field(0.4, ge=0, le=1, description="score below which it ends")
    smooth: float = Field(
        0.0, ge=0, description="time constant in seconds of an exponential mean of the scores"
    )
    lookback: float = Field(
        2.0,
        ge=0,
        description="seconds by which an event may have begun before its score reached "
        "`start_threshold`: as long as the score was not below `end_threshold`",
    )
    min_seconds: float = Field(0.5, ge=0, description="shorter events are never given")
    min_gap: float = Field(
        1.0,
        ge=0,
        description="seconds below `end_threshold` that end an event; shorter gaps are part of it",
    )
    max_gap: float = Field(5.0, gt=0, description="seconds without a step that end an event")
    max_seconds: float = Field(600.0, gt=0, description="longer events are divided")
    silent: tuple[str, ...] = Field((), description="classes that give no events")
    classes: dict[str, Thresholds] = Field(
        default_factory=dict,
        description="thresholds by class, such as {fall: {start_threshold: 0.8}}",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in (None, *self.classes):
            on, off = self.of(name)
            if off > on:
                where = f"classes.{name}: " if name else ""
                raise ValueError(
                    f"{where}end_threshold ({off:g}) must not be greater than "
                    f"start_threshold ({on:g})"
                )
        if self.min_seconds > self.max_seconds:
            raise ValueError("min_seconds must not be greater than max_seconds")
        return self

    def of(self, label: str | None) -> tuple[float, float]:
        """The thresholds `(start, end)` of a class."""
        own = self.classes.get(label or "", Thresholds())
        if own.start_threshold is None:
            on, off = self.start_threshold, self.end_threshold
        else:
            on = own.start_threshold
            off = min(self.end_threshold, on)
        return on, off if own.end_threshold is None else own.end_threshold

    def check(self, labels: Sequence[str]) -> None:
        """Refuse names that are no class of the model.

        Raises:
            ConfigError: With the nearest class.
        """
        for name in (*self.silent, *self.classes):
            if name not in labels:
                guess = nearest(name, labels)
                hint = f"did you mean {guess}?" if guess else None
                raise ConfigError(f"events: the model has no class {name!r}", hint)


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EventClip(_Plain):
    """The recorded clip of an event.

    Attributes:
        path: The file.
        start: Time of its first frame, in seconds of the epoch like the times of the event.
        end: Time of its last frame.
        annotated: A copy with the event drawn into it, None without one.
        complete: Whether it contains the whole event.
    """

    path: str
    start: float
    end: float
    annotated: str | None = None
    complete: bool = True


class Event(_Plain):
    """Something that happened in front of a camera; plain, finite values.

    One event is given several times; the one with the highest `revision` is valid.

    Attributes:
        kind: Always `event`.
        schema_: Version of the fields (`schema` in JSON).
        id: The same in all revisions.
        revision: 0 when it is announced, 1 when it is closed, 2 when its clip is written, 3 when
            the annotated copy of the clip is.
        state: `provisional` while it lasts, then `closed`.
        reason: Why it was closed: `score` (below the threshold), `gap` (no steps for too long),
            `length` (it was divided), `stream` (the connection ended), `interrupted` (the program
            was killed; found when the store was opened again). None while it lasts.
        camera: Name of the camera.
        source: Its address without credentials.
        epoch: Number of the connection.
        label: Its class.
        index: Index of the class.
        zone: Name of the zone, None without zones.
        start: Seconds in the epoch since which the score was not below the end threshold.
        end: Seconds in the epoch of the last step that belongs to it, None while it lasts.
        started_at: The start by the clock, in UTC.
        ended_at: The end by the clock, None while it lasts.
        peak: The highest score so far.
        peak_time: Seconds in the epoch at which it was reached.
        box: `[x1, y1, x2, y2]` in pixels of the upright source of the object with the highest
            score; None for classifiers.
        clip: None without one, and until it is written.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    kind: Literal["event"] = "event"
    schema_: Literal[1] = Field(default=1, alias="schema")
    id: str
    revision: int = Field(0, ge=0)
    state: Literal["provisional", "closed"] = "provisional"
    reason: Reason | None = None
    camera: str
    source: str
    epoch: int = Field(1, ge=1)
    label: str
    index: int
    zone: str | None = None
    start: float
    end: float | None = None
    started_at: datetime
    ended_at: datetime | None = None
    peak: float
    peak_time: float
    box: Box | None = None
    clip: EventClip | None = None

    @property
    def seconds(self) -> float | None:
        """How long it lasted, None while it lasts."""
        return None if self.end is None else self.end - self.start

    def to_json(self) -> str:
        """One line of JSON."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ResultError: It is no event.
        """
        try:
            return cls.model_validate_json(text)
        except ValueError:
            raise ResultError("not an event of this version") from None

    def __str__(self) -> str:
        """One line: camera, label, since when, how long, highest score."""
        lasted = "began" if self.seconds is None else f"{self.seconds:.1f} s"
        where = f" in {self.zone}" if self.zone else ""
        return (
            f"{self.camera}: {self.label}{where}, {self.started_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"{lasted}, score {self.peak:.2f}"
        )


Key = tuple[str, str | None]
"""A class and a zone (None without zones)."""


@dataclass
class _Open:
    """An event that lasts, announced or not yet."""

    event: Event
    reached: float  # seconds of the step at which the score reached the start threshold
    last: float  # seconds of the last step above the end threshold
    last_wall: float
    announced: bool = False


@dataclass
class _Camera:
    """What is remembered of one camera between steps."""

    epoch: int
    last: StepResult
    means: dict[Key, float] = field(default_factory=dict)
    # Seconds, and by the clock, since which the scores are not below the end threshold.
    risen: dict[Key, tuple[float, float]] = field(default_factory=dict)
    opened: dict[Key, _Open] = field(default_factory=dict)


class EventDetector:
    """Turns the steps of any number of cameras into events.

    Steps of which the model says that the footage is unknown count as scores of zero, as does a
    best score below `none_below`, so neither `unknown` nor `none` gives events.

    Args:
        labels: Classes of the model.
        settings: Thresholds and durations.
        none_below: Steps whose best score is lower are `none` (the preset's setting).

    Raises:
        ConfigError: The settings name a class that the model does not have.
    """

    def __init__(
        self,
        labels: Sequence[str],
        settings: EventSettings | None = None,
        *,
        none_below: float = 0.0,
    ) -> None:
        self.settings = settings or EventSettings()
        self.settings.check(labels)
        self._indices = {label: index for index, label in enumerate(labels)}
        self._thresholds = {
            label: self.settings.of(label) for label in labels if label not in self.settings.silent
        }
        self._none_below = none_below
        self._zones: dict[str, dict[str, Polygon]] = {}
        self._cameras: dict[str, _Camera] = {}

    def set_zones(self, camera: str, zones: Mapping[str, Polygon]) -> None:
        """Restrict the events of a camera to zones; empty for none.

        Args:
            camera: Its name.
            zones: Polygons by name, in fractions of the width and height of the upright frame. An
                object is in a zone if the middle of the lower edge of its box is.
        """
        self._zones[camera] = dict(zones)

    def add(self, step: StepResult) -> list[Event]:
        """Take the next step of a camera.

        Returns:
            Events that are announced or closed with this step.

        Raises:
            ConfigError: The camera has zones and the model gives no boxes.
        """
        camera = self._cameras.get(step.camera)
        found: list[Event] = []
        if camera is not None and camera.epoch != step.epoch:
            found += self.end(step.camera)
            camera = None
        if camera is None:
            camera = self._cameras[step.camera] = _Camera(step.epoch, step)
        elif step.time - camera.last.time > self.settings.max_gap:
            found += self._close_all(camera, "gap")
            camera.means.clear()
            camera.risen.clear()
        scores = self._scores(step)
        for key in [*scores, *(key for key in camera.means if key not in scores)]:
            score, box = scores.get(key, (0.0, None))
            found += self._advance(camera, step, key, score, box)
        camera.last = step
        return found

    def end(self, camera: str) -> list[Event]:
        """The stream of a camera, or its connection, has ended: close its events."""
        state = self._cameras.pop(camera, None)
        return [] if state is None else list(self._close_all(state, "stream"))

    def close(self) -> list[Event]:
        """Close the events of all cameras."""
        return [event for camera in list(self._cameras) for event in self.end(camera)]

    def _scores(self, step: StepResult) -> dict[Key, tuple[float, Box | None]]:
        """The score of every class and zone, and the box that has it."""
        zones = self._zones.get(step.camera, {})
        if zones and step.scores:
            raise ConfigError(
                f"{step.camera}: zones need the boxes of a detector, and this model gives none",
                "remove the zones, or hide the rest of the picture with masks",
            )
        if step.unknown or (step.scores and max(step.scores.values()) < self._none_below):
            return {}
        found: dict[Key, tuple[float, Box | None]] = {
            (label, None): (score, None)
            for label, score in step.scores.items()
            if label in self._thresholds
        }
        for one in step.detections:
            if one.label not in self._thresholds:
                continue
            x = (one.box[0] + one.box[2]) / 2 / step.size[0]
            y = one.box[3] / step.size[1]
            inside = [name for name, polygon in zones.items() if contains(polygon, x, y)]
            for zone in inside if zones else (None,):
                if one.score > found.get((one.label, zone), (-1.0, None))[0]:
                    found[one.label, zone] = one.score, one.box
        return found

    def _advance(
        self, camera: _Camera, step: StepResult, key: Key, score: float, box: Box | None
    ) -> Iterator[Event]:
        """One class in one zone."""
        settings, (on, off) = self.settings, self._thresholds[key[0]]
        if settings.smooth and key in camera.means:
            weight = -math.expm1(-max(0.0, step.time - camera.last.time) / settings.smooth)
            score = camera.means[key] + weight * (score - camera.means[key])
        camera.means[key] = score
        state = camera.opened.get(key)
        if state is not None:
            if score < off and step.time - state.last >= settings.min_gap:
                yield from self._close(camera, key, "score")
                state = None
            elif step.time - state.event.start > settings.max_seconds:
                yield from self._close(camera, key, "length")
                camera.risen[key] = step.time, step.wall
                state = None
        if score < off:
            camera.risen.pop(key, None)
        else:
            camera.risen.setdefault(key, (step.time, step.wall))
        if state is None:
            if score < on:
                return
            start, wall = camera.risen[key]
            late = max(0.0, step.time - settings.lookback - start)
            event = Event(
                id=uuid.uuid4().hex, camera=step.camera, source=step.source, epoch=step.epoch,
                label=key[0], index=self._indices[key[0]], zone=key[1], start=start + late,
                started_at=datetime.fromtimestamp(wall + late, UTC), peak=score,
                peak_time=step.time, box=box,
            )  # fmt: skip
            state = camera.opened[key] = _Open(event, step.time, step.time, step.wall)
        elif score > state.event.peak:
            better = {"peak": score, "peak_time": step.time, "box": box}
            state.event = state.event.model_copy(update=better)
        if score >= off:
            state.last, state.last_wall = step.time, step.wall
            if not state.announced and step.time - state.reached >= settings.min_seconds:
                state.announced = True
                yield state.event

    def _close(self, camera: _Camera, key: Key, reason: Reason) -> Iterator[Event]:
        state = camera.opened.pop(key)
        if state.announced:
            yield state.event.model_copy(
                update={
                    "state": "closed", "revision": 1, "reason": reason, "end": state.last,
                    "ended_at": datetime.fromtimestamp(state.last_wall, UTC),
                }
            )  # fmt: skip

    def _close_all(self, camera: _Camera, reason: Reason) -> Iterator[Event]:
        for key in list(camera.opened):
            yield from self._close(camera, key, reason)
