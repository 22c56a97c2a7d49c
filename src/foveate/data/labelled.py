"""Opens labelled videos, the same for all commands: read, split, choose a split."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foveate.core import ConfigError
from foveate.core.config import nearest
from foveate.core.errors import DataWarning
from foveate.data.readers.detect import read
from foveate.data.record import Dataset
from foveate.data.splits import folds
from foveate.data.splits import split as split_by_group

VAL_SHARE = 0.15  # of the training clips, where a data set has training clips and no others


@dataclass(frozen=True)
class DataRequest:
    """A data set as the user names it.

    Attributes:
        path: Folder or annotation.
        format: One of `data.FORMATS`, None to recognise it.
        videos: Folder of the clips, None for that of the annotation.
        part: Which of several published splits.
        allow_missing: Leave out clips that are not there.
        fold: The fold to test on, None where the data names train and test.
        split_seed: Of the split, where the data names none.
    """

    path: Path
    format: str | None = None
    videos: Path | None = None
    part: int = 1
    allow_missing: bool = False
    fold: str | None = None
    split_seed: int = 0

    def origin(self) -> dict[str, Any]:
        """Plain values, with absolute paths, so that a run can be resumed from another folder."""
        values = asdict(self)
        for key in ("path", "videos"):
            if values[key] is not None:
                values[key] = str(values[key].resolve())
        return values

    @classmethod
    def of(cls, origin: Mapping[str, Any]) -> DataRequest:
        """The request whose `origin` was saved.

        Raises:
            ConfigError: The values are not those of a request.
        """
        try:
            values = dict(origin)
            videos = values.pop("videos")
            return cls(
                path=Path(values.pop("path")),
                videos=None if videos is None else Path(videos),
                **values,
            )
        except (KeyError, TypeError):
            raise ConfigError("the run does not say where its data is", "name it again") from None


Videos = str | os.PathLike[str] | DataRequest | Dataset
"""Labelled videos as they are named: a path, a request, or records that were read already."""


def open_labelled(videos: Videos) -> Dataset:
    """Read a data set and give every record its split: train, val or test.

    Files that the reader skips are warnings (`core.errors.DataWarning`).

    Splits that the data names are kept. Where it names none, clips are divided 70, 15 and 15 in
    a hundred; where it has training clips but none for validation, some of those are taken.
    Groups, files and copies stay together. The result depends on the split seed alone.

    Args:
        videos: A folder or an annotation; a request, which says more than where; or records.

    Raises:
        DataError: What `data.read` raises, with every fault by file and line.
        ConfigError: The data is in folds and none is named, or there is no such fold.
    """
    if isinstance(videos, Dataset):
        dataset, fold, seed = videos, None, 0
    else:
        request = request_for(videos)
        dataset = read(
            request.path, request.format, request.videos,
            part=request.part, allow_missing=request.allow_missing,
        )  # fmt: skip
        fold, seed = request.fold, request.split_seed
    for line in dataset.passed_over:
        warnings.warn(f"skipped {line}", DataWarning, stacklevel=2)
    if fold is not None:
        dataset = _fold(dataset, fold)
    elif not dataset.splits:
        dataset = split_by_group(dataset, seed=seed)
    elif "train" not in dataset.splits and not {"val", "test"} & set(dataset.splits):
        names = ", ".join(dataset.splits)
        raise ConfigError(f"{dataset.root}: the clips are in folds ({names})", "say --fold NAME")
    if "val" not in dataset.splits and "train" in dataset.splits:
        dataset = _with_validation(dataset, seed)
    return dataset


def request_for(videos: str | os.PathLike[str] | DataRequest) -> DataRequest:
    """The request for a plain path; a request as it is."""
    return videos if isinstance(videos, DataRequest) else DataRequest(Path(videos))


def choose_split(dataset: Dataset, asked: str | None) -> str:
    """The split to evaluate on: the one requested, or test, or val.

    Raises:
        ConfigError: There is no such split.
    """
    if asked is None:
        found = next((name for name in ("test", "val") if name in dataset.splits), None)
        if found is None:
            raise ConfigError("the data has no test and no val clips", "name the split train")
        return found
    if asked not in dataset.splits:
        guess = nearest(asked, dataset.splits)
        hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(dataset.splits)}"
        raise ConfigError(f"the data has no split {asked!r}", hint)
    return asked


def only_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The clips of some classes; other labels and boxes of these clips are left out.

    Raises:
        ConfigError: No names, or a name that is not a class of the data.
    """
    for name in names:
        if name not in dataset.classes:
            guess = nearest(name, dataset.classes)
            hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(dataset.classes)}"
            raise ConfigError(f"the data has no class {name!r}", hint)
    if not names:
        raise ConfigError("no classes are named", f"there are: {', '.join(dataset.classes)}")
    records = [
        replace(
            record,
            labels=tuple(label for label in record.labels if label in names),
            boxes=None if record.boxes is None else tuple(
                replace(one, objects=tuple(o for o in one.objects if o.label in names))
                for one in record.boxes
            ),
        )
        for record in dataset.records
    ]  # fmt: skip
    kept = tuple(record for record in records if record.labels)
    return replace(dataset, records=kept, classes=tuple(dict.fromkeys(names)))


def _fold(dataset: Dataset, name: str) -> Dataset:
    for fold in folds(dataset):
        if fold.name == name:
            return fold.dataset
    raise ConfigError(f"the data has no fold {name!r}", f"there are: {', '.join(dataset.splits)}")


def _with_validation(dataset: Dataset, seed: int) -> Dataset:
    """Some of the training clips become those of validation."""
    training = dataset.subset("train")
    dealt = split_by_group(training, {"train": 1 - VAL_SHARE, "val": VAL_SHARE}, seed)
    side = {id(old): new.split for old, new in zip(training.records, dealt.records, strict=True)}
    records = tuple(replace(r, split=side.get(id(r), r.split)) for r in dataset.records)
    return replace(dataset, records=records)
