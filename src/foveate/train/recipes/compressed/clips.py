"""Batches of key frames, residuals or vectors from the files kept of videos.

In training each clip gives one picture per segment: a random group of each of equal spans and a
random position in it, with one crop and one flip for all of them; in evaluation the middles, as in
prediction. CoViAR (arXiv 1712.00636, section 3.3) samples segments as TSN does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from foveate.core import FoveateError
from foveate.core.groups import spread
from foveate.data import DataError, Dataset, Record
from foveate.data.compressed import KeptClip, Reading, keep, middle, view
from foveate.data.loader import tolerated
from foveate.models.coviar import Modality, mirrored, normalise, square
from foveate.models.spec import InputSpec
from foveate.train.kit.batches import Batch
from foveate.train.kit.randomness import generator
from foveate.train.videos import mirror_of

LEAST = 0.7  # smallest side of a training crop, as a fraction of the picture's shorter side


@dataclass(frozen=True)
class KeptSet:
    """The kept clips of a split.

    Attributes:
        clips: Those that could be read, with their records.
        labels: (N,) class indices.
        failures: What could not be read, with the reason.
    """

    clips: tuple[tuple[KeptClip, Record], ...]
    labels: torch.Tensor
    failures: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    def subset(self, rows: Sequence[int]) -> KeptSet:
        """Some of the clips, in that order."""
        return replace(
            self, clips=tuple(self.clips[i] for i in rows), labels=self.labels[list(rows)]
        )


@dataclass(frozen=True)
class ClipSets:
    """The clips of a run.

    Attributes:
        dataset: With a split `calibration`, taken from the training clips.
        kept: By split.
        clip_seconds: Of a window in prediction: the median training clip, with an upper limit.
    """

    dataset: Dataset
    kept: Mapping[str, KeptSet]
    clip_seconds: float


def keep_all(
    dataset: Dataset,
    folder: Path,
    how: Reading,
    progress: Callable[[int, int], None] | None = None,
) -> KeptSet:
    """Extract the files of all clips of a data set, except those that are there already.

    Args:
        dataset: The clips of one split.
        folder: Of the files.
        how: What is kept of each.
        progress: Called after each clip with clips done and clips in all.

    Raises:
        DataError: More clips cannot be read than a loader tolerates, or all.
    """
    clips, labels, failures = [], [], []
    for done, record in enumerate(dataset.records, 1):
        try:
            clips.append((keep(record.path, folder, how), record))
            labels.append(dataset.indices(record)[0])
        except FoveateError as error:
            failures.append(f"{dataset.name(record)}: {error.cause}")
        if progress is not None:
            progress(done, len(dataset))
    if not clips or len(failures) > tolerated(len(dataset)):
        first = f" (the first: {failures[0]})" if failures else ""
        raise DataError(f"{len(failures)} of {len(dataset)} clips cannot be used{first}")
    return KeptSet(tuple(clips), torch.tensor(labels), tuple(failures))


class CompressedBatches:
    """One modality of kept clips, as input of a network; implements `kit.batches.Batches`.

    Args:
        kept: The clips.
        modality: Of the network.
        classes: Names of all classes, for mirror images.
        spec: Side of the input, segments (`clip_frames`) and normalisation of key frames.
        batch: Clips of a step.
        seed: Of order, positions, crops and flips; None: evaluation.
        flip: Mirror half of the clips.
        shuffle: Draw the order too.
    """

    def __init__(
        self,
        kept: KeptSet,
        modality: Modality,
        classes: Sequence[str],
        spec: InputSpec,
        batch: int,
        seed: int | None = None,
        flip: bool = True,
        shuffle: bool = True,
    ) -> None:
        self.kept, self.modality, self.spec = kept, modality, spec
        self.size, self.seed, self._shuffle = batch, seed, shuffle
        self._mirror: tuple[int | None, ...] = (None,) * len(classes)
        if flip and seed is not None:
            self._mirror = mirror_of(classes)
        self.failures: list[Any] = []
        self.warnings: list[str] = []

    def __len__(self) -> int:
        """Batches in an epoch, of nearly equal size, because BatchNorm needs several clips."""
        return max(1, -(-len(self.kept) // self.size))

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on."""
        order = torch.arange(len(self.kept))
        if self.seed is not None and self._shuffle:
            order = torch.randperm(len(order), generator=generator(self.seed, "order", epoch))
        for chosen in order.tensor_split(len(self))[start_step:]:
            found = [self._one(int(row), epoch) for row in chosen]
            yield {
                "x": torch.stack([x for x, _ in found], 0),
                "y": torch.tensor([label for _, label in found]),
                "index": chosen,
            }

    def _one(self, row: int, epoch: int) -> tuple[torch.Tensor, int]:
        """(channels, T, S, S) and the class of one clip."""
        clip, record = self.kept.clips[row]
        label = int(self.kept.labels[row])
        rows = clip.within(record.start, record.end)
        if self.seed is None:
            x = square(view(clip, self.modality, still(clip, rows, self.spec)), self.spec.size)
        else:
            random = generator(self.seed, epoch, row)
            x = view(clip, self.modality, self._drawn(clip, rows, random))
            x = _part(x, self.spec.size, random)
            other = self._mirror[label]
            if other is not None and bool(torch.rand((), generator=random) < 0.5):
                x, label = mirrored(self.modality, x), other
        x = normalise(self.modality, x, self.spec.mean, self.spec.std)
        return x.transpose(0, 1), label

    def _drawn(
        self, clip: KeptClip, rows: Sequence[int], random: torch.Generator
    ) -> list[tuple[int, float]]:
        """A group of each of equal spans, and a position in it after the key frame."""
        count = self.spec.clip_frames
        where = (torch.arange(count) + torch.rand(count, generator=random)) * len(rows) / count
        within = torch.rand(count, generator=random)
        places = []
        for at, share in zip(where.long().clamp(max=len(rows) - 1).tolist(), within, strict=True):
            first = 1 / max(int(clip.lengths[rows[at]]) - 1, 1)
            places.append((int(rows[at]), first + float(share) * (1 - first)))
        return places


def still(clip: KeptClip, rows: Sequence[int], spec: InputSpec) -> list[tuple[int, float]]:
    """The positions that prediction uses; clips of few groups repeat some of them."""
    count = spec.clip_frames
    groups = spread(len(rows), count)
    chosen = [groups[at * len(groups) // count] for at in range(count)]
    return [(int(rows[at]), middle(int(clip.lengths[rows[at]]))) for at in chosen]


def _part(x: torch.Tensor, size: int, random: torch.Generator) -> torch.Tensor:
    """A random square of (T, channels, h, w), scaled to `size`; motion values are not scaled."""
    height, width = x.shape[-2:]
    share, down, across = torch.rand(3, generator=random).tolist()
    side = max(2, round(min(height, width) * (LEAST + (1 - LEAST) * share)))
    top, left = round(down * (height - side)), round(across * (width - side))
    cut = x[..., top : top + side, left : left + side]
    return functional.interpolate(
        cut, (size, size), mode="bilinear", align_corners=False, antialias=side > size
    )
