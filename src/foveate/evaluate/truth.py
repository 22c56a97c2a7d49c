"""True labels of a data set, mapped to the labels of a recogniser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from foveate.core import ConfigError
from foveate.core.config import nearest
from foveate.evaluate.metrics import Stretch


class Example(Protocol):
    """The part of a data record that evaluation reads."""

    @property
    def path(self) -> Any:
        """Where the video is, absolute or below the data set's root."""

    @property
    def labels(self) -> Sequence[Any]:
        """Names of its classes."""

    @property
    def start(self) -> float | None:
        """Start of the labelled stretch in seconds, None for the whole file."""

    @property
    def end(self) -> float | None:
        """End of the labelled stretch in seconds, None for the end of the file."""

    @property
    def group(self) -> Any:
        """Group of records that are not independent of each other, None if there is none."""


class Labelled(Protocol):
    """The part of a data set that evaluation reads; satisfied by `foveate.data.Dataset`."""

    @property
    def records(self) -> Sequence[Any]:
        """Its records."""

    @property
    def classes(self) -> Sequence[str]:
        """Its classes."""

    @property
    def root(self) -> Any:
        """The folder that relative paths start from."""

    @property
    def multilabel(self) -> bool:
        """Whether a record may have several classes at once."""

    def subset(self, split: str) -> Any:
        """The data set of one split."""

    def digest(self, split: str) -> str:
        """A digest of the records of one split."""


@dataclass
class Item:
    """One video with its true labels.

    Attributes:
        source: The input of the recogniser.
        name: Name in results, without folders of this machine.
        labels: Names of its classes in the data set.
        stretches: Labelled stretches of time, empty where whole files are labelled.
        group: As in the records.
    """

    source: Any
    name: str
    labels: list[str]
    stretches: list[Stretch]
    group: str | None


def items_of(dataset: Labelled, split: str | None) -> list[Item]:
    """The videos of a split; records of one file with times become one timeline.

    Raises:
        ConfigError: The split is empty, or a record of a single-label set has several labels.
    """
    records = (dataset if split is None else dataset.subset(split)).records
    found: dict[str, Item] = {}
    for number, record in enumerate(records):
        timed = record.start is not None or record.end is not None
        source, name = _located(dataset, record)
        labels = list(_names(record, dataset.classes))
        if not timed and not dataset.multilabel and len(labels) != 1:
            raise ConfigError(f"{name}: {len(labels)} labels in a set of one label each")
        key = name if timed else f"{name}\n{number}"
        item = found.setdefault(
            key, Item(source, name, [], [], None if record.group is None else str(record.group))
        )
        item.labels += [label for label in labels if label not in item.labels]
        if timed:
            end = float("inf") if record.end is None else float(record.end)
            item.stretches += [(float(record.start or 0.0), end, label) for label in labels]
    if not found:
        raise ConfigError(f"the split {split!r} is empty" if split else "the data set is empty")
    return list(found.values())


def columns_of(classes: Sequence[str], labels: Sequence[str], model: str) -> list[int]:
    """Index of each class of a data set among a recogniser's labels.

    Names are compared as they are, and if that fails without regard to case, `_` and `-`.

    Raises:
        ConfigError: A class that the recogniser does not know; it names the nearest label.
    """
    exact = {label: i for i, label in enumerate(labels)}
    plain: dict[str, int | None] = {}
    for i, label in enumerate(labels):
        # Labels that differ only in case or separators are ambiguous here.
        plain[_plain(label)] = None if _plain(label) in plain else i
    columns = []
    for name in classes:
        at = exact.get(name, plain.get(_plain(name)))
        if at is None:
            guess = nearest(name, labels)
            missing = sum(exact.get(n, plain.get(_plain(n))) is None for n in classes)
            hint = f"the nearest is {guess!r}" if guess else None
            raise ConfigError(
                f"{model} has no label for the class {name!r} of the data "
                f"({missing} of {len(classes)} classes are unknown to it)",
                hint,
            )
        columns.append(at)
    if len(set(columns)) < len(columns):
        raise ConfigError(f"two classes of the data are one label of {model}")
    return columns


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _names(record: Any, classes: Sequence[str]) -> Iterator[str]:
    for label in record.labels:
        yield classes[label] if isinstance(label, int) else str(label)


def _located(dataset: Labelled, record: Any) -> tuple[Any, str]:
    """The source to open and its name in results."""
    if not isinstance(record.path, str | Path):
        return record.path, str(getattr(record, "where", None) or "<array>")
    path = Path(record.path)
    if dataset.root is None:
        return path, path.name
    if not path.is_absolute() and not path.is_relative_to(dataset.root):
        path = Path(dataset.root, path)
    inside = path.is_relative_to(dataset.root)
    return path, path.relative_to(dataset.root).as_posix() if inside else path.name
