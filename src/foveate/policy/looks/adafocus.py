"""AdaFocus's order of work: a glance, then patches, block by block with exits between them.

What comes after the exit that decides is neither decoded nor cut nor computed. The places are those
of the model's own policy, or those of another look, so that policies can be compared with the same
networks and the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from pydantic import Field

from foveate.core import (
    Budget,
    ConfigError,
    Evidence,
    Sample,
    Selection,
    View,
    ViewRequest,
    Window,
)
from foveate.models.adafocus_card import AdaFocusCard, coarse_to_fine
from foveate.policy.calibration import ExitCard
from foveate.policy.looks.base import Context, LookSpec, TimedLook
from foveate.policy.looks.baselines import CentrePatch, RandomPatch, Resize
from foveate.policy.looks.frames import within
from foveate.policy.looks.patches import MotionPatch, PatchLook, PatchPlan

if TYPE_CHECKING:
    from foveate.core.loop import Box

Places = Literal["own", "motion-patch", "random", "centre", "resize", "full"]
PLACES: tuple[str, ...] = get_args(Places)


class AdaFocusSpec(LookSpec):
    """A glance at whole frames, then patches where the model's policy says (AdaFocus)."""

    name: Literal["adafocus"] = "adafocus"
    frames: int | None = Field(
        None, ge=1, le=1024, description="of a window, to look at or choose from; None: the model's"
    )
    chunk: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="patches between two exits; None: the calibrated exits, or all at once",
    )
    order: Literal["auto", "coarse-to-fine", "forward"] = Field(
        "auto", description="of the frames; auto: as the method was trained, V2 coarse to fine"
    )
    patches: Places = Field("own", description="whose places the patches have")
    glance: bool = Field(True, description="false: only the focus network, with its own head")
    seed: int = Field(0, ge=0, description="of patches=random")

    def calibrated(self, calibration: Mapping[str, Any], model: str) -> Mapping[str, Any]:
        """The exits of the model.

        Raises:
            WeightsError: The calibration is damaged.
        """
        if calibration:
            ExitCard.read(calibration, f"{Path(model).name}/run.json")
        return calibration

    def build(self, context: Context) -> AdaFocusLook:
        """The policy for an AdaFocus model.

        Raises:
            ConfigError: Another model, or settings that do not fit it.
            ModelError: Numbers of frames that the model cannot take.
        """
        spec, budget = context.input, context.budget
        net = getattr(context.network, "facts", None)
        if not isinstance(net, AdaFocusCard):
            raise ConfigError(
                f"{context.model}: is not an AdaFocus model, so it has no policy of its own",
                "train one: foveate train DATA --recipe adafocus",
            )
        if not self.glance and self.patches == "own":
            raise ConfigError("look.glance=false: the model's own patches need its glance",
                              "set look.patches=motion-patch")  # fmt: skip
        frames = self.frames or spec.clip_frames
        if not net.per_frame and (budget.frames_per_second or budget.ms_per_frame
                              or budget.macs_per_second):  # fmt: skip
            raise ConfigError(
                f"{context.model}: looks at {frames} frames of a window whatever its length",
                "give a budget per answer, such as 2GMAC, or none",
            )
        exits = tuple(net.exits(frames, self.chunk))
        if self.chunk is None and context.calibration:
            exits = tuple(ExitCard.model_validate(context.calibration).exits)
        coarse = net.coarse if self.order == "auto" else net.per_frame and self.order != "forward"
        return AdaFocusLook(
            frames=frames,
            exits=exits,
            per_frame=net.per_frame,
            glances=tuple(net.glance_frames(frames)),
            coarse=coarse,
            glance=self.glance,
            where=self._where(context, net.patch),
            motion=MotionPatch().fitted(context) if net.motion else None,
            focuses=net.focuses,
        )

    def _where(self, context: Context, patch: int) -> PatchLook | None:
        """The look that gives the places; None for the model's own policy."""
        if self.patches == "own":
            return None
        spec = context.input
        # Patches have the scale that the model's own have: its view is cut out of `resize_to`.
        shown: dict[str, Any] = {
            "size": patch,
            "extent": patch / (spec.resize_to or spec.size),
        }
        kinds: dict[str, PatchLook] = {
            "motion-patch": MotionPatch(**shown),
            "random": RandomPatch(**shown, seed=self.seed, per_frame=True),
            "centre": CentrePatch(**shown),
            "resize": Resize(**shown),
            "full": Resize(**shown | {"size": spec.size}),
        }
        return kinds[self.patches].fitted(context)


class AdaFocusMotionSpec(AdaFocusSpec):
    """AdaFocus's focus network on motion patches, without glance and policy."""

    name: Literal["adafocus-motion"] = "adafocus-motion"  # type: ignore[assignment]
    patches: Places = Field("motion-patch", description="whose places the patches have")
    glance: bool = Field(False, description="true: with the glance's features and the classifier")


@dataclass(frozen=True)
class _Progress:
    """What the policy remembers of a window.

    Attributes:
        times: Seconds of the frames in the order in which they are counted.
        phase: What comes next: `glance`, `choose` by its evidence, `focus`, or nothing (`over`).
        focused: Numbers of the frames that the focus network sees, as far as they are chosen.
        boxes: One per number; None for the whole view.
        done: How many of them were looked at.
        plan: Of the look that gives the places.
        moving: (T, h, w) maps of motion, None if the policy uses none.
    """

    times: tuple[float, ...]
    phase: str = "glance"
    focused: tuple[int, ...] = ()
    boxes: tuple[Box, ...] | None = None
    done: int = 0
    plan: PatchPlan | None = None
    moving: Any = None


@dataclass(frozen=True)
class AdaFocusLook(TimedLook):
    """Glances, then looks at patches in blocks.

    Args:
        frames: Of a window, at the centres of equal parts of it.
        exits: Names of the exits in order: `glance.N`, `focus.N` after so many patches.
        per_frame: Whether the glance goes block by block, too.
        glances: Numbers of the frames of the glance.
        coarse: Whether frames come coarse to fine.
        glance: Whether there is one.
        where: Gives the places; None for the model's own policy.
        motion: Measures how much moves where, for a policy that has a weight for it.
        focuses: Frames that the model chooses; None for all of them.
    """

    frames: int
    exits: tuple[str, ...]
    per_frame: bool = True
    glances: tuple[int, ...] = ()
    coarse: bool = False
    glance: bool = True
    where: PatchLook | None = None
    motion: MotionPatch | None = None
    focuses: int | None = None

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override]
        """The parts of the model that it asks for."""
        shown = "focus" if self.where is None else "network"
        return ("glance", shown) if self.glance else (shown,)

    @property
    def reads_vectors(self) -> bool:
        """Whether the motion of a window is asked for first."""
        return any(getattr(look, "reads_vectors", False) for look in (self.motion, self.where))

    @property
    def size(self) -> int | None:
        """Side in pixels of the patches of another look; None for the model's own view."""
        return None if self.where is None else self.where.size

    def online(self) -> Self:
        """Frame by frame, in their order.

        Raises:
            ConfigError: The policy chooses among frames of a whole window.
        """
        if not self.per_frame:
            raise ConfigError(
                "adafocus: this model glances at a whole window before it looks closer, and a "
                "stream has not seen it yet",
                "stream with AdaFocus V1 or V2, or use predict",
            )
        if self.motion is not None or isinstance(self.where, MotionPatch):
            raise ConfigError(
                "adafocus: measures the motion of a whole window, and a stream has not seen it yet",
                "use look.name=motion-patch, or a model without motion_prior",
            )
        every = tuple(f"focus.{number + 1}" for number in range(self.frames))
        return replace(self, coarse=False, exits=every)

    def times(self, sample: Sample, window: Window, budget: Budget) -> tuple[float, ...]:
        """The centres of equal parts of a window, in the order in which they are counted."""
        end = min(window.end, sample.info.duration or window.end)
        length = end - window.start
        if length <= 0:
            length = window.end - window.start
        most = self.frames
        if self.per_frame:
            most = max(1, int(within(most / length, budget) * length + 1e-6))
        numbers = list(range(most))
        if self.coarse:
            numbers = coarse_to_fine(most)
        return tuple(window.start + (number + 0.5) * length / most for number in numbers)

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The glance, or the next block of patches; see `core.Look`."""
        if memory is None:
            memory = self._begun(sample, self.times(sample, window, budget))
        if memory.phase == "over":
            return None, memory
        if memory.phase == "glance":
            return self._glance(sample, memory)
        if memory.phase == "choose":
            if evidence is None:  # nothing could be fetched
                return None, memory
            memory = self._chosen(memory, evidence)
        return self._focus(memory)

    def _begun(self, sample: Sample, times: tuple[float, ...]) -> _Progress:
        plan = None if self.where is None else _planned(self.where, sample, times)
        if self.glance:
            moving = None if self.motion is None else _planned(self.motion, sample, times).maps
            return _Progress(times, plan=plan, moving=moving)
        assert plan is not None  # without a glance the places are another look's
        count = min(self.focuses or len(times), len(times))
        numbers = tuple(int((place + 0.5) * len(times) / count) for place in range(count))
        boxes = None if plan.boxes is None else tuple(plan.boxes[number] for number in numbers)
        return _Progress(times, "focus", numbers, boxes, plan=plan)

    def _glance(self, sample: Sample, memory: _Progress) -> tuple[Selection, _Progress]:
        """The frames of the next block, or all of the glance at once."""
        numbers = self.glances
        if self.per_frame:
            numbers = tuple(range(memory.done, self._end(memory.done, len(memory.times))))
        times = tuple(memory.times[number] for number in numbers)
        # Frames that come later are decoded on the way to these: they need not be decoded twice.
        again: bool | tuple[float, ...] = self.where is not None
        if memory.done == 0 and (self.coarse or not self.per_frame):
            again = memory.times
        elif self.coarse:
            again = False
        request = ViewRequest(times, (0,) * len(times), again=again)
        given = {}
        if memory.moving is not None:
            frame = (0.0, 0.0, float(sample.info.width), float(sample.info.height))
            maps = memory.moving[list(numbers)][None, ..., None]
            given["motion"] = View(maps, times, np.ones(1, bool), (frame,))
        selection = Selection({"rgb": request}, "glance", dense=False, closes=False, given=given)
        return selection, replace(memory, phase="choose")

    def _chosen(self, memory: _Progress, evidence: Evidence) -> _Progress:
        """The places that the glance proposes, or those of the plan at its frames."""
        proposed = evidence.proposals
        if self.per_frame:
            numbers = tuple(range(memory.done, self._end(memory.done, len(memory.times))))
        elif "frames" in proposed:
            numbers = tuple(int(number) for number in proposed["frames"])
        else:
            numbers = tuple(range(len(memory.times)))
        boxes: tuple[Box, ...] | None = None
        if memory.plan is None:
            boxes = tuple(tuple(map(float, box)) for box in proposed["boxes"])  # type: ignore[misc]
        elif memory.plan.boxes is not None:
            boxes = tuple(memory.plan.boxes[number] for number in numbers)
        if boxes is not None and memory.boxes is not None:
            boxes = memory.boxes + boxes
        return replace(memory, phase="focus", focused=memory.focused + numbers, boxes=boxes)

    def _focus(self, memory: _Progress) -> tuple[Selection, _Progress]:
        """The next block of patches."""
        start, end = memory.done, self._end(memory.done, len(memory.focused))
        numbers = memory.focused[start:end]
        times = tuple(memory.times[number] for number in numbers)
        boxes = None if memory.boxes is None else memory.boxes[start:end]
        part, views = "focus", {}
        regions = () if boxes is None else tuple(zip(times, boxes, strict=True))
        rows = (0,) * len(times)
        if self.where is not None:
            part, regions = "network", ()
            views = {"rgb": ViewRequest(times, rows, boxes, self.where.size)}
        elif not self.per_frame:
            views = {"rgb": ViewRequest(times, rows)}
        plan = memory.plan or PatchPlan((), None)
        selection = Selection(
            views,
            part,
            dense=False,
            regions=regions,
            fallback=any(plan.fallback[number] for number in numbers if plan.fallback),
            gate=sum(plan.gates[n] for n in numbers) / len(numbers) if plan.gates else None,
            measured=(f"motion:{plan.source}",) if plan.source else (),
        )
        phase = "focus"
        if end == len(memory.focused):
            more = self.glance and self.per_frame and end < len(memory.times)
            phase = "glance" if more else "over"
        return selection, replace(memory, phase=phase, done=end)

    def _end(self, done: int, count: int) -> int:
        """Where the block ends that begins after so many patches."""
        ends = (int(name.partition(".")[2]) for name in self.exits if name.startswith("focus."))
        return min((end for end in ends if done < end < count), default=count)


def _planned(where: PatchLook, sample: Sample, times: tuple[float, ...]) -> PatchPlan:
    """Another look's places at evenly spread times, in the order in which they are given."""
    first, count = min(times), len(times)
    step = (max(times) - first) / (count - 1) if count > 1 else 1.0
    even = replace(where, rate=1 / step)
    plan = even.plan(sample, Window(first, first + count * step), Budget())
    places = {number: place for place, number in enumerate(_ranks(times))}
    turn = [places[number] for number in range(count)]

    def turned(values: Any) -> Any:
        return tuple(values[at] for at in turn) if values else values

    return PatchPlan(
        times, turned(plan.boxes), turned(plan.gates), turned(plan.fallback),
        None if plan.maps is None else plan.maps[turn], plan.source, plan.reason,
    )  # fmt: skip


def _ranks(times: tuple[float, ...]) -> list[int]:
    """Numbers of the times in ascending order of time."""
    return sorted(range(len(times)), key=times.__getitem__)
