"""`clips.csv`: one row per clip, with the columns path and label and further ones by name.

`split` or `fold` names the side, `source` or `group` what clips have in common, `start` and `end`
the stretch in seconds. Several labels of one clip are joined with `|`. All other columns are kept
as the record's tags.
"""

from __future__ import annotations

from pathlib import Path

from foveate.core.config import nearest
from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import SPLITS, Listing, Request
from foveate.data.record import Record

FILE = "clips.csv"
ROLES = {
    "path": ("path", "file", "filename", "video", "clip"),
    "label": ("label", "labels", "class"),
    "split": ("split", "subset", "fold"),
    "group": ("group", "source"),
    "start": ("start", "begin"),
    "end": ("end", "stop"),
}


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
    """Read the table."""
    file = request.path / FILE if request.path.is_dir() else request.path
    table = text.table(file, request.faults)
    role = _roles(file, table.columns)
    records: list[Record] = []
    for line, row in table.rows:
        where = text.at(file, line)
        values = {name: row[column] for name, column in role.items()}
        try:
            labels = _labels(values["label"])
            start = text.number(values.get("start", ""), "start")
            end = text.number(values.get("end", ""), "end")
            text.stretch(start, end)
            split = _split(values, role)
            if not values["path"]:
                raise ValueError("no path")
        except ValueError as error:
            request.faults.add(where, str(error))
            continue
        path = request.locate(values["path"], where=where)
        if path is not None:
            tags = tuple((k, v) for k, v in row.items() if k not in role.values())
            group = values.get("group") or None
            records.append(Record(path, labels, start, end, split, group, where, tags))
    return Listing(records, multilabel=any(len(record.labels) > 1 for record in records))


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
    labels = tuple(part.strip() for part in field.split("|"))
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
        return name
    known = SPLITS.get(name.lower())
    if known is None and not name.isdigit():
        guess = nearest(name.lower(), SPLITS)
        raise ValueError(
            f"unknown split {name!r} ({'did you mean ' + guess if guess else 'train, val or test'})"
        )
    return known or name
