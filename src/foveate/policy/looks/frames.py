"""Which frames to look at: at an even rate, or key frames first and the rest while undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from foveate.core import Budget, Evidence, Sample, Selection, Window
from foveate.core.search import Search
from foveate.policy.looks.base import Context, LookSpec, TimedLook


class UniformSpec(LookSpec):
    """Frames at an even rate."""

    trains: ClassVar[bool] = True

    name: Literal["uniform"] = "uniform"
    rate: Annotated[float | None, Search.float(2, 15)] = Field(
        None, gt=0, le=240, description="frames/s; None: the model's own"
    )
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")

    def build(self, context: Context) -> Uniform:
        """The policy with these settings."""
        return Uniform(self.rate or context.input.frames_per_second, self.chunk)


class KeyframesFirstSpec(LookSpec):
    """Key frames first; the frames between them only while undecided."""

    name: Literal["keyframes-first"] = "keyframes-first"
    rate: Annotated[float | None, Search.float(2, 15)] = Field(
        None, gt=0, le=240, description="frames/s; None: the model's own"
    )
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")
    least: int = Field(2, ge=1, description="key frames that a first look needs")

    def build(self, context: Context) -> KeyframesFirst:
        """The policy with these settings."""
        rate = self.rate or context.input.frames_per_second
        return KeyframesFirst(rate, self.chunk, self.least)


@dataclass(frozen=True)
class Uniform(TimedLook):
    """Frames at the model's rate, or at as much of it as the budget allows.

    Args:
        rate: Frames per second of video.
        chunk: Frames requested at a time; more are cheaper per frame, fewer let a decision
            come sooner.
    """

    rate: float
    chunk: int = 10

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next frames of the window; the memory is how many were asked for."""
        done = memory or 0
        times = grid(window, within(self.rate, budget))[done : done + self.chunk]
        return Selection.of_frames(times) if times else None, done + len(times)

    def online(self) -> Self:
        """Frame by frame."""
        return replace(self, chunk=1)


@dataclass(frozen=True)
class KeyframesFirst(TimedLook):
    """Key frames of the window first; the frames between are decoded only while undecided.

    A key frame is decoded without its neighbours, so the first look costs a fraction of a full
    one. If that does not decide, the model starts again on an even grid. Where every frame
    is a key frame nothing would be saved by taking them all: the first look is never larger than
    half of the grid.

    Args:
        rate: Frames per second of the even grid.
        chunk: Frames of the grid asked for at a time.
        least: Key frames that the first look needs; with fewer the grid comes at once.
    """

    rate: float
    chunk: int = 10
    least: int = 2

    def online(self) -> Uniform:
        """Frame by frame: in a stream, later key frames are not known yet."""
        return Uniform(self.rate, chunk=1)

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """Key frames, then the grid; the memory is (grid frames, key frames) asked for."""
        length = window.end - window.start
        allowed = within(math.inf, budget) * length
        if memory is None:
            keys = [t for t in sample.keyframes() if window.start <= t < window.end]
            if len(keys) >= self.least and allowed >= 1:
                keys = thin(keys, min(allowed, max(self.least, self.rate * length / 2)))
                return Selection.of_frames(keys, dense=False), (0, len(keys))
            memory = (0, 0)
        done, spent = memory
        left = (allowed - spent) / length
        if spent and left * length < 1:
            return None, memory
        times = grid(window, min(self.rate, left))[done : done + self.chunk]
        restart = done == 0 and spent > 0
        selection = Selection.of_frames(times, restart=restart) if times else None
        return selection, (done + len(times), spent)


def within(rate: float, budget: Budget) -> float:
    """The rate, cut to what the budget allows (see `policy.budget` for the other units)."""
    cap = budget.frames_per_second
    return rate if cap is None else min(rate, cap)


def grid(window: Window, rate: float) -> tuple[float, ...]:
    """Times `1 / rate` apart, from the start of the window to before its end; at least one."""
    count = max(1, math.floor((window.end - window.start) * rate + 1e-6))
    return tuple(window.start + i / rate for i in range(count))


def thin(times: list[float], most: float) -> list[float]:
    """At most `most` of the times, evenly chosen, the first among them."""
    if len(times) <= most:
        return times
    count = int(most)
    return [times[i * len(times) // count] for i in range(count)]
