"""Patch tokens of a vision transformer: only those where things move are computed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from foveate.core import Budget, ConfigError, Evidence, InputSpec, Sample, Selection, View, Window
from foveate.core.search import Search
from foveate.policy.looks.base import Context, LookSpec
from foveate.policy.looks.baselines import chance
from foveate.policy.looks.patches import Box, Floats, MotionPatch, PatchPlan
from foveate.policy.window.tokens import top_tokens

Order = Literal["motion", "difference", "random", "stride"]
TOKENS = "tokens"  # the name under which a model is given them


class MotionTokensSpec(LookSpec):
    """The patch tokens where things move on their own, for vision transformers."""

    trains: ClassVar[bool] = True

    name: Literal["motion-tokens"] = "motion-tokens"
    rate: Annotated[float | None, Search.float(2, 15)] = Field(
        None, gt=0, le=240, description="frames/s; None: the model's own"
    )
    chunk: int = Field(10, ge=1, le=256, description="frames computed in one piece")
    keep: Annotated[float, Search.float(0.1, 0.75)] = Field(
        0.5, gt=0, le=1, description="share of the tokens of a frame that are computed"
    )
    order: Annotated[Order, Search.choice(*get_args(Order))] = Field(
        "motion",
        description="which come first: those with most motion, or (to compare with) with most "
        "frame difference, at random, or evenly spaced",
    )
    dense_keys: Annotated[bool, Search.choice(False, True)] = Field(
        False, description="all tokens of key frames, and of the first frame of a window"
    )
    motion: Annotated[str, Search.choice("affine_diff", "flow_affine", "mv_affine", "fd")] = Field(
        "affine_diff", description="saliency: a key of policy.motion.METHODS"
    )
    source: Literal["auto", "vectors", "flow"] = Field("auto", description="of the motion")
    pictures: Literal["decoded", "all"] = Field(
        "decoded",
        description="whose codec vectors are read: of those that must be decoded anyway, or all",
    )
    seed: int = Field(0, ge=0, description="of random tokens")

    def build(self, context: Context) -> MotionTokens:
        """The policy with these settings.

        Raises:
            ConfigError: The model has no patch tokens that can be left out.
        """
        return MotionTokens(**self.model_dump(exclude={"name"})).fitted(context)


@dataclass(frozen=True)
class TokenPlan(PatchPlan):
    """Which tokens of which frames are computed, and why.

    Attributes:
        tokens: (T, rows, columns) the patches that are computed.
        region: `xyxy` in source pixels: the part of the frame that the grid covers.
    """

    tokens: npt.NDArray[np.bool_] = field(kw_only=True)
    region: Box = field(kw_only=True)

    @property
    def view(self) -> View:
        """What the model is given beside the frames: (1, T, rows, columns) bool."""
        regions = (self.region,) * len(self.times)
        return View(self.tokens[None], self.times, np.ones(1, bool), regions)

    def numbers(self, place: int) -> tuple[Box, tuple[int, ...], list[int]]:
        """The region, the grid and the numbers of the computed tokens of a frame, for drawing."""
        return self.region, self.tokens.shape[1:], np.flatnonzero(self.tokens[place]).tolist()


@dataclass(frozen=True)
class MotionTokens(MotionPatch):
    """Computes the patch tokens where things move on their own; nothing is trained.

    Whole frames are decoded, and each gives the same number of tokens, so that frames make batches
    and the multiply-adds are known. Of tubelets the motion of all their frames counts.

    Args:
        keep: Share of the tokens of a frame.
        order: `motion` takes the tokens with most motion relative to the camera; `difference`,
            `random` and `stride` are what it is compared with. Where nothing moves, the tokens in
            the middle come first.
        dense_keys: Compute all tokens of the first frame of a window and of the first frame at or
            after each key frame of the file; in streams of the first frame of a window alone.
        seed: Of random tokens.
        patch: Frames, height and width of a patch; set by `foveate.load`.
        spec: What the model expects of its frames; set by `foveate.load`.
    """

    keep: float = 0.5
    order: Order = "motion"
    dense_keys: bool = False
    seed: int = 0
    patch: tuple[int, int, int] = (1, 16, 16)
    spec: InputSpec | None = None
    knows_keys: bool = field(default=True, repr=False)

    def fitted(self, context: Context) -> Self:
        """The same policy for a model.

        Raises:
            ConfigError: The model has no patch tokens that can be left out.
        """
        spec, patch = context.input, context.patch
        if patch is None:
            raise ConfigError(
                f"look motion-tokens: {context.model} has no patch tokens that can be left out",
                "take --look uniform, or a vision transformer with --engine torch",
            )
        if spec.size % patch[1] or spec.size % patch[2]:
            raise ConfigError(
                f"look motion-tokens: {spec.size} pixels are no whole number of patches of "
                f"{patch[1]} x {patch[2]}",
                "choose another size of the input",
            )
        return replace(super().fitted(context), size=spec.size, patch=patch, spec=spec)

    def online(self) -> Self:
        """Frame by frame, or tubelet by tubelet."""
        return replace(self, chunk=1, around=min(self.around, 1), knows_keys=False)

    def region(self, sample: Sample) -> Box:
        """The part of the upright source that the model is shown."""
        width, height = sample.info.width, sample.info.height
        spec = self.spec
        if spec is None or spec.crop == "none":
            return 0.0, 0.0, float(width), float(height)
        share = spec.size / (spec.resize_to or spec.size)
        x, y = width * share, height * share
        if spec.resize == "shorter side":
            x = y = min(x, y)
        return (width - x) / 2, (height - y) / 2, (width + x) / 2, (height + y) / 2

    def plan(self, sample: Sample, window: Window, budget: Budget) -> TokenPlan:
        """The tokens of a whole window of time."""
        return self._chosen(sample, window, self.times(window, budget), 0)

    def next(
        self,
        sample: Sample,
        window: Window,
        memory: Any,
        evidence: Evidence | None,
        budget: Budget,
    ) -> tuple[Selection | None, Any]:
        """The next frames with their tokens; the memory is how many were asked for."""
        done = memory or 0
        chunk = -(-self.chunk // self.patch[0]) * self.patch[0]
        times = self.times(window, budget)[done : done + chunk]
        if not times:
            return None, done
        plan = self._chosen(sample, window, times, done)
        selection = Selection.of_frames(
            times,
            fallback=any(plan.fallback),
            gate=float(np.mean(plan.gates)) if plan.gates else None,
            measured=(f"motion:{plan.source}",) if plan.source else (),
            given={TOKENS: plan.view},
        )
        return selection, done + len(times)

    def _chosen(
        self, sample: Sample, window: Window, times: tuple[float, ...], done: int
    ) -> TokenPlan:
        """The tokens of frames, `done` of which came before in the window."""
        frames, height, width = self.patch
        rows, columns = self.size // height, self.size // width
        count = max(1, round(self.keep * rows * columns))
        region, info = self.region(sample), sample.info
        tokens = np.zeros((len(times), rows * columns), bool)
        gates: list[float] = []
        moves: list[bool] = []
        maps, source, reason = None, "", None
        if self.order in ("motion", "difference"):
            look = self if self.order == "motion" else replace(self, motion="fd")
            motion, maps, _ = look._maps(sample, times)
            source, reason = motion.source, motion.reason
            x, y = motion.cell
            # The last cells may reach beyond the frame.
            covered = np.array(region) / (x, y, x, y)
            covered = np.minimum(covered, np.tile(maps.shape[:0:-1], 2))
        for first in range(0, len(times), frames):
            slot = slice(first, min(first + frames, len(times)))
            shown = slot.stop - first
            if maps is not None:
                chosen, scores = top_tokens(
                    maps[slot], (1, rows, columns), count, shown, tuple(covered)
                )
                gates += [_excess(scores.ravel(), chosen)] * shown
                moves += [bool(scores.any())] * shown
            elif self.order == "random":
                random = chance(self.seed, info.name, times[first])
                chosen = random.permutation(rows * columns)[:count]
            else:
                chosen = ((np.arange(count) + 0.5) * rows * columns / count).astype(np.int64)
            tokens[slot, chosen] = True
        if self.dense_keys:
            for place in self._keys(sample, window, times, done):
                first = place // frames * frames
                tokens[first : first + frames] = True
        return TokenPlan(
            times, None, tuple(gates), tuple(not one for one in moves), maps, source, reason,
            tokens=tokens.reshape(-1, rows, columns), region=region,
        )  # fmt: skip

    def _keys(
        self, sample: Sample, window: Window, times: tuple[float, ...], done: int
    ) -> set[int]:
        """Places of the first frame of a window, and of the first at or after each key frame."""
        found = set() if done else {0}
        if self.knows_keys:
            step = 1 / (self.rate or 5.0)
            for key in sample.keyframes():
                place = int(np.searchsorted(times, key - 1e-6))
                if place < len(times) and times[place] - key < step:
                    found.add(place)
        return found


def _excess(scores: Floats, chosen: npt.NDArray[np.int64]) -> float:
    """The share of the motion in the chosen tokens, beyond their share of all tokens: 0 to 1."""
    total, share = float(scores.sum()), len(chosen) / len(scores)
    if not total > 0 or share == 1:
        return float(share == 1)
    return min(1.0, max(0.0, (float(scores[chosen].sum()) / total - share) / (1 - share)))
