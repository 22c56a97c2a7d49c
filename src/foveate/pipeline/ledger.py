"""The ledger: the work of every stage, measured around it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from foveate.core import (
    Clip,
    Cost,
    Group,
    GroupPicture,
    Meter,
    Motion,
    Sample,
    SampleInfo,
    StageCost,
)

if TYPE_CHECKING:
    from foveate.core.loop import Box, Waveform


_COUNTS = ("calls", "macs", "seconds", "frames", "bytes")


class Ledger:
    """Adds up calls, multiply-adds, seconds, frames and bytes by stage, in order of first use."""

    def __init__(self) -> None:
        self._stages: dict[str, dict[str, Any]] = {}
        self._taken: dict[tuple[str, str], Any] = {}
        self._inner: list[float] = []  # seconds of the stages inside each open stage

    def add(
        self,
        name: str,
        *,
        calls: int = 1,
        macs: int = 0,
        seconds: float = 0.0,
        frames: int = 0,
        bytes: int = 0,
    ) -> None:
        """Charge work to a stage."""
        stage = self._stages.setdefault(name, dict.fromkeys(_COUNTS, 0))
        for key, value in (
            ("calls", calls),
            ("macs", macs),
            ("seconds", seconds),
            ("frames", frames),
            ("bytes", bytes),
        ):
            stage[key] += value

    @contextmanager
    def stage(self, name: str, meter: Meter | None = None) -> Iterator[None]:
        """Measure a block: its seconds and, with a meter, the frames and bytes it took.

        What a stage inside the block is charged is not charged to the outer one again.
        """
        frames, read = (meter.frames, meter.bytes) if meter else (0, 0)
        self._inner.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            own = spent - self._inner.pop()
            if self._inner:
                self._inner[-1] += spent
            self.add(
                name,
                seconds=own,
                frames=meter.frames - frames if meter else 0,
                bytes=meter.bytes - read if meter else 0,
            )

    def seconds(self, name: str) -> float:
        """Seconds charged to a stage so far."""
        return self._stages[name]["seconds"] if name in self._stages else 0.0

    def cost(self) -> Cost:
        """The ledger as a value."""
        return Cost.of([StageCost(name=n, **stage) for n, stage in self._stages.items()])

    def take(self) -> Cost:
        """What was charged since the last `take`; totals asked of `seconds` go on."""
        new = [
            StageCost(
                name=name, **{key: stage[key] - self._taken.get((name, key), 0) for key in stage}
            )
            for name, stage in self._stages.items()
        ]
        self._taken = {(n, key): v for n, stage in self._stages.items() for key, v in stage.items()}
        return Cost.of([stage for stage in new if stage.calls or stage.bytes])


class ChargedSample:
    """A source that charges every access to the ledger; satisfies `Sample`."""

    def __init__(self, sample: Sample, ledger: Ledger) -> None:
        self._sample = sample
        self._ledger = ledger
        self._groups: Sequence[Group] | None = None
        self._motion: tuple[Any, Motion] | None = None
        self.meter = sample.meter
        self.warnings = sample.warnings

    @property
    def info(self) -> SampleInfo:
        """What is known without decoding."""
        return self._sample.info

    def keyframes(self) -> tuple[float, ...]:
        """Times of the key frames, charged to `index`."""
        with self._ledger.stage("index", self.meter):
            return self._sample.keyframes()

    def frames(
        self,
        times: Sequence[float],
        size: tuple[int, int] | None = None,
        *,
        keep: bool | Sequence[float] = False,
        boxes: Sequence[Box] | None = None,
    ) -> Clip:
        """Decoded and scaled frames, or windows of them, charged to `decode`."""
        more: dict[str, Any] = {"keep": keep} if keep else {}
        if boxes is not None:
            more["boxes"] = boxes
        with self._ledger.stage("decode", self.meter):
            return self._sample.frames(times, size, **more)

    def motion(
        self, times: Sequence[float], source: str = "auto", around: int = 2, **more: bool
    ) -> Motion:
        """Motion at those times: decoding is charged to `decode`, the rest to `motion`.

        The last answer without neighbours is remembered: policies of key frames look at what a part
        then takes.
        """
        asked = tuple(times), source, around, tuple(more.items())
        if self._motion is not None and self._motion[0] == asked:
            return self._motion[1]
        before = self.meter.motion_seconds
        with self._ledger.stage("decode", self.meter):
            motion = self._sample.motion(times, source, around, **more)
        spent = self.meter.motion_seconds - before
        self._ledger.add("decode", calls=0, seconds=-spent)
        self._ledger.add("motion", seconds=spent)
        if around == 0:
            self._motion = asked, motion
        return motion

    def next_time(self, after: float) -> float | None:
        """Time of the next frame, charged to `decode`."""
        with self._ledger.stage("decode", self.meter):
            return self._sample.next_time(after)

    def groups(self) -> Sequence[Group]:
        """Groups of pictures, charged to `index`."""
        if self._groups is None:
            with self._ledger.stage("index", self.meter):
                self._groups = self._sample.groups()
        return self._groups

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> list[GroupPicture]:
        """What the codec holds, charged to `decode-KIND`."""
        with self._ledger.stage(f"decode-{kind}", self.meter):
            return list(self._sample.pictures(kind, places))

    def audio(self, start: float = 0.0, end: float | None = None, rate: int = 16000) -> Waveform:
        """Sound, charged to `audio`."""
        with self._ledger.stage("audio", self.meter):
            return self._sample.audio(start, end, rate)

    def close(self) -> None:
        """Release the source."""
        self._sample.close()
