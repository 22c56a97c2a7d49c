"""From labelled videos on disk to batches for a network.

Nothing heavy is imported until it is used: reading annotations loads neither torch nor torchvision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.core.lazy import lazy_names

if TYPE_CHECKING:
    from foveate.data.checking import CheckReport, check
    from foveate.data.dataset import ClipDataset
    from foveate.data.errors import DataError
    from foveate.data.labelled import DataRequest, open_labelled
    from foveate.data.loader import Loader, make_loader
    from foveate.data.readers.detect import FORMATS, read
    from foveate.data.record import Dataset, Record
    from foveate.data.splits import Fold, folds, split
    from foveate.data.timelines import (
        TimedLabel,
        Timeline,
        read_timelines,
        timelines_of,
        write_timelines,
    )

__all__ = [
    "FORMATS",
    "CheckReport",
    "ClipDataset",
    "DataError",
    "DataRequest",
    "Dataset",
    "Fold",
    "Loader",
    "Record",
    "TimedLabel",
    "Timeline",
    "check",
    "folds",
    "make_loader",
    "open_labelled",
    "read",
    "read_timelines",
    "split",
    "timelines_of",
    "write_timelines",
]

_MODULES = {
    "FORMATS": "readers.detect",
    "CheckReport": "checking",
    "ClipDataset": "dataset",
    "DataError": "errors",
    "DataRequest": "labelled",
    "Dataset": "record",
    "Fold": "splits",
    "Loader": "loader",
    "Record": "record",
    "TimedLabel": "timelines",
    "Timeline": "timelines",
    "check": "checking",
    "folds": "splits",
    "make_loader": "loader",
    "open_labelled": "labelled",
    "read": "readers.detect",
    "read_timelines": "timelines",
    "split": "splits",
    "timelines_of": "timelines",
    "write_timelines": "timelines",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
