"""`read`: recognise the format of a data set, read it, check what all formats have in common."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from foveate.core.config import nearest
from foveate.data.errors import DataError, Faults
from foveate.data.readers import text
from foveate.data.readers.request import Listing, Request, composed
from foveate.data.record import Dataset, Record
from foveate.media import display_name

# Between the words of a label; between digits they may matter (1-0 is no 10).
_JOINTS = re.compile(r"(?<![0-9])[\s_-]+|[\s_-]+(?![0-9])")
# Asked in this order: the most specific formats first.
FORMATS = {
    "boxes": "boxes.csv, or folders of pictures with boxes_xywh.csv",
    "coco_videos": "COCO-style video annotations (boxes)",
    "imagenet_vid": "ImageNet VID (boxes)",
    "mot": "MOTChallenge (boxes)",
    "clips": "one table with the columns path and label",
    "kinetics": "Kinetics CSV",
    "ucf101": "UCF-101 split files",
    "hmdb51": "HMDB-51 split files",
    "something": "Something-Something v2 JSON",
    "activitynet": "ActivityNet JSON",
    "labelstudio": "Label Studio JSON",
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
        video_root: Folder of the clips, if it is not that of the annotation.
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
    try:
        listing = reader.read(request)
    except DataError as error:
        if not faults:
            raise
        # What stops the reader is one fault more: all of them are reported at once.
        file, _, what = str(error).partition(": ")
        faults.add(file, what)
        faults.check()
    request.settle()
    listing = _composed(listing, classes)
    classes = _classes(listing, request, classes)
    records = _apart([r for r in listing.records if r.where not in request.broken], faults)
    _check_training(records, faults)
    if not records and not faults:
        raise DataError(f"{faults.name}: no clips found", _hint(request))
    faults.check()
    return Dataset(
        tuple(records),
        tuple(classes),
        root,
        listing.multilabel,
        tuple(request.left_out),
        request.passed.lines(),
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
    passed = request.passed.lines()
    return f"skipped {'; '.join(passed[:3])}" if passed else None


def _composed(listing: Listing, given: Sequence[str] | None) -> Listing:
    """The listing with labels spelled as the given classes are, where Unicode's forms differ."""
    spelled = {composed(name): name for name in given or ()}
    if all(composed(name) == name for name in spelled.values()):
        return listing
    records = [
        replace(r, labels=tuple(spelled.get(label, label) for label in r.labels))
        for r in listing.records
    ]
    return replace(listing, records=records)


def _classes(listing: Listing, request: Request, given: Sequence[str] | None) -> tuple[str, ...]:
    """The classes, and a fault for every label that is none of them."""
    faults = request.faults
    known = tuple(given) if given is not None else listing.classes
    _check_text(listing.records, faults)
    if known is None:
        if listing.named:
            _check_numbers(listing.records, request)
        broken = request.broken
        found = {label for r in listing.records if r.where not in broken for label in r.labels}
        _check_spelling(listing.records, faults)
        if all(text.whole(label) is not None for label in found):
            return tuple(sorted(found, key=lambda label: (int(label), label)))
        return tuple(sorted(found))
    names = set(known)
    if len(names) < len(known) and (given is not None or not faults):
        twice = next(name for name in known if list(known).count(name) > 1)
        faults.add(faults.name, f"the class {twice!r} is named twice")
    if any(not name.strip() for name in known) and not faults:
        faults.add(faults.name, "the name of a class is empty")
    for record in listing.records:
        for label in record.labels:
            if label not in names:
                guess = nearest(label, known)
                hint = f" (did you mean {guess}?)" if guess else ""
                faults.add(record.where, f"unknown class {label!r}{hint}")
    return known


def _check_text(records: Sequence[Record], faults: Faults) -> None:
    """Labels are words that can be written down: not empty, and valid Unicode."""
    reported: set[str] = set()
    for record in records:
        for label in record.labels:
            if label in reported:
                continue
            if not label.strip():
                reported.add(label)
                faults.add(record.where, "the name of its class is empty")
            elif any("\ud800" <= c <= "\udfff" for c in label):
                reported.add(label)
                faults.add(record.where, f"the class {display_name(label)} is not valid Unicode")


def _check_numbers(records: Sequence[Record], request: Request) -> None:
    """One number as the label of a single clip, where all other labels are words, is a slip."""
    counts = Counter(label for record in records for label in record.labels)
    numbers = {label for label in counts if text.is_number(label)}
    words = sum(count for label, count in counts.items() if label not in numbers)
    if not numbers or words <= sum(counts[label] for label in numbers):
        return
    for record in records:
        for label in record.labels:
            if label in numbers and counts[label] == 1:
                request.fault(record.where, f"label {label!r} is a number, the others are words")


def _check_spelling(records: Sequence[Record], faults: Faults) -> None:
    """Labels that differ only in case, spaces or underscores are one class written twice."""
    first: dict[str, tuple[str, str]] = {}
    reported = set()
    for record in records:
        for label in record.labels:
            plain = _plain(label)
            name, where = first.setdefault(plain, (label, record.where))
            if name != label and label not in reported:
                reported.add(label)
                faults.add(
                    record.where, f"unknown class {label!r} (did you mean {name}, as in {where}?)"
                )


def _plain(label: str) -> str:
    """What labels have in common that are one class written in two ways.

    Case, spaces, underscores, marks that are not seen, wide letters, and zeros before a number.
    Other scripts' digits stay what they are.
    """
    seen = (
        c if c.isnumeric() else unicodedata.normalize("NFKC", c)
        for c in label
        if unicodedata.category(c) != "Cf"
    )
    plain = _JOINTS.sub("", "".join(seen).casefold())
    number = text.whole(plain)
    return plain if number is None else str(number)


def _apart(records: Sequence[Record], faults: Faults) -> list[Record]:
    """The records without duplicates; a file on two sides of a split is a fault."""
    seen: dict[tuple[str, float | None, float | None], Record] = {}
    sides: dict[str, Record] = {}
    kept: list[Record] = []
    for record in records:
        path = os.path.normpath(os.path.abspath(record.path))
        first = sides.setdefault(path, record)
        twin = seen.setdefault((path, record.start, record.end), record)
        fault = _clash(record, first, twin)
        if fault:
            name = display_name(record.path.name)
            named = record.where.rpartition("/")[2] == name
            faults.add(record.where, fault if named else f"{name} {fault}")
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
    reported: set[str] = set()
    for record in records:
        for label in record.labels:
            if record.split != "train" and record.split and label not in trained | reported:
                reported.add(label)
                faults.add(
                    record.where, f"class {label!r} of split {record.split} has no training clip"
                )
