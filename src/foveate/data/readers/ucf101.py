"""UCF-101: `classInd.txt`, `trainlist01.txt` and `testlist01.txt` (parts 1 to 3)."""

from __future__ import annotations

import re
from pathlib import Path

from foveate.core.config import nearest
from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import Listing, Request
from foveate.data.record import Record
from foveate.media import display_name

_LIST = re.compile(r"(train|test)list(\d\d)\.txt$")
_GROUP = re.compile(r"(v_.+_g\d+)_c\d+")


def claims(path: Path) -> bool:
    """Whether these are the split files of UCF-101."""
    if path.is_dir():
        return any(_LIST.match(entry.name) for entry in path.iterdir())
    return _LIST.match(path.name) is not None


def read(request: Request) -> Listing:
    """Read one of the three published splits."""
    folder, part = request.path, request.part
    if folder.is_file():
        named = _LIST.match(folder.name)
        part = int(named.group(2)) if named else part
        folder = folder.parent
    classes = _classes(request, folder)
    records: list[Record] = []
    for split in ("train", "test"):
        file = folder / f"{split}list{part:02d}.txt"
        if not file.is_file():
            raise DataError(f"{display_name(file)}: no such file, part {part} of UCF-101 needs it")
        for line, row in text.lines(file, request.faults):
            where = text.at(file, line)
            try:
                name, label = _parse(row, classes)
            except ValueError as error:
                request.faults.add(where, str(error))
                continue
            path = request.locate(name, Path(name).name, where=where, anywhere=True)
            if path is not None:
                group = _GROUP.match(path.stem)
                records.append(
                    Record(
                        path,
                        (label,),
                        split=split,
                        group=group.group(1) if group else None,
                        where=where,
                    )
                )
    return Listing(records, tuple(classes.values()) if classes else None)


def _classes(request: Request, folder: Path) -> dict[int, str]:
    """Number → name, numbers from 1; empty where the file is missing."""
    file = folder / "classInd.txt"
    found: dict[int, str] = {}
    for line, row in text.lines(file, request.faults) if file.is_file() else []:
        at, _, name = row.strip().partition(" ")
        if not at.isdigit() or not name or int(at) != len(found) + 1:
            request.faults.add(
                text.at(file, line), f"not of the form: {len(found) + 1} Name ({row.strip()!r})"
            )
        found[len(found) + 1] = name.strip() or at
    return found


def _parse(row: str, classes: dict[int, str]) -> tuple[str, str]:
    """Path and label of a line `Class/clip.avi 1` (training) or `Class/clip.avi` (test)."""
    name, _, at = row.strip().partition(" ")
    label = name.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    if not label:
        raise ValueError(f"not of the form: Class/clip.avi 1 ({row.strip()!r})")
    if classes and label not in classes.values():
        guess = nearest(label, classes.values())
        raise ValueError(f"unknown class {label!r}{f' (did you mean {guess}?)' if guess else ''}")
    if at and not at.strip().isdigit():
        raise ValueError(f"the number of the class {at!r} is not a number")
    if at and classes and classes.get(int(at)) != label:
        raise ValueError(f"class {at} is {classes.get(int(at), 'none')}, but the folder is {label}")
    return name, label
