"""One labelled clip, and a set of them: what every annotation format is read into."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from foveate.core.loop import Box


@dataclass(frozen=True)
class ObjectBox:
    """One object in one frame.

    Attributes:
        label: Name of its class.
        box: `(x1, y1, x2, y2)` in pixels of the upright source.
        track: The same number for one object in several frames, None if it is not known.
    """

    label: str
    box: Box
    track: int | None = None


@dataclass(frozen=True)
class FrameBoxes:
    """An annotated frame: its number, counted from 0, and all objects in it, or none."""

    frame: int
    objects: tuple[ObjectBox, ...]


@dataclass(frozen=True)
class Record:
    """One labelled clip: a file, an interval of a file, or a folder of numbered pictures.

    Attributes:
        path: The file or folder.
        labels: Names of its classes; one, unless the data set has several per clip.
        start: Seconds from the first frame, None for the start of the file.
        end: Seconds from the first frame, None for the end of the file.
        split: `train`, `val`, `test` or the name of a fold; None if it was not given.
        group: Clips of one group (a source, a person) must not lie on both sides of a split.
        where: File and line that it came from, such as `clips.csv:12`.
        tags: Further columns of the annotation as (name, value).
        boxes: The annotated frames in ascending order, None where whole clips are labelled. Then
            `labels` are the classes of all boxes.
    """

    path: Path
    labels: tuple[str, ...]
    start: float | None = None
    end: float | None = None
    split: str | None = None
    group: str | None = None
    where: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    boxes: tuple[FrameBoxes, ...] | None = None

    def tag(self, name: str) -> str | None:
        """The value of a further column, None where there is no such column."""
        return dict(self.tags).get(name)


@dataclass(frozen=True)
class Dataset:
    """Labelled clips with their classes; immutable, so that it can be shared and hashed.

    Attributes:
        records: In the order of the annotation.
        classes: Names in the order of their indices.
        root: Folder that paths are given relative to.
        multilabel: Whether a clip may have several classes, or none.
        left_out: Lines about clips of the annotation that are not on this machine, if the reader
            was allowed to leave them out.
        passed_over: Lines about skipped files, with counts.
    """

    records: tuple[Record, ...]
    classes: tuple[str, ...]
    root: Path
    multilabel: bool = False
    left_out: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have clips: train, val and test first, then by name."""
        found = {record.split for record in self.records if record.split is not None}
        first = [name for name in ("train", "val", "test") if name in found]
        return (*first, *sorted(found.difference(first)))

    @property
    def has_boxes(self) -> bool:
        """Whether these are the labels of video object detection."""
        return any(record.boxes is not None for record in self.records)

    def subset(self, split: str) -> Dataset:
        """The clips of one split, with all classes."""
        return self.where(lambda record: record.split == split)

    def where(self, wanted: Callable[[Record], bool]) -> Dataset:
        """The clips for which `wanted` is true, with all classes."""
        return replace(self, records=tuple(r for r in self.records if wanted(r)))

    def indices(self, record: Record) -> tuple[int, ...]:
        """Class indices of a record's labels.

        Raises:
            KeyError: A label that is no class of this data set.
        """
        return tuple(self._places[label] for label in record.labels)

    def name(self, record: Record) -> str:
        """The record's path relative to the root, with slashes on every system."""
        try:
            return record.path.relative_to(self.root).as_posix()
        except ValueError:
            return record.path.as_posix()

    def class_counts(self, split: str | None = None) -> dict[str, int]:
        """Clips per class, in the order of the classes; of one split if it is named."""
        counts = Counter(
            label
            for record in self.records
            if split is None or record.split == split
            for label in record.labels
        )
        return {name: counts[name] for name in self.classes}

    def digest(self, split: str | None = None) -> str:
        """A fingerprint for checkpoints, to detect evaluation on clips of the training.

        Returns:
            The sha256, in hexadecimal, of the classes and the sorted relative paths, labels, times
            and boxes; the order of the records and the place of the root do not matter.
        """
        chosen = self.records if split is None else self.subset(split).records
        rows = sorted(
            json.dumps(
                [
                    self.name(r),
                    list(r.labels),
                    r.start,
                    r.end,
                    *(
                        ()
                        if r.boxes is None
                        else [
                            [
                                [b.frame, [[o.label, *o.box, o.track] for o in b.objects]]
                                for b in r.boxes
                            ]
                        ]
                    ),
                ],
                ensure_ascii=False,
            )
            for r in chosen
        )
        text = "\n".join([json.dumps(list(self.classes), ensure_ascii=False), *rows])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def whole_videos(self) -> Dataset:
        """One record per file with the labels of all its stretches (video-level recognition).

        The first record of a file lends its split, group and place.
        """
        labels: dict[Path, dict[str, None]] = {}
        first: dict[Path, Record] = {}
        for record in self.records:
            first.setdefault(record.path, record)
            labels.setdefault(record.path, {}).update(dict.fromkeys(record.labels))
        records = tuple(
            replace(record, labels=tuple(labels[path]), start=None, end=None)
            for path, record in first.items()
        )
        several = any(len(names) != 1 for names in labels.values())
        return replace(self, records=records, multilabel=self.multilabel or several)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.classes)}
