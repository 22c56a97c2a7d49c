"""Watches cameras: opens a session for every epoch of every camera, and shares one budget."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from foveate.core import ConfigError, Sample
from foveate.core.budget import parse_budget
from foveate.live.areas import Areas
from foveate.live.camera import CameraSource, Pace, cameras
from foveate.live.events import Event
from foveate.live.feed import Feed, LiveSample
from foveate.live.reader import Camera, CameraStatus, log
from foveate.live.share import CpuBudget, cpu_share, distribute
from foveate.live.step import DropCause, StepResult
from foveate.media.mask import MaskedSample
from foveate.media.ring import PacketRing
from foveate.pipeline.ledger import Ledger
from foveate.pipeline.reducers import ClassReducer
from foveate.pipeline.scheduler import Opener, schedule
from foveate.pipeline.session import Plan, Session
from foveate.policy.budget import BudgetSpec

if TYPE_CHECKING:
    from foveate.pipeline.recogniser import Recogniser

_EVERY = 0.25  # seconds between two divisions of the budget
_FILE_EVERY = 1.0  # seconds between two looks at a file of cameras
_LONGEST_WAIT = 0.05  # seconds for which the loop sleeps when no camera has a frame


class Outputs(Protocol):
    """What becomes of the steps, see `live.outputs.EventOutputs`."""

    def set_areas(self, camera: str, areas: Areas) -> PacketRing | None:
        """Add a camera; the ring for its packets, if clips are recorded."""

    def add(self, step: StepResult) -> list[Event]:
        """Take a step; the events that are announced or closed with it."""

    def end(self, camera: str) -> list[Event]:
        """The connection of a camera has ended; the events that are closed."""

    def remove(self, camera: str) -> list[Event]:
        """A camera is not watched any more; the events that are closed."""


class Watch:
    """Cameras that are being watched; iterate over it for the steps of all of them, as they come.

    The other methods may be called from other threads. Use it as a context manager, or call
    `close`; the end of the loop closes it, too.

    Args:
        recogniser: The model with its policies.
        sources: See `Recogniser.watch`.
        pace: Of files.
        fps: Frames per second of iterables of frames without times.
        budget: Of all cameras together, such as `50%cpu`, or of each, such as `2fps`.
        max_wait: Seconds for which a frame waits for those of other cameras.
        outputs: Takes the steps and gives the events; None for steps alone. It is not closed.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        sources: Any,
        *,
        pace: Pace = "fast",
        fps: float | None = None,
        budget: str | None = None,
        max_wait: float = 0.0,
        outputs: Outputs | None = None,
    ) -> None:
        if recogniser.preset.decode.changes():
            raise ConfigError(
                "decode: only for files", "a camera of a cams.yaml has skip_loop_filter"
            )
        self._labels = recogniser.labels
        self._naming = replace(recogniser.naming, top_k=1)
        self._executor, self._max_wait, self._pace = recogniser.executor, max_wait, pace
        self._outputs = outputs
        plan = replace(recogniser.plan, look=recogniser.plan.look.online(), every_step=True)
        share = None if budget is None else cpu_share(budget)
        if budget is not None and share is None:
            plan = replace(plan, budget=BudgetSpec(**parse_budget(budget)).value())
        self._plan = plan
        self._cpu = None if share is None else CpuBudget(share)
        self._costs = recogniser.costs
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._cameras: dict[str, Camera] = {}
        self._gone: list[Camera] = []
        self._running: dict[str, Feed] = {}
        self._positions: dict[int, tuple[Camera, Feed]] = {}
        self._numbers: dict[str, tuple[int, float | None]] = {}
        self._reported: dict[str, Counter[DropCause]] = {}
        self._ended: list[tuple[str, bool]] = []  # cameras whose connection or watching is over
        self._stopping = False
        self._files: dict[Path, float] = {}
        self._from_file: dict[Path, dict[str, CameraSource]] = {}
        self._next = self._next_file = 0.0
        self.beat = time.monotonic()  # when the loop last went round
        for one in cameras(sources, pace=pace, fps=fps):
            self.add(one)
        self._watch_files(sources)

    # --- control ----------------------------------------------------------------------------

    def add(self, source: Any, name: str | None = None) -> None:
        """Watch one more camera.

        Args:
            source: As for `Recogniser.watch`.
            name: Its unique name; by default it is made of the address.

        Raises:
            ConfigError: It cannot be watched, or the name is taken.
        """
        for one in cameras(source if name is None else {name: source}, pace=self._pace):
            self._plan_of(one)
            with self._lock:
                if one.name in self._cameras:
                    raise ConfigError(f"{one.name}: there is a camera of this name", "give name=")
                ring = (
                    None
                    if self._outputs is None
                    else self._outputs.set_areas(one.name, one.settings)
                )
                # What is removed and added again at once keeps its ring and its areas.
                self._ended = [(name, gone and name != one.name) for name, gone in self._ended]
                camera = self._cameras[one.name] = Camera(one, self._changed.set, ring)
                self._reported[one.name] = Counter()
            camera.start()

    def remove(self, name: str) -> None:
        """Watch a camera no longer.

        Raises:
            ConfigError: There is none of this name.
        """
        camera = self._of(name)
        with self._lock:
            self._gone = [*filter(Camera.alive, self._gone), self._cameras.pop(name)]
        camera.stop()
        self._ended.append((name, True))
        self._changed.set()

    def pause(self, name: str) -> None:
        """Stay connected to a camera, but look at none of its frames."""
        self._of(name).paused = True

    def resume(self, name: str) -> None:
        """Look at a paused camera again; its states begin anew."""
        self._of(name).paused = False

    def stop(self) -> None:
        """End the iteration after the step that is being computed; signal handlers may call it."""
        self._stopping = True  # no lock is taken: the loop, interrupted by a signal, may hold it

    def close(self) -> None:
        """Disconnect from all cameras; safe to call twice."""
        self.stop()
        with self._lock:
            ending = [*self._cameras.values(), *self._gone]
        for camera in ending:
            camera.stop()
        # A thread that waits for data ends by itself when its time-out is over.
        until = time.monotonic() + 1.0
        for camera in ending:
            camera.join(max(0.0, until - time.monotonic()))

    def status(self) -> list[CameraStatus]:
        """All cameras now, in the order in which they were added."""
        with self._lock:
            return [camera.status() for camera in self._cameras.values()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _of(self, name: str) -> Camera:
        with self._lock:
            if name not in self._cameras:
                raise ConfigError(f"{name}: no such camera", f"one of: {', '.join(self._cameras)}")
            return self._cameras[name]

    # --- the loop ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[StepResult | Event]:
        outcomes = schedule(
            self._executor, self._openers(), None, max_wait=self._max_wait, sleep=self._sleep
        )
        try:
            for outcome in outcomes:
                camera, feed = self._positions[outcome.position]
                if outcome.kind == "end":
                    del self._positions[outcome.position]
                    self._running.pop(camera.name, None)
                    over = feed.ended or feed.closed
                    feed.close()
                    self._ended.append((camera.name, False))
                    if outcome.error is not None and not over:
                        log.error("%s: %s", camera.name, outcome.error)
                        camera.reconnect(outcome.error.cause)
                elif outcome.session is not None:
                    step = self._step(camera, feed, outcome.session)
                    yield step
                    if self._outputs is not None:
                        yield from self._outputs.add(step)
                yield from self._endings()
                if self._stopping:
                    break
            self._ended += [(name, False) for name in self._cameras]
            yield from self._endings()
        finally:
            outcomes.close()  # type: ignore[attr-defined]
            self.close()

    def _endings(self) -> Iterator[Event]:
        """Events that are over because their camera is."""
        while self._ended:
            name, removed = self._ended.pop(0)
            if self._outputs is not None:
                yield from self._outputs.remove(name) if removed else self._outputs.end(name)

    def _openers(self) -> Iterator[Opener | None]:
        """A session for every epoch that begins; None while there is nothing new."""
        position = 0
        while not self._stopping:
            now = self.beat = time.monotonic()
            self._changed.clear()
            if now >= self._next:
                self._next = now + _EVERY
                self._divide()
            if self._files and now >= self._next_file:
                self._next_file = now + _FILE_EVERY
                self._reread()
            with self._lock:
                watched = list(self._cameras.values())
            for camera in watched:
                feed = None if camera.name in self._running else camera.next_feed()
                if feed is not None:
                    self._running[camera.name] = feed
                    self._positions[position] = camera, feed
                    self._numbers[camera.name] = 0, None
                    position += 1
                    yield self._opener(camera, feed)
            done = all(camera.finished for camera in watched) and not self._running
            if done and not self._files:
                return
            yield None
        for feed in self._running.values():
            feed.close()  # ends its session

    def _opener(self, camera: Camera, feed: Feed) -> Opener:
        plan, masks = self._plan_of(camera.source), camera.source.settings.masks

        def open_() -> Session:
            sample: Sample = LiveSample(feed)
            return Session(MaskedSample(sample, masks) if masks else sample, Ledger(), plan)

        return open_

    def _sleep(self, seconds: float) -> None:
        self._changed.wait(_LONGEST_WAIT)

    def _plan_of(self, source: CameraSource) -> Plan:
        """The plan with the camera's own budget.

        Raises:
            ConfigError: The budget is none for a stream.
        """
        plan, text = self._plan, source.settings.budget
        if text is not None:
            plan = replace(plan, budget=BudgetSpec(**parse_budget(text)).value())
        if plan.budget.macs_per_answer or plan.budget.ms_per_answer:
            raise ConfigError(f"{source.name}: a camera has no budget per answer", "say 2fps")
        if plan.budget.macs_per_second is not None and not plan.macs_per_view:
            view, answer = self._costs()
            plan = replace(plan, macs_per_view=view, macs_per_answer=answer)
        return plan

    def _step(self, camera: Camera, feed: Feed, session: Session) -> StepResult:
        frame = feed.shown
        assert frame is not None  # a step follows a look
        session.steps.clear()
        fields = session.reducer.step(self._naming, session.span, session.joins)
        scores = {}
        reducer = session.reducer
        if isinstance(reducer, ClassReducer) and reducer.answer is not None:
            scores = dict(zip(self._labels, reducer.answer.scores.tolist(), strict=True))
        latency = {stage.name: stage.seconds for stage in session.ledger.take().stages}
        worked = sum(latency.values())
        if self._cpu is not None:
            self._cpu.spent(worked)
        age = max(0.0, time.monotonic() - frame.tick)
        with camera.lock:
            now = Counter(camera.ledger.dropped)
        dropped = now - self._reported[camera.name]
        self._reported[camera.name] = now
        number, since = self._numbers[camera.name]
        self._numbers[camera.name] = number + 1, frame.time
        start, until = session.span
        shift = frame.time - until  # the loop's time has no seconds that it skipped
        return StepResult(
            camera=camera.name,
            source=camera.source.shown,
            epoch=feed.epoch,
            number=number,
            time=frame.time,
            wall=frame.wall,
            age=age,
            since=since,
            window=(max(0.0, start + shift), frame.time),
            size=(feed.info.width, feed.info.height),
            scores=scores,
            unknown=fields.get("unknown"),
            detections=tuple(fields.get("detections", ())),
            dropped=dict(dropped),
            latency={"wait": max(0.0, age - worked), **latency},
        )

    # --- one budget -------------------------------------------------------------------------

    def _divide(self) -> None:
        """Let quiet cameras wait longer, as far as the budget of all asks for it."""
        if self._cpu is None:
            return
        total = self._cpu.looks()
        with self._lock:
            running = [
                (self._cameras[name], feed)
                for name, feed in self._running.items()
                if name in self._cameras
            ]
        if total is None or not running:
            return
        rates = [self._rate(camera.source) for camera, _ in running]
        needs = [camera.activity.level for camera, _ in running]
        given = distribute(total, rates, needs)
        for (_, feed), rate, looks in zip(running, rates, given, strict=True):
            feed.stretch = rate / max(looks, 1e-3)

    def _rate(self, source: CameraSource) -> float:
        """Looks per second that the model would have of a camera without other cameras."""
        plan = self._plan_of(source)
        own = self._executor.input(self._executor.parts[0]).frames_per_second
        rate: float = getattr(plan.look, "rate", own)
        most = plan.budget.frames_per_second
        return rate if most is None else min(rate, most)

    # --- files of cameras -------------------------------------------------------------------

    def _watch_files(self, sources: Any) -> None:
        listed = list(sources.values()) if isinstance(sources, Mapping) else sources
        for one in listed if isinstance(listed, list | tuple) else [listed]:
            if isinstance(one, str | os.PathLike) and str(one).endswith((".yaml", ".yml")):
                path = Path(one)
                self._files[path] = path.stat().st_mtime
                self._from_file[path] = {c.name: c for c in cameras([path], pace=self._pace)}

    def _reread(self) -> None:
        """Follow changes of the files: added, removed, changed and paused cameras."""
        for path, before in list(self._files.items()):
            try:
                changed = path.stat().st_mtime
                if changed == before:
                    continue
                self._files[path] = changed
                found = {one.name: one for one in cameras([path], pace=self._pace)}
                for one in found.values():
                    self._plan_of(one)
            except (ConfigError, OSError) as error:
                log.error("%s; the cameras stay as they were", error)
                continue
            known, self._from_file[path] = self._from_file[path], found
            self._follow(known, found)

    def _follow(self, known: Mapping[str, CameraSource], found: Mapping[str, CameraSource]) -> None:
        for name, one in known.items():
            if name in self._cameras and _changed(one, found.get(name)):
                self.remove(name)
        for name, one in found.items():
            if name not in self._cameras:
                self.add(one)
            elif one.settings.paused:
                self.pause(name)
            else:
                self.resume(name)


def _changed(before: CameraSource, now: CameraSource | None) -> bool:
    """Whether a camera must be connected to anew: all but pausing asks for it."""
    if now is None:
        return True
    unpaused = {"paused": False}
    return before.settings.model_copy(update=unpaused) != now.settings.model_copy(update=unpaused)
