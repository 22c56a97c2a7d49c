"""The one loop: look, fetch, model, decide, for one source, window by window.

A session is a generator that asks for network work and is sent the outcome. So one driver can
run a single source, a batch of sources, or a stream, and the loop is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from foveate.core import (
    Budget,
    Clip,
    Decide,
    Evidence,
    Look,
    MediaError,
    ModelError,
    Sample,
    Selection,
    State,
    Stop,
    TraceStep,
    Window,
)
from foveate.models.spec import InputSpec
from foveate.pipeline import views
from foveate.pipeline.ledger import ChargedSample, Ledger
from foveate.policy.budget import Spent, resolve
from foveate.policy.cuts import distances, signature

DEFAULT_RATE = 25.0  # frames per second of a source that does not say
MINIMUM_SHOT = 1.0  # seconds


OnLook = Callable[[str, float, float | None], None]
"""Told after each look: name of the source, seconds reached, its duration if known."""


@dataclass(frozen=True)
class Ask:
    """Network work that a session needs: look at `views` (if any), then answer (if `answer`).

    `exit` is the number of the exit that looking is to reach, of networks that run exit by exit.
    """

    views: Tensor | None
    state: State | None
    answer: bool
    exit: int | None = None


@dataclass(frozen=True)
class Reply:
    """The outcome of an `Ask`."""

    state: State
    evidence: Evidence | None


Work = Generator[Ask | None, Reply, None]
"""Yields what it needs of the network and is sent the outcome; None says that a step is done."""


@dataclass(frozen=True)
class WindowScores:
    """What a window was decided to show: scores (classes,) in 0..1, between two times.

    `exit` is the name of the exit that decided.
    """

    start: float
    end: float
    scores: np.ndarray[tuple[int], np.dtype[np.float32]]
    exit: str | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that is the same for all sources of one recogniser."""

    look: Look
    decide: Decide
    budget: Budget
    spec: InputSpec
    device: torch.device
    window_seconds: float
    cut_threshold: float
    macs_per_view: int
    macs_per_answer: int
    output: Literal["softmax", "sigmoid"] = "softmax"
    every_step: bool = False  # answer after every look (streams)
    on_look: OnLook | None = None


@dataclass
class Session:
    """One source on its way through the loop.

    Attributes:
        windows: The scores of the windows that are over.
        steps: The trace.
        current: Scores (classes,) of the last answer.
        exit: Name of the exit that gave it.
        end: Where the video was found to end, None if that was not seen.
        window_start: Where the window in work begins.
        looked: Frames that the network was shown.
    """

    sample: Sample
    ledger: Ledger
    plan: Plan
    windows: list[WindowScores] = field(default_factory=list)
    steps: list[TraceStep] = field(default_factory=list)
    current: np.ndarray[tuple[int], np.dtype[np.float32]] | None = None
    exit: str | None = None
    end: float | None = None
    window_start: float = 0.0
    looked: int = 0
    _kept: dict[int, Any] = field(default_factory=dict)  # frames decoded but not yet looked at

    def __post_init__(self) -> None:
        self._charged = ChargedSample(self.sample, self.ledger)
        self.info = self.sample.info
        self._frame = self.info.width, self.info.height
        self._size = views.decode_size(self._frame, self.plan.spec)

    def run(self) -> Work:
        """Ask for network work until the source is over, then close it.

        Raises:
            MediaError: Not one frame could be decoded.
        """
        start: float | None = 0.0
        try:
            while start is not None:
                start = yield from self._window(start)
            if not self.looked:
                raise MediaError(f"{self.info.name}: no frame could be decoded")
        finally:
            self.sample.close()

    # --- one window -----------------------------------------------------------------------

    def _window(self, start: float) -> Generator[Ask | None, Reply, float | None]:
        """Decide one window; returns where the next one starts, None at the end."""
        self.window_start = start
        plan, window = self.plan, Window(start, start + self.plan.window_seconds)
        budget = self._resolved(window)
        memory: Any = None
        state: State | None = None
        before: Any = None  # signature of the last frame, to tell a scene cut
        reply: Reply | None = None
        following: float | None = window.end
        shown = window.end  # until when the verdict holds
        asked = False
        while True:
            with self.ledger.stage("policy"):
                selection, memory = plan.look(self._charged, window, memory, budget)
            if selection.macs:
                self.ledger.add("policy", calls=0, macs=selection.macs)
            if not selection.times:
                if not asked:
                    following = self._charged.next_time(window.end - 1e-6)
                break
            asked = True
            _check_inside(selection, window)
            clip = self._fetch(selection)
            if selection.restart and len(clip):  # else what was seen before still counts
                state = before = None
            clip, before, cut = self._until_cut(selection, clip, before, window)
            stop = False
            if len(clip):
                reply = yield from self._look_at(clip, selection, state)
                state = reply.state
                stop = plan.decide.eager and self._stops(reply, budget)
                if plan.every_step:
                    yield None
            if cut is not None:
                # However sure the verdict, it is on the shot that ends here.
                following = shown = cut
                break
            if stop:
                following = self._after_stop(window)
                break
            if len(clip) < len(selection.times):
                following = self._charged.next_time(selection.times[-1])
                if following is None or following > selection.times[-1] + self._patience:
                    shown = self._last_shown(start, over=following is None)
                    break
                following = window.end
        if state is not None:
            yield from self._close(window, shown, state, reply)
        return following

    @property
    def _patience(self) -> float:
        """Seconds without a frame that still count as the same shot."""
        return max(1.0, 2.0 / self.plan.spec.frames_per_second)

    def _look_at(
        self, clip: Clip, selection: Selection, state: State | None
    ) -> Generator[Ask | None, Reply, Reply]:
        plan = self.plan
        with self.ledger.stage("transform"):
            pixels = clip.pixels
            if selection.boxes is not None:
                pixels = views.cut_out(clip, self._frame, plan.spec, selection)
            x_bcthw = views.to_views(pixels, plan.spec, plan.device)
        self.looked += len(clip)
        self.steps.append(
            TraceStep(
                time=clip.times[-1],
                frames=list(clip.times),
                boxes=self._looked_at(clip, selection),
                modalities=list(selection.modalities),
                gate=selection.gate,
                fallback=selection.fallback,
            )
        )
        reply = yield Ask(x_bcthw, state, plan.decide.eager or plan.every_step)
        if reply.evidence is not None:
            self._note(reply)
        if plan.on_look is not None:
            plan.on_look(self.info.name, clip.times[-1], self.info.duration)
        return reply

    def _note(self, reply: Reply) -> None:
        """Keep the scores of an answer and say in the trace which exit gave it."""
        assert reply.evidence is not None
        logits = reply.evidence.logits[reply.evidence.exit][0].float()
        scores = logits.sigmoid() if self.plan.output == "sigmoid" else logits.softmax(-1)
        self.current, self.exit = scores.cpu().numpy(), reply.evidence.exit
        if not np.isfinite(self.current).all():
            raise ModelError("the scores of the network are not finite")
        self.steps[-1] = self.steps[-1].model_copy(update={"exit": reply.evidence.exit})

    def _stops(self, reply: Reply, budget: Budget) -> bool:
        assert reply.evidence is not None
        with self.ledger.stage("policy"):
            verdict = self.plan.decide(reply.evidence, budget)
        self.steps[-1] = self.steps[-1].model_copy(update={"gate": verdict.gate})
        return isinstance(verdict, Stop)

    def _close(
        self, window: Window, end: float, state: State, reply: Reply | None
    ) -> Generator[Ask | None, Reply, None]:
        """Keep the scores of a window that is over; ask for them if nobody has yet."""
        if reply is None or reply.evidence is None:
            self._note((yield Ask(None, state, answer=True)))
        assert self.current is not None
        self.windows.append(WindowScores(window.start, end, self.current, self.exit))

    # --- frames ---------------------------------------------------------------------------

    def _looked_at(self, clip: Clip, selection: Selection) -> list[list[float]]:
        """The box of every frame that came, for the trace."""
        if selection.boxes is None:
            return []
        rows = views.matched(clip.times, selection.times)
        return [[round(value, 2) for value in selection.boxes[row]] for row in rows]

    def _fetch(self, selection: Selection) -> Clip:
        """The frames that were selected: whole where there are boxes, else the model's view.

        Of the model's view, what an earlier window left over is used first.
        """
        times = selection.times
        if selection.boxes is not None or selection.size is not None:
            self._kept.clear()
            return views.fetch(self._charged, self.plan.spec, selection)
        kept = [self._kept.pop(_key(t)) for t in times if _key(t) in self._kept]
        self._kept.clear()
        rest = times[len(kept) :]
        if not rest:
            clip = Clip(np.empty((0,), np.uint8), ())
        else:
            clip = self._charged.frames(rest, self._size)
            clip = Clip(views.crop(clip.pixels, self.plan.spec), clip.times)
        if not kept:
            return clip
        pixels = np.stack([frame for _, frame in kept])
        if len(clip):
            pixels = np.concatenate([pixels, clip.pixels])
        return Clip(pixels, (*(time for time, _ in kept), *clip.times))

    def _until_cut(
        self, selection: Selection, clip: Clip, before: Any, window: Window
    ) -> tuple[Clip, Any, float | None]:
        """Split a clip at its first scene cut; the rest is kept for the next window.

        A cut sooner than `MINIMUM_SHOT` after the window began is passed over: flashing pictures
        must not tear a video into single frames.
        """
        if not selection.dense or not len(clip) or self.plan.cut_threshold >= 1:
            return clip, None, None
        with self.ledger.stage("cuts"):
            signatures = signature(clip.pixels)
            moved = distances(signatures, before)
        # A frame later than the time at its place: some are missing before it, and those that
        # came cannot be told to have answered which time.
        pairs = zip(clip.times, selection.times, strict=False)
        whole = all(shown <= time + 1e-6 for shown, time in pairs)
        asked = selection.times if whole else clip.times
        at = next(
            (
                i
                for i, d in enumerate(moved)
                if d > self.plan.cut_threshold and asked[i] >= window.start + MINIMUM_SHOT
            ),
            None,
        )
        if at is None:
            return clip, signatures[-1:], None
        # Windows chosen before the cut mean nothing behind it: there the policy chooses anew.
        whole = whole and selection.size is None
        for i in range(at, len(clip) if whole else at):
            self._kept[_key(asked[i])] = (clip.times[i], clip.pixels[i])
        return Clip(clip.pixels[:at], clip.times[:at]), None, asked[at]

    def _after_stop(self, window: Window) -> float | None:
        """Where to go on after an early verdict.

        The container's word for the length is enough here: finding the end by decoding to it
        would cost what stopping early has saved.
        """
        duration = self.info.duration
        return None if duration is not None and duration <= window.end else window.end

    def _last_shown(self, start: float, over: bool) -> float:
        """When the last frame before a gap or the end stops being shown, at least `start`."""
        last = self.steps[-1].time + 1.0 / self._source_rate if self.steps else start
        if over:
            found = self.sample.info.duration
            self.end = last = last if found is None else found
        return max(start, last)

    # --- budget ---------------------------------------------------------------------------

    @property
    def _source_rate(self) -> float:
        return self.info.rate or DEFAULT_RATE

    def _resolved(self, window: Window) -> Budget:
        plan = self.plan
        if not plan.budget:
            return plan.budget
        seconds = sum(self.ledger.seconds(name) for name in ("network", "head", "transform"))
        spent = Spent(
            macs_per_view=plan.macs_per_view,
            macs_per_answer=plan.macs_per_answer,
            view_seconds=seconds / self.looked if self.looked else None,
            decode_seconds=self.ledger.seconds("decode") / window.start if window.start else None,
        )
        return resolve(plan.budget, spent, self._source_rate, plan.window_seconds)


def _check_inside(selection: Selection, window: Window) -> None:
    """A look that leaves its window would be asked for ever."""
    times = selection.times
    if not window.start <= times[0] <= times[-1] < window.end:
        raise ValueError(
            f"a look chose {times[0]:g} to {times[-1]:g} s, outside its window "
            f"{window.start:g} to {window.end:g} s"
        )


def _key(seconds: float) -> int:
    """Times as whole microseconds, so that equal times meet in a table."""
    return round(seconds * 1e6)
