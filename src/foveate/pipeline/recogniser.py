"""A loaded model with its policies, ready for any source; what `foveate.load` returns."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from foveate.core import (
    Budget,
    ConfigError,
    Decide,
    Executor,
    FoveateError,
    InputSpec,
    Look,
    ModelError,
    Result,
    Sample,
    Trace,
    View,
)
from foveate.core.budget import parse_budget
from foveate.core.text import plural
from foveate.media import DEFAULT_LIMITS, Limits, name_of, open_source
from foveate.pipeline.fetch import DEFAULT_RATE
from foveate.pipeline.ledger import Ledger
from foveate.pipeline.presets import Preset, edit, resolve
from foveate.pipeline.reducers import ClassReducer, DetectionReducer, Naming, Reducer
from foveate.pipeline.scheduler import Opener, in_order, schedule
from foveate.pipeline.session import OnStep, Plan, Session
from foveate.policy import AtEnd, Context, Groups, PatchLook
from foveate.policy.looks.adafocus import AdaFocusLook
from foveate.policy.unknown import Familiar

if TYPE_CHECKING:
    import torch

    from foveate.models import LoadedModel

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

    Attributes:
        name: Name of the model.
        labels: One per class.
        preset: All settings in effect.
        preset_name: Name of the preset, if it has one.
        executor: Runs the model.
        output: Whether the classes exclude each other.
        limits: Bounds on what a source may cost.
        plan: What is the same for all sources.
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
    ) -> None:
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
            "detect": partial(DetectionReducer, len(self.labels)),
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
        self._naming = Naming(self.labels, self.preset.top_k, self.preset.none_below, familiar)

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
            sample = open_source(source, fps=fps, limits=self.limits)
        ledger.add("open", calls=0, frames=sample.meter.frames, bytes=sample.meter.bytes)
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
            trace=Trace(size=[info.width, info.height], steps=session.steps) if trace else None,
            warnings=[*warnings, *_single_pictures(session), *_over_budget(session, end)],
            **session.reducer.fields(self._naming, end),
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
            trace=Trace(size=[info.width, info.height], steps=steps),
            warnings=list(session.sample.warnings),
            **session.reducer.step(self._naming, session.span, session.joins),
        )

    def _failed(self, name: str, error: FoveateError) -> Result:
        """The Result of a source that could not be read."""
        message = str(error) if name in str(error) else f"{name}: {error}"
        result = Result.failed(name, self.name, error.kind, message)
        return result.model_copy(update={"preset": self.preset_name})


def load(
    model: str | os.PathLike[str] | torch.nn.Module = "movinet-a0-stream-lite.k600",
    *,
    labels: Sequence[str] | None = None,
    input: InputSpec | None = None,
    output: Output | None = None,
    look: Look | str | Mapping[str, Any] | None = None,
    decide: Decide | str | Mapping[str, Any] | None = None,
    budget: Budget | str | None = None,
    device: str | None = None,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    **settings: Any,
) -> Recogniser:
    """Load a model with its weights and policies.

    Args:
        model: A run folder (`runs/1`), a preset (`keyframes-movinet-a0-stream-lite`), or a model
            with its weights (`movinet-a0-stream-lite.k600`); or a module of your own, which takes
            clips (B, 3, T, H, W) and gives logits (B, classes). If its frames interact
            only in a mean, say so with an attribute `mixes_frames = False`.
        labels: Names of the outputs of your own module; other models have their own.
        input: What your own module expects (`foveate.models.InputSpec`).
        output: Whether its classes exclude each other (`softmax`, the default) or not (`sigmoid`).
        look: Chooses the frames: a policy, the name of one, or its settings with the name among
            them (`{"name": "motion-patch", "size": 128}`); the preset's if None.
        decide: Says when enough was seen, likewise.
        budget: What may be spent, such as `3fps`, `100MMAC/s` or `2ms/frame`; the preset's if None.
        device: Where the network runs, such as `cpu` or `cuda:0`; CUDA if there is one.
        offline: Never touch the network for weights.
        progress: Called with (bytes so far, bytes in total) during a download.
        limits: Bounds on what a source may cost.
        **settings: Fields of the preset, such as `top_k=10` or `window=5.0`.

    Raises:
        ModelError: No such model.
        WeightsError: The weights are missing or damaged.
        ConfigError: A setting is unknown or out of range, or does not belong to this model.
    """
    own = None
    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    if isinstance(model, str):
        named, preset = resolve(model)
        given = {"labels": labels, "input": input, "output": output}
        for key, value in given.items():
            if value is not None:
                raise ConfigError(f"{key}=: only for a module of your own, {model} has its own")
    else:
        own = _Own(model, labels, input, output or "softmax")
        named, preset = None, Preset(model=type(model).__name__)
    for key, policy in (("look", look), ("decide", decide)):
        if isinstance(policy, str):
            settings[key] = {"name": policy}
        elif isinstance(policy, Mapping):
            settings[key] = dict(policy)
    if budget is not None:
        if isinstance(budget, str):
            settings["budget"] = parse_budget(budget)
        elif not isinstance(budget, Budget):
            raise ConfigError(
                f"budget={budget!r}: no unit", "say budget='3fps', '100MMAC/s' or '2ms/frame'"
            )
        else:
            settings["budget"] = {k: v for k, v in asdict(budget).items() if k != "costs"}
    return assemble(
        edit(preset, settings, "foveate.load"),
        named,
        look=None if isinstance(look, str | Mapping) else look,
        decide=None if isinstance(decide, str | Mapping) else decide,
        device=device,
        offline=offline,
        progress=progress,
        limits=limits,
        own=own,
    )


class _Own:
    """A user's module with what a weights table would state about it.

    Raises:
        ConfigError: `input` or `labels` is missing.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        labels: Sequence[str] | None,
        spec: InputSpec | None,
        output: Output,
    ) -> None:
        from torch import float32, nn

        if not isinstance(module, nn.Module) or isinstance(module, type):
            raise ConfigError(
                f"{module!r} is not a model", "give a name, a run folder or a torch.nn.Module"
            )
        if labels is None or not isinstance(spec, InputSpec):
            raise ConfigError(
                "a custom module needs `labels=` and `input=`",
                "foveate.load(module, labels=[...], input=foveate.InputSpec(224, 5.0, 16))",
            )
        check_labels(labels)
        if output not in get_args(Output):
            raise ConfigError(f"output={output!r}: unknown", "one of: softmax, sigmoid")
        others = {p.dtype for p in module.parameters() if p.is_floating_point()} - {float32}
        if others:
            raise ConfigError(
                f"{type(module).__name__} computes in {str(others.pop()).removeprefix('torch.')}",
                "clips are float32: call module.float() first",
            )
        if any(p.is_meta for p in module.parameters()):
            raise ConfigError(
                f"{type(module).__name__} has no values (its parameters are on the device meta)",
                "load its weights first",
            )
        self.module, self.labels = module.eval(), tuple(labels)
        self.input, self.output = spec, output

    def loaded(self, name: str) -> LoadedModel:
        """The module as if it had been loaded by a name."""
        from foveate.models import LoadedModel

        networks = {"network": self.module}
        return LoadedModel(name, networks, self.labels, self.input, self.output)


def assemble(
    preset: Preset,
    named: str | None = None,
    *,
    look: Look | None = None,
    decide: Decide | None = None,
    device: str | None = None,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    own: _Own | None = None,
) -> Recogniser:
    """Load the weights of a preset and join them with its policies; see `load`.

    Args:
        preset: All settings.
        named: Name of the preset for the Result, if it has one.
        look: Takes the place of the preset's.
        decide: Takes the place of the preset's.
        device: As for `load`.
        offline: As for `load`.
        progress: As for `load`.
        limits: As for `load`.
        own: A user's module instead of weights.

    Raises:
        ConfigError: The look or the budget does not fit the model.
    """
    from foveate.models import is_streaming, mixes_frames
    from foveate.models import load as load_weights
    from foveate.models.device import choose_device
    from foveate.pipeline.methods import executor_of

    place = choose_device(device)
    if own is not None:
        loaded = own.loaded(preset.model)
    else:
        loaded = load_weights(preset.model, offline=offline, progress=progress)
    whole = next(iter(loaded.networks.values()))
    calibration = {} if loaded.card is None else loaded.card.calibration
    card = None if loaded.card is None else loaded.card.unknown
    familiar = None if card is None else Familiar(*card.arrays(), card.limit)
    context = Context(
        input=loaded.input,
        mixes_frames=mixes_frames(whole),
        streaming=is_streaming(whole),
        output=loaded.output,
        model=preset.model,
        budget=preset.budget.value(),
        window=preset.window or loaded.input.clip_seconds,
        calibration=preset.look.calibrated(calibration, preset.model),
        network=whole,
    )
    if look is not None and (isinstance(look, type) or not hasattr(look, "next")):
        raise ConfigError(f"look={look!r}: not a policy", "give a name, settings, or an instance")
    if look is None:
        look = preset.look.build(context)
    elif isinstance(look, PatchLook):
        look = look.fitted(context)
    if preset.memory is not None:
        for network in loaded.networks.values():
            _set_memory(network, preset)
    executor = executor_of(loaded, look, context, place)
    if preset.memory is not None:
        executor.persistent = True
    if not calibration and (context.budget.macs_per_answer or context.budget.ms_per_answer):
        raise ConfigError(
            f"{preset.model}: has no calibrated exits to keep a budget per answer",
            "say 100MMAC/s or 2ms/frame",
        )
    return Recogniser(
        executor,
        loaded.labels,
        look=look,
        decide=decide or preset.decide.build(context),
        budget=context.budget if not calibration else None,
        window=context.window,
        output=loaded.output,
        preset=preset,
        preset_name=named,
        familiar=familiar if preset.unknown else None,
        limits=limits,
    )


def _set_memory(network: Any, preset: Preset) -> None:
    """Let a network remember what the preset says.

    Raises:
        ConfigError: Another network than a MoViNet stream, or an unknown memory.
    """
    if not hasattr(network, "set_memory"):
        raise ConfigError(f"{preset.model}: has no memory to choose", "only MoViNet streams have")
    try:
        network.set_memory(preset.memory)
    except ModelError as error:
        raise ConfigError(f"memory: {error.cause}", error.hint) from None


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that cannot name the outputs of a network.

    Raises:
        ConfigError: They are not a sequence of different names.
    """
    if isinstance(labels, str | bytes) or not isinstance(labels, Sequence) or not labels:
        raise ConfigError(f"labels={labels!r}: not a list of names", "labels=['day', 'night']")
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ConfigError(f"labels: {label!r} is not a name", "labels=['day', 'night']")
    twice = next((one for one, count in Counter(labels).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"labels: {twice!r} is there twice", "give one name per output")


def _costs(executor: Executor, look: Look) -> tuple[int, int]:
    """Multiply-adds of one frame that the look selects, and of an answer."""
    spec, total = executor.input("network"), 0
    for part in look.parts if isinstance(look, AdaFocusLook) else ("network",):
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
