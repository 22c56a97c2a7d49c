"""Which times of a clip to look at.

A sampler is called with the start and the end of a clip in seconds and a generator of random
numbers, or None in evaluation. It returns ascending times, or one tuple of times per view. The
frame shown at a time is the one that was on the screen then, so a time is never rounded to a frame
number. Other arguments are bound with `functools.partial`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Times = tuple[float, ...]
Views = tuple[Times, ...]
Sampling = Callable[[float, float, np.random.Generator | None], Times | Views]

_INSIDE = 1e-4  # seconds by which the last time stays away from the end


def segments(
    start: float, end: float, random: np.random.Generator | None = None, *, count: int
) -> Times:
    """One time in each of `count` equal parts.

    Temporal segment networks (Wang et al., ECCV 2016, section 3.1): a random place in each part
    in training, its centre in evaluation.
    """
    _check(start, end, count)
    part = (end - start) / count
    inside = np.full(count, 0.5) if random is None else random.random(count)
    return _ascending((start + (np.arange(count) + inside) * part).tolist(), end)


def window(
    start: float,
    end: float,
    random: np.random.Generator | None = None,
    *,
    count: int,
    rate: float,
) -> Times:
    """`count` times at an even rate, from a random place in training, else from the middle.

    If the clip is shorter than the window, the distance between times is reduced: the clip is
    sampled whole at a higher rate, and a frame that is shown at two times is returned twice.

    Args:
        start: Seconds.
        end: Seconds.
        random: Chooses the place; None for the middle.
        count: How many times.
        rate: Times per second.
    """
    _check(start, end, count, rate)
    step = min(1.0 / rate, (end - start) / count)
    slack = end - start - count * step
    first = start + slack * (0.5 if random is None else float(random.random()))
    return _ascending([first + i * step for i in range(count)], end)


def windows(
    start: float,
    end: float,
    random: np.random.Generator | None = None,
    *,
    count: int,
    rate: float,
    views: int,
) -> Views:
    """`views` windows at even distances from the first to the last place (multi-view evaluation).

    Args:
        start: Seconds.
        end: Seconds.
        random: Not used: all views are fixed.
        count: Times per view.
        rate: Times per second.
        views: How many windows; one is the middle one.
    """
    _check(start, end, count, rate)
    if views < 1:
        raise ValueError(f"views must be positive, not {views}")
    step = min(1.0 / rate, (end - start) / count)
    slack = end - start - count * step
    shares = [0.5] if views == 1 else [i / (views - 1) for i in range(views)]
    return tuple(
        _ascending([start + share * slack + i * step for i in range(count)], end)
        for share in shares
    )


def pair(
    start: float,
    end: float,
    random: np.random.Generator | None = None,
    *,
    count: int,
    rate: float,
    power: float = 1.0,
) -> Views:
    """Two windows of one video; large distances between them are less likely.

    CVRL (Qian et al., CVPR 2021, section 3.2): the distance of their starts has a density that
    falls as (1 - distance / longest)^power; the place of the pair is then drawn evenly.

    Args:
        start: Seconds.
        end: Seconds.
        random: Chooses distance and place; None for starts at one and two thirds of the range.
        count: Times per window.
        rate: Times per second.
        power: 1 falls linearly, 0 is uniform.
    """
    _check(start, end, count, rate)
    if power < 0:
        raise ValueError(f"power must not be negative, not {power}")
    step = min(1.0 / rate, (end - start) / count)
    slack = max(0.0, end - start - count * step)
    distance, place = slack / 3, 0.5
    if random is not None:
        distance = slack * (1 - float(random.random()) ** (1 / (power + 1)))
        place = float(random.random())
    first = start + place * (slack - distance)
    return tuple(
        _ascending([begin + i * step for i in range(count)], end)
        for begin in (first, first + distance)
    )


def whole(
    start: float,
    end: float,
    random: np.random.Generator | None = None,
    *,
    rate: float,
    most: int | None = None,
) -> Times:
    """All times at an even rate from the start: the input of a streaming model.

    The number of times depends on the length of the clip.

    Args:
        start: Seconds.
        end: Seconds.
        random: Not used.
        rate: Times per second.
        most: At most so many times.
    """
    _check(start, end, 1, rate)
    count = max(1, math.floor((end - start) * rate + 1e-6))
    return tuple(start + i / rate for i in range(count if most is None else min(count, most)))


def as_views(times: Times | Views) -> Views:
    """The times of each view, also where there is only one."""
    views = [item for item in times if isinstance(item, tuple)]
    return tuple(views) or (tuple(item for item in times if not isinstance(item, tuple)),)


def _check(start: float, end: float, count: int, rate: float = 1.0) -> None:
    if not 0 <= start < end:
        raise ValueError(f"a clip from {start} to {end} seconds")
    if count < 1 or not rate > 0:
        raise ValueError(f"count and rate must be positive, not {count} and {rate}")


def _ascending(times: list[float], end: float) -> Times:
    """The times, none of them at the very end, where no frame is shown any more."""
    last = max(times[0], end - _INSIDE)
    return tuple(min(time, last) for time in times)
