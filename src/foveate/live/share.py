"""One budget for all cameras: who is looked at how often."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence

from foveate.core import ConfigError

LEAST = 0.1  # of the full rate that a camera without any activity is looked at
_SMOOTH = 0.5  # weight of a new measurement

_SHARE = re.compile(r"\s*([0-9.]+)\s*%\s*cpu\s*", re.I)


def cpu_share(text: str) -> float | None:
    """The share of `50%cpu`, 0 to 1; None if a text is another budget.

    Raises:
        ConfigError: It is no share of the processor.
    """
    match = _SHARE.fullmatch(text)
    if match is None:
        return None
    try:
        share = float(match[1]) / 100
    except ValueError:
        raise ConfigError(f"budget {text}: {match[1]} is not a number") from None
    if not 0 < share <= 1:
        raise ConfigError(f"budget {text}: must be positive and at most 100%cpu")
    return share


def distribute(total: float, rates: Sequence[float], needs: Sequence[float]) -> list[float]:
    """Share looks among cameras by their need; none gets more than its full rate.

    Every camera first gets its least rate; the rest goes to all in proportion to rate and need,
    and what a camera cannot use goes to the others (water-filling).

    Args:
        total: Looks per second that may be spent.
        rates: Full rate of each camera in looks per second.
        needs: Activity of each, 0 to 1.

    Returns:
        Looks per second of each camera; their sum exceeds `total` only where the least rates do.
    """
    given = [LEAST * rate for rate in rates]
    left = total - sum(given)
    open_ = set(range(len(rates)))
    while left > 1e-9 and open_:
        weights = {i: rates[i] * max(needs[i], 1e-3) for i in open_}
        unit = left / sum(weights.values())
        full = {i for i in open_ if given[i] + unit * weights[i] >= rates[i]}
        if not full:
            for i in open_:
                given[i] += unit * weights[i]
            break
        for i in full:
            left -= rates[i] - given[i]
            given[i] = rates[i]
        open_ -= full
    return given


class CpuBudget:
    """Looks per second that keep the process within a share of the processor.

    What reading and decoding cost is measured and cannot be saved; the rest is divided by the cost
    of one look.

    Args:
        share: Of the cores that this process may use, 0 to 1.
        wall: Seconds of a clock.
        used: Seconds of processor time of this process.
        cores: How many it may use.
    """

    def __init__(
        self,
        share: float,
        *,
        wall: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
        cores: int | None = None,
    ) -> None:
        self._wall, self._used = wall, used
        self._allowed = share * (cores or len(os.sched_getaffinity(0)))
        self._before = wall(), used()
        self._looks, self._seconds = 0, 0.0
        self._per_look: float | None = None
        self._base = 0.0

    def spent(self, seconds: float) -> None:
        """Note the processor seconds of one look."""
        self._looks += 1
        self._seconds += seconds

    def looks(self) -> float | None:
        """Looks per second that can be afforded; None before anything was measured."""
        now = self._wall(), self._used()
        passed = now[0] - self._before[0]
        if passed >= 1.0 and self._looks:
            per_look, base = self._seconds / self._looks, now[1] - self._before[1] - self._seconds
            new = self._per_look is None
            self._per_look = _mixed(per_look if new else self._per_look, per_look)
            self._base = _mixed(base / passed if new else self._base, base / passed)
            self._before, self._looks, self._seconds = now, 0, 0.0
        if self._per_look is None:
            return None
        return max(0.0, self._allowed - self._base) / max(self._per_look, 1e-9)


def _mixed(before: float | None, now: float) -> float:
    return now if before is None else (1 - _SMOOTH) * before + _SMOOTH * now
