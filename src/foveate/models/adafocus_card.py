"""What the look and the executor of AdaFocus must know of a network, without PyTorch."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from foveate.core.errors import ModelError


class AdaFocusCard(BaseModel):
    """The facts of a network of the AdaFocus family.

    Attributes:
        size: Side of the frames in pixels.
        patch: Side of the patches in pixels.
        cells: Height and width of the maps of the glance.
        per_frame: Whether glance, policy and classifier go frame by frame.
        causal: Whether the glance remembers the frames before.
        shifted: Whether the focus network mixes frames.
        coarse: Whether frames come coarse to fine, as in training.
        motion: Whether the policy has a weight for maps of motion.
        glances: Frames of the glance; None for all candidates.
        second: The glance sees the second frame of each group of candidates, not the centres of
            equal parts.
        glance_steps: Answers of the glance alone: 0 for none.
        focuses: Frames that are chosen among the candidates; None for all of them.
        steps: Most frames that the classifier takes; None for any number.
        candidates: Frames of a window for which a network that chooses among them was exported;
            None for any number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["adafocus"] = "adafocus"
    size: int = Field(ge=1, le=8192)
    patch: int = Field(ge=1, le=8192)
    cells: int = Field(ge=1, le=1024)
    per_frame: bool
    causal: bool = False
    shifted: bool = False
    coarse: bool = False
    motion: bool = False
    glances: int | None = Field(None, ge=1, le=1024)
    second: bool = False
    glance_steps: int = Field(0, ge=0, le=1024)
    focuses: int | None = Field(None, ge=1, le=1024)
    steps: int | None = Field(None, ge=1, le=1024)
    candidates: int | None = Field(None, ge=1, le=1024)

    def glance_frames(self, candidates: int) -> list[int]:
        """Numbers of the candidate frames that the glance sees.

        Raises:
            ModelError: The candidates are not a multiple of the glance frames, two at least, where
                one frame of each group is seen.
        """
        if self.glances is None:
            return list(range(candidates))
        if not self.second:
            return [int((at + 0.5) * candidates / self.glances) for at in range(self.glances)]
        step, left = divmod(candidates, self.glances)
        if left or step < 2:
            raise ModelError(
                f"{candidates} candidate frames for {self.glances} glance frames",
                "give a multiple, two at least",
            )
        return [group * step + 1 for group in range(self.glances)]

    def exits(self, candidates: int, chunk: int | None = None) -> dict[str, int]:
        """Names of the exits, and which of the network's steps each one is.

        Args:
            candidates: Frames of a clip.
            chunk: Frames of the focus network between two exits; None: all of them, which is the
                only choice where they mix.

        Raises:
            ModelError: The frames mix, the chunk is not positive, or there are more frames than the
                classifier takes.
        """
        if self.steps is not None and candidates > self.steps:
            raise ModelError(f"{candidates} frames for {self.steps} steps")
        count = self.focuses or candidates
        every = count if chunk is None else chunk
        if every < 1 or (self.shifted and every != count):
            raise ModelError(
                f"an exit every {every} frames" if every < 1 else "the focus network mixes frames",
                "give no chunk: all frames pass in one call",
            )
        first = self.glance_steps
        found = {f"glance.{self.glances}": first - 1} if first else {}
        ends = [*range(every, count, every), count]
        return found | {f"focus.{end}": first + (0 if self.shifted else end - 1) for end in ends}


def coarse_to_fine(count: int) -> list[int]:
    """An order of frames: the middle one, the first, the last, then the middles of the gaps.

    Every beginning of it covers the whole clip evenly (AdaFocus V2, arXiv 2112.14238, section 3.4).

    Raises:
        ModelError: There are no frames.
    """
    if count < 1:
        raise ModelError(f"an order of {count} frames")
    order = list(dict.fromkeys([count // 2, 0, count - 1]))
    while len(order) < count:
        known = sorted(order)
        gaps = [(b - a, a) for a, b in pairwise(known) if b - a > 1]
        widest = max(gap for gap, _ in gaps)
        order += [a + gap // 2 for gap, a in gaps if gap > widest // 2 or gap == widest]
    return order
