"""Lists of "path label", one clip per line, as SlowFast, TSN and MMAction write them.

Between the fields stands a comma, a semicolon, a tab or a space. A path may hold any of them: the
files on disk decide where it ends. A third field in the middle is the number of frames of a frame
folder, and is checked. Where labels are numbers, their names come from a file beside the list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foveate.data.readers import text
from foveate.data.readers.classes import ClassNames, class_names
from foveate.data.readers.request import Listing, Request, composed, split_in
from foveate.data.readers.tree import Kind
from foveate.data.record import Record
from foveate.media.folder import picture_names

NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt", "label_map.txt", "category.txt")
_SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".list")
_QUOTED = re.compile(r'"([^"]*)"')
_DELIMITERS = ("\t", ",", ";", " ")
_FAR = 10  # so many times beyond the classes that all have clips, a number is out of place
OTHER_LISTS: Kind = ("list whose name has no split", "lists whose names have no split")


def claims(path: Path) -> bool:
    """Whether this is a list, or a folder with lists named after splits."""
    return bool(_lists(path))


def read(request: Request) -> Listing:
    """Read one list, or the lists of a folder; the split comes from the name of the file."""
    records: list[Record] = []
    files = _lists(request.path)
    if request.path.is_dir():
        for file in sorted(request.path.iterdir()):
            known = file in files or file.name in NAME_FILES
            if not known and file.suffix.lower() in _SUFFIXES and file.is_file():
                request.passed.add(OTHER_LISTS, file)
    for file in files:
        split = split_in(file.stem)
        for line, row in text.lines(file, request.faults):
            record = _record(request, row, split, text.at(file, line))
            if record is not None:
                records.append(record)
    request.count_unnamed(records)
    folder = request.path if request.path.is_dir() else request.path.parent
    return _named(request, folder, records)


def _lists(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in _SUFFIXES else []
    found = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _SUFFIXES and p.is_file()]
    return [p for p in found if p.name not in NAME_FILES and split_in(p.stem) is not None]


def _record(request: Request, row: str, split: str | None, where: str) -> Record | None:
    try:
        parts = _parts(request, row)
        if len(parts) < 2 or not parts[0] or not parts[-1]:
            raise ValueError(f"not of the form: path label ({row.strip()[:80]!r})")
        if len(parts) > 3:
            raise ValueError(f"{len(parts)} fields, not: path label, or path frames label")
        if text.whole(parts[0]) is not None and request.files.has(parts[-1]):
            raise ValueError("the label is before the path")
    except ValueError as error:
        request.fault(where, str(error))
        return None
    path = request.locate(parts[0], where=where)
    if path is None:
        return None
    if len(parts) == 3:
        try:
            _check_count(path, parts[1])
        except ValueError as error:
            request.faults.add(where, str(error))  # path and label are what they are
    return Record(path, (composed(parts[-1]),), split=split, where=where)


def _parts(request: Request, row: str) -> list[str]:
    """The fields of a line: those with the longest path that exists, else by the delimiter."""
    row = row.strip()
    found = _on_disk(request, row)
    if found is not None:
        label = _QUOTED.fullmatch(found[-1])
        return [*found[:-1], label[1].strip() if label else found[-1]]
    if row.startswith('"'):
        after = row[row.find('"', 1) + 1 :]
        return text.fields(row, next((d for d in _DELIMITERS if after.startswith(d)), " "))
    for delimiter in _DELIMITERS[:-1]:
        if delimiter in row:
            return text.fields(row, delimiter)
    three = row.rsplit(None, 2)
    return three if len(three) == 3 and text.whole(three[1]) is not None else row.rsplit(None, 1)


def _on_disk(request: Request, row: str) -> list[str] | None:
    """The fields of a line whose path exists, None where no path in it does."""
    usual = [
        [part.strip() for part in row.rsplit(delimiter, count)]
        for delimiter in _DELIMITERS
        for count in (1, 2)
        if row.count(delimiter) >= count
    ]
    usual = [f for f in usual if f[-1] and (len(f) == 2 or text.whole(f[1]) is not None)]
    usual.sort(key=lambda fields: -len(fields[0]))
    for fields in usual:
        if request.files.has(fields[0]):
            return fields
    # The label may hold delimiters too; such a path must be there with its ending.
    for at in [match.start() for match in re.finditer(r"[\t,; ]", row)][::-1]:
        path, rest = row[:at].strip(), row[at + 1 :].strip()
        if rest and request.files.has(path):
            return [path, *_behind(rest, row[at])]
    return next((fields for fields in usual if request.files.find(fields[0]) is not None), None)


def _behind(rest: str, delimiter: str) -> list[str]:
    """What follows a path: a label, a number of frames and a label, or too many numbers."""
    parts = [part.strip() for part in rest.split(delimiter)]
    numbers = [text.whole(part) is not None for part in parts]
    if len(parts) > 1 and (all(numbers) or (len(parts) == 2 and numbers[0])):
        return parts
    return [rest]


def _check_count(path: Path, field: str) -> None:
    wanted = text.whole(field)
    if wanted is None:
        raise ValueError(f"the number of frames {field!r} is not a number")
    if path.is_dir() and len(picture_names(path)) != wanted:
        raise ValueError(f"{field} frames, but the folder holds {len(picture_names(path))}")


def _named(request: Request, folder: Path, records: list[Record]) -> Listing:
    """Give numbered classes their names, if there is a file that says them."""
    file = next((folder / name for name in NAME_FILES if (folder / name).is_file()), None)
    labels = [record.labels[0] for record in records]
    numbers = sum(text.is_number(label) for label in labels)
    if file is not None:
        names = class_names(file, request.faults)
        if numbers or set(labels) & set(names.names):
            return _renamed(request, file.name, names, records)
    if 2 * numbers < len(labels) or not labels:
        for record in records:
            if text.is_number(record.labels[0]):
                request.fault(
                    record.where, f"label {record.labels[0]!r} is a number, the others are names"
                )
        return Listing([record for record in records if not text.is_number(record.labels[0])])
    for record in records:
        if text.whole(record.labels[0]) is None:
            _not_a_number(request, record)
    records = [record for record in records if text.whole(record.labels[0]) is not None]
    _out_of_place(request, records)
    records = [replace(record, labels=(str(int(record.labels[0])),)) for record in records]
    count = max((int(record.labels[0]) for record in records), default=-1) + 1
    return Listing(records, tuple(str(i) for i in range(count)) if count < 100_000 else None)


def _renamed(request: Request, file: str, names: ClassNames, records: Sequence[Record]) -> Listing:
    """Records under the names that a file gives their numbers."""
    kept = []
    for record in records:
        label = record.labels[0]
        number = text.whole(label)
        name = names[number] if number is not None else label
        if number is None and label not in names.names and text.is_number(label):
            _not_a_number(request, record)
        elif name is None:
            first = f" from {names.first}" if names.first else ""
            request.fault(
                record.where,
                f"unknown class {label}: {file} names {len(names.names)} classes{first}",
            )
        else:
            kept.append(replace(record, labels=(name,)))
    return Listing(kept, names.names)


def _not_a_number(request: Request, record: Record) -> None:
    request.fault(record.where, f"label {record.labels[0]!r} is not the number of a class")


def _out_of_place(request: Request, records: Sequence[Record]) -> None:
    """Note numbers far beyond classes that are numbered from 0 without a gap."""
    found = {int(record.labels[0]) for record in records}
    whole = next((i for i in range(len(found) + 1) if i not in found), 0)
    if whole < 2:
        return
    for record in records:
        if int(record.labels[0]) > _FAR * whole:
            request.fault(
                record.where,
                f"label {record.labels[0]} is out of place, the others are 0 to {whole - 1}",
            )
