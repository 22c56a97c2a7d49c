"""Kinetics CSV: label, youtube_id, time_start, time_end, split (400, 600 and 700 alike).

Clips are found as `ID_SSSSSS_EEEEEE.mp4` (trimmed) or `ID.mp4` (whole videos, of which the
stretch is taken), beside the annotation, in a folder named after the split or class, or anywhere
below.
"""

from __future__ import annotations

from pathlib import Path

from foveate.data.readers import text
from foveate.data.readers.request import SPLITS, Listing, Request
from foveate.data.record import Record

_NEEDED = {"label", "youtube_id", "time_start", "time_end"}


def claims(path: Path) -> bool:
    """Whether there is a CSV with the columns of Kinetics."""
    return bool(_tables(path))


def read(request: Request) -> Listing:
    """Read one table, or all of a folder; a table without a split column is named by its file."""
    records: list[Record] = []
    for file in _tables(request.path):
        table = text.table(file, request.faults)
        for line, row in table.rows:
            where = text.at(file, line)
            try:
                record = _record(request, file, row, where)
            except ValueError as error:
                request.faults.add(where, str(error))
                continue
            if record is not None:
                records.append(record)
    return Listing(records)


def _tables(path: Path) -> list[Path]:
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    return [
        file for file in files if {n.strip(' "') for n in text.head(file).split(",")} >= _NEEDED
    ]


def _record(request: Request, file: Path, row: dict[str, str], where: str) -> Record | None:
    name, label = row["youtube_id"], row["label"]
    start = text.number(row["time_start"], "time_start")
    end = text.number(row["time_end"], "time_end")
    if start is None or end is None or not name or not label:
        raise ValueError("an empty field")
    text.stretch(start, end)
    said = row.get("split") or _stem_split(file)
    split = SPLITS.get(said.lower()) if said else None
    if said and split is None:
        raise ValueError(f"unknown split {said!r} (train, val or test)")
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


def _stem_split(file: Path) -> str | None:
    words = file.stem.lower().replace("-", "_").split("_")
    return next((word for word in words if word in SPLITS), None)
