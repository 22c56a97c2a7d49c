"""Something-Something v2: a JSON of labels and one of clips per split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.core.config import nearest
from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import Listing, Request, composed, split_in
from foveate.data.readers.tree import Kind
from foveate.data.record import Record
from foveate.media import display_name

OTHER_FILES: Kind = (
    "JSON file that is neither labels nor a split with labels",
    "JSON files that are neither labels nor splits with labels",
)


def claims(path: Path) -> bool:
    """Whether this is a folder with such files, or one of them."""
    if path.is_dir():
        return _labels_file(path) is not None and bool(_split_files(path))
    line = text.head(path) if path.suffix.lower() == ".json" else ""
    return line.startswith("[") and _labels_file(path.parent) is not None


def read(request: Request) -> Listing:
    """Read the clips; the label of a clip is its template without brackets."""
    folder = request.path if request.path.is_dir() else request.path.parent
    files = _split_files(folder) if request.path.is_dir() else [request.path]
    source = _labels_file(folder)
    for other in sorted(folder.glob("*.json")) if request.path.is_dir() else ():
        if other != source and other not in files:
            request.passed.add(OTHER_FILES, other)
    if source is None:
        raise DataError(f"{display_name(folder)}: no labels.json")
    classes = _classes(request, source)
    records: list[Record] = []
    for file in files:
        entries = text.JsonFile(file, request.faults)
        if not isinstance(entries.value, list):
            raise DataError(f"{text.at(file, 1)}: not a list of clips")
        split = split_in(file.stem)
        for number, entry in enumerate(entries.value, 1):
            record = _record(request, entries, number, entry, split, classes)
            if record is not None:
                records.append(record)
    request.count_unnamed(records)
    return Listing(records, classes)


def _labels_file(folder: Path) -> Path | None:
    found = sorted(p for p in folder.glob("*.json") if p.stem.lower().endswith("labels"))
    return next((p for p in found if "test" not in p.stem.lower()), None)


def _split_files(folder: Path) -> list[Path]:
    """The JSON files of training and validation; the labels of the test clips are not public."""
    return [p for p in sorted(folder.glob("*.json")) if split_in(p.stem) in ("train", "val")]


def _classes(request: Request, file: Path) -> tuple[str, ...]:
    found = text.JsonFile(file, request.faults)
    if not isinstance(found.value, dict):
        raise DataError(f"{text.at(file, 1)}: not an object of labels and numbers")
    places: dict[int, str] = {}
    for name, number in found.value.items():
        where = found.where(name)
        at = text.whole(str(number))
        if at is None:
            request.faults.add(where, f"the number {number!r} of {name!r} is not a number")
        elif at in places:
            request.faults.add(where, f"{name!r} and {places[at]!r} are both {number}")
        else:
            places[at] = composed(name)
    if sorted(places) != list(range(len(places))):
        request.faults.add(
            display_name(file.name), f"the numbers are not 0 to {len(places) - 1} without a gap"
        )
    return tuple(places[at] for at in sorted(places))


def _record(
    request: Request,
    entries: text.JsonFile,
    number: int,
    entry: Any,
    split: str | None,
    classes: tuple[str, ...],
) -> Record | None:
    if not isinstance(entry, dict) or "id" not in entry:
        request.faults.add(text.at(entries.path, 1), f"entry {number} has no id")
        return None
    name = str(entry["id"])
    where = entries.where(name, "clip")
    template = entry.get("template")
    if not isinstance(template, str):
        request.faults.add(where, "no template")
        return None
    label = composed(template.replace("[", "").replace("]", ""))
    if label not in classes:
        guess = nearest(label, classes)
        hint = f" (did you mean {guess!r}?)" if guess else ""
        request.fault(where, f"unknown class {label!r}{hint}")
    wanted, given = template.count("["), entry.get("placeholders")
    if isinstance(given, list) and len(given) != wanted:
        request.fault(where, f"{len(given)} placeholders where the template has {wanted}")
    path = request.locate(name, where=where, anywhere=True)
    if path is None or label not in classes:
        return None
    return Record(path, (label,), split=split, where=where)
