"""Learning-rate schedules as plain functions of the step, without state to save."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from foveate.core import ConfigError

Schedule = Callable[[int], float]
"""Step (0-based) → factor on the learning rate."""

Kind = Literal["cosine", "constant", "multistep"]


def make_schedule(
    kind: Kind,
    total: int,
    warmup: int = 0,
    *,
    floor: float = 0.0,
    milestones: Sequence[float] = (),
    gamma: float = 0.1,
) -> Schedule:
    """A schedule with a linear warm-up.

    Args:
        kind: `cosine` falls from 1 to `floor` over the steps after the warm-up; `constant` stays
            at 1; `multistep` is multiplied by `gamma` at each milestone.
        total: Steps in all.
        warmup: Steps of linear warm-up; step `warmup` is the first at full rate.
        floor: Factor at the end of a cosine.
        milestones: For `multistep`, as fractions of `total` in 0..1.
        gamma: For `multistep`.

    Raises:
        ConfigError: Steps or milestones out of range.
    """
    if total < 1 or not 0 <= warmup <= total:
        raise ConfigError(f"a schedule of {total} steps cannot warm up for {warmup}")
    if not all(0 < share < 1 for share in milestones):
        raise ConfigError(f"milestones are fractions of the training between 0 and 1: {milestones}")

    def after(step: int) -> float:
        if kind == "constant":
            return 1.0
        if kind == "multistep":
            return gamma ** sum(step >= share * total for share in milestones)
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return lambda step: (step + 1) / (warmup + 1) if step < warmup else after(step)
