"""Frames with boxes, for the recipes of detectors.

A batch has `x`, (B, 3, T, H, W) uint8: of each sample the present frame, last, and the frames
before it that the method needs; and `y`, (B, T, 1 + M, 5) float32. In `y`, row 0 of a frame is
`(height, width, annotated, 0, 0)` in pixels without padding, and the others are `(x1, y1, x2, y2,
class)` in the same pixels, class -1 where there are fewer boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from foveate.core import FoveateError, MediaError
from foveate.data import DataError, Dataset, Record
from foveate.data.loader import tolerated
from foveate.data.prepare import Centre, to_tchw
from foveate.data.record import FrameBoxes
from foveate.data.sources import frame_times
from foveate.media import open_source
from foveate.media.folder import RATE
from foveate.models.detectors import Target
from foveate.models.spec import InputSpec
from foveate.train.kit.batches import Batch, Batches
from foveate.train.kit.distributed import ProcessGroup
from foveate.train.kit.randomness import mix

Gaps = Callable[[np.random.Generator], Sequence[int]]
"""Draws where the other frames of a sample lie, as frames relative to the present one."""

_AHEAD = 2  # batches that are loaded before they are needed


def single(random: np.random.Generator) -> Sequence[int]:
    """`Gaps` without other frames."""
    return ()


@dataclass(frozen=True)
class BoxClips:
    """A `videos.Source` of frames with boxes.

    In training, some annotated frames of every video are drawn in each epoch; in validation, a
    sample is the first frames of a video from the first annotated one on.

    Args:
        dataset: With boxes.
        batch: Samples per step over all processes.
        seed: Of everything drawn.
        workers: Loading threads; 0 loads in the main one. The batches are the same.
        per_video: Frames of each video in an epoch.
        sequence: Most frames of a video in validation.
        gaps: The other frames of a sample.
        flip: Mirror half of the samples.
    """

    dataset: Dataset
    batch: int
    seed: int
    workers: int = 2
    per_video: int = 4
    sequence: int = 40
    gaps: Gaps = single
    flip: bool = True

    def __call__(
        self, split: str, training: bool, spec: InputSpec, group: ProcessGroup
    ) -> Batches | None:
        """See `videos.Source`."""
        part = self.dataset.subset(split)
        records = tuple(record for record in part.records if record.boxes)
        if not records:
            return None
        return BoxBatches(self, records, training, spec, group.rank, group.world)


@dataclass
class BoxBatches:
    """`Batches` of the frames of some records; see the module for their form.

    Attributes:
        failures: Videos that could not be read, with the reason.
        warnings: None are noted: damage shows as a frame that cannot be read.
    """

    clips: BoxClips
    records: Sequence[Record]
    training: bool
    spec: InputSpec
    rank: int = 0
    world: int = 1
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Batches in an epoch; in validation one per video."""
        samples = len(self.records) * (self.clips.per_video if self.training else 1)
        return -(-samples // (self.clips.batch if self.training else 1))

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on.

        Raises:
            DataError: Too many videos cannot be read.
        """
        size = self.clips.batch if self.training else 1
        order = self._order(epoch)
        steps = [
            order[at * size : (at + 1) * size][self.rank :: self.world]
            for at in range(start_step, len(self))
        ]
        with ThreadPoolExecutor(max(1, self.clips.workers)) as pool:
            waiting: list[list[Future[_Loaded]]] = []
            for step in chain(steps, [None] * _AHEAD):
                if step is not None:
                    waiting.append([pool.submit(self._load, epoch, *one) for one in step])
                if len(waiting) > _AHEAD or (step is None and waiting):
                    yield self._joined([future.result() for future in waiting.pop(0)])

    def _order(self, epoch: int) -> list[tuple[int, int]]:
        """Samples as (record, number of the draw), shuffled in training."""
        draws = self.clips.per_video if self.training else 1
        order = [(at, draw) for at in range(len(self.records)) for draw in range(draws)]
        if self.training:
            np.random.default_rng(mix(self.clips.seed, "order", epoch)).shuffle(order)
        return order

    def _load(self, epoch: int, at: int, draw: int) -> _Loaded:
        """One sample: its record, frames and boxes, or the reason why there are none."""
        record = self.records[at]
        assert record.boxes is not None
        random = np.random.default_rng(mix(self.clips.seed, epoch, at, draw))
        boxes = {one.frame: one for one in record.boxes}
        try:
            sample = open_source(record.path, fps=RATE)
            try:
                times = frame_times(sample)
                if record.boxes[-1].frame >= len(times):
                    raise MediaError(
                        f"{record.path.name}: frame {record.boxes[-1].frame} is annotated, and "
                        f"there are {len(times)}"
                    )
                if self.training:
                    now = record.boxes[int(random.integers(len(record.boxes)))].frame
                    others = [now + step for step in self.clips.gaps(random)]
                    numbers = [*np.clip(others, 0, len(times) - 1).tolist(), now]
                else:
                    first = record.boxes[0].frame
                    numbers = list(range(first, min(first + self.clips.sequence, len(times))))
                wanted = sorted(set(numbers))
                source = (sample.info.width, sample.info.height)
                size = Centre.of(self.spec).decode_size(source)
                clip = sample.frames([times[number] for number in wanted], size)
            finally:
                sample.close()
            if len(clip) != len(wanted):
                raise MediaError(f"{record.path.name}: a frame cannot be decoded")
        except FoveateError as error:
            return _Loaded(at, str(error))
        pixels = to_tchw(clip.pixels)[[wanted.index(number) for number in numbers]]
        scale = np.array([size[0] / source[0], size[1] / source[1]] * 2, np.float32)
        places = {name: index for index, name in enumerate(self.clips.dataset.classes)}
        rows = [_rows(boxes.get(number), size, scale, places) for number in numbers]
        if self.training and self.clips.flip and random.random() < 0.5:
            pixels = pixels.flip(-1)
            for row in rows:
                row[1:, [0, 2]] = size[0] - row[1:, [2, 0]]
        return _Loaded(at, None, pixels.transpose(0, 1), rows)

    def _joined(self, samples: Sequence[_Loaded]) -> Batch:
        """One batch; pictures of different sizes are padded at their right and bottom."""
        for one in samples:
            line = f"{self.clips.dataset.name(self.records[one.at])}: {one.failure}"
            if one.failure is not None and line not in self.failures:
                self.failures.append(line)
        if len(self.failures) > tolerated(len(self.records)):
            raise DataError(
                f"{len(self.failures)} of {len(self.records)} videos cannot be read; the first is "
                f"{self.failures[0]}", "foveate data check names them all",
            )  # fmt: skip
        good = [one for one in samples if one.failure is None]
        if not good:
            return {"x": torch.zeros(0), "y": torch.zeros(0), "index": torch.zeros(0).long()}
        height, width = (max(one.pixels.shape[side] for one in good) for side in (2, 3))
        most = max(len(row) for one in good for row in one.rows)
        frames = len(good[0].rows)
        x = torch.zeros(len(good), 3, frames, height, width, dtype=torch.uint8)
        y = torch.full((len(good), frames, most, 5), -1.0)
        for place, one in enumerate(good):
            x[place, :, :, : one.pixels.shape[2], : one.pixels.shape[3]] = one.pixels
            for at, row in enumerate(one.rows):
                y[place, at, : len(row)] = torch.from_numpy(row)
        return {"x": x, "y": y, "index": torch.tensor([one.at for one in good])}


@dataclass(frozen=True)
class _Loaded:
    """A sample of record `at`: (3, T, H, W) frames and the rows of `y` of each."""

    at: int
    failure: str | None
    pixels: Tensor = field(default_factory=lambda: torch.zeros(0))
    rows: list[np.ndarray] = field(default_factory=list)


def _rows(
    boxes: FrameBoxes | None, size: tuple[int, int], scale: np.ndarray, classes: dict[str, int]
) -> np.ndarray:
    """The rows of `y` of one frame; None is a frame that is not annotated."""
    objects = [] if boxes is None else boxes.objects
    out = np.zeros((1 + len(objects), 5), np.float32)
    out[0, :3] = size[1], size[0], boxes is not None
    for row, found in zip(out[1:], objects, strict=True):
        row[:4], row[4] = np.array(found.box, np.float32) * scale, classes[found.label]
    return out


def targets_of(y: Tensor) -> tuple[list[Target], list[tuple[int, int]]]:
    """Boxes and labels, and the size `(H, W)`, of each frame of rows (B, 1 + M, 5) of `y`."""
    targets = []
    for rows in y[:, 1:]:
        kept = rows[rows[:, 4] >= 0]
        targets.append({"boxes": kept[:, :4], "labels": kept[:, 4].long()})
    return targets, [(int(height), int(width)) for height, width in y[:, 0, :2].tolist()]
