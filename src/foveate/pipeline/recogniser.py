"""The library's front door: a loaded model with its policies, ready for any source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from foveate.core import (
    Budget,
    ConfigError,
    Decide,
    Look,
    ModelError,
    Result,
    Trace,
)
from foveate.core.budget import parse_budget
from foveate.core.text import plural
from foveate.media import DEFAULT_LIMITS, Limits, name_of, open_source
from foveate.models import LoadedModel
from foveate.models import load as load_weights
from foveate.models.spec import InputSpec
from foveate.pipeline import answer
from foveate.pipeline.cascade import CascadeNetwork
from foveate.pipeline.drive import drive, execute
from foveate.pipeline.ledger import Ledger
from foveate.pipeline.network import Network, network_for
from foveate.pipeline.policies import Output, fit_look, make_decide, make_look
from foveate.pipeline.presets import CalibratedSpec, GroupsSpec, Preset, edit, resolve
from foveate.pipeline.session import OnLook, Plan, Session, WindowScores
from foveate.policy import MotionPatch, Uniform


class Recogniser:
    """Recognises what happens in videos; made by `foveate.load`.

    Attributes:
        name: Name of the model.
        preset: Everything that can be set, as it is in force.
        labels: One per class.
        device: Where the network runs.
    """

    def __init__(
        self,
        network: Network | CascadeNetwork,
        plan: Plan,
        preset: Preset,
        labels: tuple[str, ...],
        preset_name: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.name = preset.model
        self.preset = preset
        self.preset_name = preset_name
        self.labels = labels
        self._network = network
        self._plan = plan
        self._limits = limits

    def predict(self, source: Any, *, fps: float | None = None, trace: bool = True) -> Result:
        """Recognise one source.

        Args:
            source: A path, the bytes of a file, an open binary file, or a (T, H, W, 3) uint8
                RGB array.
            fps: Frames per second of an array (25 if not given).
            trace: Keep which frames were looked at.

        Raises:
            MediaError: The source cannot be read.
        """
        sessions = drive(self._network, iter([self.opener(source, fps, self._plan)]), batch=1)
        session, error = next(sessions)
        if error is not None or session is None:
            raise error or ModelError("no session")
        return self._result(session, trace)

    def predict_many(
        self,
        sources: Iterable[Any],
        *,
        batch: int = 1,
        fps: float | None = None,
        trace: bool = True,
        on_look: OnLook | None = None,
    ) -> Iterator[Result]:
        """Recognise many sources; one that fails gives a Result with `ok=False`.

        Args:
            sources: As for `predict`.
            batch: Sources whose windows share one call of the network.
            fps: Frames per second of arrays.
            trace: Keep which frames were looked at.
            on_look: Called as work goes on with (name, seconds reached, duration or None).

        Yields:
            One Result per source, in order.
        """
        pending: list[str] = []

        plan = replace(self._plan, on_look=on_look)

        def openers() -> Iterator[Callable[[], Session]]:
            for source in sources:
                pending.append(_name(source))
                yield self.opener(source, fps, plan)

        for position, (session, error) in enumerate(drive(self._network, openers(), batch)):
            if error is not None or session is None:
                cause = error or ModelError("no session")
                yield answer.failed(pending[position], self.name, self.preset_name, cause)
            else:
                yield self._result(session, trace)

    def stream(self, source: Any, *, fps: float | None = None) -> Iterator[Result]:
        """Recognise step by step: one Result per frame looked at, in constant memory.

        Each Result carries the scores after its step and the cost of that step alone. The state
        begins anew after every window (`preset.window`) and at scene cuts.

        Args:
            source: As for `predict`.
            fps: Frames per second of an array.

        Raises:
            MediaError: The source cannot be read.
        """
        session = self._open(source, fps, self._stepwise())
        work = session.run()
        try:
            ask = next(work)
            while True:
                if ask is None:
                    yield self._step_result(session)
                    ask = next(work)
                else:
                    ask = work.send(execute(self._network, [ask], [session])[0])
        except StopIteration:
            return
        finally:
            work.close()

    def opener(
        self, source: Any, fps: float | None = None, plan: Plan | None = None
    ) -> Callable[[], Session]:
        """Opens a source when it is called; what `drive` takes."""
        return lambda: self._open(source, fps, plan or self._plan)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self._plan.device

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name}, look={self.preset.look.name}, "
            f"decide={self.preset.decide.name}, {plural(len(self.labels), 'label')}, {self.device})"
        )

    # --- inside ---------------------------------------------------------------------------

    def _open(self, source: Any, fps: float | None, plan: Plan) -> Session:
        ledger = Ledger()
        with ledger.stage("open"):
            sample = open_source(source, fps=fps, limits=self._limits)
        ledger.add("open", calls=0, frames=sample.meter.frames, bytes=sample.meter.bytes)
        return Session(sample, ledger, plan)

    def _stepwise(self) -> Plan:
        """The plan for streams: frame by frame, in order, an answer after each."""
        assert not isinstance(self.preset.look, GroupsSpec)
        rate = self.preset.look.rate or self._plan.spec.frames_per_second
        if isinstance(self._plan.look, MotionPatch):
            if self._plan.look.sampling == "motion":
                raise ConfigError(
                    "look.sampling=motion: chooses among frames of a whole window, and a stream "
                    "has not seen them yet",
                    "leave it at uniform",
                )
            return replace(self._plan, look=self._plan.look.online(), every_step=True)
        return replace(self._plan, look=Uniform(rate, chunk=1), every_step=True)

    def _result(self, session: Session, trace: bool) -> Result:
        return answer.to_result(
            session,
            model=self.name,
            preset=self.preset_name,
            labels=self.labels,
            top_k=self.preset.top_k,
            none_below=self.preset.none_below,
            keep_trace=trace,
        )

    def _step_result(self, session: Session) -> Result:
        """The Result of the step just done; forgets the windows that are over."""
        info, step, scores = session.info, session.steps[-1], session.current
        assert scores is not None
        session.windows.clear()
        session.steps.clear()
        now = WindowScores(session.window_start, step.time, scores)
        return Result(
            source=info.name,
            model=self.name,
            preset=self.preset_name,
            duration=info.duration,
            labels=answer.top(scores, self.labels, self.preset.top_k),
            segments=answer.segments([now], self.labels, self.preset.none_below, None),
            cost=session.ledger.take(),
            trace=Trace(size=[info.width, info.height], steps=[step]),
            warnings=list(session.sample.warnings),
        )


def load(
    model: str | os.PathLike[str] | torch.nn.Module = "movinet-a0-stream-lite.k600",
    *,
    labels: Sequence[str] | None = None,
    input: InputSpec | None = None,
    output: Output = "softmax",
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
            clips (B, 3, T, H, W) and gives logits (B, classes). If its frames meet each other
            only in a mean, say so with an attribute `mixes_frames = False`.
        labels: Names of the outputs of your own module.
        input: What your own module expects (`foveate.models.InputSpec`).
        output: Whether its classes exclude each other (`softmax`) or not (`sigmoid`).
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
        ConfigError: A setting is unknown or out of range.
    """
    own = None
    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    if isinstance(model, str):
        named, preset = resolve(model)
    else:
        own = _Own(model, labels, input, output)
        named, preset = None, Preset(model=type(model).__name__)
    for key, policy in (("look", look), ("decide", decide)):
        if isinstance(policy, str):
            settings[key] = {"name": policy}
        elif isinstance(policy, Mapping):
            settings[key] = dict(policy)
    if budget is not None:
        settings["budget"] = parse_budget(budget) if isinstance(budget, str) else asdict(budget)
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
    """A user's module with what a weights table would say of it.

    Raises:
        ConfigError: It is not said what it expects, or what its outputs are.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        labels: Sequence[str] | None,
        spec: InputSpec | None,
        output: Output,
    ) -> None:
        if not labels or spec is None:
            raise ConfigError(
                "a module of your own says neither its labels nor what it expects",
                "foveate.load(module, labels=[...], input=foveate.models.InputSpec(224, 5.0, 16))",
            )
        self.module = module.eval()
        self.labels, self.input, self.output = tuple(labels), spec, output


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
    """
    if isinstance(preset.look, GroupsSpec) or isinstance(preset.decide, CalibratedSpec):
        from foveate.pipeline.cascade_run import assemble_cascade

        if look is not None or decide is not None:
            raise ConfigError("a cascade comes with its own look and decision")
        return assemble_cascade(preset, named, device=device, limits=limits)
    if preset.budget.macs_per_answer is not None or preset.budget.ms_per_answer is not None:
        raise ConfigError(
            f"{preset.model}: only a cascade has a budget per answer", "say 100MMAC/s or 2ms/frame"
        )
    place = choose_device(device)
    entry: _Own | LoadedModel
    if own is not None:
        module, entry, labels = own.module, own, own.labels
    else:
        entry = load_weights(preset.model, offline=offline, progress=progress)
        module, labels = entry.network, entry.labels
    spec = entry.input
    network = network_for(module, place, spec)
    look = look or make_look(preset, spec.frames_per_second, spec.size)
    look = fit_look(look, spec, module, place)
    side = getattr(look, "size", spec.size)
    plan = Plan(
        look=look,
        decide=decide or make_decide(preset, entry.output),
        budget=preset.budget.value(),
        spec=spec,
        device=place,
        window_seconds=preset.window or spec.clip_seconds,
        cut_threshold=preset.cut_threshold,
        macs_per_view=network.observe_macs((1, 3, 1, side, side)),
        macs_per_answer=network.answer_macs(1),
        output=entry.output,
    )
    return Recogniser(network, plan, preset, labels, named, limits)


def choose_device(device: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one, or the CPU.

    Raises:
        ModelError: The device is unknown or absent.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used ({reason})") from None
    return place


def _name(source: Any) -> str:
    return "<array>" if hasattr(source, "shape") else name_of(source)
