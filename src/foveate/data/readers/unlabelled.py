"""A folder of videos without labels, at any depth: what pre-training needs."""

from __future__ import annotations

from pathlib import Path

from foveate.data.readers.request import SPLITS, Listing, Request, walk
from foveate.data.record import Record
from foveate.media import display_name

LABEL = "unlabelled"  # the one class of all of them


def claims(path: Path) -> bool:
    """Never: folders mean classes unless somebody says otherwise."""
    return False


def read(request: Request) -> Listing:
    """Read every clip below the folder; folders named as splits at the top are those."""
    records = []
    for path in walk(request.path):
        parts = path.relative_to(request.path).parts
        split = SPLITS.get(parts[0].lower()) if len(parts) > 1 else None
        where = display_name("/".join(parts))
        records.append(Record(path, (LABEL,), split=split, where=where))
    return Listing(records)
