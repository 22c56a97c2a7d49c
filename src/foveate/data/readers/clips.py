"""`clips.csv`: one row per clip, with the columns path and label and further ones by name.

`split` or `fold` names the side, `source` or `group` what clips have in common, `start` and `end`
the stretch in seconds. Several labels of one clip are joined with `|`. All other columns are kept
as the record's tags.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from foveate.core.config import nearest
from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import SPLITS, Listing, Request, composed, split_in, split_of
from foveate.data.readers.tree import Kind
from foveate.data.record import Record

FILE = "clips.csv"
OTHER_TABLES: Kind = ("other table beside clips.csv", "other tables beside clips.csv")
ROLES = {
    "path": ("path", "file", "filename", "video", "clip"),
    "label": ("label", "labels", "class"),
    "split": ("split", "subset", "fold"),
    "group": ("group", "source"),
    "start": ("start", "begin"),
    "end": ("end", "stop"),
}
T = TypeVar("T")


def claims(path: Path) -> bool:
    """Whether there is a `clips.csv`, or a table whose header has a path and a label."""
    file = path / FILE if path.is_dir() else path
    if file.name == FILE and file.is_file():
        return True
    if file.suffix.lower() not in (".csv", ".tsv", ".txt") or not file.is_file():
        return False
    line = text.head(file)
    try:
        columns = {name.lower() for name in text.fields(line, text.delimiter_of(line))}
    except ValueError:
        return False
    return bool(columns & set(ROLES["path"])) and bool(columns & set(ROLES["label"]))


def read(request: Request) -> Listing:
    """Read the table; every fault of a row is noted."""
    file = request.path / FILE if request.path.is_dir() else request.path
    if request.path.is_dir():
        for other in sorted(request.path.iterdir()):
            listed = other.suffix.lower() in (".txt", ".json") and split_in(other.stem)
            if other != file and (listed or other.suffix.lower() in (".csv", ".tsv")):
                request.passed.add(OTHER_TABLES, other)
    table = text.table(file, request.faults, lambda *row: _mended(request, *row))
    role = _roles(file, table.columns)
    records: list[Record] = []
    for line, row in table.rows:
        record = _record(request, row, role, text.at(file, line))
        if record is not None:
            records.append(record)
    request.count_unnamed(records)
    several = any(len(record.labels) > 1 for record in records)
    return Listing(records, multilabel=several, named=True)


def _record(
    request: Request, row: dict[str, str], role: dict[str, str], where: str
) -> Record | None:
    def noted(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except ValueError as error:
            request.fault(where, str(error))
            return otherwise

    values = {name: row[column] for name, column in role.items()}
    nothing: tuple[str, ...] = ()
    labels = noted(lambda: _labels(values["label"]), nothing)
    start = noted(lambda: text.number(values.get("start", ""), "start"), None)
    end = noted(lambda: text.number(values.get("end", ""), "end"), None)
    noted(lambda: text.stretch(start, end), None)
    split = noted(lambda: _split(values, role), None)
    if not values["path"]:
        request.fault(where, "no path")
        return None
    path = request.locate(values["path"], where=where)
    if path is None:
        return None
    tags = tuple((k, v) for k, v in row.items() if k not in role.values())
    group = composed(values.get("group", "")) or None
    return Record(path, labels, start, end, split, group, where, tags)


def _mended(
    request: Request, columns: tuple[str, ...], pieces: list[str], delimiter: str
) -> list[str] | None:
    """A row with too many fields, if joining some of them gives a path that exists."""
    name = next((name for name in ROLES["path"] if name in columns), None)
    if name is None:
        return None
    at = columns.index(name)
    more = len(pieces) - len(columns)
    path = delimiter.join(pieces[at : at + more + 1]).strip() if more >= 0 else ""
    spaced, pieces = pieces, [piece.strip() for piece in pieces]
    if request.files.has(path):
        return [*pieces[:at], path, *pieces[at + more + 1 :]]
    if len(columns) == 2 and more > 0 and request.files.has(pieces[0 if at == 0 else -1]):
        # The path is whole, so that the delimiters are those of the label.
        cut = 1 if at == 0 else len(pieces) - 1
        return [delimiter.join(spaced[:cut]).strip(), delimiter.join(spaced[cut:]).strip()]
    return None


def _roles(file: Path, columns: tuple[str, ...]) -> dict[str, str]:
    """Which column plays which part."""
    found = {
        role: next(name for name in names if name in columns)
        for role, names in ROLES.items()
        if set(names) & set(columns)
    }
    for role in ("path", "label"):
        if role not in found:
            guess = nearest(role, set(columns).difference(found.values()))
            hint = f"is it {guess}?" if guess else f"there are: {', '.join(columns)}"
            raise DataError(f"{text.at(file, 1)}: no column {role}", hint)
    return found


def _labels(field: str) -> tuple[str, ...]:
    labels = tuple(composed(part.strip()) for part in field.split("|"))
    if not all(labels):
        raise ValueError("no label" if not field else f"an empty label in {field!r}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label twice in {field!r}")
    return labels


def _split(values: dict[str, str], role: dict[str, str]) -> str | None:
    if "split" not in role:
        return None
    name = values["split"]
    if not name:
        raise ValueError(f"no {role['split']}, although there is a column for it")
    if role["split"] == "fold":
        return composed(name)
    known = SPLITS.get(name.lower()) or split_of(name)
    if known is None and text.whole(name) is None:
        guess = nearest(name.lower(), SPLITS)
        raise ValueError(
            f"unknown split {name!r} ({'did you mean ' + guess if guess else 'train, val or test'})"
        )
    return known or name
