"""Records as tensors: decoded lazily, and the same in any worker process.

What a clip looks like depends on the seed, the epoch and its place in the data set, never on the
process that loads it or on what was loaded before. Frames are never invented: a clip that lacks
some of the requested frames is bad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from foveate.core import FoveateError, MediaError, Sample
from foveate.data.prepare import Transform
from foveate.data.probing import reason
from foveate.data.record import Dataset, Record
from foveate.data.samplers import Sampling, Times, Views, as_views
from foveate.data.sources import duration_of
from foveate.media import DEFAULT_LIMITS, Limits, display_name, open_source
from foveate.media import modalities as kinds
from foveate.media.folder import RATE

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

_CAUGHT = (FoveateError, OSError, MemoryError)
_DEFAULT_RATE = 25.0  # frames per second of a source that does not say
_WHAT_SHOWS, _WHAT_CHANGES = 0, 1  # random streams: times, then transforms


class ClipSelector(Protocol):
    """Chooses times and boxes of a clip, in place of a sampler."""

    def __call__(
        self,
        sample: Sample,
        record: Record,
        start: float,
        end: float,
        random: np.random.Generator | None,
    ) -> tuple[Times, Pixels]:
        """Times between `start` and `end`, and their frames (T, S, S, 3)."""


@dataclass(frozen=True)
class BadClip:
    """A clip that could not be read: its index in the data set, and the reason."""

    index: int
    name: str
    reason: str


class ClipDataset(TorchDataset[Any]):
    """Records as tensors, one at a time; what `DataLoader` wants.

    Args:
        dataset: The clips, all of one split.
        sampling: Which times to look at (see `samplers`).
        transform: What to do with the frames.
        train: Whether times and transforms are drawn; without, all is fixed.
        seed: Of everything that is drawn.
        modalities: Names of what to build (see `modalities`).
        fps: Frames per second of frame folders.
        limits: Bounds on work.
        selector: Chooses times and boxes instead of `sampling`; the transform gets its crops.

    Raises:
        ValueError: `selector` and modalities that need whole frames.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampling: Sampling,
        transform: Transform,
        *,
        train: bool = False,
        seed: int = 0,
        modalities: Sequence[str] = ("rgb",),
        fps: float = RATE,
        limits: Limits = DEFAULT_LIMITS,
        selector: ClipSelector | None = None,
    ) -> None:
        if selector is not None and tuple(modalities) != ("rgb",):
            raise ValueError("what a look shows is rgb alone")
        self.dataset = dataset
        self.train = train
        self.seed = seed
        self._sampling = sampling
        self._transform = transform
        self._kinds = [kinds.find(name) for name in modalities]
        self._following = max(kind.following for kind in self._kinds)
        self._selector = selector
        self._fps = fps
        self._limits = limits
        self.at = torch.full((64,), -1, dtype=torch.int64)  # what each worker loads now
        self.at.share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any] | BadClip:
        """One clip.

        Args:
            key: Index of the record, or (epoch, index).

        Returns:
            `x` (3, T, S, S) uint8 of the first modality, with a view dimension in front where
            the sampler gives several; further modalities under their names; `y` the index of
            the class, or (classes,) float32 for several; `index`; `warnings`. A `BadClip` if it
            cannot be read.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        record = self.dataset.records[index]
        worker = get_worker_info()
        slot = (worker.id if worker else 0) % len(self.at)
        self.at[slot] = index
        try:
            sample = open_source(record.path, fps=self._fps, limits=self._limits)
            try:
                return self._load(sample, record, epoch, index)
            finally:
                sample.close()
        except _CAUGHT as error:
            name = display_name(self.dataset.name(record))
            return BadClip(index, name, reason(record.path, error))
        finally:
            self.at[slot] = -1

    def _load(self, sample: Sample, record: Record, epoch: int, index: int) -> dict[str, Any]:
        end, times, frames = self._frames(sample, record, epoch, index)
        views = as_views(times)
        x_nchw, labels = self._transform(
            frames, self.dataset.indices(record), self._random(epoch, index, _WHAT_CHANGES)
        )
        stacked = x_nchw.reshape(-1, 1 + self._following, *x_nchw.shape[1:])
        x = torch.split(stacked, [len(view) for view in views])
        item: dict[str, Any] = {}
        for place, kind in enumerate(self._kinds):
            made = [
                _built(kind, part, view, (record.start or 0.0, end), sample)
                for part, view in zip(x, views, strict=True)
            ]
            several = isinstance(times[0], tuple)
            item[kind.name if place else "x"] = torch.stack(made) if several else made[0]
        item["y"] = self._target(labels)
        return {**item, "index": index, "warnings": tuple(sample.warnings)}

    def _frames(
        self, sample: Sample, record: Record, epoch: int, index: int
    ) -> tuple[float, Times | Views, Pixels]:
        """The end of the clip, the sampled times, and their frames.

        Containers sometimes announce frames beyond the last one. Once the last one was decoded, the
        source knows its true length, and the times are drawn again from it.
        """
        start = record.start or 0.0
        for _ in range(2):
            end = min(duration_of(sample), math.inf if record.end is None else record.end)
            if start >= end:
                raise MediaError(f"starts at {start:g} s, the video lasts {end:g} s")
            random = self._random(epoch, index, _WHAT_SHOWS)
            times: Times | Views
            if self._selector is None:
                times, wanted, pixels = self._sampled(sample, start, end, random)
            else:
                times, pixels = self._selector(sample, record, start, end, random)
                wanted = len(times)
            if len(pixels) == wanted:
                return end, times, pixels
            if not duration_of(sample) < end:
                break
        raise MediaError(f"damaged: {len(pixels)} of {wanted} frames could be decoded")

    def _sampled(
        self, sample: Sample, start: float, end: float, random: np.random.Generator | None
    ) -> tuple[Times | Views, int, Pixels]:
        """The sampler's times, how many frames they need, and those frames; of an incomplete
        answer, the frames that were decoded."""
        info = sample.info
        size = self._transform.decode_size((info.width, info.height))
        times = self._sampling(start, end, random)
        flat = tuple(t for view in as_views(times) for t in view)
        asked = kinds.stacks(flat, self._following, 1.0 / (info.rate or _DEFAULT_RATE), end)
        wanted = sorted(set(asked))
        clip = sample.frames(wanted, size)
        if len(clip) < len(wanted):
            return times, len(wanted), clip.pixels
        places = {t: i for i, t in enumerate(wanted)}
        return times, len(asked), clip.pixels[[places[t] for t in asked]]

    def _random(self, epoch: int, index: int, stream: int) -> np.random.Generator | None:
        if not self.train:
            return None
        return np.random.default_rng([self.seed, epoch, index, stream])

    def _target(self, labels: tuple[int, ...]) -> Tensor:
        if not self.dataset.multilabel:
            return torch.tensor(labels[0])
        return torch.zeros(len(self.dataset.classes)).index_fill_(0, torch.tensor(labels).long(), 1)


def _built(
    kind: kinds.Modality, frames: Tensor, times: Times, span: tuple[float, float], sample: Sample
) -> Tensor:
    """One modality of one view.

    Args:
        kind: Which.
        frames: (T, 1 + following, 3, S, S) uint8; at each time a frame and those after it.
        times: (T,) seconds.
        span: Seconds at which the clip starts and ends.
        sample: The source, for sound.

    Returns:
        (channels, T, S, S), of sound (1, frequencies, columns).
    """
    if kind.source == "sound":
        middle = (times[0] + times[-1]) / 2
        return torch.from_numpy(kinds.sound_of(sample, middle, start=span[0], end=span[1]))[None]
    stacks = frames[:, : 1 + kind.following].permute(0, 1, 3, 4, 2).numpy()
    made = np.stack([kind.build(stack) for stack in stacks])
    return torch.from_numpy(made).permute(3, 0, 1, 2).contiguous()
