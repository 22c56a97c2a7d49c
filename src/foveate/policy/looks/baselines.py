"""Baselines for patches: looks of the same cost, with less or with more information."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from foveate.core import Budget, ConfigError, Sample, Window
from foveate.policy.looks.base import Context
from foveate.policy.looks.patches import (
    Box,
    MotionPatch,
    MotionSizedSpec,
    PatchLook,
    PatchPlan,
    PatchSpec,
    whole,
)
from foveate.policy.motion import MotionInput, saliency
from foveate.policy.motion.inputs import Floats
from foveate.policy.window.search import best, box_sums, places_of, tapered

_RWF_DRAWS = 10


class ResizeSpec(PatchSpec):
    """The whole frame, resized to the size of a patch."""

    name: Literal["resize"] = "resize"

    def build(self, context: Context) -> Resize:
        """The policy with these settings."""
        return Resize(**self.common(context)).fitted(context)


class CentrePatchSpec(PatchSpec):
    """The middle of every frame."""

    name: Literal["centre"] = "centre"

    def build(self, context: Context) -> CentrePatch:
        """The policy with these settings."""
        return CentrePatch(**self.common(context)).fitted(context)


class RandomPatchSpec(PatchSpec):
    """A window anywhere, one per stretch of video."""

    name: Literal["random"] = "random"
    seed: int = Field(0, ge=0, description="of the windows")

    def build(self, context: Context) -> RandomPatch:
        """The policy with these settings."""
        return RandomPatch(**self.common(context), seed=self.seed).fitted(context)


class RwfCropSpec(PatchSpec):
    """RWF-2000's crop: one window per clip from its flow."""

    name: Literal["rwf-crop"] = "rwf-crop"
    seed: int = Field(0, ge=0, description="of the draws")

    def build(self, context: Context) -> RwfCrop:
        """The policy with these settings."""
        return RwfCrop(**self.common(context), seed=self.seed).fitted(context)


class MoCropSpec(MotionSizedSpec):
    """MoCrop: one window per clip from plain codec vectors."""

    name: Literal["mocrop"] = "mocrop"

    def build(self, context: Context) -> MoCropPatch:
        """The policy with these settings."""
        return MoCropPatch(**self.common(context)).fitted(context)


@dataclass(frozen=True)
class Resize(PatchLook):
    """The whole frame, resized to the size of a patch: the same multiply-adds."""

    def plan(self, sample: Sample, window: Window, budget: Budget) -> PatchPlan:
        """The model's own view."""
        return PatchPlan(self.times(window, budget), None)


@dataclass(frozen=True)
class CentrePatch(PatchLook):
    """The middle of every frame."""

    def plan(self, sample: Sample, window: Window, budget: Budget) -> PatchPlan:
        """The same box everywhere."""
        times, side = self.times(window, budget), self.side(sample)
        left, top = (sample.info.width - side) / 2, (sample.info.height - side) / 2
        return PatchPlan(times, ((left, top, left + side, top + side),) * len(times))


@dataclass(frozen=True)
class RandomPatch(PatchLook):
    """A window anywhere: one per stretch of video, or one per frame.

    Args:
        seed: Windows depend on it, the name of the source and the time alone, so equal calls give
            equal windows. Compare over at least five seeds.
        per_frame: Draw anew for every frame.
    """

    seed: int = 0
    per_frame: bool = False

    def plan(self, sample: Sample, window: Window, budget: Budget) -> PatchPlan:
        """A uniform distribution over all places inside the frame."""
        times, side, info = self.times(window, budget), self.side(sample), sample.info
        random = chance(self.seed, info.name, window.start)
        draws = random.random((len(times) if self.per_frame else 1, 2))
        low = draws * (np.array([info.width, info.height]) - side)
        low = np.broadcast_to(low, (len(times), 2))
        boxes = tuple(
            (float(x), float(y), float(x) + side, float(y) + side) for x, y in low.tolist()
        )
        return PatchPlan(times, boxes)


@dataclass(frozen=True)
class RwfCrop(PatchLook):
    """RWF-2000's crop (Cheng et al., 2020): one window per clip from its flow.

    Faithful to the code: the mean is taken off each component, the signed x-flow stands for the
    magnitude after stretching it to 0..255, the clip's sum is cut below its mean, and the centre is
    the mean of ten draws from each of the two marginals. The flow is this project's, not Farneback.

    Args:
        fixed: The true magnitude, and the joint best window instead of two marginals.
        seed: Of the draws.
    """

    fixed: bool = False
    seed: int = 0

    def online(self) -> RwfCrop:
        """Its window needs the flow of a whole clip.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("rwf-crop: needs the whole clip, and a stream has not seen it yet")

    def plan(self, sample: Sample, window: Window, budget: Budget) -> PatchPlan:
        """One window for the clip."""
        times = self.times(window, budget)
        motion = sample.motion(times, "flow")
        assert motion.field is not None
        assert motion.valid is not None
        seen = MotionInput(motion.field, motion.valid, cell=motion.cell)
        if self.fixed:
            density = saliency("flow_mean", seen).sum(0)
        else:
            field = np.where(motion.valid[..., None], motion.field, 0)[:, 0]
            density = signed_density(field[..., 0])
        moves = bool(density.max(initial=0) > density.min(initial=0))
        if not moves:
            return _everywhere(whole(sample), times, "flow", motion.reason, density[None])
        box = (
            _best_box(density[None], self.side(sample), motion.cell, sample)
            if self.fixed
            else self._drawn(density, sample, window, motion.cell)
        )
        return _everywhere(box, times, "flow", motion.reason, density[None], fell_back=False)

    def _drawn(
        self, density: Floats, sample: Sample, window: Window, cell: tuple[float, float]
    ) -> Box:
        random = chance(self.seed, sample.info.name, window.start)
        kept = np.where(density < density.mean(), 0, density).astype(np.float64)
        centre = []
        for axis, unit in ((0, cell[0]), (1, cell[1])):
            marginal = kept.sum(axis)
            places = random.choice(len(marginal), _RWF_DRAWS, p=marginal / marginal.sum())
            centre.append((float(places.mean()) + 0.5) * unit)
        return around(centre[0], centre[1], self.side(sample), sample)


@dataclass(frozen=True)
class MoCropPatch(MotionPatch):
    """One window per clip from plain codec vectors, as in MoCrop (2025).

    The vectors are added up over the clip, camera motion included and without the paper's cleaning;
    the best window is found exactly, by integral images. Without vectors, flow is used, and the
    trace says so.
    """

    motion: str = "mv"
    track: Any = "tube"
    gate: float = 0.0


@dataclass(frozen=True)
class OracleGrid(PatchLook):
    """The best of cells x cells windows, given the true label: an upper bound.

    Args:
        score: Called with (sample, times, boxes), gives for each box the true class's probability
            there. `foveate bench` makes one from labels.
        cells: Windows along each side of the frame.
    """

    score: Callable[[Sample, tuple[float, ...], list[Box]], Any] | None = None
    cells: int = 7

    def plan(self, sample: Sample, window: Window, budget: Budget) -> PatchPlan:
        """Try all windows; of equal ones the first."""
        if self.score is None:
            raise ValueError("OracleGrid needs the score of a window")
        times, side, info = self.times(window, budget), self.side(sample), sample.info
        slack = np.array([info.width - side, info.height - side])
        steps = np.linspace(0, 1, self.cells)
        boxes = [
            (float(x), float(y), float(x) + side, float(y) + side)
            for y in steps * slack[1]
            for x in steps * slack[0]
        ]
        values = self.score(sample, times, boxes)
        return PatchPlan(times, (boxes[int(np.argmax(values))],) * len(times))


def signed_density(flow_x: Floats) -> Floats:
    """What RWF-2000's code takes for magnitude: x-flow less its mean, stretched, summed in time.

    Args:
        flow_x: (T, h, w).
    """
    centred = flow_x - flow_x.mean((1, 2), keepdims=True)
    low, high = centred.min((1, 2), keepdims=True), centred.max((1, 2), keepdims=True)
    stretched = (centred - low) / np.maximum(high - low, 1e-6) * 255
    return np.asarray(np.where(high > low, stretched, 0).sum(0), np.float32)


def chance(seed: int, name: str, start: float) -> np.random.Generator:
    """A random generator for one interval of one source, the same at every call."""
    words = [seed, zlib.crc32(name.encode("utf-8", "replace")), round(start * 1e3)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def around(x: float, y: float, side: float, sample: Sample) -> Box:
    """The square around a place, moved inside the frame."""
    left = min(max(x - side / 2, 0.0), sample.info.width - side)
    top = min(max(y - side / 2, 0.0), sample.info.height - side)
    return left, top, left + side, top + side


def _best_box(maps: Floats, side: float, cell: tuple[float, float], sample: Sample) -> Box:
    size = places_of(side, cell, (maps.shape[1], maps.shape[2]))
    row, column = best(tapered(box_sums(maps, size), size))[0]
    x, y = (column + size[1] / 2) * cell[0], (row + size[0] / 2) * cell[1]
    return around(float(x), float(y), side, sample)


def _everywhere(
    box: Box,
    times: tuple[float, ...],
    source: str,
    reason: str | None,
    maps: Floats,
    fell_back: bool = True,
) -> PatchPlan:
    """One window for all times."""
    count = len(times)
    repeated = np.broadcast_to(maps, (count, *maps.shape[1:]))
    return PatchPlan(times, (box,) * count, (), (fell_back,) * count, repeated, source, reason)
