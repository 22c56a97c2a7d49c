"""UCF-101: `classInd.txt`, `trainlist01.txt` and `testlist01.txt` (parts 1 to 3)."""

from __future__ import annotations

import re
from pathlib import Path

from foveate.core.config import nearest
from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.request import Listing, Request, composed
from foveate.data.readers.tree import Kind
from foveate.data.record import Record
from foveate.media import display_name
from foveate.media.names import is_video

_LIST = re.compile(r"(train|test)list([0-9]{2})\.txt$")
OTHER_PARTS: Kind = ("file of another split", "files of other splits")
_GROUP = re.compile(r"(v_.+_g[0-9]+)_c[0-9]+")


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
    for file in sorted(folder.iterdir()):
        if (named := _LIST.match(file.name)) and int(named.group(2)) != part:
            request.passed.add(OTHER_PARTS, file)
    records: list[Record] = []
    for split in ("train", "test"):
        file = folder / f"{split}list{part:02d}.txt"
        if not file.is_file():
            raise DataError(f"{display_name(file)}: no such file, part {part} of UCF-101 needs it")
        for line, row in text.lines(file, request.faults):
            where = text.at(file, line)
            try:
                name, label = _parse(request, row, classes)
            except ValueError as error:
                request.fault(where, str(error))
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
    request.count_unnamed(records)
    return Listing(records, tuple(classes.values()) if classes else None)


def _classes(request: Request, folder: Path) -> dict[int, str]:
    """Number → name, numbers from 1; empty where the file is missing."""
    file = folder / "classInd.txt"
    found: dict[int, str] = {}
    for line, row in text.lines(file, request.faults) if file.is_file() else []:
        at, _, name = (composed(part) for part in row.strip().partition(" "))
        if text.whole(at) != len(found) + 1 or not name.strip():
            request.faults.add(
                text.at(file, line), f"not of the form: {len(found) + 1} Name ({row.strip()!r})"
            )
        found[len(found) + 1] = name.strip() or at
    return found


def _parse(request: Request, row: str, classes: dict[int, str]) -> tuple[str, str]:
    """Path and label of a line `Class/clip.avi 1` (training) or `Class/clip.avi` (test)."""
    name, at = _name_and_number(request, row.strip())
    label = composed(name).replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    if not label:
        raise ValueError(f"not of the form: Class/clip.avi 1 ({row.strip()!r})")
    if classes and label not in classes.values():
        guess = nearest(label, classes.values())
        raise ValueError(f"unknown class {label!r}{f' (did you mean {guess}?)' if guess else ''}")
    number = text.whole(at)
    if at and number is None:
        raise ValueError(f"the number of the class {at!r} is not a number")
    if number is not None and classes and classes.get(number) != label:
        raise ValueError(f"class {at} is {classes.get(number, 'none')}, but the folder is {label}")
    return name, label


def _name_and_number(request: Request, row: str) -> tuple[str, str]:
    """Path and number of a line; a path may contain spaces; the files on disk decide."""
    name, _, at = row.rpartition(" ")
    if not name or request.files.has(row) or is_video(row):
        return row, ""
    return name.rstrip(), at
