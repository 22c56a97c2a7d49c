"""The one loop, for one source: select, fetch, run a part, look at the evidence, stop or go on.

A session is a generator that asks for the model's work and is sent the outcome. So one scheduler
can run a single source, a batch of sources, or many streams, and the loop is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from foveate.core import (
    Budget,
    ConfigError,
    Decide,
    Evidence,
    Executor,
    Look,
    MediaError,
    NotYet,
    PartCost,
    Sample,
    Selection,
    State,
    Stop,
    Tokens,
    TraceStep,
    ViewRequest,
    Views,
    Window,
)
from foveate.pipeline.fetch import DEFAULT_RATE, Fetch, Fetched, matched
from foveate.pipeline.ledger import ChargedSample, Ledger
from foveate.policy.budget import Spent, resolve
from foveate.policy.looks.tokens import TOKENS

if TYPE_CHECKING:
    from foveate.pipeline.reducers import Reducer

OnStep = Callable[[str, float, float | None], None]
"""Called after each step: name of the source, seconds reached, its duration if known."""

T = TypeVar("T")


@dataclass(frozen=True)
class InferenceRequest:
    """Work that a session needs: run a part of the model on views, from a state."""

    part: str
    views: Views
    state: State


@dataclass(frozen=True)
class InferenceResponse:
    """The outcome of an `InferenceRequest`."""

    state: State
    evidence: Evidence


@dataclass(frozen=True)
class StepDone:
    """A step of a stream has its result."""


Event = InferenceRequest | StepDone | NotYet
Work = Generator[Event, InferenceResponse | None, T]
"""Yields what it needs of the model and is sent the outcome; a `NotYet` says that the source has
not come so far, and the session goes on when it is sent None."""


@dataclass(frozen=True)
class Plan:
    """Everything that is the same for all sources of one recogniser.

    Attributes:
        executor: Runs the model.
        look: Chooses what to look at.
        decide: Says when enough was seen.
        reducer: Makes a new reducer for a source.
        budget: What may be spent.
        window_seconds: Length of a window, where the look has none of its own.
        cut_threshold: Histogram distance that counts as a scene cut; 1 or more: never.
        macs_per_view: Multiply-adds of one frame, to read a budget by before anything was run.
        macs_per_answer: Multiply-adds of one answer, likewise.
        every_step: Whether results are wanted after every step (streams).
        on_step: Called as work goes on.
    """

    executor: Executor
    look: Look
    decide: Decide
    reducer: Callable[[], Reducer]
    budget: Budget
    window_seconds: float
    cut_threshold: float
    macs_per_view: int = 0
    macs_per_answer: int = 0
    every_step: bool = False
    on_step: OnStep | None = None


@dataclass
class _Part:
    calls: int = 0
    macs: int = 0
    seconds: float = 0.0


@dataclass
class _InWindow:
    """State of the loop within a window.

    Attributes:
        window: It ends earlier once a cut or the end of the source was found in it.
        planned: The window as the look gave it.
        memory: Of the look.
        evidence: Of the step before.
        asked: Whether the look has selected anything.
        in_order: Whether frames in order were asked for, so that the end of the source shows.
        answered: Whether the reducer has an answer for all that was seen.
        due: Whether something was seen since the last result of a stream.
        shown: Microseconds of the frames that were shown.
    """

    window: Window
    planned: Window
    memory: Any = None
    evidence: Evidence | None = None
    asked: bool = False
    in_order: bool = False
    answered: bool = False
    due: bool = False
    shown: set[int] = field(default_factory=set)


class Session:
    """One source on its way through the loop.

    Args:
        sample: The source.
        ledger: Is charged for all that is done.
        plan: What is the same for all sources.

    Attributes:
        reducer: What was answered so far.
        steps: The trace.
        parts: Part of the model → calls, multiply-adds and seconds.
        end: Where the video was found to end, None if that was not seen.
        span: Seconds of the window that the last result of a stream is for, as far as it was seen.
        joins: Whether that is too short to be answered without the window before it.
        looked: Frames that the model was shown.
        state: Of the model.
    """

    def __init__(self, sample: Sample, ledger: Ledger, plan: Plan) -> None:
        self.sample, self.ledger, self.plan = sample, ledger, plan
        self.info = sample.info
        self.reducer = plan.reducer()
        self.steps: list[TraceStep] = []
        self.parts: dict[str, _Part] = {}
        self.end: float | None = None
        self.span, self.joins = (0.0, 0.0), False
        self.looked = 0
        self.state: State = None
        self._charged = ChargedSample(sample, ledger)
        self._fetch = Fetch(self._charged, ledger, plan.cut_threshold)
        self._shapes: dict[tuple[str, str], tuple[int, ...]] = {}
        self._reached = 0.0  # seconds of the last frame looked at
        self._cut = False  # whether the window before ended at a scene cut
        self._follows: float | None = None  # where the window before ended, in the same shot

    def run(self) -> Work[None]:
        """Ask for the model's work until the source is over, then close it.

        Raises:
            MediaError: Not one frame could be decoded.
        """
        start: float | None = 0.0
        try:
            while start is not None:
                window = yield from self._next_window(start)
                if window is None:
                    break
                start = yield from self._window(window)
            if not self.parts:
                raise MediaError(f"{self.info.name}: no frame could be decoded")
        finally:
            self.sample.close()

    def charge(self, part: str, macs: int, seconds: float) -> None:
        """Charge a call of a part of the model."""
        self.ledger.add(self.plan.executor.stage(part), macs=macs, seconds=seconds)
        spent = self.parts.setdefault(part, _Part())
        spent.calls += 1
        spent.macs += macs
        spent.seconds += seconds

    def _next_window(self, start: float) -> Work[Window | None]:
        look, seconds = self.plan.look, self.plan.window_seconds
        found = yield from _ready(lambda: look.window(self._charged, start, seconds))
        return found

    # --- one window -----------------------------------------------------------------------

    def _window(self, window: Window) -> Work[float | None]:
        """Decide one window; returns where the next one starts, None at the end."""
        now, budget = _InWindow(window, window), self._resolved(window)
        if self._cut or not self.plan.executor.persistent:
            self._restart()
        if self._cut:
            self.reducer.cut()
        if self._cut or self._follows != window.start:
            self._follows = None
        self._cut = False
        continues = self.plan.executor.persistent and self._follows == window.start
        self._fetch.begin(window.start, continues)
        following: float | None = window.end
        while True:
            selection = yield from self._selected(now, window, budget)
            if selection is None:
                if not now.asked:
                    following = yield from self._next_time(window.end - 1e-6)
                elif not now.in_order:
                    following = yield from self._beyond(window)
                break
            now.asked = True
            if selection.part is None:
                yield from self._hold(selection, now)
                continue
            fetched = yield from self._fetched(selection, selection.part, now.window)
            now.in_order = now.in_order or fetched.in_order
            stop = False
            if fetched.empty:
                now.evidence = None
            else:
                stop = yield from self._run(selection, selection.part, fetched, now, budget)
            if fetched.cut is not None:
                # The decision is on the shot that ends here, so it does not end the window.
                following, self._cut = fetched.cut, True
                now.window = Window(window.start, fetched.cut)
            elif stop:
                following = self._after_stop(window)
            elif fetched.short:
                last = max(selection.times)
                found = yield from self._next_time(last)
                if found is None or found > last + self._patience(selection.part):
                    following = found
                    shown = self._last_shown(window.start, over=found is None)
                    now.window = Window(window.start, shown)
            if stop or now.window.end <= window.start:  # the source was over already
                break
        yield from self._close(now)
        self._follows = now.window.end
        return following

    def _selected(self, now: _InWindow, window: Window, budget: Budget) -> Work[Selection | None]:
        """The next selection of the look, without times after the end that was found."""
        if now.window.end <= now.window.start:
            return None  # the source has ended, or has a gap, where the window begins

        # A last frame may be shown beyond the window: that is no time to choose more frames in.
        within = now.window if now.window.end <= window.end else window

        def ask() -> tuple[Selection | None, Any]:
            with self.ledger.stage("policy"):
                return self.plan.look.next(self._charged, within, now.memory, now.evidence, budget)

        selection, now.memory = yield from _ready(ask)
        if selection is None:
            return None
        _check_inside(selection, window)
        executor = self.plan.executor
        if selection.part not in (None, executor.head, *executor.parts):
            raise ConfigError(
                f"a look asks for the part {selection.part!r}",
                f"the parts of this model are {', '.join(executor.parts)}",
            )
        return selection if now.window is window else _until(selection, now.window.end)

    def _fetched(self, selection: Selection, part: str, window: Window) -> Work[Fetched]:
        spec = self.plan.executor.input(part)
        found = yield from _ready(lambda: self._fetch(selection, spec, window))
        return found

    def _run(
        self, selection: Selection, part: str, fetched: Fetched, now: _InWindow, budget: Budget
    ) -> Work[bool]:
        """Run a part, and the head if a decision is due; returns whether to stop."""
        plan = self.plan
        if selection.restart or self._other_shape(part, fetched.views):
            self._restart()
        if fetched.views or selection.regions:
            self._trace(selection, part, fetched.views, now)
        before = self.state
        evidence = yield from self._infer(part, {**fetched.views, **selection.given})
        now.due = True
        now.answered = self._take(evidence) or (now.answered and self.state is before)
        closes = plan.every_step and selection.closes
        if not now.answered and (plan.decide.eager or closes):
            head = yield from self._answer(now)
            evidence = evidence if head is None else replace(evidence, logits=head.logits)
        now.evidence = evidence
        if fetched.views and plan.on_step is not None:
            plan.on_step(self.info.name, self._reached, self.info.duration)
        stop = bool(plan.decide.eager and evidence.logits and self._stops(evidence, budget))
        if closes and now.answered:
            yield from self._step_done(now, self._reached)
        return stop

    def _infer(self, part: str, views: Views) -> Work[Evidence]:
        response = yield InferenceRequest(part, views, self.state)
        assert response is not None
        self.state = response.state
        return response.evidence

    def _answer(self, now: _InWindow) -> Work[Evidence | None]:
        """The head's answer for the window so far; None if nothing was shown to the model."""
        head = self.plan.executor.head
        if head is None or self.state is None:
            return None
        evidence = yield from self._infer(head, {})
        now.answered = self._take(evidence)
        return evidence

    def _take(self, evidence: Evidence) -> bool:
        """Pass evidence with an answer to the reducer; returns whether it had one."""
        if not evidence.logits and not evidence.detections:
            return False
        self.reducer.take(evidence)
        if evidence.logits and self.steps:
            self._amend(exit=evidence.exit)
        return True

    def _hold(self, selection: Selection, now: _InWindow) -> Work[None]:
        """The last answer holds at the selected times."""
        times = selection.times
        self.reducer.hold(times)
        self._reached = max(times, default=self._reached)
        self.steps.append(TraceStep(time=self._reached, frames=list(times)))
        now.due = now.answered = True
        now.evidence = None
        if self.plan.every_step and selection.closes:
            yield from self._step_done(now, self._reached)

    def _stops(self, evidence: Evidence, budget: Budget) -> bool:
        with self.ledger.stage("policy"):
            verdict = self.plan.decide(evidence, budget)
        self._amend(gate=verdict.gate)
        return isinstance(verdict, Stop)

    def _close(self, now: _InWindow) -> Work[None]:
        """Keep the answer of a window that is over; ask for it if nobody has yet."""
        window = now.window
        if now.due and not now.answered:
            yield from self._answer(now)
        if not now.answered or (self.plan.every_step and not now.due):
            return  # nothing was seen, or a stream's results are complete
        joins = self._joins(now, window.end)
        end = self._known_end(window.end) if joins else window.end
        self.reducer.close(window.start, end, joins)
        if self.plan.every_step:
            yield from self._step_done(now, window.end)

    def _step_done(self, now: _InWindow, until: float) -> Work[None]:
        self.span, self.joins = (now.window.start, until), self._joins(now, until)
        now.due = False
        yield StepDone()

    def _joins(self, now: _InWindow, until: float) -> bool:
        """Whether a window, seen until then, is too short to be answered without the one before.

        A model that remembers earlier windows has no need of it.
        """
        executor, planned = self.plan.executor, now.planned
        if self._follows is None or executor.persistent:
            return False
        # One frame of the model may be missing, as the last one is shown until the end.
        frame = 1.0 / executor.input(executor.parts[0]).frames_per_second
        seen, whole = self._known_end(until) - planned.start, planned.end - planned.start
        return seen < whole - frame - 1e-6

    def _known_end(self, end: float) -> float:
        """An end that was not reached (an early verdict), as far as the container states it."""
        return min(end, self.info.duration or end)

    # --- state and trace --------------------------------------------------------------------

    def _restart(self) -> None:
        self.state = None
        self._shapes.clear()

    def _other_shape(self, part: str, views: Views) -> bool:
        """Whether pictures have another height or width than a part has seen before."""
        changed = False
        for name, view in views.items():
            shape = view.array.shape[2:4]
            changed |= self._shapes.setdefault((part, name), shape) != shape
            self._shapes[part, name] = shape
        return changed

    def _trace(self, selection: Selection, part: str, views: Views, now: _InWindow) -> None:
        times = [time for name, view in views.items() if name != "sound" for time in view.times]
        times = times or [time for time, _ in selection.regions]
        new = {round(time * 1e6) for time in times} - now.shown
        now.shown |= new
        self.looked += len(new)
        if times:
            self._reached = times[-1]
        boxes = [
            [round(value, 2) for value in box]
            for name, view in views.items()
            if selection.views[name].boxes is not None
            for box in view.regions
        ] or [[round(value, 2) for value in box] for _, box in selection.regions]
        self.steps.append(
            TraceStep(
                time=self._reached,
                frames=times,
                boxes=boxes,
                modalities=[*views, *selection.measured],
                part=part,
                proposals={
                    name: [float(value) for value in values.ravel()]
                    for name, values in selection.proposals.items()
                }
                or None,
                gate=selection.gate,
                fallback=selection.fallback,
                tokens=_tokens(views, selection.given),
            )
        )

    def _amend(self, **changes: Any) -> None:
        if self.steps:
            self.steps[-1] = self.steps[-1].model_copy(update=changes)

    # --- where things end -------------------------------------------------------------------

    def _next_time(self, after: float) -> Work[float | None]:
        found = yield from _ready(lambda: self._charged.next_time(after))
        return found

    def _patience(self, part: str) -> float:
        """Seconds without a frame that still count as the same shot."""
        return max(1.0, 2.0 / self.plan.executor.input(part).frames_per_second)

    def _after_stop(self, window: Window) -> float | None:
        """Where to go on after an early verdict.

        The length that the container states is enough here: finding the end by decoding
        would cost what stopping early saves.
        """
        duration = self.info.duration
        return None if duration is not None and duration <= window.end else window.end

    def _beyond(self, window: Window) -> Work[float | None]:
        """Where to go on after a window in which no frames in order could show the end."""
        if self.info.duration is not None:
            return self._after_stop(window)
        following = yield from self._next_time(window.end - 1e-6)
        return following

    def _last_shown(self, start: float, over: bool) -> float:
        """When the last frame before a gap or the end stops being shown, at least `start`."""
        last = self._reached + 1.0 / self._source_rate if self.looked else start
        if over:
            found = self.sample.info.duration
            self.end = last = last if found is None else found
        return max(start, last)

    # --- budget -----------------------------------------------------------------------------

    @property
    def _source_rate(self) -> float:
        return self.info.rate or DEFAULT_RATE

    def _resolved(self, window: Window) -> Budget:
        """The budget with a rate of frames that keeps it, and what the parts have cost."""
        plan, budget = self.plan, self.plan.budget
        if budget:
            seconds = sum(part.seconds for part in self.parts.values())
            seconds += self.ledger.seconds("transform")
            decoding = self.ledger.seconds("decode")
            spent = Spent(
                macs_per_view=plan.macs_per_view,
                macs_per_answer=plan.macs_per_answer,
                view_seconds=seconds / self.looked if self.looked else None,
                decode_seconds=decoding / window.start if window.start else None,
            )
            budget = resolve(budget, spent, self._source_rate, window.end - window.start)
        costs = {
            name: PartCost(part.macs / part.calls, 1000 * part.seconds / part.calls)
            for name, part in self.parts.items()
        }
        frames = window.start * self._source_rate
        if budget and frames:
            costs["decode"] = PartCost(0.0, 1000 * self.ledger.seconds("decode") / frames)
        return replace(budget, costs=costs)


def _tokens(views: Views, given: Views) -> Tokens | None:
    """The patch tokens that are computed of the frames that came."""
    chosen = given.get(TOKENS)
    if chosen is None:
        return None
    kept = chosen.array[0, matched(views["rgb"].times, chosen.times)]
    return Tokens(
        grid=list(kept.shape[1:]),
        region=[round(value, 2) for value in chosen.regions[0]],
        kept=[np.flatnonzero(frame).tolist() for frame in kept],
    )


def _ready(call: Callable[[], T]) -> Work[T]:
    """What a call gives, as soon as a live source has come so far."""
    while True:
        try:
            return call()
        except NotYet as pending:
            yield pending


def _check_inside(selection: Selection, window: Window) -> None:
    """A look that leaves its window would never end."""
    times = selection.times
    if times and not window.start <= min(times) <= max(times) < window.end:
        raise ConfigError(
            f"a look chose {min(times):g} to {max(times):g} s, outside its window "
            f"{window.start:g} to {window.end:g} s"
        )


def _until(selection: Selection, end: float) -> Selection | None:
    """A selection without what lies behind `end`; None if nothing is left of its views."""
    views = {name: _cut_short(request, end) for name, request in selection.views.items()}
    kept = {name: request for name, request in views.items() if request is not None}
    return replace(selection, views=kept) if kept or not selection.views else None


def _cut_short(request: ViewRequest, end: float) -> ViewRequest | None:
    if not request.times:
        return request
    inside = [time < end for time in request.times]
    if not any(inside):
        return None
    if all(inside) or request.rows is not None:
        return request
    times = tuple(t for t, kept in zip(request.times, inside, strict=True) if kept)
    boxes = request.boxes
    if boxes is not None:
        boxes = tuple(box for box, kept in zip(boxes, inside, strict=True) if kept)
    return replace(request, times=times, boxes=boxes)
