"""Segments of clips: every modality is extracted once, by the requests and the fetch of prediction.

In training some segments of a clip are drawn, with one crop and one flip for all modalities, other
colours, and another start and loudness of the sound; in evaluation all segments are shown as in
prediction.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from foveate.core import FoveateError, InputSpec, MediaError, Selection, View, Window
from foveate.core.groups import spread
from foveate.data import DataError, Dataset, Record
from foveate.data.loader import tolerated
from foveate.data.sources import duration_of
from foveate.media import display_name, open_source
from foveate.media.compressed.cache import write_arrays
from foveate.media.folder import RATE
from foveate.models.adamml import FRAMES, SOUND
from foveate.pipeline.adamml import prepared
from foveate.pipeline.fetch import Fetch
from foveate.pipeline.ledger import ChargedSample, Ledger
from foveate.policy.looks.modalities import VIEWS, Modalities
from foveate.train.kit.randomness import generator
from foveate.train.videos import mirror_of

VERSION = 1  # increase it when the files change: stored ones are then made again


@dataclass(frozen=True)
class Reading:
    """What is stored of a clip.

    Attributes:
        look: Its segments and requests.
        inputs: Modalities, those that only the policy sees included.
        spec: Side of the stored pictures, larger than the network's so that crops can be drawn.
        most: Segments, evenly spread.
    """

    look: Modalities
    inputs: tuple[str, ...]
    spec: InputSpec
    most: int


@dataclass(frozen=True)
class SegmentSet:
    """The stored clips of a split.

    Attributes:
        files: One for each clip.
        names: Of the clips.
        counts: Segments of each.
        labels: (N,) class indices.
        failures: What could not be read, with the reason.
    """

    files: tuple[Path, ...]
    names: tuple[str, ...]
    counts: tuple[int, ...]
    labels: Tensor
    failures: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, rows: Sequence[int]) -> SegmentSet:
        """Some of the clips, in that order."""
        return replace(
            self,
            files=tuple(self.files[at] for at in rows),
            names=tuple(self.names[at] for at in rows),
            counts=tuple(self.counts[at] for at in rows),
            labels=self.labels[list(rows)],
        )


def keep_all(
    dataset: Dataset, folder: Path, how: Reading, progress: Callable[[int, int], None]
) -> SegmentSet:
    """Extract the segments of all clips of a data set, except those that are stored already.

    Raises:
        DataError: More clips cannot be read than a loader tolerates, or all.
    """
    files, names, counts, labels, failures = [], [], [], [], []
    for done, record in enumerate(dataset.records, 1):
        try:
            path, count = keep(record, folder, how)
            files.append(path)
            names.append(dataset.name(record))
            counts.append(count)
            labels.append(dataset.indices(record)[0])
        except FoveateError as error:
            failures.append(f"{dataset.name(record)}: {error.cause}")
        progress(done, len(dataset))
    if not files or len(failures) > tolerated(len(dataset)):
        first = f" (the first: {failures[0]})" if failures else ""
        raise DataError(f"{len(failures)} of {len(dataset)} clips cannot be used{first}")
    return SegmentSet(
        tuple(files), tuple(names), tuple(counts), torch.tensor(labels), tuple(failures)
    )


def require_modalities(kept: SegmentSet, names: Sequence[str]) -> None:
    """Refuse modalities of which no segment of any clip has data: their networks learn nothing.

    Raises:
        DataError: No clip has one of them.
        MediaError: A stored clip is damaged.
    """
    missing = list(names)
    for file, count in zip(kept.files, kept.counts, strict=True):
        if not missing:
            return
        views = stored(file, missing, range(count))
        missing = [name for name in missing if not views[name].valid.any()]
    if missing:
        raise DataError(
            f"modalities: none of the {len(kept)} training clips has {' or '.join(missing)}",
            f"leave out {', '.join(missing)}",
        )


def keep(record: Record, folder: Path, how: Reading) -> tuple[Path, int]:
    """The stored file of a clip, made if it does not exist, and its number of segments.

    Raises:
        MediaError: The clip cannot be read.
    """
    path = folder / f"{_key(record, how)}.safetensors"
    if path.is_file():
        try:
            with safe_open(path, "numpy") as file:
                return path, int(file.get_tensor("spans").shape[0])
        except SafetensorError:
            pass  # damaged: made again
    arrays = read_segments(record, how)
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays, {"version": str(VERSION)})
    return path, len(arrays["spans"])


def read_segments(record: Record, how: Reading) -> dict[str, Any]:
    """Arrays (S, ...) of each modality by name, with `NAME.valid` (S,), and `spans` (S, 2).

    Raises:
        MediaError: The clip cannot be read, or is shorter than its record says.
    """
    sample = open_source(record.path, fps=RATE)
    try:
        start = record.start or 0.0
        end = min(duration_of(sample), math.inf if record.end is None else record.end)
        if start >= end:
            raise MediaError(f"starts at {start:g} s, the video lasts {end:g} s")
        window, ledger = Window(start, end), Ledger()
        all_of = how.look.segments(window)
        spans = tuple(all_of[at] for at in spread(len(all_of), how.most))
        fetch = Fetch(ChargedSample(sample, ledger), ledger, 1.0)
        arrays: dict[str, Any] = {"spans": np.array(spans)}
        for name in how.inputs:
            every = 1 if name in how.look.modalities else 2
            kind = VIEWS.get(name, name)
            request = how.look.request(name, spans, every, fetch.sample)
            view = fetch(Selection({kind: request}, dense=False), how.spec, window).views[kind]
            if len(view.array) != len(spans):
                raise MediaError("no frame could be decoded")
            wide = view.array.dtype == np.float32
            arrays[name] = np.ascontiguousarray(
                view.array.astype(np.float16) if wide else view.array
            )
            arrays[f"{name}.valid"] = view.valid.reshape(len(spans), -1).all(1).astype(np.uint8)
        return arrays
    finally:
        sample.close()


@dataclass(frozen=True)
class SegmentBatch:
    """Segments of some clips.

    Attributes:
        x: Modality → (B, S, F, C, H, W).
        valid: Modality → (B, S), 1 where there is such data.
        y: (B,) class indices.
        rows: (B,) positions of the clips in their split.
        places: (B, S) positions of the segments in their clip.
    """

    x: dict[str, Tensor]
    valid: dict[str, Tensor]
    y: Tensor
    rows: Tensor
    places: Tensor


class SegmentBatches:
    """Batches of clips for AdaMML.

    Args:
        kept: The clips.
        how: What is stored of each.
        spec: What the networks expect.
        classes: Names of all classes, for mirror images.
        batch: Clips of a step.
        segments: Drawn of each clip.
        flip: Mirror half of the clips.
        seed: Of order, segments, crops and flips.
        columns: Times of spectrograms.
    """

    def __init__(
        self, kept: SegmentSet, how: Reading, spec: InputSpec, classes: Sequence[str], batch: int,
        segments: int, flip: bool, seed: int, columns: int = 256,
    ) -> None:  # fmt: skip
        self.kept, self.how, self.spec = kept, how, spec
        self.size, self.segments, self.seed = batch, segments, seed
        self._columns = columns
        self._mirror: tuple[int | None, ...] = (
            mirror_of(classes) if flip else (None,) * len(classes)
        )

    def __len__(self) -> int:
        """Batches of nearly equal size, because BatchNorm needs several clips."""
        return max(1, -(-len(self.kept) // self.size))

    def epoch(self, purpose: str, number: int, names: Sequence[str]) -> Iterator[SegmentBatch]:
        """Batches of an epoch.

        Args:
            purpose: With the number, decides what is drawn.
            number: Of the epoch.
            names: Modalities.
        """
        stream = generator(self.seed, purpose, number)
        for chosen in torch.randperm(len(self.kept), generator=stream).tensor_split(len(self)):
            items = [
                self._drawn(int(row), generator(self.seed, purpose, number, int(row)), names)
                for row in chosen
            ]
            yield SegmentBatch(
                {name: torch.stack([one.x[name] for one in items]) for name in names},
                {name: torch.stack([one.valid[name] for one in items]) for name in names},
                torch.stack([one.y for one in items]),
                chosen,
                torch.stack([one.places for one in items]),
            )

    def whole(self, row: int, names: Sequence[str]) -> SegmentBatch:
        """All segments of a clip as in prediction, without a batch dimension."""
        return self._shown(row, torch.arange(self.kept.counts[row]), names, (0.5, 0.5), False)

    def _drawn(self, row: int, random: torch.Generator, names: Sequence[str]) -> SegmentBatch:
        count = self.kept.counts[row]
        share = torch.arange(self.segments) + torch.rand(self.segments, generator=random)
        places = (share * count / self.segments).long().clamp(max=count - 1)
        down, across, turn = torch.rand(3, generator=random).tolist()
        flip = turn < 0.5 and bool(names) and self._mirror[int(self.kept.labels[row])] is not None
        batch = self._shown(row, places, names, (down, across), flip)
        # Other colours, so that a network does not recognise clips by them.
        for name in (one for one in FRAMES if one in batch.x):
            gain, offset = torch.rand(2, 3, 1, 1, generator=random)
            batch.x[name] = batch.x[name] * (0.6 + 0.8 * gain) + offset - 0.5
        # Another start and loudness, so that a network does not memorise its few clips.
        for name in (one for one in SOUND if one in batch.x):
            x = batch.x[name]
            turn = int(torch.randint(x.shape[-1], (), generator=random))
            louder = 2 * torch.randn((), generator=random)  # of a power, as a logarithm
            x = x.roll(turn, -1)
            batch.x[name] = x + louder if name == "sound" else x * (louder / 2).exp()
        return batch

    def _shown(
        self, row: int, places: Tensor, names: Sequence[str], at: tuple[float, float], flip: bool
    ) -> SegmentBatch:
        label = int(self.kept.labels[row])
        other = self._mirror[label] if flip else label
        x, valid = {}, {}
        shown = stored(self.kept.files[row], names, places.tolist()) if names else {}
        for name, view in shown.items():
            if name == "patch" and flip:  # other pictures are larger than a network's input
                view = View(np.ascontiguousarray(view.array[:, :, :, ::-1]), (), view.valid)
            elif name not in (*SOUND, "patch"):
                array = _moved(name, view.array, self.spec.size, self.how.spec.size, at, flip)
                view = View(array, (), view.valid)
            x[name] = torch.from_numpy(
                np.ascontiguousarray(prepared(name, view, self.spec, self._columns))
            )
            valid[name] = torch.from_numpy(view.valid).float()
        return SegmentBatch(x, valid, torch.tensor(other), torch.tensor(row), places)


def stored(file: Path, names: Sequence[str], places: Sequence[int]) -> dict[str, View]:
    """Modalities of some segments of a stored clip.

    Raises:
        MediaError: The file is missing or damaged.
    """
    found = {}
    try:
        with safe_open(file, "numpy") as opened:
            for name in names:
                array = opened.get_tensor(name)
                valid = opened.get_tensor(f"{name}.valid").astype(bool)
                rows = list(places)
                array = array[rows]
                if array.dtype == np.float16:
                    array = array.astype(np.float32)
                found[name] = View(array, (), valid[rows])
    except (SafetensorError, OSError) as error:
        raise MediaError(f"{file.name}: cannot be read ({error})") from None
    return found


def _moved(name: str, array: Any, size: int, side: int, at: tuple[float, float], flip: bool) -> Any:
    """A crop of pictures (S, F, side, side, C), or of fields that are as high as the frame."""
    down, across = at
    if name == "mv":  # fields are as high as the frame; cells are squares of some pixels
        height, width = array.shape[2:4]
        high, wide = max(1, round(height * size / side)), max(1, round(width * size / side))
        top, left = int(down * (height - high)), int(across * (width - wide))
        array = array[:, :, top : top + high, left : left + wide]
        return np.ascontiguousarray(
            array[:, :, :, ::-1] * np.array([-1, 1], np.float32) if flip else array
        )
    top, left = round(down * (side - size)), round(across * (side - size))
    array = array[:, :, top : top + size, left : left + size]
    if flip:
        array = array[:, :, :, ::-1].copy()
        if name == "flow":
            array[..., ::2] = 255 - array[..., ::2]  # x points the other way
    return np.ascontiguousarray(array)


def _key(record: Record, how: Reading) -> str:
    """A name that depends on the clip and on what is stored of it."""
    try:
        stat = record.path.stat()
    except OSError as error:
        name = display_name(record.path)
        raise MediaError(f"{name}: cannot be read ({(error.strerror or '').lower()})") from None
    words = [VERSION, record.path.resolve(), stat.st_size, stat.st_mtime_ns, record.start,
             record.end, how.look.frames, how.look.seconds, how.inputs, how.look.modalities,
             how.spec, how.most]  # fmt: skip
    words += [] if how.look.patches is None else [how.look.patches]
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()[:24]
