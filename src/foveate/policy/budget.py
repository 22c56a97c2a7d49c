"""Converts a budget in any unit to a frame rate, from measured costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pydantic import Field

from foveate.core import Budget
from foveate.core.config import Config

MINIMUM_VIEWS = 1  # at least one frame per window


class BudgetSpec(Config):
    """The limits; see `core.Budget`."""

    macs_per_second: float | None = Field(None, gt=0)
    ms_per_frame: float | None = Field(None, gt=0)
    frames_per_second: float | None = Field(None, gt=0)
    macs_per_answer: float | None = Field(None, gt=0)
    ms_per_answer: float | None = Field(None, gt=0)

    def value(self) -> Budget:
        """The budget as the loop takes it."""
        return Budget(**self.model_dump())


@dataclass(frozen=True)
class Spent:
    """What was measured so far.

    Attributes:
        macs_per_view: Multiply-adds of one frame in the network.
        macs_per_answer: Multiply-adds of the head.
        view_seconds: Seconds of computing per frame looked at; None before any.
        decode_seconds: Seconds of decoding per second of video; None before any.
    """

    macs_per_view: int
    macs_per_answer: int = 0
    view_seconds: float | None = None
    decode_seconds: float | None = None


def resolve(budget: Budget, spent: Spent, source_rate: float, window_seconds: float) -> Budget:
    """The same budget with `frames_per_second` set so that every unit of it is kept.

    Args:
        budget: The limits.
        spent: Measured cost of frames so far.
        source_rate: Frames per second of the source, to read `ms_per_frame`.
        window_seconds: Length of a window, over which the head's cost is spread.

    Returns:
        A budget whose `frames_per_second` is None only if nothing is limited. It never falls
        below one frame per window: then the budget cannot be kept, and the caller reports it.
    """
    rates = [math.inf if budget.frames_per_second is None else budget.frames_per_second]
    if budget.macs_per_second is not None:
        left = budget.macs_per_second - spent.macs_per_answer / window_seconds
        rates.append(left / max(spent.macs_per_view, 1))
    if budget.ms_per_frame is not None and spent.view_seconds:
        seconds = budget.ms_per_frame / 1000 * source_rate - (spent.decode_seconds or 0.0)
        rates.append(seconds / spent.view_seconds)
    rate = max(min(rates), MINIMUM_VIEWS / window_seconds)
    return replace(budget, frames_per_second=None if math.isinf(rate) else rate)
