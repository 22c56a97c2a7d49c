"""Motion patches where they save time on this machine, whole frames elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from pydantic import Field

from foveate.core import Budget, Evidence, Look, Sample, Selection, Window
from foveate.policy.looks.base import Context, LookSpec, TimedLook
from foveate.policy.looks.frames import UniformSpec
from foveate.policy.looks.patches import MotionPatchSpec

WHOLE = "uniform"


class AutoSpec(LookSpec):
    """Whole frames or motion patches, whichever takes less time on this machine."""

    name: Literal["auto"] = "auto"
    rate: float | None = Field(None, gt=0, le=240, description="frames/s; None: the model's own")
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")

    def build(self, context: Context) -> AutoLook:
        """The policy with these settings."""
        specs = (UniformSpec, MotionPatchSpec)
        looks = {
            spec.model_fields["name"].default: spec(rate=self.rate, chunk=self.chunk).build(context)
            for spec in specs
        }
        return AutoLook(looks)


@dataclass(frozen=True)
class AutoLook(TimedLook):
    """Several looks of equal accuracy, of which the loop takes the cheapest for each source.

    Until one is chosen (`pipeline.cheapest`) it looks at whole frames.

    Args:
        looks: By name; `uniform` among them.
    """

    looks: Mapping[str, Look]

    @property
    def reads_vectors(self) -> bool:
        """Whether one of them does: exporting vectors costs little where they are not used."""
        return any(getattr(look, "reads_vectors", False) for look in self.looks.values())

    def online(self) -> Self:
        """All of them online."""
        return replace(self, looks={name: look.online() for name, look in self.looks.items()})

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next step of the whole frames."""
        return self.looks[WHOLE].next(sample, window, memory, evidence, budget)
