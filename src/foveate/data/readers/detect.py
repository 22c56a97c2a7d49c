"""`read`: recognise the format of a data set, read it, check what all formats have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from foveate.core.config import nearest
from foveate.data.errors import DataError, Faults
from foveate.data.readers.request import Listing, Request
from foveate.data.record import Dataset, Record
from foveate.media import display_name

# Asked in this order: the formats that are surest of themselves first.
FORMATS = {
    "clips": "one table with the columns path and label",
    "kinetics": "Kinetics CSV",
    "ucf101": "UCF-101 split files",
    "hmdb51": "HMDB-51 split files",
    "something": "Something-Something v2 JSON",
    "activitynet": "ActivityNet JSON",
    "lists": "lists of path and label",
    "folders": "one folder per class",
    "unlabelled": "a folder of videos, all of one class",
}


def read(
    path: str | os.PathLike[str],
    format: str | None = None,
    video_root: str | os.PathLike[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    part: int = 1,
    allow_missing: bool = False,
) -> Dataset:
    """Read a data set; no video is opened.

    Args:
        path: An annotation file, or a folder with one or with a folder per class.
        format: One of `FORMATS`; recognised if None.
        video_root: Folder that the clips lie in, if it is not that of the annotation.
        classes: The classes that are known, in order (those of a trained model); any other
            label is a fault.
        part: Which of several published splits to read (UCF-101, HMDB-51), from 1.
        allow_missing: Leave out clips that are not on this machine (`Dataset.left_out` lists
            them) instead of refusing.

    Raises:
        DataError: With all faults (at most fifty are kept), each by file and line: unknown
            class, missing file, duplicate, counts that do not match, overlap of two splits, bad
            numbers, bad text.
    """
    place = Path(path)
    if not place.exists():
        raise DataError(f"{display_name(path)}: no such file or folder")
    reader = _reader(place, format)
    root = Path(video_root) if video_root is not None else place if place.is_dir() else place.parent
    if not root.is_dir():
        raise DataError(f"{display_name(root)}: no such folder")
    faults = Faults(display_name(place.name or place))
    request = Request(place, root, faults, part, allow_missing)
    listing = reader.read(request)
    classes = _classes(listing, faults, classes)
    records = _apart(listing, faults)
    _check_training(records, faults)
    if not records and not faults:
        raise DataError(f"{faults.name}: no clips found", _hint(request))
    faults.check()
    return Dataset(
        tuple(records), tuple(classes), root, listing.multilabel, tuple(request.left_out)
    )


def recognise(path: Path) -> str:
    """The name of the format of a file or folder.

    Raises:
        DataError: No reader knows it.
    """
    for name in FORMATS:
        if _module(name).claims(path):
            return name
    what = "has neither annotations nor class folders" if path.is_dir() else "is no annotation"
    raise DataError(
        f"{display_name(path)}: {what} of a known format", f"known are {', '.join(FORMATS)}"
    )


def _reader(path: Path, format: str | None) -> Any:
    if format is None:
        return _module(recognise(path))
    if format not in FORMATS:
        guess = nearest(format, FORMATS)
        hint = f"did you mean {guess}?" if guess else f"known are {', '.join(FORMATS)}"
        raise DataError(f"unknown format {format!r}", hint)
    return _module(format)


def _module(name: str) -> Any:
    return import_module(f"foveate.data.readers.{name}")


def _hint(request: Request) -> str | None:
    if request.left_out:
        return f"{len(request.left_out)} clips of the annotation are missing"
    return None


def _classes(listing: Listing, faults: Faults, given: Sequence[str] | None) -> tuple[str, ...]:
    """The classes, and a fault for every label that is none of them."""
    known = tuple(given) if given is not None else listing.classes
    if known is None:
        found = sorted({label for record in listing.records for label in record.labels})
        if found and all(label.isdigit() for label in found):
            found.sort(key=int)
        _check_spelling(listing.records, faults)
        return tuple(found)
    names = set(known)
    if len(names) < len(known):
        twice = next(name for name in known if list(known).count(name) > 1)
        faults.add(faults.name, f"the class {twice!r} is named twice")
    for record in listing.records:
        for label in record.labels:
            if label not in names:
                guess = nearest(label, known)
                hint = f" (did you mean {guess}?)" if guess else ""
                faults.add(record.where, f"unknown class {label!r}{hint}")
    return known


def _check_spelling(records: Sequence[Record], faults: Faults) -> None:
    """Labels that differ only in case, spaces or underscores are one class written twice."""
    first: dict[str, tuple[str, str]] = {}
    told = set()
    for record in records:
        for label in record.labels:
            plain = "".join(c for c in label.casefold() if c not in " _-")
            name, where = first.setdefault(plain, (label, record.where))
            if name != label and label not in told:
                told.add(label)
                faults.add(
                    record.where, f"unknown class {label!r} (did you mean {name}, as in {where}?)"
                )


def _apart(listing: Listing, faults: Faults) -> list[Record]:
    """The records without duplicates; a file on two sides of a split is a fault."""
    seen: dict[tuple[str, float | None, float | None], Record] = {}
    sides: dict[str, Record] = {}
    kept: list[Record] = []
    for record in listing.records:
        path = os.path.normpath(os.path.abspath(record.path))
        first = sides.setdefault(path, record)
        twin = seen.setdefault((path, record.start, record.end), record)
        fault = _clash(record, first, twin)
        if fault:
            faults.add(record.where, f"{display_name(record.path.name)} {fault}")
        else:
            kept.append(record)
    return kept


def _clash(record: Record, first: Record, twin: Record) -> str | None:
    """What is wrong between a record, the first of the same file, and that of the same stretch."""
    if first.split != record.split:
        here, there = record.split or "no split", first.split or "no split"
        return f"is in {here} here and in {there} at {first.where}"
    if twin is not record and twin.labels == record.labels:
        return f"duplicate of {twin.where}"
    if twin is not record:
        return f"is {' | '.join(record.labels)} here and {' | '.join(twin.labels)} at {twin.where}"
    whole = [r.start is None and r.end is None for r in (first, record)]
    if first is not record and any(whole):
        return f"is listed whole and in stretches ({first.where})"
    return None


def _check_training(records: Sequence[Record], faults: Faults) -> None:
    """Every class that is asked for later must be in the training clips."""
    trained = {label for r in records if r.split == "train" for label in r.labels}
    if not trained:
        return
    told: set[str] = set()
    for record in records:
        for label in record.labels:
            if record.split != "train" and record.split and label not in trained | told:
                told.add(label)
                faults.add(
                    record.where, f"class {label!r} of split {record.split} has no training clip"
                )
