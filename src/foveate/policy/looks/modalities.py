"""Modalities by segment: a policy network sees cheap views, and only what it chooses is shown.

A window is a run of segments. The part `policy` of the model sees small views of all modalities
and decides for each segment which of them are used (AdaMML, arXiv 2105.05165); each modality is a
part of the model that gets the segments for which it was chosen, and `fuse` is its head. Where the
network of frames has an exit, the segments of which its early answer is not sure go on in the part
`MODALITY-rest`. A file is decided on window by window, a stream segment by segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from foveate.core import (
    Budget,
    ConfigError,
    Evidence,
    Sample,
    Selection,
    ViewRequest,
    Window,
)
from foveate.core.text import did_you_mean
from foveate.policy.calibration import CalibrationCard, Strict, per_answer
from foveate.policy.looks.base import Context, LookSpec
from foveate.policy.looks.patches import MotionPatch

POLICY, FUSE, REST = "policy", "fuse", "-rest"  # parts of the model, and the ending of one
UNSURE = "unsure"  # segments of which an early answer is not sure, in the evidence
VIEWS = {"rgbdiff": "rgb-difference", "mv": "vectors", "patch": "rgb", "yamnet": "waveform"}
"""Modality of the network → its name in `media.modalities`, where they differ."""

_NEAR = 1e-6  # seconds

Span = tuple[float, float]
Use = npt.NDArray[np.bool_]


class PointCard(Strict):
    """One operating point: a model that was trained with one strength of the cost.

    Attributes:
        network: Name of its network in the run folder.
        strength: Factor on the cost weights of the modalities.
        accuracy: On the calibration clips.
        macs: Mean executed multiply-adds of a window.
        seconds: Mean seconds of a window, decoding included.
        rates: Modality → share of the segments for which it is used.
    """

    network: str
    strength: float = Field(ge=0)
    accuracy: float = Field(ge=0, le=1)
    macs: float = Field(ge=0)
    seconds: float = Field(ge=0)
    rates: dict[str, float]


class CurveCard(CalibrationCard):
    """What a run of the recipe `adamml` knows of its modalities and operating points.

    Attributes:
        modalities: Of the networks, in order.
        seen: What the policy sees in place of each.
        frames: Of a segment.
        seconds: Of a segment.
        costs: Modality → weight of its cost in training, at strength 1.
        points: By ascending strength; empty if there is no policy and all modalities are used.
        default: Index of the point that is used without a budget.
        calibrated_on: Clips behind the points.
        exit: Probability from which on an early answer for frames counts; None without an exit.
        patch_size: Side in pixels of the modality `patch`; None without it.
    """

    modalities: list[str] = Field(min_length=1, max_length=8)
    seen: list[str]
    frames: int = Field(ge=1)
    seconds: float = Field(gt=0)
    costs: dict[str, float]
    points: list[PointCard] = Field(min_length=1, max_length=64)
    default: int = Field(ge=0)
    calibrated_on: int = Field(ge=0)
    exit: float | None = Field(None, ge=0, le=1)
    patch_size: int | None = Field(None, ge=16, le=1024)

    @model_validator(mode="after")
    def _fits(self) -> CurveCard:
        if self.default >= len(self.points):
            raise ValueError("default: no such point")
        if len(self.seen) != len(self.modalities):
            raise ValueError("seen: not one per modality")
        return self

    def within(self, budget: Budget) -> int:
        """The most accurate point within a budget per answer, the default one without a budget.

        Raises:
            ConfigError: Every point costs more; the error says how much the cheapest one does.
        """
        if not budget:
            return self.default
        most_macs = budget.macs_per_answer or float("inf")
        most_seconds = (budget.ms_per_answer or float("inf")) / 1000
        allowed = [
            at
            for at, point in enumerate(self.points)
            if point.macs <= most_macs and point.seconds <= most_seconds
        ]
        if not allowed:
            least = min(self.points, key=lambda point: point.seconds)
            raise ConfigError(
                "the budget is less than the cheapest operating point costs",
                f"it costs {least.macs / 1e9:.3g} GMAC and {least.seconds * 1000:.3g} ms an answer",
            )
        return max(allowed, key=lambda at: (self.points[at].accuracy, -self.points[at].macs))


class ModalitiesSpec(LookSpec):
    """Segments whose modalities a policy network chooses (runs of the recipe adamml)."""

    name: Literal["modalities"] = "modalities"
    use: Literal["policy", "all"] | tuple[str, ...] = Field(
        "policy", description="policy: as its network decides; all, or the names of some modalities"
    )
    point: int | None = Field(
        None, ge=0, description="operating point; None: by budget, or the run's default"
    )
    exit: float | None = Field(
        None,
        ge=0,
        le=1,
        description="probability from which on an early answer for frames counts; None: the "
        "calibrated one; 1: no early answers",
    )

    def build(self, context: Context) -> Modalities:
        """The look of an operating point.

        Raises:
            ConfigError: There is no such point or modality, or the budget cannot be kept.
        """
        card = CurveCard.model_validate(self.calibrated(context.calibration, context.model))
        at = self.point
        if at is None:
            at = card.within(per_answer(context.budget, context.window))
        if at >= len(card.points):
            raise ConfigError(
                f"look.point={at}: {context.model} has the points 0 to {len(card.points) - 1}"
            )
        fixed: tuple[str, ...] | None = None
        if self.use != "policy":
            fixed = tuple(card.modalities) if self.use == "all" else self.use
            unknown = [name for name in fixed if name not in card.modalities]
            if unknown or not fixed:
                raise ConfigError(
                    f"look.use={','.join(fixed)}: {context.model} has {', '.join(card.modalities)}",
                    did_you_mean(unknown[0], card.modalities) if unknown else None,
                )
        if self.exit is not None and card.exit is None:
            raise ConfigError(
                f"look.exit: {context.model} has no early exit",
                "train one: --recipe adamml --set exit=STAGE",
            )
        if fixed is not None:
            fixed = tuple(name for name in card.modalities if name in fixed)
        exit = card.exit if self.exit is None else self.exit
        return Modalities(
            tuple(card.modalities), tuple(card.seen), card.frames, card.seconds,
            card.points[at].network, fixed, patches=patches_of(card.patch_size), exit=exit,
        )  # fmt: skip

    def calibrated(self, calibration: Mapping[str, Any], model: str) -> Mapping[str, Any]:
        """The operating points of the run.

        Raises:
            ConfigError: The model has none.
            WeightsError: They are damaged.
        """
        if not calibration.get("points"):
            raise ConfigError(
                f"{model}: has no policy over modalities",
                "train one: foveate train VIDEOS --recipe adamml",
            )
        return CurveCard.read(calibration, f"{Path(model).name}/run.json").model_dump(mode="json")


@dataclass(frozen=True)
class Modalities:
    """Chooses modalities segment by segment.

    Args:
        modalities: Of the model; each is a part of it.
        seen: What the policy sees in place of each.
        frames: Of a segment.
        seconds: Of a segment.
        network: Name of the model's network that decides and recognises.
        fixed: Modalities that are used for all segments; None for those that the policy chooses.
        each: Decide segment by segment instead of window by window.
        patches: Cuts out the modality `patch`; None without it.
        exit: Probability from which on an early answer for frames counts; None without an exit.
    """

    modalities: tuple[str, ...]
    seen: tuple[str, ...]
    frames: int
    seconds: float
    network: str = "point-0"
    fixed: tuple[str, ...] | None = None
    each: bool = False
    patches: MotionPatch | None = None
    exit: float | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the model that it asks for."""
        return self.modalities if self.fixed is not None else (POLICY, *self.modalities)

    @property
    def reads_vectors(self) -> bool:
        """Whether motion vectors are asked for first."""
        first = self.seen if self.fixed is None else self.fixed
        return "mv" in first or (self.patches is not None and self.patches.reads_vectors)

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        """Whole segments from `start` on; a rest shorter than half a segment is not left over."""
        end = sample.info.duration
        if end is None:
            return Window(start, start + seconds)
        if start > end - _NEAR:
            return None
        return Window(start, end if end - start < seconds + self.seconds / 2 else start + seconds)

    def segments(self, window: Window) -> tuple[Span, ...]:
        """The segments of a window, one after another from its start."""
        length = window.end - window.start
        count = max(1, round(length / self.seconds))
        step = min(self.seconds, length / count)
        return tuple(
            (window.start + at * step, window.start + (at + 1) * step) for at in range(count)
        )

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The policy, then each modality that is used, then the fusion.

        The memory holds the segments that are left, those at hand, what is used for them, and
        which modality comes next.
        """
        begin: Any = (self.segments(window), (), None, 0)
        left, at_hand, use, place = begin if memory is None else memory
        if evidence is not None and evidence.proposals.get(UNSURE, np.zeros(1, bool)).any():
            rest = f"{self.modalities[place - 1]}{REST}"
            return Selection({}, rest, dense=False, closes=False), memory
        if not at_hand:
            if not left:
                return None, memory
            count = 1 if self.each else len(left)
            at_hand, left = left[:count], left[count:]
            if self.fixed is None:
                return self._policy(at_hand), (left, at_hand, None, 0)
            row = [name in self.fixed for name in self.modalities]
            use, place = np.array([row] * len(at_hand)), 0
        elif use is None:
            if evidence is None:
                return None, memory  # nothing could be fetched
            use = self.decisions(sample, at_hand, evidence)
        while place < len(self.modalities):
            chosen = tuple(span for span, on in zip(at_hand, use[:, place], strict=True) if on)
            place += 1
            if chosen:
                return self._part(place - 1, chosen, sample), (left, at_hand, use, place)
        fuse = Selection({}, FUSE, dense=False)
        return fuse, (left, (), None, 0)

    def decisions(self, sample: Sample, segments: tuple[Span, ...], evidence: Evidence) -> Use:
        """(S, M) which modalities are used for which segments."""
        return np.asarray(evidence.proposals["use"], bool)

    def online(self) -> Self:
        """Decides segment by segment."""
        return replace(self, each=True)

    def _policy(self, segments: tuple[Span, ...]) -> Selection:
        views = {}
        for name in self.seen:
            # Of frames that a network may be shown, all are kept; the policy sees every second.
            whole = name in self.modalities
            request = self.request(name, segments, 1 if whole else 2)
            again: bool | tuple[float, ...] = name == "rgb" and whole
            if name == "rgb" and "patch" in self.modalities:
                again = self.request(name, segments).times  # patches are cut out of all of them
            views[VIEWS.get(name, name)] = replace(request, again=again)
        # The names tell a trace what could be chosen.
        return _selection(views, POLICY, segments, dict.fromkeys(self.modalities, np.empty(0)))

    def _part(
        self, place: int, segments: tuple[Span, ...], sample: Sample | None = None
    ) -> Selection:
        name = self.modalities[place]
        request = self.request(name, segments, sample=sample)
        measured = ("motion",) if name == "patch" else ()
        return _selection({VIEWS.get(name, name): request}, name, segments, measured=measured)

    def request(
        self, name: str, segments: tuple[Span, ...], every: int = 1, sample: Sample | None = None
    ) -> ViewRequest:
        """The request for a modality of some segments, a row for each.

        Args:
            name: Of the modality.
            segments: Their starts and ends in seconds.
            every: Ask for every so manyth frame.
            sample: The source, whose motion says where patches are cut out. Every segment has a
                place of its own, so that it does not depend on which others were chosen.
        """
        if name in ("sound", "yamnet"):
            return ViewRequest(spans=segments)
        times, rows = [], []
        for row, (start, end) in enumerate(segments):
            for at in range(0, self.frames, every):
                times.append(start + at * (end - start) / self.frames)
                rows.append(row)
        request = ViewRequest(tuple(times), tuple(rows))
        if name != "patch" or self.patches is None or sample is None:
            return request
        boxes: list[Any] = []
        for start, end in segments:
            evenly = replace(self.patches, rate=self.frames / (end - start))
            boxes += evenly.plan(sample, Window(start, end), Budget()).boxes or ()
        return replace(request, boxes=tuple(boxes), size=self.patches.size)


def patches_of(size: int | None) -> MotionPatch | None:
    """Where the modality `patch` is cut out: one place per segment, as its network pools frames."""
    return None if size is None else MotionPatch(size=size, track="tube")


def _selection(
    views: dict[str, ViewRequest],
    part: str,
    segments: tuple[Span, ...],
    more: Mapping[str, Any] | None = None,
    measured: tuple[str, ...] = (),
) -> Selection:
    """A step whose segments are in the trace, as `start, end, start, end, ...`."""
    proposals = {"segments": np.array(segments).ravel(), **(more or {})}
    return Selection(views, part, dense=False, closes=False, proposals=proposals, measured=measured)
