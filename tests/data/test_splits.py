"""Splits keep together what belongs together, spread the classes, and repeat themselves."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import labelled
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate import data
from foveate.core import ConfigError
from foveate.data.record import Dataset, Record


def made(rows: list[tuple[str, str | None]]) -> Dataset:
    """Records (label, group) whose files do not exist."""
    records = tuple(
        Record(Path(f"nowhere/{i}.mp4"), (label,), group=group)
        for i, (label, group) in enumerate(rows)
    )
    return Dataset(records, tuple(sorted({label for label, _ in rows})), Path("nowhere"))


def test_shares_and_classes_are_even() -> None:
    dataset = data.split(made([("abc"[i % 3], None) for i in range(300)]))
    for name, share in {"train": 70, "val": 15, "test": 15}.items():
        counts = dataset.class_counts(name).values()
        assert all(abs(count - share) <= 1 for count in counts), (name, counts)


def test_groups_stay_together_and_classes_are_still_spread() -> None:
    random = np.random.default_rng(0)
    rows = []
    for group in range(40):
        label = "fight" if random.random() < 0.4 else "peace"
        rows += [(label, str(group))] * int(random.integers(1, 12))
    dataset = data.split(made(rows), {"train": 0.6, "test": 0.4}, seed=3)
    sides = defaultdict(set)
    for record in dataset.records:
        sides[record.group].add(record.split)
    assert all(len(found) == 1 for found in sides.values())
    whole, test = dataset.class_counts(), dataset.class_counts("test")
    assert all(abs(test[label] / whole[label] - 0.4) < 0.06 for label in whole)


def test_the_seed_decides() -> None:
    dataset = made([("ab"[i % 2], str(i // 4)) for i in range(80)])
    one, two, other = (
        [r.split for r in data.split(dataset, seed=seed).records] for seed in (1, 1, 2)
    )
    assert one == two != other


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=60),
       st.integers(2, 4), st.integers(0, 5))  # fmt: skip
def test_any_set_is_split_or_refused(rows: list[tuple[str, int]], k: int, seed: int) -> None:
    dataset = made([(label, str(group)) for label, group in rows])
    groups = {group for _, group in rows}
    if len(groups) < k:
        with pytest.raises(data.DataError, match="without a leak"):
            data.folds(dataset, k, seed)
        return
    found = data.folds(dataset, k, seed)
    assert len(found) == k
    tested = [r.path for fold in found for r in fold.dataset.subset("test").records]
    assert sorted(tested) == sorted(r.path for r in dataset.records)
    for fold in found:
        sides = {s: {r.group for r in fold.dataset.subset(s).records} for s in ("train", "test")}
        assert sides["test"]
        assert not sides["train"] & sides["test"]


def test_folds_of_a_column(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "clips.csv").write_text("path,label,fold\na.mp4,x,0\nb.mp4,y,1\nc.mp4,x,2\n")
    found = data.folds(data.read(tmp_path))
    assert [fold.name for fold in found] == ["0", "1", "2"]
    assert [[r.split for r in f.dataset.records] for f in found] == [
        ["test", "train", "train"], ["train", "test", "train"], ["train", "train", "test"],
    ]  # fmt: skip
    assert found[0].dataset.digest("train") != found[1].dataset.digest("train")


def test_copies_of_a_file_and_stretches_of_one_stay_together(tmp_path: Path) -> None:
    for i in range(8):
        labelled.put(tmp_path / "x" / f"{i}.mp4", b"film %d" % (i // 2))
    dataset = data.read(tmp_path)
    for seed in range(5):
        sides = [r.split for r in data.split(dataset, {"train": 0.5, "test": 0.5}, seed).records]
        assert sides[::2] == sides[1::2]
        assert sides.count("test") == 4
    stretches = tuple(Record(Path("one.mp4"), ("x",), float(i), i + 1.0) for i in range(4))
    with pytest.raises(data.DataError, match="1 independent group of clips cannot be split 2 ways"):
        data.folds(Dataset(stretches, ("x",), Path()), 2)


def test_nonsense_is_refused() -> None:
    dataset = made([("a", None)] * 9)
    with pytest.raises(ConfigError, match="sum to 1"):
        data.split(dataset, {"train": 0.7, "test": 0.7})
    with pytest.raises(ConfigError, match="at least 2"):
        data.folds(dataset, 1)
    with pytest.raises(data.DataError, match="names no folds"):
        data.folds(dataset)
