"""Percentile bootstrap: intervals of metrics, and paired comparisons of two runs.

Clips of one source are not independent; where groups are given, groups are resampled and every
clip counts as often as its group was drawn.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from foveate.core import ConfigError
from foveate.evaluate.metrics import Floats, Statistic, value_of

REPEATS = 2000
FEW_GROUPS = 10  # below this the percentile interval is known to be too narrow
_CELLS = 4_000_000  # weights held at a time


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval.

    Attributes:
        value: Over all samples.
        low: Lower end.
        high: Upper end.
        level: Coverage that the interval aims at.
        units: How many units were resampled.
        unit: What a unit is: clip or group.
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    units: int = 0
    unit: str = "clip"

    @property
    def rough(self) -> bool:
        """Whether there are too few units for a reliable interval."""
        return self.units < FEW_GROUPS


@dataclass(frozen=True)
class Comparison:
    """The difference between two runs on the same samples (first minus second)."""

    difference: float
    low: float
    high: float
    level: float = 0.95
    units: int = 0
    unit: str = "clip"

    @property
    def found(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def sentence(self, first: str, second: str, metric: str) -> str:
        """The outcome as a sentence; it states a difference only if the interval excludes zero."""
        numbers = (
            f"{self.difference:+.3f}, {self.level:.0%} interval {self.low:+.3f} to "
            f"{self.high:+.3f}, {self.units} {self.unit}s"
        )
        if not self.found:
            return f"{metric}: no difference found between {first} and {second} ({numbers})"
        word = "higher" if self.difference > 0 else "lower"
        return f"{metric}: {first} is {word} than {second} ({numbers})"


def interval(
    statistic: Statistic,
    samples: int,
    groups: Sequence[Hashable] | None = None,
    *,
    repeats: int = REPEATS,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """A figure with its percentile interval.

    Args:
        statistic: Of weights (R, N); see `evaluate.metrics`.
        samples: N.
        groups: One per sample; None resamples single samples.
        repeats: Resamples.
        level: Coverage to aim at, in 0..1.
        seed: The same seed gives the same interval, whatever the machine.

    Raises:
        ConfigError: No samples, or another number of groups.
    """
    drawn = [statistic(weights) for weights in draws(samples, groups, repeats, seed)]
    low, high = _percentiles(np.concatenate(drawn), level)
    value = value_of(statistic, samples)
    return Interval(value, low, high, level, *_unit(samples, groups))


def compare(
    first: Statistic,
    second: Statistic,
    samples: int,
    groups: Sequence[Hashable] | None = None,
    *,
    repeats: int = REPEATS,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """The paired difference of two runs: both see the same resamples.

    Args:
        first: Statistic of one run over the samples.
        second: Statistic of the other run over the same samples in the same order.
        samples: N.
        groups: As for `interval`.
        repeats: As for `interval`.
        level: As for `interval`.
        seed: As for `interval`.

    Raises:
        ConfigError: No samples, or another number of groups.
    """
    drawn = [first(w) - second(w) for w in draws(samples, groups, repeats, seed)]
    low, high = _percentiles(np.concatenate(drawn), level)
    difference = value_of(first, samples) - value_of(second, samples)
    return Comparison(difference, low, high, level, *_unit(samples, groups))


def draws(
    samples: int, groups: Sequence[Hashable] | None, repeats: int, seed: int
) -> Iterator[Floats]:
    """Weights (R', N) of the resamples, in chunks that fit into memory.

    Raises:
        ConfigError: No samples, or another number of groups.
    """
    if samples < 1:
        raise ConfigError("no samples to resample")
    if groups is not None and len(groups) != samples:
        raise ConfigError(f"{len(groups)} groups for {samples} samples")
    member = _numbered(groups) if groups is not None else np.arange(samples)
    units = int(member.max()) + 1
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // max(units, samples))
    for done in range(0, repeats, step):
        rows = min(step, repeats - done)
        chosen = random.integers(0, units, (rows, units))
        chosen += np.arange(rows)[:, None] * units
        counts = np.bincount(chosen.ravel(), minlength=rows * units).reshape(rows, units)
        yield counts[:, member].astype(np.float64)


def _numbered(groups: Sequence[Hashable]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Groups as numbers from 0, in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def _unit(samples: int, groups: Sequence[Hashable] | None) -> tuple[int, str]:
    return (samples, "clip") if groups is None else (len(set(groups)), "group")


def _percentiles(values: Floats, level: float) -> tuple[float, float]:
    """The middle `level` of the values; resamples in which the metric is undefined are left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
