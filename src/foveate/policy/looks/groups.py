"""Groups of pictures of a compressed file: the next exit or modality only while undecided.

A window is a run of groups. Of each some are looked at, evenly spread, first in one modality, exit
after exit, then in the next one; anything after the exit that decides is neither computed nor
decoded. A cascade that begins with vectors and stops there converts no picture to RGB.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from foveate.core import (
    Budget,
    ConfigError,
    Evidence,
    Group,
    MediaError,
    Sample,
    Selection,
    ViewRequest,
    Window,
)
from foveate.core.groups import no_vectors, spread, worth_reading
from foveate.policy.calibration import Calibration
from foveate.policy.looks.base import Context, LookSpec

_NEAR = 1e-6  # seconds
_RATE = 25.0  # frames per second of a source that does not say


class GroupsSpec(LookSpec):
    """Groups of pictures of the compressed file, one modality after the other (cascades)."""

    name: Literal["groups"] = "groups"
    order: Literal["measured", "published"] = Field(
        "measured", description="cheapest modality first, or residual, vectors, key frames"
    )

    def build(self, context: Context) -> Groups:
        """The policy over the exits of a calibrated cascade."""
        return Groups(tuple(context.calibration["wise"]["exits"]), context.input.clip_frames)

    def calibrated(self, calibration: Mapping[str, Any], model: str) -> Mapping[str, Any]:
        """What was calibrated for this order of the modalities.

        Raises:
            ConfigError: The model is not a cascade, or was not calibrated for this order.
            WeightsError: The calibration is damaged.
        """
        if not calibration.get("orders"):
            raise ConfigError(
                f"{model}: is not a cascade, so it cannot look at groups",
                "train one: foveate train DATA --recipe compressed",
            )
        orders = Calibration.read(calibration, f"{Path(model).name}/run.json").orders
        if self.order not in orders:
            raise ConfigError(f"{model}: was not calibrated for the order {self.order!r}")
        return orders[self.order].model_dump(mode="json")


@dataclass(frozen=True)
class Groups:
    """Looks at groups of pictures, exit after exit.

    Args:
        exits: Names of all exits in their order, `MODALITY.NAME`; each is a part of the model.
        segments: Groups of a window that are looked at, evenly spread.
        each: Every group is a window by itself.
    """

    exits: tuple[str, ...]
    segments: int
    each: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the model that it asks for."""
        return self.exits

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        """Whole groups from `start` on.

        A window ends at the first group that begins `seconds` after it, so it has one group at
        least; a rest that is shorter belongs to the last one.

        Raises:
            MediaError: The file has no groups, or no vectors and a modality needs them.
        """
        groups, info = sample.groups(), sample.info
        if not groups:
            raise MediaError(f"{info.name}: no key frame to start from")
        if not info.has_vectors and any(m != "iframe" for m in map(modality_of, self.exits)):
            raise no_vectors(info.name, info.codec)
        first = bisect_left(groups, start - _NEAR, key=_start)
        if first == len(groups):
            return None
        length = 0.0 if self.each else seconds
        after = bisect_left(groups, groups[first].start + length - _NEAR, first + 1, key=_start)
        end = info.duration
        if end is None:
            end = float(groups[-1].times[-1]) + 1 / (info.rate or _RATE)
        if after < len(groups) and end - groups[after].start < length - _NEAR:
            after = len(groups)
        until = groups[after].start if after < len(groups) else max(end, groups[-1].start + _NEAR)
        return Window(groups[first].start, until)

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next exit, with the views of a modality at its first one; the memory counts exits."""
        at = memory or 0
        if at == len(self.exits) or (at and evidence is None):
            return None, at
        part = self.exits[at]
        modality = modality_of(part)
        views = {}
        if at == 0 or modality_of(self.exits[at - 1]) != modality:
            views[modality] = ViewRequest(self._times(sample, window, modality))
        return Selection(views, part, dense=False, closes=False), at + 1

    def online(self) -> Self:
        """Every group is a window."""
        return replace(self, each=True)

    def _times(self, sample: Sample, window: Window, modality: str) -> tuple[float, ...]:
        """Key frames, or the middle pictures of the groups."""
        groups = sample.groups()
        first = bisect_left(groups, window.start - _NEAR, key=_start)
        last = bisect_left(groups, window.end - _NEAR, first + 1, key=_start)
        members = worth_reading(groups[first:last])
        chosen = [members[number] for number in spread(len(members), self.segments)]
        if modality == "iframe":
            return tuple(group.start for group in chosen)
        return tuple(float(group.times[len(group) // 2]) for group in chosen)


def modality_of(exit: str) -> str:
    """The modality that an exit belongs to."""
    return exit.partition(".")[0]


def _start(group: Group) -> float:
    return group.start
