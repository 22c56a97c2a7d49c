"""Kinetics CSV: label, youtube_id, time_start, time_end, split (400, 600 and 700 alike).

Clips are found as `ID_SSSSSS_EEEEEE.mp4` (trimmed) or `ID.mp4` (whole videos, of which the
stretch is taken), beside the annotation, in a folder named after the split or class, or anywhere
below.
"""

from __future__ import annotations

import re
from pathlib import Path

from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import SPLITS, Listing, Request, composed, split_in, split_of
from foveate.data.readers.tree import Kind
from foveate.data.record import Record

OTHER_TABLES: Kind = (
    "table without the columns of Kinetics",
    "tables without the columns of Kinetics",
)
_NEEDED = {"label", "youtube_id", "time_start", "time_end"}


def claims(path: Path) -> bool:
    """Whether there is a CSV with the columns of Kinetics."""
    return bool(_tables(path))


def read(request: Request) -> Listing:
    """Read one table, or all of a folder; a table without a split column is named by its file."""
    records: list[Record] = []
    tables = [request.path] if request.path.is_file() else _tables(request.path)
    for other in sorted(request.path.glob("*.csv")) if request.path.is_dir() else ():
        if other not in tables:
            request.passed.add(OTHER_TABLES, other)
    for file in tables:
        table = text.table(file, request.faults)
        if missing := sorted(_NEEDED.difference(table.columns)):
            raise DataError(f"{text.at(file, 1)}: no column {', '.join(missing)}")
        for line, row in table.rows:
            where = text.at(file, line)
            record = _record(request, file, row, where)
            if record is not None:
                records.append(record)
    request.count_unnamed(records)
    return Listing(records, named=True)


def _tables(path: Path) -> list[Path]:
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    return [file for file in files if _columns(file) >= _NEEDED]


def _columns(file: Path) -> set[str]:
    """Names of the columns of a table; empty where it has no header that can be read."""
    line = text.head(file)
    try:
        return {name.lower() for name in text.fields(line, text.delimiter_of(line))}
    except ValueError:
        return set()


def _record(request: Request, file: Path, row: dict[str, str], where: str) -> Record | None:
    name, label = row["youtube_id"], composed(row["label"])
    start, end = (_seconds(request, row, column, where) for column in ("time_start", "time_end"))
    if not (row["time_start"] and row["time_end"] and name and label):
        request.fault(where, "an empty field")
    said = row.get("split") or _split_word(file)
    split = (SPLITS.get(said.lower()) or split_of(said)) if said else None
    if said and split is None:
        request.fault(where, f"unknown split {said!r} (train, val or test)")
    timed = True
    try:
        text.stretch(start, end)
    except ValueError as error:
        request.fault(where, str(error))
        timed = False
    if not timed or start is None or end is None or not name:
        return Record(request.root / name, (label,), split=split, where=where) if label else None
    trimmed = f"{name}_{round(start):06d}_{round(end):06d}"
    for folder in ("", f"{said}/", f"{label}/", f"{said}/{label}/", f"{label.replace(' ', '_')}/"):
        path = request.files.find(folder + trimmed)
        if path is not None:
            return Record(path, (label,), split=split, group=name, where=where)
        path = request.files.find(folder + name)
        if path is not None:
            return Record(path, (label,), start, end, split, group=name, where=where)
    path = request.locate(trimmed, where=where, anywhere=True)
    return None if path is None else Record(path, (label,), split=split, group=name, where=where)


def _split_word(file: Path) -> str | None:
    """The split in the name of a file as it is written there: clips lie in folders of that name."""
    words = re.split("[^a-z]+", file.stem.lower())
    return next((word for word in words if word in SPLITS), split_in(file.stem))


def _seconds(request: Request, row: dict[str, str], column: str, where: str) -> float | None:
    try:
        return text.number(row[column], column)
    except ValueError as error:
        request.fault(where, str(error))
        return None
