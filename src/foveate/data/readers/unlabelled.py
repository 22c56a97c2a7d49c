"""A folder of videos without labels, at any depth: what pre-training needs."""

from __future__ import annotations

from pathlib import Path

from foveate.data.readers.request import Listing, Request, split_of
from foveate.data.readers.tree import clips, scan
from foveate.data.record import Record
from foveate.media import display_name

LABEL = "unlabelled"  # the one class of all of them


def claims(path: Path) -> bool:
    """Never: folders mean classes unless the format is named."""
    return False


def read(request: Request) -> Listing:
    """Read every clip below the folder; folders named as splits at the top are those."""
    records = []
    for path in clips(scan(request.path, request.passed), request.passed):
        parts = path.relative_to(request.path).parts
        split = split_of(parts[0]) if len(parts) > 1 else None
        where = display_name("/".join(parts))
        records.append(Record(path, (LABEL,), split=split, where=where))
    return Listing(records)
