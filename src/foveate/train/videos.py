"""Batches of the clips of a data set, as the recipes ask for them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, cast

from foveate.core import FoveateError
from foveate.data import Dataset, Loader, make_loader, samplers
from foveate.data.prepare import Centre, Transform
from foveate.data.sources import duration_of
from foveate.data.transforms import Augment, mirrored_by_words
from foveate.media import open_source
from foveate.models.spec import InputSpec
from foveate.train.kit.batches import Batch, Batches
from foveate.train.kit.distributed import Team

Strength = Literal["none", "light", "strong", "full"]

HANDED = {"left": "right"}
_OPENED = 64  # clips that are opened to learn how long clips are


Source = Callable[[str, bool, InputSpec, Team], Batches | None]
"""Where a recipe gets its batches from: `source(split, training, input, team)`, None if the split
has no samples."""


class LoaderBatches:
    """A loader of the data room behind the loop's face.

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
        """Clips that are damaged and could be read, with what was said of them."""
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
        """What torch's word of a dead worker means, None if the error is about something else."""
        return self.loader.explain(error)


def median_seconds(dataset: Dataset, split: str) -> float | None:
    """Seconds of the middle clip of a split, by at most 64 of them; None if none opens."""
    records = dataset.subset(split).records
    lengths = []
    for record in records[:: max(1, len(records) // _OPENED)]:
        try:
            sample = open_source(record.path)
            try:
                end = duration_of(sample)
            finally:
                sample.close()
        except FoveateError:
            continue  # the loader will tell
        start = record.start or 0.0
        lengths.append(min(end, math.inf if record.end is None else record.end) - start)
    return statistics.median(lengths) if lengths else None


def fitting_frames(dataset: Dataset, split: str, spec: InputSpec) -> int:
    """Frames of a training clip: the model's own number, or fewer where the videos are shorter.

    A network that is to see a clip of two seconds whole, at the rate of its weights, needs no more
    frames than that: more would show time running slower than in prediction.

    Args:
        dataset: The clips.
        split: Those that are trained on; the median over at most 64 of them decides.
        spec: What the weights expect.
    """
    seconds = median_seconds(dataset, split)
    if seconds is None:
        return spec.clip_frames
    fitting = round(seconds * spec.frames_per_second)
    return max(1, min(spec.clip_frames, fitting))


def mirror_of(classes: Sequence[str]) -> tuple[int | None, ...]:
    """For each class that of its mirror image: `left` and `right` in names change places."""
    return mirrored_by_words(classes, HANDED)


def clips_of(
    dataset: Dataset,
    *,
    batch: int,
    seed: int,
    workers: int,
    augment: Strength,
    flip: bool,
    **more: Any,
) -> Source:
    """A source over the clips of a data set.

    In training a window is taken from a random place of each clip; in evaluation from its middle,
    with the preprocessing of prediction.

    Args:
        dataset: From `foveate.data.read`, with its splits.
        batch: Clips per step over all processes.
        seed: Of order, places and transforms.
        workers: Loading processes.
        augment: `none`: the centre square; `light`: random crops of at least half the area;
            `strong`: smaller crops, colour and RandAugment; `full`: crops of any size and shape
            (area from .08, width by height from 1/2 to 2) and two operations of RandAugment.
        flip: Mirror half of the clips; classes with `left` or `right` in their names change too.
        **more: Further arguments of `data.make_loader`.
    """

    def source(split: str, training: bool, spec: InputSpec, team: Team) -> Batches | None:
        if not len(dataset.subset(split)):
            return None
        transform: Transform = Centre.of(spec)
        if training:
            transform = transform_of(augment, spec, dataset.classes, flip)
        sampling = partial(samplers.window, count=spec.clip_frames, rate=spec.frames_per_second)
        loader = make_loader(
            dataset,
            split,
            sampling,
            transform,
            batch=max(batch, team.world),
            train=training,
            seed=seed,
            workers=workers,
            rank=team.rank if training else 0,
            world=team.world if training else 1,
            **more,
        )
        return LoaderBatches(loader)

    return source


def transform_of(
    augment: Strength, spec: InputSpec, classes: Sequence[str], flip: bool
) -> Transform:
    """The training transform of that strength.

    Raises:
        MissingExtra: torchvision is not installed (`none` does without it).
    """
    if augment == "none":
        return Centre.of(spec)
    chance = 0.5 if flip else 0.0
    mirror = mirror_of(classes)
    if augment == "full":  # 3D ResNet-RS decodes 256 pixels for squares of 224
        return Augment(
            spec.size, (0.08, 1.0), decode=256 / 224, flip=chance, mirror=mirror, operations=2,
            ratio=(0.5, 2.0),
        )  # fmt: skip
    if augment == "light":
        return Augment(spec.size, (0.5, 1.0), flip=chance, mirror=mirror)
    return Augment(
        spec.size, (0.25, 1.0), flip=chance, mirror=mirror, colour=0.3, operations=1, magnitude=7
    )
