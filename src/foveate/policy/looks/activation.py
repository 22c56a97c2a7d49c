"""Windows where a low-resolution pass of the model is active (AdaSpot, CVPR 2026)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from foveate.core import (
    Budget,
    ConfigError,
    Evidence,
    Sample,
    Selection,
    ViewRequest,
    Window,
)
from foveate.policy.looks.base import Context
from foveate.policy.looks.patches import PatchLook, PatchPlan, PatchSpec, Planned, whole
from foveate.policy.motion import MotionInput, saliency
from foveate.policy.window.select import Rule, select


class ActivationPatchSpec(PatchSpec):
    """A window where a pass of the model over small frames is active."""

    trains: ClassVar[bool] = False

    name: Literal["activation-patch"] = "activation-patch"
    glance: int = Field(112, ge=16, le=1024, description="side of the frames of that pass")
    mass: float = Field(0.3, gt=0, le=1, description="share of the activation in the window")

    def build(self, context: Context) -> ActivationPatch:
        """The policy with these settings."""
        common = self.common(context)
        return ActivationPatch(**common, glance=self.glance, mass=self.mass).fitted(context)


@dataclass(frozen=True)
class ActivationPatch(PatchLook):
    """Glances at small frames, then looks where the model's last maps are active.

    Args:
        glance: Side in pixels of the frames of the glance; at most the model's own.
        mass: Share of the activation that the window must contain; the largest window otherwise.
    """

    glance: int = 112
    mass: float = 0.3

    parts: ClassVar[tuple[str, ...]] = ("glance", "network")

    def fitted(self, context: Context) -> Self:
        """The same policy for a model's view and rate."""
        fitted = super().fitted(context)
        return replace(fitted, glance=min(self.glance, context.input.size))

    def online(self) -> Self:
        """The glance needs the frames of a whole window.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "activation-patch: glances at the whole window, and a stream has not seen it yet"
        )

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The glance, then chunks of windows; the memory is the times, then the plan."""
        if memory is None:
            times = self.times(window, budget)
            views = {"rgb": ViewRequest(times, size=(self.glance, self.glance), again=True)}
            return Selection(views, "glance", dense=False, closes=False), times
        if isinstance(memory, tuple):
            memory = Planned(self.placed(sample, memory, evidence), 0)
        return self.chunk_of(memory)

    def placed(
        self, sample: Sample, times: tuple[float, ...], evidence: Evidence | None
    ) -> PatchPlan:
        """A window for each time, by the maps (T, C, h, w) of the glance; T may be less."""
        if evidence is None or evidence.features is None:
            return PatchPlan(times, (whole(sample),) * len(times), fallback=(True,) * len(times))
        info = sample.info
        maps = saliency("act", MotionInput(features=evidence.features))
        cell = info.width / maps.shape[2], info.height / maps.shape[1]
        shorter, least = min(info.width, info.height), self.side(sample)
        sides = sorted({least, *(s / 224 * shorter for s in range(140, 225, 28))})
        rule = Rule(tuple(s for s in sides if s >= least), "frame", gate=0.0, enough=self.mass)
        chosen = select(
            maps, rule, frame=(info.width, info.height), cell=cell,
            times=np.asarray(times[: len(maps)]),
        )  # fmt: skip
        boxes = [tuple(float(v) for v in row) for row in chosen.boxes[:, 0]]
        boxes += boxes[-1:] * (len(times) - len(boxes))
        return PatchPlan(
            times, tuple(boxes), tuple(map(float, chosen.gate)),  # type: ignore[arg-type]
            tuple(map(bool, chosen.fallback)), maps, "activation",
        )  # fmt: skip
