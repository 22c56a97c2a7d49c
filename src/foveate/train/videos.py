"""Batches of the clips of a data set, for the recipes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch

from foveate.core import FoveateError
from foveate.data import Dataset, Loader, make_loader, samplers
from foveate.data.prepare import Centre, Transform, to_float
from foveate.data.sources import duration_of
from foveate.data.transforms import mirrored_by_words
from foveate.media import open_source
from foveate.media.folder import RATE
from foveate.models.spec import InputSpec
from foveate.primitives.augment import (
    Augment,
    ColourJitter,
    Flip,
    RandAugment,
    RandomResizedCrop,
)
from foveate.primitives.augment import Transform as ClipTransform
from foveate.primitives.samplers import Sampler
from foveate.train.kit.batches import Batch, Batches, Prepare
from foveate.train.kit.distributed import ProcessGroup

Strength = Literal["none", "light", "strong", "full"]

HANDED = {"left": "right"}
_OPENED = 64  # clips that are opened to measure their length


Source = Callable[[str, bool, InputSpec, ProcessGroup], Batches | None]
"""Where a recipe gets its batches from: `source(split, training, input, group)`, None if the split
has no samples."""


class LoaderBatches:
    """Adapts a loader of `foveate.data` to `Batches`.

    Args:
        loader: Gives `at(epoch, start_step)`.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    @property
    def failures(self) -> Sequence[str]:
        """Clips that could not be read so far, with the reason."""
        return [f"{name}: {reason}" for name, reason in self.loader.bad.items()]

    @property
    def warnings(self) -> Sequence[str]:
        """Clips that are damaged but could be read, with a description of the damage."""
        return [f"{name}: {line}" for name, line in self.loader.warnings.items()]

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.loader)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on."""
        if start_step < len(self.loader):
            for batch in self.loader.at(epoch, start_step):
                yield cast(Batch, batch)

    def explain(self, error: RuntimeError) -> FoveateError | None:
        """What torch's error about a worker means, None if it is about something else."""
        return self.loader.explain(error)


def median_seconds(dataset: Dataset, split: str) -> float | None:
    """Median length in seconds of at most 64 clips of a split; None if none opens."""
    records = dataset.subset(split).records
    lengths = []
    for record in records[:: max(1, len(records) // _OPENED)]:
        try:
            sample = open_source(record.path, fps=RATE)
            try:
                end = duration_of(sample)
            finally:
                sample.close()
        except FoveateError:
            continue  # the loader reports it
        start = record.start or 0.0
        lengths.append(min(end, math.inf if record.end is None else record.end) - start)
    return statistics.median(lengths) if lengths else None


def fitting_frames(dataset: Dataset, split: str, spec: InputSpec) -> int:
    """Frames of a training clip: the model's own number, or fewer where the videos are shorter.

    A clip of two seconds, at the rate of the weights, has only so many frames: more of them would
    show time running slower than in prediction.

    Args:
        dataset: The clips.
        split: The training split; the median over at most 64 of its clips decides.
        spec: What the weights expect.
    """
    seconds = median_seconds(dataset, split)
    if seconds is None:
        return spec.clip_frames
    fitting = round(seconds * spec.frames_per_second)
    return max(1, min(spec.clip_frames, fitting))


def mirror_of(classes: Sequence[str]) -> tuple[int | None, ...]:
    """For each class that of its mirror image: `left` and `right` in names are exchanged."""
    return mirrored_by_words(classes, HANDED)


@dataclass(frozen=True)
class VideoClips:
    """A `Source` over the clips of a data set.

    In training a window is taken from a random position of each clip; in evaluation from its
    middle, with the preprocessing of prediction. Subclasses replace one of these choices.

    Args:
        dataset: With its splits.
        batch: Clips per step over all processes.
        seed: Of order, positions and transforms.
        workers: Loading processes.
        augment: `none`: the centre square; `light`: random crops of at least half the area;
            `strong`: smaller crops, colour and RandAugment; `full`: crops of any size and shape
            (area from .08, width by height from 1/2 to 2) and two operations of RandAugment; or
            these transforms and no others.
        flip: Mirror half of the clips; classes with `left` or `right` in their names change too.
            A list of transforms says so itself.
        sampler: Which frames of a clip; None: a window at an even rate.
    """

    dataset: Dataset
    batch: int
    seed: int
    workers: int
    augment: Strength | tuple[ClipTransform, ...] = "light"
    flip: bool = True
    sampler: Sampler | None = None

    def __call__(
        self, split: str, training: bool, spec: InputSpec, group: ProcessGroup
    ) -> Batches | None:
        """See `Source`."""
        if not len(self.dataset.subset(split)):
            return None
        loader = make_loader(
            self.dataset, split, self.sampling(spec), self.transform(spec, training),
            batch=max(self.batch, group.world), train=training, seed=self.seed,
            workers=self.workers, rank=group.rank if training else 0,
            world=group.world if training else 1, selector=self.selector(spec),
        )  # fmt: skip
        return LoaderBatches(loader)

    def sampling(self, spec: InputSpec) -> samplers.Sampling:
        """Which times of a clip are shown."""
        if self.sampler is not None:
            return self.sampler.build(spec)
        return partial(samplers.window, count=spec.clip_frames, rate=spec.frames_per_second)

    def transform(self, spec: InputSpec, training: bool) -> Transform:
        """From decoded frames to those of a clip."""
        if not training or self.augment == "none":
            return Centre.of(spec)
        return transform_of(
            self.augment, spec.size, self.dataset.classes, self.flip, centre=Centre.of(spec)
        )

    def selector(self, spec: InputSpec) -> Any:
        """Chooses times and positions instead of `sampling`, None where the sampling does."""


_COLOURS: dict[str, tuple[ClipTransform, ...]] = {
    "light": (),
    "strong": (ColourJitter(strength=0.3), RandAugment(operations=1, magnitude=7)),
    "full": (RandAugment(operations=2),),
}
_CROPS: dict[str, dict[str, float]] = {
    "light": {"scale": 0.5},
    "strong": {"scale": 0.25},
    "full": {"scale": 0.08, "ratio": 2.0},
}


def transform_of(
    augment: Strength | tuple[ClipTransform, ...],
    size: int,
    classes: Sequence[str],
    flip: bool,
    crop: bool = True,
    centre: Centre | None = None,
) -> Augment:
    """The training transform of a strength other than `none`, or of a list.

    Args:
        augment: See `VideoClips`.
        size: Side in pixels of the square that the network takes.
        classes: Names of the classes, for mirror images.
        flip: Mirror half of the clips; a list says so itself.
        crop: Whether whole frames are decoded; else a look shows squares of `size` pixels, and a
            strength cuts nothing out of them.
        centre: What is cut out if a list sets no size; None: the centre square.

    Raises:
        ConfigError: Frames come out with another size.
        MissingExtra: torchvision, or what a transform needs, is not installed.
    """
    mirror, shown = mirror_of(classes), None if crop else size
    if isinstance(augment, tuple):
        return Augment(size, augment, mirror, centre=centre, shown=shown)
    chosen = (
        *((RandomResizedCrop(size=size, **_CROPS[augment]),) if crop else ()),
        *((Flip(),) if flip else ()),
        *_COLOURS[augment],
    )
    # 3D ResNet-RS decodes 256 pixels for squares of 224.
    decode = 256 / 224 if augment == "full" else 1.25
    return Augment(size, chosen, mirror, decode, shown=shown)


def prepare_of(spec: InputSpec, device: torch.device) -> Prepare:
    """Maps uint8 clips to normalised input of the network; floating-point samples stay as is."""
    return lambda x: to_float(x.to(device, non_blocking=True), spec.mean, spec.std)
