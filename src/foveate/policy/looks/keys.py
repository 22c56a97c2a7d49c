"""Key frames for detectors: the whole network now and then, something cheaper between."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from foveate.core import (
    Budget,
    ConfigError,
    Evidence,
    MediaError,
    PartCost,
    Sample,
    Selection,
    ViewRequest,
    Window,
)
from foveate.policy.looks.base import Context, LookSpec, TimedLook
from foveate.policy.looks.frames import within

Between = Literal["auto", "nonkey", "move", "copy", "warp"]
DEFAULT_RATE = 25.0  # frames per second of a source that does not say
DEFAULT_EVERY = 10  # the published interval of LSTS
STILL = 0.25  # pixels per frame that do not count as motion
KNOWN = 0.9  # share of the cells whose motion must be known before it is relied on
MOST = 99  # percentile of the motion in a picture: objects may be small


class KeyFramesSpec(LookSpec):
    """A detector on key frames, and something cheaper on the frames between."""

    name: Literal["key-frames"] = "key-frames"
    every: int | Literal["auto", "codec"] = Field(
        DEFAULT_EVERY,
        description="frames from one key frame to the next; auto: by motion; codec: at the key "
        "frames of the file",
    )
    between: Between = Field(
        "auto",
        description="nonkey: the model's cheap part; move: boxes follow the codec's vectors; copy: "
        "boxes stay; warp: features follow optical flow; auto: the first of these that is possible",
    )
    rate: float | None = Field(None, gt=0, le=240, description="frames/s; None: the source's own")
    look_ahead: bool = Field(
        False, description="key frame in the middle of its interval (nonkey and copy; files only)"
    )
    hold: bool = Field(False, description="run nothing where the codec says that nothing moved")
    change: float = Field(
        0.1, gt=0, le=1, description="auto: motion since the key frame, of the shorter side"
    )
    longest: int = Field(
        25, ge=1, le=1000, description="auto, codec: most frames between two key frames"
    )

    def build(self, context: Context) -> KeyFrames:
        """The policy with these settings.

        Raises:
            ConfigError: The model has no part for the frames between.
        """
        if isinstance(self.every, int) and not 1 <= self.every <= 1000:
            raise ConfigError(f"look.every: {self.every}: must be auto, codec or 1 to 1000")
        if self.between == "nonkey" and not context.temporal:
            raise ConfigError(
                f"look.between: {context.model} has no part for other frames than key frames",
                "say move, copy or warp",
            )
        between = self.between
        if between == "auto" and context.temporal:
            between = "nonkey"
        if self.look_ahead and self.every == "codec":
            raise ConfigError(
                "look.look_ahead: the key frame is the middle one, not the file's",
                "leave it out, or set look.every to a number",
            )
        if self.look_ahead and between not in ("nonkey", "copy"):
            if self.between != "auto":
                raise ConfigError(f"look.look_ahead: not with {between}", "say nonkey or copy")
            between = "copy"
        every = {"auto": None, "codec": self.longest}.get(str(self.every), self.every)
        assert not isinstance(every, str)
        return KeyFrames(
            every, between, self.rate, self.look_ahead, self.hold, self.change, self.longest,
            codec=self.every == "codec",
        )  # fmt: skip


@dataclass(frozen=True)
class _Memory:
    """What is known within an interval.

    Attributes:
        done: Frames that were selected, not counting a key frame ahead of them.
        key: Number of the last key frame.
        moved: Motion since it, as a share of the shorter side.
    """

    done: int = 0
    key: int | None = None
    moved: float = 0.0


@dataclass(frozen=True)
class KeyFrames(TimedLook):
    """A window is an interval that begins with a key frame; a scene cut begins a new one.

    Args:
        every: Frames from one key frame to the next; None chooses by motion, or by the change of
            the features where there are no vectors, and not more often than the budget allows.
        between: What is done with other frames; `auto` moves boxes if there are vectors.
        rate: Frames per second; None for the source's own.
        look_ahead: The key frame is the middle one, which is decoded first.
        hold: Where the codec says that nothing moved, nothing is run.
        change: Motion since the key frame, of the shorter side, that asks for a new one.
        longest: Most frames from one key frame to the next that are chosen by motion.
        codec: The key frames of the file are key frames, too, where they are known before the
            frames are read (files); they are the pictures of the highest quality, and the first
            ones of their scenes.
    """

    every: int | None = DEFAULT_EVERY
    between: str = "auto"
    rate: float | None = None
    look_ahead: bool = False
    hold: bool = False
    change: float = 0.1
    longest: int = 25
    codec: bool = False

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override]
        """The parts of the model that it asks for."""
        others = {"auto": ("move",), "copy": ()}.get(self.between, (self.between,))
        return ("key", *others)

    @property
    def _reads_vectors(self) -> bool:
        """Whether frames between key frames are measured by vectors, where there are any."""
        moves = self.between in ("auto", "move") and self.every != 1
        return moves or self.hold or self.every is None

    def online(self) -> Self:
        """Without looking ahead."""
        return replace(self, look_ahead=False, codec=False)

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        """The next interval; the budget may ask for a lower rate in it."""
        rate = self._own_rate(sample)
        end = start + (self.every or self.longest) / rate
        if self.codec:
            keys = sample.keyframes()
            after = bisect_right(keys, start + 0.5 / rate)
            end = min(end, *keys[after : after + 1], end)
        return Window(start, end)

    def next(
        self, sample: Sample, window: Window, memory: Any, evidence: Evidence | None, budget: Budget
    ) -> tuple[Selection | None, _Memory]:
        """The next frame of the interval."""
        now: _Memory = memory or _Memory()
        rate = self._rate(sample, budget)
        count = max(1, round((window.end - window.start) * rate))
        if self.look_ahead and now.key is None:
            middle = self._middle(sample, window, count, rate)
            time = window.start + middle / rate
            return Selection.of_frames([time], part="key", dense=False), replace(now, key=middle)
        if self.look_ahead and now.done == now.key:
            now = replace(now, done=now.done + 1)
        time = window.start + now.done / rate
        if now.done >= count or time >= window.end - 1e-9 or _over(sample, time):
            return None, now
        return self._frame(sample, time, now, evidence, budget, rate)

    def _frame(
        self, sample: Sample, time: float, now: _Memory, evidence: Evidence | None,
        budget: Budget, rate: float,
    ) -> tuple[Selection, _Memory]:  # fmt: skip
        after = replace(now, done=now.done + 1)
        key = replace(after, key=now.done, moved=0.0)
        vectors = sample.info.has_vectors
        if now.key is None or (not self.look_ahead and now.done - now.key == self.every):
            if vectors and self._reads_vectors:
                # The picture comes from the reader of vectors, not from a second decoder beside it.
                _motion(sample, (time,))
            return Selection.of_frames([time], part="key"), key
        source = sample.info.rate or DEFAULT_RATE
        skipped = max(0, round(source / rate) - 1)  # frames since the last one that was selected
        times = tuple(time - n / source for n in range(skipped, -1, -1))
        between = self.between
        if between == "auto":
            between = "move" if vectors else "copy"
        elif between == "move" and not vectors:
            between = "copy"
        measured: tuple[str, ...] = ()
        if vectors and (self.hold or self.every is None):
            measured = ("motion:vectors",)
            moved, most = _motion(sample, times)
            if self.hold and most is not None and most < STILL:
                return _held(time), after
            after = replace(after, moved=now.moved + moved)
        elif evidence is not None and "change" in evidence.proposals:
            after = replace(after, moved=float(evidence.proposals["change"].max()))
        if self.every is None and after.moved >= self.change:
            least = least_interval(budget, between, source, self.longest)
            if now.done - now.key >= least:
                return Selection.of_frames([time], part="key", measured=measured), key
        if between == "copy":
            return _held(time), after
        moves = between == "move"
        views = {"motion" if moves else "rgb": ViewRequest(times if moves else (time,))}
        return Selection(views, between, measured=measured), after

    def _middle(self, sample: Sample, window: Window, count: int, rate: float) -> int:
        """Number of the key frame: the middle of the interval, as far as the source goes."""
        end = sample.info.duration
        if end is not None:
            count = min(count, max(1, round((end - window.start) * rate)))
        return (count - 1) // 2

    def _own_rate(self, sample: Sample) -> float:
        source = sample.info.rate or DEFAULT_RATE
        return source if self.rate is None else min(self.rate, source)

    def _rate(self, sample: Sample, budget: Budget) -> float:
        """Frames per second; where key frames are chosen, the budget limits those instead."""
        own = self._own_rate(sample)
        if self.every is None and (budget.macs_per_second or budget.ms_per_frame):
            return own
        return within(own, budget)


def least_interval(budget: Budget, between: str, rate: float, most: int) -> int:
    """Frames from one key frame to the next with which the budget is kept, at least 1.

    Args:
        budget: With the costs of the parts so far.
        between: The part that runs on the other frames.
        rate: Frames per second of the source.
        most: What is returned where nothing is enough.
    """
    none = PartCost(0.0, 0.0)
    key, other = budget.costs.get("key", none), budget.costs.get(between, none)
    intervals = [1.0]
    if budget.macs_per_second is not None:
        left = budget.macs_per_second / rate - other.macs
        intervals.append((key.macs - other.macs) / left if left > 0 else math.inf)
    if budget.ms_per_frame is not None:
        left = budget.ms_per_frame - budget.costs.get("decode", none).ms - other.ms
        intervals.append((key.ms - other.ms) / left if left > 0 else math.inf)
    return math.ceil(min(max(intervals), most))


def _motion(sample: Sample, times: tuple[float, ...]) -> tuple[float, float | None]:
    """The sum of the motion into frames, as a share of the shorter side and in pixels.

    The pixels are None where too little of the picture has vectors: then nothing is known.
    """
    try:
        found = sample.motion(times, "vectors", around=0)
    except MediaError:  # the codec has vectors, but the file is all intra coded
        return 0.0, None
    assert found.field is not None
    assert found.valid is not None
    valid, field = found.valid[:, 0].any(0), found.field[:, 0].sum(0)
    if not valid.any():
        return 0.0, None
    lengths = np.hypot(field[..., 0], field[..., 1])[valid]
    most = float(np.percentile(lengths, MOST))
    share = most / min(sample.info.width, sample.info.height)
    return share, most if valid.mean() >= KNOWN else None


def _held(time: float) -> Selection:
    """The boxes stay as they are at this time."""
    return Selection({"rgb": ViewRequest((time,))}, part=None)


def _over(sample: Sample, time: float) -> bool:
    """Whether a source whose length is known has ended."""
    end = sample.info.duration
    return end is not None and time >= end - 1e-6
