"""Opening labelled videos the same way for every verb: read, split, find the part that is meant."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from foveate.core import ConfigError
from foveate.core.config import nearest
from foveate.data import DataError, Dataset, folds, read
from foveate.data import split as split_by_group

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
        """Plain values, with absolute paths, for whoever goes on with a run later."""
        values = asdict(self)
        for key in ("path", "videos"):
            if values[key] is not None:
                values[key] = str(values[key].resolve())
        return values

    @classmethod
    def of(cls, origin: Mapping[str, Any]) -> DataRequest:
        """The request that `origin` was taken of.

        Raises:
            ConfigError: The values are none of a request's.
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


def open_labelled(request: DataRequest) -> Dataset:
    """Read a data set and give every record its split: train, val or test.

    What the reader passed over is said on standard error.

    Splits that the data names are kept. Where it names none, clips are dealt out 70, 15 and 15 in
    a hundred; where it has training clips but none for validation, some of those are taken.
    Groups, files and copies stay together. All of it depends on the split seed alone.

    Raises:
        DataError: What `data.read` raises, with every fault by file and line.
        ConfigError: Folds and no word which one, or a fold that is none.
    """
    dataset = read(
        request.path, request.format, request.videos,
        part=request.part, allow_missing=request.allow_missing,
    )  # fmt: skip
    for line in dataset.passed_over:
        print(f"foveate: passed over {line}", file=sys.stderr)
    if request.fold is not None:
        dataset = _fold(dataset, request.fold)
    elif not dataset.splits:
        dataset = split_by_group(dataset, seed=request.split_seed)
    elif "train" not in dataset.splits and not {"val", "test"} & set(dataset.splits):
        names = ", ".join(dataset.splits)
        raise ConfigError(f"{request.path}: the clips are in folds ({names})", "say --fold NAME")
    if "val" not in dataset.splits and "train" in dataset.splits:
        dataset = _with_validation(dataset, request.split_seed)
    return dataset


def choose_split(dataset: Dataset, asked: str | None) -> str:
    """The split to measure on: the one asked for, or test, or val.

    Raises:
        ConfigError: There is no such split.
    """
    if asked is None:
        found = next((name for name in ("test", "val") if name in dataset.splits), None)
        if found is None:
            raise ConfigError("the data has no test and no val clips", "say --split train")
        return found
    if asked not in dataset.splits:
        guess = nearest(asked, dataset.splits)
        cure = f"did you mean {guess}?" if guess else f"there are: {', '.join(dataset.splits)}"
        raise ConfigError(f"--split {asked}: the data has no such split", cure)
    return asked


def seen_in_training(model: str, dataset: Dataset, split: str) -> str | None:
    """A line if clips of the split may have been seen when the model was trained.

    A run folder keeps digests of the clips it was trained on: if the training clips of this data
    set are the same ones, the others were not seen.
    """
    from foveate.models.weights.builtin import is_run
    from foveate.models.weights.run import read_run

    if not is_run(model):
        return None
    card = read_run(model)
    trained = card.digests.get(str(card.configuration.get("train_split", "train")))
    if split == "train":
        return "these clips are those of training: the figures say little about others"
    if trained and "train" in dataset.splits and dataset.digest("train") != trained:
        return (
            "the training clips of this data set are not those the model was trained on (other "
            "clips, another split seed or fold): some of these videos may have been seen"
        )
    return None


def tell_faults(error: DataError) -> None:
    """Print every fault of a data set; the error's own line comes from `guard`."""
    if error.count > 1:
        for line in error.faults:
            print(f"  {line}", file=sys.stderr)
        if error.count > len(error.faults):
            print(f"  and {error.count - len(error.faults)} more", file=sys.stderr)


def _fold(dataset: Dataset, name: str) -> Dataset:
    for fold in folds(dataset):
        if fold.name == name:
            return fold.dataset
    raise ConfigError(f"--fold {name}: no such fold", f"there are: {', '.join(dataset.splits)}")


def _with_validation(dataset: Dataset, seed: int) -> Dataset:
    """Some of the training clips become those of validation."""
    training = dataset.subset("train")
    dealt = split_by_group(training, {"train": 1 - VAL_SHARE, "val": VAL_SHARE}, seed)
    side = {id(old): new.split for old, new in zip(training.records, dealt.records, strict=True)}
    records = tuple(replace(r, split=side.get(id(r), r.split)) for r in dataset.records)
    return replace(dataset, records=records)
