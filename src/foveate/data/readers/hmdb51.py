"""HMDB-51: `CLASS_test_splitN.txt`, each line a clip with 1 (training), 2 (test) or 0 (unused)."""

from __future__ import annotations

import re
from pathlib import Path

from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import Listing, Request, composed
from foveate.data.readers.tree import Kind
from foveate.data.record import Record
from foveate.media import display_name

_FILE = re.compile(r"(.+)_test_split([0-9])\.txt$")
_SIDES = {"1": "train", "2": "test", "0": None}
OTHER_PARTS: Kind = ("file of another split", "files of other splits")
UNUSED: Kind = ("clip that the split does not use", "clips that the split does not use")


def claims(path: Path) -> bool:
    """Whether these are the split files of HMDB-51."""
    if path.is_dir():
        return any(_FILE.match(entry.name) for entry in path.iterdir())
    return _FILE.match(path.name) is not None


def read(request: Request) -> Listing:
    """Read one of the three published splits; unused clips are left out."""
    folder, part = request.path, request.part
    if folder.is_file():
        named = _FILE.match(folder.name)
        part = int(named.group(2)) if named else part
        folder = folder.parent
    files = [
        (composed(found.group(1)), file)
        for file in sorted(folder.iterdir())
        if (found := _FILE.match(file.name)) and int(found.group(2)) == part
    ]
    for file in sorted(folder.iterdir()):
        if (found := _FILE.match(file.name)) and int(found.group(2)) != part:
            request.passed.add(OTHER_PARTS, file)
    if not files:
        raise DataError(f"{display_name(folder)}: no file CLASS_test_split{part}.txt")
    records: list[Record] = []
    for label, file in files:
        for line, row in text.lines(file, request.faults):
            record = _record(request, row, label, text.at(file, line))
            if record is not None:
                records.append(record)
    return Listing(records, tuple(label for label, _ in files))


def _record(request: Request, row: str, label: str, where: str) -> Record | None:
    name, _, side = row.strip().rpartition(" ")
    if not name or side not in _SIDES:
        request.fault(where, f"not of the form: clip.avi 1, with 0, 1 or 2 ({row.strip()!r})")
        return None
    if _SIDES[side] is None:
        request.passed.add(UNUSED, where)
        return None
    name = name.strip()
    path = request.locate(f"{label}/{name}", name, where=where, anywhere=True)
    if path is None:
        return None
    # FILM_CLASS_BODY_CAMERA_PEOPLE_VIEW_QUALITY_N: the film is what two sides must not share.
    film = name.rpartition(f"_{label}_")[0] or None
    return Record(path, (label,), split=_SIDES[side], group=film, where=where)
