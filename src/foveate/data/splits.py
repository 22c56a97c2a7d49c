"""Splits without leaks: related clips stay in one split, classes are distributed evenly.

Clips belong together when they share a group, a file, or their content.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveate.core import ConfigError
from foveate.data.errors import DataError
from foveate.data.probing import content, stamp
from foveate.data.record import Dataset, Record

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation: `dataset` has the splits `train` and `test`."""

    name: str
    dataset: Dataset


def split(dataset: Dataset, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> Dataset:
    """Give every record a split; splits that were given before are forgotten.

    Args:
        dataset: The clips.
        fractions: Share of the clips of each split; they sum to one.
        seed: Another seed gives another split; the same one always the same.

    Raises:
        ConfigError: The fractions do not sum to one.
        DataError: There are fewer groups than splits.
    """
    names = list(fractions)
    shares = np.array([float(fractions[name]) for name in names])
    if not names or (shares <= 0).any() or not math.isclose(shares.sum(), 1.0, abs_tol=1e-6):
        raise ConfigError(f"fractions {dict(fractions)} must be positive and sum to 1")
    sides = _assign(dataset, shares, seed)
    return _with_splits(dataset, [names[side] for side in sides])


def held_out(dataset: Dataset, name: str, share: float, as_split: str, seed: int = 0) -> Dataset:
    """Make some groups of the clips of one split another split.

    Args:
        dataset: The clips.
        name: The split that is divided.
        share: Share of its clips that leave it.
        as_split: The split that they become.
        seed: As for `split`.

    Raises:
        DataError: The clips are all of one group.
    """
    records = [record for record in dataset.records if record.split == name]
    dealt = split(dataset.subset(name), {name: 1 - share, as_split: share}, seed)
    side = {id(old): new.split for old, new in zip(records, dealt.records, strict=True)}
    return _with_splits(dataset, [side.get(id(r), r.split) for r in dataset.records])


def folds(dataset: Dataset, k: int | None = None, seed: int = 0) -> tuple[Fold, ...]:
    """A cross-validation: each fold is the test split once, all others are training.

    Args:
        dataset: The clips.
        k: How many folds to make; None takes the splits of the records as the folds.
        seed: As for `split`.

    Raises:
        ConfigError: `k` is below two.
        DataError: There are fewer groups than folds, or no folds are given.
    """
    if k is not None:
        if k < 2:
            raise ConfigError(f"{k} folds: at least 2 are needed")
        sides = _assign(dataset, np.full(k, 1 / k), seed)
        dataset = _with_splits(dataset, [str(side) for side in sides])
    names = dataset.splits
    if len(names) < 2 or any(record.split is None for record in dataset.records):
        raise DataError("the data set names no folds", "give the number of folds to make")
    return tuple(
        Fold(name, _with_splits(dataset, ["test" if r.split == name else "train" for r in
                                          dataset.records]))
        for name in names
    )  # fmt: skip


def bundles(dataset: Dataset) -> list[int]:
    """For each record the number of its bundle: records that must stay in one split."""
    parent = list(range(len(dataset.records)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    first: dict[tuple[str, str], int] = {}
    copies = _copies(dataset)
    for at, record in enumerate(dataset.records):
        keys = [("file", str(record.path)), ("content", copies.get(str(record.path), ""))]
        if record.group is not None:
            keys.append(("group", record.group))
        for key in keys:
            if key[1]:
                parent[root(at)] = root(first.setdefault(key, at))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(at), len(numbers)) for at in range(len(parent))]


def _copies(dataset: Dataset) -> dict[str, str]:
    """Path → content, of the files whose size is that of another one; others need no reading."""
    sizes: dict[int, set[str]] = defaultdict(set)
    paths = {str(record.path): record.path for record in dataset.records}
    for name, path in paths.items():
        known = stamp(path)
        if known is not None:
            sizes[known[0]].add(name)
    found = {}
    for names in sizes.values():
        for name in names if len(names) > 1 else ():
            try:
                found[name] = content(paths[name])
            except OSError:
                continue
    return found


def _assign(dataset: Dataset, shares: np.ndarray, seed: int) -> list[int]:
    """For each record the index of its split.

    Bundles are assigned from the largest to the smallest, each to the split that lacks its classes
    most: what it still needs of them, as a share of all clips of the class.
    """
    bundle_of = bundles(dataset)
    members: dict[int, list[Record]] = defaultdict(list)
    for at, record in zip(bundle_of, dataset.records, strict=True):
        members[at].append(record)
    if len(members) < len(shares):
        raise DataError(
            f"{len(members)} independent group{'s' * (len(members) != 1)} of clips cannot be split "
            f"{len(shares)} ways without a leak",
            "add clips of other videos; clips of one video stay in one split",
        )
    places = {name: i for i, name in enumerate(dataset.classes)}
    counts = np.zeros((len(members), len(places) + 1))
    for at, records in members.items():
        for label, count in Counter(label for r in records for label in r.labels).items():
            counts[at, places[label]] = count
        counts[at, -1] = len(records)  # a last column evens out the sizes of the sides
    lacking = shares[:, None] * counts.sum(0)
    weight = 1.0 / np.maximum(counts.sum(0), 1.0)
    random = np.random.default_rng(seed)
    order = random.permutation(len(members))
    order = order[np.argsort(-counts[order].max(1), kind="stable")]
    side_of = np.zeros(len(members), int)
    empty = set(range(len(shares)))
    for dealt, at in enumerate(order):
        need = (lacking * counts[at] * weight).sum(1)
        allowed = sorted(empty) if len(order) - dealt <= len(empty) else range(len(shares))
        side = max(allowed, key=lambda i: (round(need[i], 9), shares[i], -i))
        side_of[at] = side
        lacking[side] -= counts[at]
        empty.discard(side)
    return [int(side_of[at]) for at in bundle_of]


def _with_splits(dataset: Dataset, names: Sequence[str | None]) -> Dataset:
    records = zip(dataset.records, names, strict=True)
    return replace(dataset, records=tuple(replace(r, split=name) for r, name in records))
