"""The calibration in a run folder: cost and accuracy of every threshold on a calibration split.

A budget is met by looking up a threshold in a table of measured values. Nothing
here needs torch; `operating` makes the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foveate.core import Budget, ConfigError, Decide, WeightsError
from foveate.core.config import fault_of
from foveate.core.search import Search
from foveate.policy.looks.base import Context
from foveate.policy.stopping import ByExit, Confident, DecideSpec

Order = Literal["measured", "published"]


class Strict(BaseModel):
    """A part of a calibration: plain finite values, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CalibrationCard(Strict):
    """The whole calibration of a run folder; each method has its own kind."""

    @classmethod
    def read(cls, saved: Mapping[str, Any], name: str) -> Self:
        """Validate the calibration in a run folder.

        Raises:
            WeightsError: It is damaged.
        """
        try:
            return cls.model_validate(dict(saved))
        except ValidationError as error:
            raise WeightsError(f"{name}: calibration.{fault_of(error)}") from None


@dataclass(frozen=True)
class Operating:
    """One threshold.

    Attributes:
        threshold: Probability at which an exit decides.
        accuracy: Of the exits taken with it.
        macs: Mean multiply-adds of a sample.
        seconds: Mean seconds of a sample, decoding included.
        exits: (exits,) samples that were decided at each.
        spoiled: Upper bound (90 %, one-sided) of the share of answers that stopping early makes
            wrong and all exits get right.
    """

    threshold: float
    accuracy: float
    macs: float
    seconds: float
    exits: tuple[int, ...]
    spoiled: float = 1.0


class PointCard(Strict):
    """An `Operating` point as it is saved."""

    threshold: float = Field(ge=0, le=1.1)
    accuracy: float = Field(ge=0, le=1)
    macs: float = Field(ge=0)
    seconds: float = Field(ge=0)
    exits: list[int]
    spoiled: float = Field(1.0, ge=0, le=1)


class FusionCard(Strict):
    """How the exits taken so far are joined; see `policy.fuse.Wise`."""

    exits: list[str] = Field(min_length=1, max_length=1000)
    weights: list[list[float]]
    temperatures: list[float]


class OrderCard(Strict):
    """One order of the modalities.

    Attributes:
        order: The modalities in this order.
        wise: Fusion weights and temperatures.
        table: By ascending threshold.
        default: Threshold without a budget.
        trust: How far the thresholds can be relied on, in one sentence.
    """

    order: list[str] = Field(min_length=1, max_length=8)
    wise: FusionCard
    table: list[PointCard] = Field(min_length=1, max_length=1000)
    default: float = Field(ge=0, le=1.1)
    trust: str = ""

    def threshold(self, budget: Budget) -> float:
        """The highest threshold within a budget per answer, the default without one.

        Raises:
            ConfigError: Even the first exit costs more.
        """
        if not budget:
            return self.default
        points = [
            Operating(p.threshold, p.accuracy, p.macs, p.seconds, tuple(p.exits))
            for p in self.table
        ]
        return within(points, budget).threshold


class Calibration(CalibrationCard):
    """What the calibration of a cascade found.

    Attributes:
        orders: `measured` and `published`.
        calibrated_on: Clips behind the tables.
        stage_seconds: Mean seconds of opening, and of decoding, preparing and each exit.
        macs: Multiply-adds of each exit beyond the one before.
    """

    orders: dict[Order, OrderCard]
    calibrated_on: int = Field(ge=1)
    stage_seconds: dict[str, float]
    macs: dict[str, int]


class ExitPoint(Strict):
    """One operating point of a network with exits: a threshold for each.

    Attributes:
        q: Of the geometric rule; None if no early exit is taken.
        thresholds: Softmax probability of the best class at which each exit decides; the last one
            is 0, and an exit that never decides has 1.1.
        accuracy: Of the exits taken with them.
        macs: Mean multiply-adds of an answer.
        seconds: Mean seconds of an answer, decoding included; None if no times were given.
        exits: Clips that were decided at each exit.
        spoiled: Upper bound (90 %, one-sided) of the share of answers that stopping early makes
            wrong and the last exit gets right.
    """

    q: float | None = Field(gt=0)
    thresholds: list[float] = Field(min_length=1, max_length=1000)
    accuracy: float = Field(ge=0, le=1)
    macs: float = Field(ge=0)
    seconds: float | None = Field(None, ge=0)
    exits: list[int]
    spoiled: float = Field(1.0, ge=0, le=1)


class ExitCard(CalibrationCard):
    """The calibration of one network with exits (AdaFocus); `operating.fit_exits` makes it.

    Attributes:
        exits: Their names in order, as the executor gives them.
        macs: Multiply-adds of stopping at each, all before included.
        seconds: Likewise, decoding included; empty if not measured.
        points: By ascending mean multiply-adds.
        default: Number of the point that is used without a budget.
        calibrated_on: Clips behind the points.
        trust: How far the default point can be relied on, in one sentence.
    """

    exits: list[str] = Field(min_length=1, max_length=1000)
    macs: list[int]
    seconds: list[float] = Field(default_factory=list)
    points: list[ExitPoint] = Field(min_length=1, max_length=1000)
    default: int = Field(ge=0)
    calibrated_on: int = Field(ge=1)
    trust: str = ""

    @model_validator(mode="after")
    def _fits(self) -> ExitCard:
        count = len(self.exits)
        lengths = {len(p.thresholds) for p in self.points} | {len(p.exits) for p in self.points}
        if lengths != {count} or len(self.macs) != count or len(self.seconds) not in (0, count):
            raise ValueError("points: not one value per exit")
        if self.default >= len(self.points):
            raise ValueError("default: no such point")
        return self

    def point(self, budget: Budget) -> ExitPoint:
        """The most expensive point within a budget per answer, the default one without a budget.

        Raises:
            ConfigError: The cheapest point costs more, or the budget is in milliseconds and none
                were measured.
        """
        if not budget:
            return self.points[self.default]
        if budget.ms_per_answer is not None and not self.seconds:
            raise ConfigError("no times were measured for these exits", "say 2GMAC instead of ms")
        points = [
            Operating(number, p.accuracy, p.macs, p.seconds or 0.0, tuple(p.exits))
            for number, p in enumerate(self.points)
        ]
        return self.points[int(within(points, budget).threshold)]

    def decide(self, budget: Budget) -> ByExit:
        """The stopping rule of the point that a budget chooses."""
        return ByExit(dict(zip(self.exits, self.point(budget).thresholds, strict=True)))


class CalibratedSpec(DecideSpec):
    """Stop at the exit that is sure enough by the calibration in the run folder."""

    name: Literal["calibrated"] = "calibrated"
    threshold: Annotated[float | None, Search.float(0.3, 1.1)] = Field(
        None, ge=0, le=1.1, description="of the probability; None: by budget, or the run's default"
    )

    def build(self, context: Context) -> Decide:
        """The policy with this threshold, or with those that keep the budget.

        Raises:
            ConfigError: Nothing was calibrated, or the budget cannot be kept.
            WeightsError: The calibration is damaged.
        """
        if self.threshold is not None:
            return Confident(self.threshold)
        saved = context.calibration
        if not saved:
            raise ConfigError(f"{context.model}: nothing was calibrated", "set decide.threshold")
        budget = per_answer(context.budget, context.window)
        if "points" in saved:
            return ExitCard.read(saved, f"{Path(context.model).name}/run.json").decide(budget)
        card = OrderCard.model_validate(saved)
        return Confident(card.threshold(budget))


def per_answer(budget: Budget, window: float) -> Budget:
    """A budget in units of one answer.

    Args:
        budget: What may be spent.
        window: Seconds that one answer is for.

    Raises:
        ConfigError: It is in frames, which exits are not counted by.
    """
    if budget.frames_per_second is not None or budget.ms_per_frame is not None:
        given = [
            one.name for one in fields(budget)
            if one.name != "costs" and getattr(budget, one.name) is not None
        ]  # fmt: skip
        raise ConfigError(
            f"this model cannot keep a budget of {', '.join(given)}", "say 5GMAC or 20ms"
        )
    limits = [budget.macs_per_answer]
    if budget.macs_per_second is not None:
        limits.append(budget.macs_per_second * window)
    known = [value for value in limits if value is not None]
    return Budget(macs_per_answer=min(known) if known else None, ms_per_answer=budget.ms_per_answer)


def within(points: Sequence[Operating], budget: Budget) -> Operating:
    """The point of the highest threshold whose mean cost is within a budget per answer.

    So a larger budget never makes a cascade stop earlier.

    Raises:
        ConfigError: Even the first exit costs more; the error says how much.
    """
    most_macs = budget.macs_per_answer or float("inf")
    most_seconds = (budget.ms_per_answer or float("inf")) / 1000
    allowed = [p for p in points if p.macs <= most_macs and p.seconds <= most_seconds]
    if not allowed:
        first = min(points, key=lambda p: p.threshold)
        measured = f" and {first.seconds * 1000:.3g} ms" if first.seconds else ""
        raise ConfigError(
            "the budget is less than the first exit costs",
            f"it costs {first.macs / 1e9:.3g} GMAC{measured} an answer",
        )
    return max(allowed, key=lambda p: p.threshold)
