"""LSTS: features of past frames, sampled at learned places, for detection in video.

Source: Jiang et al., "Learning Where to Focus for Efficient Video Object Detection", ECCV 2020
(arXiv 1911.05253): similarity-weighted sampling at a table of learned offsets, sparse recursive
updating of a memory on key frames (SRFU), dense aggregation on the others (DFA).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.errors import ModelError

OFFSET_LR = 10_000.0  # times the learning rate of other weights; without weight decay
MOST_OFFSET = 12.0  # positions of the map; beyond it an offset is clipped
FORMS = ("lattice", "grid")
NORMALISATIONS = ("softmax", "linear")


class Offsets(nn.Module):
    """The table of places that are sampled around each position, shared by all of them.

    Args:
        init: ``gaussian``, drawn from N(0, I), or ``uniform``, the whole positions of a square.
        count: Number of places; of ``uniform`` the square of an odd number. None means 40 and 81.
        most: Largest offset in positions of the map.

    Raises:
        ModelError: Unknown ``init``, or a number of places that does not fit.
    """

    undecayed: ClassVar[tuple[str, ...]] = ("table",)  # weight decay would draw places together

    def __init__(
        self, init: str = "gaussian", count: int | None = None, most: float = MOST_OFFSET
    ) -> None:
        super().__init__()
        if init == "gaussian":
            table = torch.randn(count or 40, 2)
        elif init == "uniform":
            side = round((count or 81) ** 0.5)
            if side * side != (count or 81) or side % 2 == 0:
                raise ModelError(f"offsets={count}: must be the square of an odd number")
            steps = torch.arange(side) - side // 2
            table = torch.cartesian_prod(steps, steps).flip(1).float()
        else:
            raise ModelError(f"init={init!r} is unknown", "known: gaussian, uniform")
        self.table = nn.Parameter(table)
        self.most = most
        self._warned = False

    def forward(self) -> Tensor:
        """(K, 2) offsets as (dx, dy), clipped to the largest one."""
        if not self._warned and bool(self.table.detach().abs().max() > self.most):
            self._warned = True
            warnings.warn(
                f"offsets beyond {self.most:g} positions are clipped; a smaller learning rate or a "
                "larger `most` avoids it",
                stacklevel=2,
            )
        return self.table.clamp(-self.most, self.most)

    def lattice(self) -> tuple[list[tuple[int, int]], Tensor]:
        """The whole displacements around the offsets, and the bilinear weights (K, D) of each.

        The weights carry the gradient to the table.
        """
        offsets = self()
        low = offsets.detach().floor().long()
        corners = torch.cat(
            [low + low.new_tensor(step) for step in ((0, 0), (1, 0), (0, 1), (1, 1))]
        )
        displacements = torch.unique(corners, dim=0)
        weights = (1 - (offsets[:, None] - displacements).abs()).clamp_min(0).prod(-1)
        used = weights.detach().any(0)
        rows = displacements[used].tolist()
        return [(int(x), int(y)) for x, y in rows], weights[:, used]


class LearnedSampling(nn.Module):
    """Carries features to another frame by similarity-weighted sampling.

    Args:
        channels: Of the feature maps.
        embedding: Channels in which similarities are measured.
        form: ``lattice``, which moves whole maps and is exact, or ``grid``, which samples each
            place (slower, for checking).
        normalisation: ``softmax`` of the similarities, as in the released code, or ``linear``, as
            in the paper, which is unstable where similarities are negative.

    Raises:
        ModelError: Unknown form or normalisation.
    """

    def __init__(
        self, channels: int, embedding: int = 256, form: str = "lattice",
        normalisation: str = "softmax",
    ) -> None:  # fmt: skip
        super().__init__()
        if form not in FORMS or normalisation not in NORMALISATIONS:
            raise ModelError(
                f"form={form!r}, normalisation={normalisation!r}",
                f"known: {', '.join(FORMS)}; {', '.join(NORMALISATIONS)}",
            )
        self.form, self.normalisation = form, normalisation
        self.old = nn.Conv2d(channels, embedding, 1)
        self.new = nn.Conv2d(channels, embedding, 1)

    def forward(self, old: Tensor, new: Tensor, offsets: Offsets) -> Tensor:
        """Features of ``old`` at the places of ``new``.

        Args:
            old: (N, C, H, W), features of a past frame.
            new: (N, C, H, W), of the present one.
            offsets: The places that are sampled; zeros lie beyond the map.

        Returns:
            (N, C, H, W).

        Raises:
            ModelError: The maps differ in size.
        """
        if old.shape != new.shape:
            raise ModelError(f"maps of {tuple(old.shape)} and {tuple(new.shape)}: reset the state")
        keys, queries = self.old(old), self.new(new)
        sample = _by_lattice if self.form == "lattice" else _by_grid
        return sample(old, keys, queries, offsets, self._normalised)

    def _normalised(self, scores: Tensor) -> Tensor:
        """Weights (N, K, H, W) of similarities."""
        if self.normalisation == "softmax":
            return scores.softmax(1)
        total = scores.sum(1, keepdim=True)
        return scores / torch.where(total.abs() < 1e-6, torch.full_like(total, 1e-6), total)


def _by_lattice(
    old: Tensor,
    keys: Tensor,
    queries: Tensor,
    offsets: Offsets,
    normalised: Callable[[Tensor], Tensor],
) -> Tensor:
    """Only whole displacements are moved: sampling is linear, and the offsets are shared."""
    displacements, weights = offsets.lattice()
    radius = max(max(abs(x), abs(y)) for x, y in displacements)
    # Beyond the map are zeros, not what a convolution makes of them: padded after it.
    wide_keys, wide_old = (F.pad(maps, (radius,) * 4) for maps in (keys, old))
    height, width = old.shape[-2:]

    def moved(maps: Tensor, by: tuple[int, int]) -> Tensor:
        x, y = radius + by[0], radius + by[1]
        return maps[..., y : y + height, x : x + width]

    similar = torch.stack([(moved(wide_keys, by) * queries).sum(1) for by in displacements], 1)
    shares = normalised(torch.einsum("kd,ndhw->nkhw", weights, similar))
    per_move = torch.einsum("kd,nkhw->ndhw", weights, shares)
    out = torch.zeros_like(old)
    for at, by in enumerate(displacements):
        out = out + per_move[:, at : at + 1] * moved(wide_old, by)
    return out


def _by_grid(
    old: Tensor,
    keys: Tensor,
    queries: Tensor,
    offsets: Offsets,
    normalised: Callable[[Tensor], Tensor],
) -> Tensor:
    """One bilinear sample of both maps for each offset."""
    height, width = old.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=old.device, dtype=old.dtype),
        torch.arange(width, device=old.device, dtype=old.dtype),
        indexing="ij",
    )
    scores, values = [], []
    for dx, dy in offsets():
        # With one row or column every place on the map is its middle: pixel units, no corners.
        grid = torch.stack([(2 * (x + dx) + 1) / width - 1, (2 * (y + dy) + 1) / height - 1], -1)
        places = grid.expand(len(old), -1, -1, -1)
        scores.append((F.grid_sample(keys, places, align_corners=False) * queries).sum(1))
        values.append(F.grid_sample(old, places, align_corners=False))
    shares = normalised(torch.stack(scores, 1))
    return (torch.stack(values, 1) * shares.unsqueeze(2)).sum(1)


class QualityFusion(nn.Module):
    """The mean of two feature maps, weighted at each position by a score of each.

    Args:
        channels: Of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Conv2d(channels, 256, 1), nn.Conv2d(256, 16, 3, padding=1),
            nn.Conv2d(16, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, C, H, W) of two maps (N, C, H, W)."""
        scores = torch.cat([self.score(first), self.score(second)], 1).softmax(1)
        mean: Tensor = scores[:, :1] * first + scores[:, 1:] * second
        return mean


@dataclass(frozen=True)
class NeckState:
    """What is carried from frame to frame of a video; the start is ``NeckState()``.

    Attributes:
        memory: (N, C, H, W), updated on key frames; None before the first.
        key: (N, C, H, W), the features that were detected on in the last key frame.
        frames: Number of frames so far.
    """

    memory: Tensor | None = None
    key: Tensor | None = None
    frames: int = 0


class TemporalNeck(nn.Module):
    """SRFU and DFA between a backbone in two parts and a detector.

    Args:
        channels: Of the features that the detector takes.
        low_channels: Of the features of the cheap part.
        embedding: See ``LearnedSampling``.
        init: See ``Offsets``.
        count: See ``Offsets``.
        form: See ``LearnedSampling``.
        normalisation: See ``LearnedSampling``.
        update: Share of the new features in the memory.
        hidden: Channels inside the network that lifts low features; the published width is 256.
    """

    def __init__(
        self, channels: int = 1024, low_channels: int = 1024, embedding: int = 256,
        init: str = "gaussian", count: int | None = None, form: str = "lattice",
        normalisation: str = "softmax", update: float = 1.0, hidden: int = 256,
    ) -> None:  # fmt: skip
        super().__init__()
        self.offsets = Offsets(init, count)
        self.to_key = LearnedSampling(channels, embedding, form, normalisation)
        self.to_other = LearnedSampling(channels, embedding, form, normalisation)
        self.fuse_key, self.fuse_other = QualityFusion(channels), QualityFusion(channels)
        self.lift = nn.Sequential(
            nn.Conv2d(low_channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(), nn.Conv2d(hidden, channels, 3, padding=1),
        )  # fmt: skip
        self.update = update

    def key(self, features: Tensor, state: NeckState) -> tuple[Tensor, NeckState]:
        """Features to detect on in a key frame, and the new state.

        The first frame of a video, and one of another size than those before, is that of the plain
        detector.

        Args:
            features: (N, C, H, W) of the whole backbone.
            state: Of the frames before; it is not changed.
        """
        memory = state.memory
        if memory is None or memory.shape != features.shape:
            return features, NeckState(features, features, state.frames + 1)
        task = self.fuse_key(features, self.to_key(memory, features, self.offsets))
        memory = self.update * task + (1 - self.update) * features
        return task, NeckState(memory, task, state.frames + 1)

    def nonkey(self, low: Tensor, state: NeckState) -> tuple[Tensor, NeckState]:
        """Features to detect on in another frame, and the new state.

        Args:
            low: (N, low_channels, H, W) of the cheap part of the backbone.
            state: Of the frames before; it is not changed.

        Raises:
            ModelError: There was no key frame of this size.
        """
        if state.key is None or state.key.shape[-2:] != low.shape[-2:]:
            raise ModelError("no key frame of this size was seen", "start with a key frame")
        lifted = self.lift(low)
        carried = self.to_other(state.key, lifted, self.offsets)
        task: Tensor = self.fuse_other(lifted, carried)
        return task, replace(state, frames=state.frames + 1)

    def groups(self, lr: float, weight_decay: float) -> list[dict[str, object]]:
        """Parameter groups for an optimizer: the offsets move much faster than other weights."""
        others = [p for p in self.parameters() if p is not self.offsets.table]
        return [
            {"params": others, "lr": lr, "weight_decay": weight_decay},
            {"params": [self.offsets.table], "lr": OFFSET_LR * lr, "weight_decay": 0.0},
        ]
