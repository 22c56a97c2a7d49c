"""A loaded model with its policies, ready for any source; what `foveate.load` returns."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foveate.core import (
    Budget,
    ConfigError,
    Decide,
    Executor,
    FoveateError,
    Look,
    ModelError,
    Result,
    Sample,
    Trace,
    TraceStep,
    View,
)
from foveate.core.text import plural
from foveate.media import DEFAULT_LIMITS, Limits, Video, name_of, open_source
from foveate.pipeline.fetch import DEFAULT_RATE
from foveate.pipeline.ledger import Ledger
from foveate.pipeline.presets import Preset
from foveate.pipeline.reducers import ClassReducer, DetectionReducer, Naming, Reducer
from foveate.pipeline.scheduler import Opener, in_order, schedule
from foveate.pipeline.session import OnStep, Plan, Session
from foveate.policy import AtEnd, Groups
from foveate.policy.looks.adafocus import AdaFocusLook
from foveate.policy.looks.auto import AutoLook
from foveate.policy.looks.modalities import Modalities
from foveate.policy.unknown import Familiar

if TYPE_CHECKING:
    from foveate.live.camera import Pace
    from foveate.pipeline.watch import Outputs, Watch

Output = Literal["softmax", "sigmoid"]
Task = Literal["classify", "detect"]
_END_TOLERANCE = 1.0  # seconds by which a header's length may differ from what was decoded


@dataclass(frozen=True)
class _Failed:
    """A source of several that failed."""

    position: int
    cause: FoveateError


class Recogniser:
    """Recognises what happens in videos; `foveate.load` makes one of a model's name.

    Args:
        executor: Runs the model.
        labels: One per class.
        look: Chooses what to look at.
        decide: Says when enough was seen; at the end of a window if None.
        budget: What may be spent.
        window: Seconds decided on together, where the look has no windows of its own.
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
        task: `classify` or `detect`.
        preset: All settings, for messages and results; how answers are worded is taken from it.
        preset_name: What it is called, if it has a name.
        familiar: What the training clips are like, so that other footage is `unknown`; None for
            never.
        limits: Bounds on what a source may cost.
        notice: Called with a line about what was measured once.

    Attributes:
        name: Name of the model.
        labels: One per class.
        preset: All settings in effect.
        preset_name: Name of the preset, if it has one.
        executor: Runs the model.
        output: Whether the classes exclude each other.
        limits: Bounds on what a source may cost.
        plan: What is the same for all sources.
        naming: How scores become labels.
        cheapest_looks: What the look `auto` has measured so far.
    """

    def __init__(
        self,
        executor: Executor,
        labels: Sequence[str],
        *,
        look: Look,
        decide: Decide | None = None,
        budget: Budget | None = None,
        window: float = 10.0,
        output: Output = "softmax",
        task: Task = "classify",
        preset: Preset | None = None,
        preset_name: str | None = None,
        familiar: Familiar | None = None,
        limits: Limits = DEFAULT_LIMITS,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self._notice = notice
        self.cheapest_looks: dict[str, str] = {}
        self.preset = preset or Preset(model=type(executor).__name__)
        self.name = self.preset.model
        self.preset_name = preset_name
        self.labels = tuple(labels)
        self.executor = executor
        self.limits = limits
        self.output = output
        if not 0 < window < math.inf:
            raise ConfigError(f"window must be positive and finite, not {window}")
        reducers: dict[Task, Callable[[], Reducer]] = {
            "classify": partial(ClassReducer, output, len(self.labels)),
            "detect": partial(DetectionReducer, len(self.labels), self.preset.track),
        }
        if task not in reducers:
            raise ConfigError(f"task {task!r}: unknown", f"one of: {', '.join(reducers)}")
        budget = budget or Budget()
        view, answer = _costs(executor, look) if budget.macs_per_second is not None else (0, 0)
        self.plan = Plan(
            executor=executor,
            look=look,
            decide=decide or AtEnd(),
            reducer=reducers[task],
            budget=budget,
            window_seconds=window,
            cut_threshold=self.preset.cut_threshold,
            macs_per_view=view,
            macs_per_answer=answer,
        )
        self.naming = Naming(self.labels, self.preset.top_k, self.preset.none_below, familiar)

    def predict(self, source: Any, *, fps: float | None = None, trace: bool = True) -> Result:
        """Recognise one source.

        Args:
            source: A path, a folder of numbered pictures, the bytes of a file, an open binary
                file, a (T, H, W, 3) uint8 RGB array, a list of frames, or an iterable of
                (frame, seconds).
            fps: Frames per second of an array, a list or a folder; only a folder has a default
                (25, with a warning).
            trace: Keep which frames were looked at.

        Raises:
            MediaError: The source cannot be read.
        """
        session = next(self.sessions([source], fps=fps))
        if isinstance(session, FoveateError):
            raise session
        return self._result(session, trace)

    def predict_many(
        self,
        sources: Iterable[Any],
        *,
        batch: int = 1,
        fps: float | None = None,
        trace: bool = True,
        on_step: OnStep | None = None,
    ) -> Iterator[Result]:
        """Recognise many sources; one that fails gives a Result with `ok=False`.

        Args:
            sources: As for `predict`.
            batch: Sources whose windows share one call of the network.
            fps: Frames per second of arrays, lists and folders.
            trace: Keep which frames were looked at.
            on_step: Called as work goes on with (name, seconds reached, duration or None).

        Yields:
            One Result per source, in order.
        """
        single = isinstance(sources, str | bytes | os.PathLike) or hasattr(sources, "shape")
        if single or not isinstance(sources, Iterable):
            raise ConfigError("predict_many takes several sources", "give a list, or use predict")
        named: list[str] = []

        def noted() -> Iterator[Any]:
            for source in sources:
                named.append(name_of(source))
                yield source

        done = self.sessions(noted(), batch=batch, fps=fps, on_step=on_step)
        for position, session in enumerate(done):
            if isinstance(session, FoveateError):
                yield self._failed(named[position], session)
            else:
                yield self._result(session, trace)

    def stream(self, source: Any, *, fps: float | None = None) -> Iterator[Result]:
        """Recognise step by step: one Result per frame looked at, in constant memory.

        Each Result carries the scores after its step and the cost of that step alone. The state of
        a model begins anew after every window (`preset.window`) and at scene cuts; with
        `preset.memory`, only at scene cuts.

        Args:
            source: As for `predict`.
            fps: Frames per second of an array or a folder.

        Raises:
            MediaError: The source cannot be read.
            ConfigError: The look chooses among what a stream has not seen yet.
        """
        for result in self._steps([source], fps=fps):
            if isinstance(result, _Failed):
                raise result.cause
            yield result

    def stream_many(
        self, sources: Iterable[Any], *, fps: float | None = None, max_wait: float = 0.0
    ) -> Iterator[Result]:
        """Recognise many sources step by step, all at once; frames that are there share a call.

        Args:
            sources: As for `predict`. A live one may raise `core.NotYet` from its methods.
            fps: Frames per second of arrays and folders.
            max_wait: Seconds for which a frame waits for those of other sources.

        Yields:
            One Result per step of any source, told apart by `source`, as they come; a source that
            fails gives one with `ok=False`.

        Raises:
            ConfigError: The look chooses among what a stream has not seen yet.
        """
        named = list(sources)
        for result in self._steps(named, fps=fps, max_wait=max_wait):
            if isinstance(result, _Failed):
                yield self._failed(name_of(named[result.position]), result.cause)
            else:
                yield result

    def watch(
        self,
        sources: Any,
        *,
        pace: Pace = "fast",
        fps: float | None = None,
        budget: str | None = None,
        max_wait: float = 0.0,
        outputs: Outputs | None = None,
    ) -> Watch:
        """Watch cameras: iterate over the returned `Watch` for steps and events, as they come.

        Each camera is read by a thread of its own, which reconnects when it fails. The model sees
        the newest frame; what became of every other one is counted. No camera waits for another.

        Args:
            sources: One or several of: an address (`rtsp://`, `http://`, `udp://`, ...), a device
                (`0`, `/dev/video0`), a file, a `cams.yaml`, an iterable of (frame, seconds); or a
                mapping from names to these.
            pace: Files give their frames at their times (`real`), or as fast as they are looked at.
            fps: Frames per second of iterables of frames without times.
            budget: Of all cameras together, such as `50%cpu`, which quiet cameras get less of; or
                of each, such as `2fps`. None: the model's own rate.
            max_wait: Seconds for which a frame waits for those of other cameras.
            outputs: Takes the steps and gives the events, which come between the steps; by
                default events with the default settings, which go nowhere else.

        Raises:
            ConfigError: A source cannot be watched, or the look cannot be used for streams.
        """
        from foveate.pipeline.watch import Watch

        if outputs is None:
            from foveate.live.outputs import EventOutputs

            outputs = EventOutputs(self.labels, none_below=self.naming.none_below)
        return Watch(
            self, sources, pace=pace, fps=fps, budget=budget, max_wait=max_wait,
            outputs=outputs,
        )  # fmt: skip

    def costs(self) -> tuple[int, int]:
        """Multiply-adds of one frame and of one answer."""
        return _costs(self.executor, self.plan.look)

    def sessions(
        self,
        sources: Iterable[Any],
        *,
        batch: int = 1,
        fps: float | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[Session | FoveateError]:
        """The sessions of sources that ran to their end, in order; or what ended them.

        For those who want more than a `Result`: scores of every window, seconds of every part.
        """
        if batch < 1:
            raise ConfigError(f"batch must be at least 1, not {batch}")
        plan = replace(self.plan, on_step=on_step)
        openers = (self.opener(source, fps, plan) for source in sources)
        for outcome in in_order(schedule(self.executor, openers, batch)):
            if outcome.error is not None or outcome.session is None:
                yield outcome.error or ModelError("no session")
            else:
                yield outcome.session

    def opener(self, source: Any, fps: float | None = None, plan: Plan | None = None) -> Opener:
        """Opens a source when it is called; what the scheduler takes."""
        return lambda: self._open(source, fps, plan or self.plan)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name}, look={self.preset.look.name}, "
            f"decide={self.preset.decide.name}, {plural(len(self.labels), 'label')}, "
            f"{getattr(self.executor, 'device', 'cpu')})"
        )

    # --- inside ---------------------------------------------------------------------------

    def _open(self, source: Any, fps: float | None, plan: Plan) -> Session:
        ledger = Ledger()
        with ledger.stage("open"):
            sample = open_source(
                source, fps=fps, limits=self.limits, decoding=self.preset.decode,
                vectors=getattr(plan.look, "reads_vectors", False),
            )  # fmt: skip
        ledger.add("open", calls=0, frames=sample.meter.frames, bytes=sample.meter.bytes)
        if isinstance(plan.look, AutoLook):
            from foveate.pipeline.cheapest import cheapest

            chosen = cheapest(self, source, sample.info, fps, self._notice)
            plan = replace(plan, look=plan.look.looks[chosen])
        return self._session(source, sample, ledger, plan)

    def _session(self, source: Any, sample: Sample, ledger: Ledger, plan: Plan) -> Session:
        """A session for a source that was opened."""
        return Session(sample, ledger, plan)

    def _steps(
        self, sources: Sequence[Any], *, fps: float | None, max_wait: float = 0.0
    ) -> Iterator[Result | _Failed]:
        plan = replace(self.plan, look=self.plan.look.online(), every_step=True)
        openers = (self.opener(source, fps, plan) for source in sources)
        for outcome in schedule(self.executor, openers, None, max_wait=max_wait):
            if outcome.kind == "step" and outcome.session is not None:
                yield self._step_result(outcome.session)
            elif outcome.error is not None:
                yield _Failed(outcome.position, outcome.error)

    def _result(self, session: Session, trace: bool) -> Result:
        """The Result of a session that ran to its end."""
        info = session.info
        warnings = list(session.sample.warnings)
        end = duration = info.duration
        found = session.end
        if found is not None and (duration is None or abs(found - duration) > _END_TOLERANCE):
            if duration is not None and found < duration:
                warnings.append(
                    f"ends after {found:.2f} of the {duration:.2f} seconds its header claims"
                )
            end = duration = found  # the header of joined recordings knows the first one alone
        return Result(
            source=info.name,
            model=self.name,
            preset=self.preset_name,
            duration=duration,
            cost=session.ledger.cost(),
            trace=self._trace(session, session.steps) if trace else None,
            warnings=[
                *warnings,
                *_single_pictures(session),
                *_nothing_used(session),
                *_over_budget(session, end),
            ],
            **session.reducer.fields(self.naming, end),
        )

    def _step_result(self, session: Session) -> Result:
        """The Result of the step just done; forgets its trace."""
        info, steps = session.info, list(session.steps)
        session.steps.clear()
        return Result(
            source=info.name,
            model=self.name,
            preset=self.preset_name,
            duration=info.duration,
            cost=session.ledger.take(),
            trace=self._trace(session, steps),
            warnings=list(session.sample.warnings),
            **session.reducer.step(self.naming, session.span, session.joins),
        )

    def _trace(self, session: Session, steps: list[TraceStep]) -> Trace:
        info = session.info
        decode = self.preset.decode.changes() if isinstance(session.sample, Video) else {}
        return Trace(size=[info.width, info.height], steps=steps, decode=decode)

    def _failed(self, name: str, error: FoveateError) -> Result:
        """The Result of a source that could not be read."""
        message = str(error) if name in str(error) else f"{name}: {error}"
        result = Result.failed(name, self.name, error.kind, message)
        return result.model_copy(update={"preset": self.preset_name})


def _costs(executor: Executor, look: Look) -> tuple[int, int]:
    """Multiply-adds of one frame that the look selects, and of an answer."""
    parts = look.parts if isinstance(look, AdaFocusLook) else executor.parts[:1]
    spec, total = executor.input(parts[0]), 0
    for part in parts:
        side = spec.size if part == "glance" else getattr(look, "size", None) or spec.size
        # A view has a shape without having memory.
        frame = np.broadcast_to(np.uint8(0), (1, 1, side, side, 3))
        total += executor.cost(part, {"rgb": View(frame, (0.0,), np.ones(1, bool))}, None)
    head = 0 if executor.head is None else executor.cost(executor.head, {}, None)
    return total, head


def _single_pictures(session: Session) -> list[str]:
    """A line if windows had only one group of pictures, where the model was trained on several."""
    look = session.plan.look
    if not isinstance(look, Groups) or look.segments == 1:
        return []
    seen = [len(step.frames) for step in session.steps if step.part == look.exits[0]]
    if 1 not in seen:
        return []
    return [
        f"{seen.count(1)} of {plural(len(seen), 'window')} had a single key frame, where the model "
        f"expects {look.segments}: answers on them are less reliable"
    ]


def _nothing_used(session: Session) -> list[str]:
    """A line if a policy over modalities chose none: the answer then says nothing."""
    look = session.plan.look
    if not isinstance(look, Modalities) or not session.steps:
        return []
    if any(step.part in look.modalities for step in session.steps):
        return []
    return ["the policy used no modality in any segment: all classes are as likely"]


def _over_budget(session: Session, seconds: float | None) -> list[str]:
    """A line for every unit in which the budget was not kept (with 5 % and one look of grace)."""
    plan, cost = session.plan, session.ledger.cost()
    lines: list[str] = []
    if not seconds:
        return lines
    most = plan.budget.frames_per_second
    if most is not None and session.looked > 1.05 * most * seconds + 1:
        lines.append(f"over budget: {session.looked / seconds:.3g} fps, {most:g} allowed")
    macs = plan.budget.macs_per_second
    grace = plan.macs_per_view + plan.macs_per_answer
    if macs is not None and cost.macs > 1.05 * macs * seconds + grace:
        lines.append(f"over budget: {cost.macs / seconds:.3g} MACs per second, {macs:.3g} allowed")
    limit = plan.budget.ms_per_frame
    frames = seconds * (session.info.rate or DEFAULT_RATE)
    spent = 1000 * (cost.seconds - cost.stage("open").seconds) / max(frames, 1)
    if limit is not None and spent > 1.05 * limit:
        lines.append(f"over budget: {spent:.2f} ms per frame, {limit:g} allowed")
    return lines
