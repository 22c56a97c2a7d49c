"""The calibration in a run folder: cost and accuracy of every threshold on a calibration split.

A budget is met by looking up a threshold in a table of measured values. Nothing
here needs torch; `operating` makes the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveate.core import Budget, ConfigError, WeightsError
from foveate.core.config import fault_of
from foveate.policy.looks.base import Context
from foveate.policy.stopping import Confident, DecideSpec

Order = Literal["measured", "published"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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


class PointCard(_Strict):
    """An `Operating` point as it is saved."""

    threshold: float = Field(ge=0, le=1.1)
    accuracy: float = Field(ge=0, le=1)
    macs: float = Field(ge=0)
    seconds: float = Field(ge=0)
    exits: list[int]
    spoiled: float = Field(1.0, ge=0, le=1)


class FusionCard(_Strict):
    """How the exits taken so far are joined; see `policy.fuse.Wise`."""

    exits: list[str] = Field(min_length=1, max_length=1000)
    weights: list[list[float]]
    temperatures: list[float]


class OrderCard(_Strict):
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


class Calibration(_Strict):
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

    @classmethod
    def read(cls, saved: Mapping[str, Any], name: str) -> Calibration:
        """Validate the calibration in a run folder.

        Raises:
            WeightsError: It is damaged.
        """
        try:
            return cls.model_validate(dict(saved))
        except ValidationError as error:
            raise WeightsError(f"{name}: calibration.{fault_of(error)}") from None


class CalibratedSpec(DecideSpec):
    """Stop at the exit that is sure enough by the calibration in the run folder (cascades)."""

    name: Literal["calibrated"] = "calibrated"
    threshold: float | None = Field(
        None, ge=0, le=1.1, description="of the probability; None: by budget, or the run's default"
    )

    def build(self, context: Context) -> Confident:
        """The policy with this threshold, or with the one that keeps the budget.

        Raises:
            ConfigError: Nothing was calibrated, or the budget cannot be kept.
        """
        if self.threshold is not None:
            return Confident(self.threshold)
        if not context.calibration:
            raise ConfigError(f"{context.model}: nothing was calibrated", "set decide.threshold")
        card = OrderCard.model_validate(context.calibration)
        return Confident(card.threshold(per_answer(context.budget, context.window)))


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
        raise ConfigError(
            "the budget is less than the first exit costs",
            f"it costs {first.macs / 1e9:.3g} GMAC and {first.seconds * 1000:.3g} ms an answer",
        )
    return max(allowed, key=lambda p: p.threshold)
