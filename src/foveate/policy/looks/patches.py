"""Patches: looks that feed the network a window of each frame instead of the whole frame.

`MotionPatch` is the method; `baselines` has what it is compared with. All share one shape: a plan
for the whole window of time (or for the next frames, online), given out in chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from foveate.core import Budget, ConfigError, Evidence, Motion, Sample, Selection, Window
from foveate.core.search import Search
from foveate.policy.looks.base import Context, LookSpec, TimedLook
from foveate.policy.looks.frames import grid, within
from foveate.policy.motion import MotionInput, motion_times, saliency
from foveate.policy.motion.combine import bodies, lasting
from foveate.policy.motion.family import method
from foveate.policy.window.select import ONLINE, Rule, Track, Windows, centre_square, select
from foveate.policy.window.track import Smoothed, shots

Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]

EXTENTS = (96 / 224, 112 / 224, 128 / 224, 160 / 224, 192 / 224, 1.0)
CUT = 0.35  # chi-square of grey histograms, in 0..1
RIGID = 0.33  # articulation, on codec vectors, below which only rigid things move
_ON_VECTORS = {"flow": "mv", "flow_affine": "mv_affine"}


class PatchSpec(LookSpec):
    """Settings that all policies have that show a window of each frame."""

    trains: ClassVar[bool] = True

    rate: Annotated[float | None, Search.float(2, 15)] = Field(
        None, gt=0, le=240, description="frames/s; None: the model's own"
    )
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")
    size: Annotated[int | None, Search.int(64, 160, step=32)] = Field(
        None, ge=16, le=1024, description="side shown to the network; None: a third of its work"
    )
    extent: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] | None = Field(
        0.5, description="side of the window by the frame's shorter side; None: size / model's"
    )

    @field_validator("extent")
    @classmethod
    def _fixed(cls, extent: float | str | None) -> float | str | None:
        if extent == "auto":
            name = cls.model_fields["name"].default
            raise ValueError(f"{name} measures no motion to size its window by; give a share")
        return extent

    def common(self, context: Context) -> dict[str, Any]:
        """Arguments that all patch policies share."""
        model = context.input.size
        # A side of four sevenths is a third of the area (128 of 224); whole steps of 16 pixels.
        third = max(16, round(model * 4 / 7 / 16) * 16)
        return {
            "size": self.size or third, "rate": self.rate, "frame": model, "chunk": self.chunk,
            "extent": self.extent,
        }  # fmt: skip


class MotionSizedSpec(PatchSpec):
    """Settings of policies that measure motion, and so can size the window by it."""

    extent: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] | None = Field(
        0.5,
        description="side of the window by the frame's shorter side; auto: by the motion; "
        "None: size / model's",
    )

    @field_validator("extent")
    @classmethod
    def _fixed(cls, extent: float | str | None) -> float | str | None:
        return extent


class MotionPatchSpec(MotionSizedSpec):
    """A window where things move on their own."""

    name: Literal["motion-patch"] = "motion-patch"
    motion: Annotated[str, Search.choice("affine_diff", "flow_affine", "mv_affine", "fd")] = Field(
        "affine_diff", description="saliency: a key of policy.motion.METHODS"
    )
    track: Track | Literal["auto"] = "auto"
    source: Literal["auto", "vectors", "flow"] = Field("auto", description="of the motion")
    gate: float = Field(0.1, ge=0, le=1, description="excess capture below which: whole frame")
    sampling: Literal["uniform", "motion"] = Field(
        "uniform", description="of the frames; motion: equal shares of it between them (MGSampler)"
    )
    candidates: int = Field(
        2, ge=1, le=32, description="times more frames that sampling=motion measures"
    )
    pictures: Literal["decoded", "all"] = Field(
        "decoded",
        description="whose codec vectors are read: of those that must be decoded anyway, or all",
    )
    enough: float = Field(
        0.5, gt=0, le=1, description="share of a shot's motion that extent=auto must hold"
    )
    subject: Literal["any", "bodies"] = Field(
        "any", description="what to look at; bodies: rather than balls and other rigid things"
    )
    lasting: float = Field(
        0.0, ge=0, le=10, description="seconds in which what moves must stay to count in full"
    )

    def build(self, context: Context) -> PatchLook:
        """The policy with these settings.

        Raises:
            ConfigError: The model needs frames at an even rate and motion would choose them.
        """
        settings = self.model_dump(exclude={"name", "rate", "chunk", "size", "extent"})
        return MotionPatch(**self.common(context), **settings).fitted(context)


class VectorPatchSpec(MotionPatchSpec):
    """A window where codec motion vectors differ from the camera's motion."""

    name: Literal["mv-patch"] = "mv-patch"  # type: ignore[assignment]
    motion: str = Field("mv_affine", description="saliency: a key of policy.motion.METHODS")


@dataclass(frozen=True)
class PatchPlan:
    """Where to look in a stretch of video, and why.

    Attributes:
        times: (T,) seconds.
        boxes: One `xyxy` in source pixels per time; None for the model's own view.
        gates: (T,) excess capture of the window; empty where nothing was measured.
        fallback: (T,) frames on which the policy fell back to the whole frame.
        maps: (T, h, w) what the windows were searched in, None for policies without.
        source: `vectors`, `flow`, `grey`, `activation`, or empty.
        reason: Why a better source was not used.
        follows: (T,) frames on which the window goes with a subject that crosses the picture.
    """

    times: tuple[float, ...]
    boxes: tuple[Box, ...] | None
    gates: tuple[float, ...] = ()
    fallback: tuple[bool, ...] = ()
    maps: Floats | None = None
    source: str = ""
    reason: str | None = None
    follows: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Planned:
    """What a patch policy remembers of a window.

    Attributes:
        plan: Where to look.
        done: Frames of the plan that were asked for.
        asked: Frames of the whole window that were asked for.
        track: The state of an online track.
    """

    plan: PatchPlan
    done: int
    asked: int = 0
    track: Any = None


@dataclass(frozen=True)
class PatchLook(TimedLook):
    """Base of the looks that choose a window; `plan` says where.

    Args:
        size: Side in pixels of what the network is shown.
        rate: Frames per second; None for the model's own.
        frame: Side of the model's whole view. 224 if None; set by `foveate.load`.
        chunk: Frames asked for at a time.
        extent: Side of the window as a share of the frame's shorter side; None for `size / frame`,
            the scale of the whole view. The default is measured in
            `docs/research/motion-accuracy.md`.
    """

    size: int = 128
    rate: float | None = None
    frame: int | None = None
    chunk: int = 10
    extent: float | Literal["auto"] | None = 0.5

    def __post_init__(self) -> None:
        """Refuse an extent that no window can have."""
        if self.extent == "auto":
            raise ValueError(f"{type(self).__name__} has windows of a fixed extent")
        self._check_extent()

    def _check_extent(self) -> None:
        if isinstance(self.extent, int | float) and not 0 < self.extent <= 1:
            raise ValueError(f"extent must be in (0, 1], not {self.extent}")

    def fitted(self, context: Context) -> Self:
        """The same policy for a model's view and rate, where they were left open."""
        spec = context.input
        return replace(
            self, frame=self.frame or spec.size, rate=self.rate or spec.frames_per_second
        )

    def online(self) -> Self:
        """Frame by frame; windows that measure nothing need no future frames."""
        return replace(self, chunk=1)

    def side(self, sample: Sample) -> float:
        """Side of the window in pixels of the source."""
        share = self.size / (self.frame or 224) if self.extent is None else float(self.extent)
        return min(1.0, share) * min(sample.info.width, sample.info.height)

    def times(self, window: Window, budget: Budget) -> tuple[float, ...]:
        """The frames of a window at the rate, or at as much of it as the budget allows."""
        return grid(window, within(self.rate or 5.0, budget))

    def plan(self, sample: Sample, window: Window, budget: Budget) -> PatchPlan:
        """Where to look in a window of time."""
        raise NotImplementedError

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next chunk of the plan; the memory is the plan and how much of it is done."""
        if memory is None:
            memory = Planned(self.plan(sample, window, budget), 0)
        return self.chunk_of(memory)

    def chunk_of(self, memory: Planned) -> tuple[Selection | None, Planned]:
        """The next chunk of a plan, and the plan with it done."""
        plan, part = memory.plan, slice(memory.done, memory.done + self.chunk)
        times, gates = plan.times[part], plan.gates[part]
        if not times:
            return None, memory
        selection = Selection.of_frames(
            times,
            None if plan.boxes is None else plan.boxes[part],
            self.size,
            fallback=any(plan.fallback[part]),
            gate=float(np.mean(gates)) if gates else None,
            measured=(
                *(("window:follows",) if any(plan.follows[part]) else ()),
                *((f"motion:{plan.source}",) if plan.source else ()),
            ),
        )
        return selection, replace(memory, done=memory.done + len(times))


@dataclass(frozen=True)
class MotionPatch(PatchLook):
    """Looks where things move on their own; nothing is trained.

    Args:
        motion: A key of `policy.motion.METHODS`. The default takes the camera's motion from the
            field and looks for change in the pictures; `flow_affine` looks in the field itself,
            which is noise where surfaces have no texture (both are measured in
            `docs/research/motion-patches.md`). On codec vectors `flow` and `flow_affine` stand for
            `mv` and `mv_affine`.
        track: `auto` is `camera` for models that mix features of the same place over time (TSM, 3D
            and streaming networks), to which a jumping window looks like motion, `viterbi` for all
            others, and `camera-online` in streams; else see `policy.window.Rule`.
        source: `auto` takes codec vectors where there are any, flow elsewhere.
        extent: As for all patches, or `auto` for the smallest of several, up to the whole frame,
            whose windows hold enough of the motion of a shot.
        gate: Excess capture below which motion is diffuse: then the whole frame at `size`.
        sampling: `motion` puts the frames where equal shares of the motion lie between them;
            the same maps serve both. `uniform` is an even grid.
        candidates: Times more frames that `motion` sampling measures than it shows.
        stiffness: See `Rule`.
        around: Neighbouring pictures whose vectors are averaged, on each side.
        pictures: `decoded` leaves out pictures that are not looked at and that no other picture is
            predicted from (of x264's defaults half of all); `all` reads the vectors of each.
        enough: Share of a shot's motion that windows of `extent="auto"` must hold.
        subject: `bodies` prefers what bends and stays to rigid things that pass by; `any` takes
            what moves most.
        lasting: Seconds around each frame in which what moves must stay near its place to count
            in full: what passes by loses. 0 leaves each frame its own map.
    """

    motion: str = "affine_diff"
    track: Track | Literal["auto"] = "auto"
    source: Literal["auto", "vectors", "flow"] = "auto"
    gate: float = 0.1
    sampling: Literal["uniform", "motion"] = "uniform"
    candidates: int = 2
    stiffness: float = 0.03
    around: int = 2
    pictures: Literal["decoded", "all"] = "decoded"
    enough: float = 0.5
    subject: Literal["any", "bodies"] = "any"
    lasting: float = 0.0
    aligned: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse unknown names at once, not in the middle of a video."""
        self._check_extent()
        if method(self.motion).need == "features":
            raise ValueError(f"{self.motion} needs a network: use ActivationPatch")
        if self.subject == "bodies" and self.motion != "affine_diff":
            raise ConfigError(
                f"look.subject=bodies: not with look.motion={self.motion}, only with pictures",
                "leave look.motion at affine_diff",
            )

    def fitted(self, context: Context) -> Self:
        """The same policy for a model; one that mixes frames gets windows that stand still.

        Raises:
            ConfigError: The model needs frames at an even rate and motion would choose them.
        """
        if self.sampling == "motion" and context.streaming:
            # Streaming networks count time in frames: uneven ones would change its pace.
            raise ConfigError(
                f"look.sampling=motion: {context.model} takes frames at an even rate, one after "
                "another",
                "leave it at uniform, or take a network of whole clips",
            )
        return replace(super().fitted(context), aligned=context.mixes_frames)

    def online(self) -> Self:
        """Frame by frame, smoothed online, in constant memory.

        Raises:
            ConfigError: Motion chooses among frames of a whole window.
        """
        if self.sampling == "motion":
            raise ConfigError(
                "look.sampling=motion: chooses among frames of a whole window, and a stream "
                "has not seen them yet",
                "leave it at uniform",
            )
        track = self.track if self.track in ONLINE else "camera-online"
        return replace(
            self, chunk=1, track=track, sampling="uniform", around=min(self.around, 1), lasting=0.0
        )

    @property
    def reads_vectors(self) -> bool:
        """Whether the motion is that of the codec where there is one."""
        return self.source != "flow" and method(self.motion).need != "grey"

    def rule(self, sample: Sample) -> Rule:
        """How windows are chosen in that source."""
        if self.extent == "auto":
            shorter = min(sample.info.width, sample.info.height)
            sides = tuple(share * shorter for share in EXTENTS)
        else:
            sides = (self.side(sample),)
        track: Track = (
            ("camera" if self.aligned else "viterbi") if self.track == "auto" else self.track
        )
        return Rule(sides, track, self.gate, self.enough, self.stiffness)

    def plan(self, sample: Sample, window: Window, budget: Budget) -> PatchPlan:
        """Measure the motion of a window of time and choose where to look in it."""
        times = self.times(window, budget)
        if self.sampling == "motion":
            return self._sampled(sample, window, len(times))
        return self._planned(sample, times, None)[0]

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next chunk; online tracks measure no further than it."""
        if self.track not in ONLINE:
            return super().next(sample, window, memory, evidence, budget)
        asked = 0 if memory is None else memory.asked
        times = self.times(window, budget)[asked : asked + self.chunk]
        if not times:
            return None, memory
        track = None if memory is None else memory.track
        plan, track = self._planned(sample, times, track)
        selection, _ = self.chunk_of(Planned(plan, 0))
        return selection, Planned(PatchPlan((), None), 0, asked + len(times), track)

    def _sampled(self, sample: Sample, window: Window, count: int) -> PatchPlan:
        """Choose the frames by their motion, then the windows in them."""
        rate = self.candidates * count / (window.end - window.start)
        dense = grid(window, rate)
        motion, maps, _ = self._maps(sample, dense)
        shown = [k for k in range(len(dense)) if motion.thumbs[k].any() or maps[k].any()]
        times = tuple(dense[k] for k in shown) or dense[:1]
        scores = maps[shown] if shown else maps[:1]
        chosen = motion_times(times, scores, max(1, round(count * len(times) / len(dense))))
        rows = np.array([dense.index(time) for time in chosen])
        return self._windows(sample, chosen, motion, maps[rows], motion.thumbs[rows], None)[0]

    def _planned(
        self, sample: Sample, times: tuple[float, ...], track: Any
    ) -> tuple[PatchPlan, Any]:
        before: Smoothed | None
        before, thumb = track if track is not None else (None, None)
        motion, maps, _ = self._maps(sample, times)
        thumbs = motion.thumbs if thumb is None else np.concatenate([thumb, motion.thumbs])
        plan, after = self._windows(sample, times, motion, maps, thumbs, before)
        return plan, (after.memory, motion.thumbs[-1:])

    def _maps(self, sample: Sample, times: tuple[float, ...]) -> tuple[Motion, Floats, str]:
        """The motion at those times and its maps, filled in where a picture has none."""
        need = method(self.motion).need
        source = "grey" if need == "grey" else "vectors" if need == "vectors" else self.source
        if source == "vectors":
            source = "auto"  # without vectors, flow is used, and the trace says so
        more: dict[str, bool] = {}
        if source == "auto" and sample.info.has_vectors:
            # `affine_diff` takes six numbers from the field: those of one picture are enough.
            single = self.motion == "affine_diff" and self.subject == "any"
            more = {"every": self.pictures == "all", "single": single}
        motion = sample.motion(times, source, self.around, **more)
        name = self.motion
        if motion.source == "vectors":
            name = _ON_VECTORS.get(name, name)
        elif need == "vectors":
            name = {"mv": "flow", "mv_affine": "flow_affine"}[name]
        seen = MotionInput(motion.field, motion.valid, motion.grey, cell=motion.cell)
        maps = saliency(name, seen, root=draws_root(name))
        if motion.valid is not None:
            maps = filled(maps, np.asarray(motion.valid.any((1, 2, 3))))
        shot = shots(cuts_between(motion.thumbs))
        if self.subject == "bodies":
            rigid = RIGID if motion.source == "vectors" else 0.0
            maps = bodies(maps, saliency("articulated", seen), np.asarray(times), shot, rigid)
        if self.lasting > 0:
            maps = lasting(maps, np.asarray(times), self.lasting, shot)
        return motion, maps, name

    def _windows(
        self,
        sample: Sample,
        times: tuple[float, ...],
        motion: Motion,
        maps: Floats,
        thumbs: npt.NDArray[np.uint8],
        before: Smoothed | None,
    ) -> tuple[PatchPlan, Windows]:
        info = sample.info
        chosen = select(
            maps,
            self.rule(sample),
            frame=(info.width, info.height),
            cell=motion.cell,
            times=np.asarray(times),
            cuts=cuts_between(thumbs)[-len(maps) :],
            memory=before,
        )
        plan = PatchPlan(
            times=times,
            boxes=tuple(_box(row) for row in chosen.boxes[:, 0]),
            gates=tuple(float(g) for g in chosen.gate),
            fallback=tuple(bool(f) for f in chosen.fallback),
            maps=maps,
            source=motion.source,
            follows=tuple(bool(f) for f in chosen.follows),
            reason=motion.reason,
        )
        return plan, chosen


def draws_root(name: str) -> bool:
    """Whether the root of a map is drawn: of fields, in which one wild vector outweighs a body."""
    return method(name).need in ("field", "vectors")


def filled(maps: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Maps of pictures without motion data (key frames, the last one) replaced by a neighbour's."""
    if known.all() or not known.any():
        return maps
    at = np.where(known, np.arange(len(maps)), -1)
    at = np.maximum.accumulate(at)
    at[at < 0] = int(np.argmax(known))
    return maps[at]


def cuts_between(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(T,) thumbnails (T, h, w) whose grey histogram is another than that of the one before.

    Chi-square over sixteen bins, 0 for equal histograms and 1 for disjoint ones. Black
    thumbnails, which stand for missing frames, are no cuts.
    """
    count = len(thumbs)
    bins = (thumbs.reshape(count, -1) >> 4) + 16 * np.arange(count)[:, None]
    share = np.bincount(bins.ravel(), minlength=16 * count).reshape(count, 16)
    share = share / max(1, bins.shape[1])
    a, b = share[:-1], share[1:]
    distance = 0.5 * ((a - b) ** 2 / np.maximum(a + b, 1e-9)).sum(1)
    empty = np.asarray(~thumbs.any((1, 2)))
    cuts = np.zeros(len(thumbs), bool)
    cuts[1:] = (distance > CUT) & ~empty[1:] & ~empty[:-1]
    return cuts


def whole(sample: Sample) -> Box:
    """The model's own view: the centre square of the frame."""
    return centre_square((sample.info.width, sample.info.height))


def _box(row: Floats) -> Box:
    x1, y1, x2, y2 = (float(value) for value in row)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError("a window without a place")
    return x1, y1, x2, y2
