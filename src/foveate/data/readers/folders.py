"""One folder per class, with or without folders of splits above or below them."""

from __future__ import annotations

import re
from pathlib import Path

from foveate.data.readers.request import Listing, Request, composed, split_of
from foveate.data.readers.tree import (
    PICTURE,
    Folder,
    Kind,
    PassedOver,
    clips,
    holds_frames,
    is_gallery,
    scan,
)
from foveate.data.record import Record
from foveate.media import display_name
from foveate.media.names import is_system

_FOLD = re.compile("(fold|split|cv|part)[ ._-]*[0-9]{1,3}")
EMPTY: Kind = (
    "folder without clips beside the splits",
    "folders without clips beside the splits",
)
PREVIEWS: Kind = ("folder of previews", "folders of previews")


def claims(path: Path) -> bool:
    """Whether this could be such a folder: any folder that has folders."""
    return path.is_dir() and any(p.is_dir() and not is_system(p.name) for p in path.iterdir())


def read(request: Request) -> Listing:
    """Read the folders; a clip may lie deeper than its class folder, which names its class.

    Folders named as splits are such where there are several of them or nothing else; what lies
    beside them is named and passed over.
    """
    top = scan(request.path, request.passed)
    sides = _folds(top) or {f.name: side for f in top.folders if (side := split_of(f.name))}
    others = [f for f in top.folders if f.name not in sides and _clips_in(f)]
    if not sides or (len(set(sides.values())) < 2 and not _are_splits(request, top, sides, others)):
        return Listing(_classes(request, top, None))
    _strays(request, top)
    records: list[Record] = []
    for folder in top.folders:
        if folder.name in sides:
            records += _classes(request, folder, sides[folder.name])
        else:
            _beside(request, folder, ", ".join(sides))
    return Listing(records)


def _folds(top: Folder) -> dict[str, str]:
    """The numbered folds that hold folders of the same classes; empty for fewer than two."""
    folds = [f for f in top.folders if _FOLD.fullmatch(f.name.lower()) and _grouped(f)]
    shared = set.intersection(*({sub.name for sub in f.folders} for f in folds)) if folds else ()
    return {f.name: f.name for f in folds} if len(folds) > 1 and shared else {}


def _are_splits(request: Request, top: Folder, sides: dict[str, str], others: list[Folder]) -> bool:
    """Whether the folders of one split are that, although others may lie beside them."""
    named = [folder for folder in top.folders if folder.name in sides]
    if not all(_grouped(folder) for folder in named):
        return len(named) == len(top.folders)  # a class may be called train
    if others and all(_grouped(folder) for folder in others):
        beside = ", ".join(_name(request, folder.path) for folder in others[:4])
        for folder in named:
            request.faults.add(
                _name(request, folder.path),
                f"a split, or a class like {beside}? Both hold folders: give the folders of "
                "classes alone, or a table of clips",
            )
        return True
    return not others


def _beside(request: Request, folder: Folder, splits: str) -> None:
    """Count the clips of a folder that is no split."""
    count = len(_clips_in(folder))
    if not count:
        request.passed.add(EMPTY, folder.path)
        return
    where = f"in {_name(request, folder.path)}, which lies beside the splits {splits}"
    request.passed.add((f"clip {where}", f"clips {where}"), count=count)


def _classes(request: Request, folder: Folder, split: str | None) -> list[Record]:
    records: list[Record] = []
    _strays(request, folder)
    galleries = [f for f in folder.folders if is_gallery(f, folder.folders)]
    for gallery in galleries:
        request.passed.add(PREVIEWS, gallery.path)
    wanted = [f for f in folder.folders if f not in galleries]
    below = split is None and _splits_below(request, wanted)
    for label in wanted:
        where = _name(request, label.path)
        if holds_frames(label):
            request.faults.add(
                where, "holds pictures: put the frames of each clip in a folder of its own"
            )
            continue
        found = clips(label, request.passed)
        named = ", ".join(sub.name for sub in label.folders if split_of(sub.name))
        for path in found:
            where_clip = _name(request, path)
            side = split
            if below:
                side = split_of(path.relative_to(label.path).parts[0])
                if path.parent == label.path:
                    request.faults.add(where_clip, f"is in none of the splits {named}")
                    continue
                if side is None:
                    continue  # in a folder beside the splits, counted below
            records.append(Record(path, (composed(label.name),), split=side, where=where_clip))
        if below:
            for sub in label.folders:
                if split_of(sub.name) is None:
                    _beside(request, sub, named)
        if not found:
            request.faults.add(where, "no clips in this class folder")
    return records


def _splits_below(request: Request, labels: list[Folder]) -> bool:
    """Whether every class folder holds folders of splits, of two different ones over all classes.

    What lies beside those is no reason to mix the splits. Where they hold folders in turn, the
    classes lie one level deeper, which is a fault.
    """
    inner = [sub for label in labels for sub in label.folders if split_of(sub.name)]
    sides = {split_of(sub.name) for sub in inner}
    if len(sides) < 2 or not all(any(split_of(s.name) for s in f.folders) for f in labels):
        return False
    if not any(sub.videos for sub in inner) and all(_grouped(sub) for sub in inner):
        for label in labels:
            request.faults.add(
                _name(request, label.path),
                f"holds the splits {', '.join(sub.name for sub in label.folders)}: "
                "name this folder itself as the data set",
            )
    return True


def _grouped(folder: Folder) -> bool:
    """Whether all clips of a folder lie in folders of it."""
    return all(path.parent != folder.path for path in _clips_in(folder))


def _clips_in(folder: Folder) -> list[Path]:
    return clips(folder, PassedOver(folder.path))


def _strays(request: Request, folder: Folder) -> None:
    """Videos beside the class folders are faults; pictures there are passed over."""
    for name in folder.videos:
        request.faults.add(_name(request, folder.path / name), "is not in a class folder")
    for name in folder.pictures:
        request.passed.add(PICTURE, folder.path / name)


def _name(request: Request, path: Path) -> str:
    return display_name(path.relative_to(request.path).as_posix())
