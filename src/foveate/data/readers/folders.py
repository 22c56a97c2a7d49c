"""One folder per class, with or without train, val and test folders above them."""

from __future__ import annotations

import os
from pathlib import Path

from foveate.data.readers.request import SPLITS, Listing, Request, walk
from foveate.data.record import Record
from foveate.media import SUFFIXES, display_name
from foveate.media.folder import is_picture


def claims(path: Path) -> bool:
    """Whether this could be such a folder: any folder that has folders."""
    return path.is_dir() and bool(_folders(path))


def read(request: Request) -> Listing:
    """Read the folders; a clip may lie deeper than its class folder, which names its class."""
    top = _folders(request.path)
    records: list[Record] = []
    if top and all(name.lower() in SPLITS for name in top):
        for name in top:
            records += _classes(request, request.path / name, SPLITS[name.lower()])
    else:
        records = _classes(request, request.path, None)
    return Listing(records)


def _classes(request: Request, folder: Path, split: str | None) -> list[Record]:
    records: list[Record] = []
    for name in _strays(folder):
        request.faults.add(_name(request, folder / name), "lies in no class folder")
    for label in _folders(folder):
        place = folder / label
        if any(is_picture(name) for name in os.listdir(place)):
            request.faults.add(
                _name(request, place),
                "holds pictures: put the frames of each clip in a folder of its own",
            )
            continue
        found = [
            Record(path, (label,), split=split, where=_name(request, path)) for path in walk(place)
        ]
        if not found:
            request.faults.add(_name(request, place), "no clips in this class folder")
        records += found
    return records


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _strays(path: Path) -> list[str]:
    """Videos beside the class folders; anything else there is nobody's business."""
    with os.scandir(path) as entries:
        return sorted(
            e.name
            for e in entries
            if e.is_file() and Path(e.name).suffix.lower() in SUFFIXES and e.name[0] != "."
        )


def _name(request: Request, path: Path) -> str:
    return display_name(path.relative_to(request.path).as_posix())
