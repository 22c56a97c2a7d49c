"""Percentile bootstrap: intervals of metrics, and paired comparisons of two runs.

Clips of one source are not independent; where groups are given, groups are resampled and every
clip counts as often as its group was drawn.

Where all resamples agree (12 of 12 right), the percentile interval has no width although the
metric is not known exactly. Proportions then get Wilson's score interval with the resampled units
as the number of trials. Paired comparisons have an exact sign test over units beside the interval.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13; Wilson,
"Probable inference, the law of succession, and statistical inference", JASA 1927; McNemar, "Note on
the sampling error of the difference between correlated proportions", Psychometrika 1947 (whose
exact form is the sign test over discordant pairs).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from foveate.core import ConfigError
from foveate.evaluate.metrics import Floats, Statistic, mean, value_of

REPEATS = 2000
FEW_GROUPS = 10  # below this the percentile interval is known to be too narrow
BOOTSTRAP, WILSON = "percentile bootstrap", "Wilson"
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
        method: `percentile bootstrap`, or `Wilson` where all resamples of a proportion agree.
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    units: int = 0
    unit: str = "clip"
    method: str = BOOTSTRAP

    @property
    def rough(self) -> bool:
        """Whether there are too few units for a reliable interval."""
        return self.units < FEW_GROUPS


@dataclass(frozen=True)
class Comparison:
    """The difference between two runs on the same samples (first minus second).

    Attributes:
        difference: Over all samples.
        low: Lower end.
        high: Upper end.
        level: Coverage that the interval aims at.
        units: How many units were resampled.
        unit: What a unit is: clip or group.
        method: As for `Interval`.
        p: Two-sided p-value of the exact sign test over units, which for single clips is McNemar's
            exact test; None where only statistics were compared.
    """

    difference: float
    low: float
    high: float
    level: float = 0.95
    units: int = 0
    unit: str = "clip"
    method: str = BOOTSTRAP
    p: float | None = None

    @property
    def found(self) -> bool:
        """Whether the interval excludes zero; with a Wilson interval the exact test must agree."""
        if self.method == WILSON and self.p is not None and self.p >= 1 - self.level:
            return False
        return self.low > 0 or self.high < 0

    @property
    def test(self) -> str:
        """Name of the exact test that gave `p`."""
        return "McNemar's exact test" if self.unit == "clip" else "exact sign test over groups"

    def sentence(self, first: str, second: str, metric: str) -> str:
        """The outcome as a sentence; it states a difference only if the interval excludes zero."""
        numbers = (
            f"{self.difference:+.3f}, {self.level:.0%} {self.method} interval {self.low:+.3f} to "
            f"{self.high:+.3f}, {self.units} {self.unit}s"
        )
        if self.p is not None:
            numbers += f"; {self.test}: p = {self.p:.3g}"
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
    proportion: bool = False,
) -> Interval:
    """A figure with its percentile interval.

    Args:
        statistic: Of weights (R, N); see `evaluate.metrics`.
        samples: N.
        groups: One per sample; None resamples single samples.
        repeats: Resamples.
        level: Coverage to aim at, in 0..1.
        seed: The same seed gives the same interval, whatever the machine.
        proportion: The statistic is a share of samples, such as accuracy: where all resamples
            agree, Wilson's interval over the units is given.

    Raises:
        ConfigError: No samples, or another number of groups.
    """
    drawn = [statistic(weights) for weights in draws(samples, groups, repeats, seed)]
    low, high = _percentiles(np.concatenate(drawn), level)
    value = value_of(statistic, samples)
    units, unit = _unit(samples, groups)
    if proportion and _degenerate(low, high):
        return Interval(value, *wilson(value, units, level), level, units, unit, WILSON)
    return Interval(value, low, high, level, units, unit)


def compare(
    first: Statistic,
    second: Statistic,
    samples: int,
    groups: Sequence[Hashable] | None = None,
    *,
    repeats: int = REPEATS,
    level: float = 0.95,
    seed: int = 0,
    correct: tuple[Floats, Floats] | None = None,
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
        correct: Of each sample whether the first and the second run were right, (N,) each: adds
            the exact sign test over units, and Wilson's interval where all resamples agree.

    Raises:
        ConfigError: No samples, or another number of groups.
    """
    drawn = [first(w) - second(w) for w in draws(samples, groups, repeats, seed)]
    low, high = _percentiles(np.concatenate(drawn), level)
    difference = value_of(first, samples) - value_of(second, samples)
    units, unit = _unit(samples, groups)
    if correct is None:
        return Comparison(difference, low, high, level, units, unit)
    method, changes = BOOTSTRAP, correct[0] - correct[1]
    if _degenerate(low, high):
        method = WILSON
        if not changes.any():
            # No unit is discordant: the share of discordant units bounds the difference.
            high = wilson(0.0, units, level)[1]
            low = -high
        else:
            # Differences lie in -1..1; mapped to 0..1, they have at most a proportion's variance.
            low, high = (2 * end - 1 for end in wilson((1 + difference) / 2, units, level))
    member = np.arange(samples) if groups is None else _numbered(groups)
    sums = np.bincount(member, weights=changes)
    p = sign_test(int((sums > 0).sum()), int((sums < 0).sum()))
    return Comparison(difference, low, high, level, units, unit, method, p)


def compare_correct(
    first: Floats, second: Floats, groups: Sequence[Hashable] | None = None, **settings: Any
) -> Comparison:
    """`compare` for the accuracies of two runs.

    Args:
        first: Whether one run was right, (N,) of 0 and 1.
        second: Whether the other run was right on the same samples.
        groups: As for `interval`.
        **settings: `repeats`, `level` and `seed`, as for `interval`.
    """
    return compare(
        mean(first), mean(second), len(first), groups, correct=(first, second), **settings
    )


def wilson(share: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    >>> [round(end, 3) for end in wilson(1.0, 12)]
    [0.757, 1.0]

    Args:
        share: The observed proportion, in 0..1.
        trials: Independent trials behind it.
        level: Coverage to aim at, in 0..1.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    shrink = z * z / trials
    centre = (share + shrink / 2) / (1 + shrink)
    half = z / (1 + shrink) * math.sqrt(share * (1 - share) / trials + shrink / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact sign test; units without a difference are left out.

    >>> sign_test(5, 0)
    0.0625
    """
    trials = wins + losses
    tail: int = sum(math.comb(trials, i) for i in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << trials))


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


def _degenerate(low: float, high: float) -> bool:
    """Whether all resamples agree, up to rounding."""
    return high - low <= 1e-9


def _percentiles(values: Floats, level: float) -> tuple[float, float]:
    """The middle `level` of the values; resamples in which the metric is undefined are left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
