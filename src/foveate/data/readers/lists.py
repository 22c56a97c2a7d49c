"""Lists of "path label", one clip per line, as SlowFast, TSN and MMAction write them.

Between the fields stands a comma, a semicolon, a tab or a space; a path may hold spaces. A third
field in the middle is the number of frames of a frame folder, and is checked. Where labels are
numbers, their names come from a file of one name per line beside the list.
"""

from __future__ import annotations

import re
from pathlib import Path

from foveate.data.readers import text
from foveate.data.readers.request import SPLITS, Listing, Request
from foveate.data.record import Record
from foveate.media.folder import picture_names

NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt", "label_map.txt", "category.txt")
_SUFFIXES = (".txt", ".csv", ".tsv", ".lst", ".list")


def claims(path: Path) -> bool:
    """Whether this is a list, or a folder with lists named after splits."""
    return bool(_lists(path))


def read(request: Request) -> Listing:
    """Read one list, or the lists of a folder; the split comes from the name of the file."""
    records: list[Record] = []
    for file in _lists(request.path):
        split = _split_of(file)
        for line, row in text.lines(file, request.faults):
            where = text.at(file, line)
            try:
                record = _record(request, row, split, where)
            except ValueError as error:
                request.faults.add(where, str(error))
                continue
            if record is not None:
                records.append(record)
    folder = request.path if request.path.is_dir() else request.path.parent
    return _named(request, folder, records)


def _lists(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in _SUFFIXES else []
    found = [p for p in sorted(path.iterdir()) if p.suffix.lower() in _SUFFIXES and p.is_file()]
    return [p for p in found if p.name not in NAME_FILES and _split_of(p) is not None]


def _split_of(file: Path) -> str | None:
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _record(request: Request, row: str, split: str | None, where: str) -> Record | None:
    parts = _parts(request, row)
    if len(parts) < 2 or not parts[0] or not parts[-1]:
        raise ValueError(f"not of the form: path label ({row.strip()[:80]!r})")
    if len(parts) > 3:
        raise ValueError(f"{len(parts)} fields, not: path label, or path frames label")
    path = request.locate(parts[0], where=where)
    if path is None:
        return None
    if len(parts) == 3:
        _check_count(path, parts[1])
    return Record(path, (parts[-1],), split=split, where=where)


def _parts(request: Request, row: str) -> list[str]:
    """The fields of a line; where a space could be part of the path, the files on disk tell."""
    for delimiter in ("\t", ",", ";"):
        if delimiter in row:
            return text.fields(row, delimiter)
    row = row.strip()
    if row.startswith('"'):
        return text.fields(row, " ")
    two, three = row.rsplit(None, 1), row.rsplit(None, 2)
    if len(three) == 3 and three[1].isdigit() and request.files.find(two[0]) is None:
        return three
    return two


def _check_count(path: Path, field: str) -> None:
    if not field.isdigit():
        raise ValueError(f"the number of frames {field!r} is not a number")
    if path.is_dir() and len(picture_names(path)) != int(field):
        raise ValueError(f"{field} frames, but the folder holds {len(picture_names(path))}")


def _named(request: Request, folder: Path, records: list[Record]) -> Listing:
    """Give numbered classes their names, if there is a file that says them."""
    if not all(record.labels[0].isdigit() for record in records):
        return Listing(records)
    file = next((folder / name for name in NAME_FILES if (folder / name).is_file()), None)
    if file is None:
        count = max((int(record.labels[0]) for record in records), default=-1) + 1
        return Listing(records, tuple(str(i) for i in range(count)) if count < 100_000 else None)
    names = _names(text.lines(file, request.faults))
    kept = []
    for record in records:
        at = int(record.labels[0])
        if at < len(names):
            kept.append(Record(record.path, (names[at],), split=record.split, where=record.where))
        else:
            request.faults.add(
                record.where, f"unknown class {at}: {file.name} names {len(names)} classes"
            )
    return Listing(kept, tuple(names))


def _names(rows: list[tuple[int, str]]) -> list[str]:
    """Names of classes from lines "name", "number name" or "name number"."""
    found = [row.strip() for _, row in rows]
    front = [re.split(r"[\s,]+", row, maxsplit=1) for row in found]
    if all(len(p) == 2 and p[0] == str(i) for i, p in enumerate(front)):
        return [p[1] for p in front]
    return found
