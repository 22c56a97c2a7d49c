"""The loader: the same for any number of workers, past bad clips, never silent and never stuck."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import labelled
import pytest

from foveate.data import DataError, Dataset, Loader, Record, make_loader, read, samplers
from foveate.data.prepare import Centre
from foveate.primitives.augment import Augment, ColourJitter, Flip, RandAugment, RandomResizedCrop

FOUR = partial(samplers.window, count=4, rate=25.0)


def records(tmp_path: Path, good: int = 6, bad: tuple[int, ...] = ()) -> Dataset:
    """Clips of which some are only words, in the order of their numbers."""
    made = []
    for i in range(good + len(bad)):
        data = b"just words" if i in bad else labelled.video(first=40 * i)
        path = labelled.put(tmp_path / f"clip{i}.mp4", data)
        made.append(Record(path, (("jump", "run")[i % 2],), split="train", where=f"line {i}"))
    return Dataset(tuple(made), ("jump", "run"), tmp_path)


def loader(data: Dataset, **settings: Any) -> Loader:
    return make_loader(data, "train", FOUR, Centre(32), **{"batch": 2, "workers": 0, **settings})


def bits(batches: Any) -> list[tuple[Any, ...]]:
    return [
        (b["step"], b["epoch"], b["index"].tolist(), b["y"].tolist(), b["x"].numpy().tobytes())
        for b in batches
    ]


def test_any_number_of_workers_gives_the_same_bits_from_any_step(tmp_path: Path) -> None:
    data = records(tmp_path)
    drawn = (RandomResizedCrop(32), Flip(), ColourJitter(strength=0.3), RandAugment(operations=1))
    augment = Augment(32, drawn, mirror=(1, 0))
    first: list[list[tuple[Any, ...]]] = []
    for workers in (0, 1, 2):
        made = make_loader(
            data, "train", FOUR, augment, batch=2, train=True, seed=4, workers=workers
        )
        epochs = [bits(made.at(epoch)) for epoch in (0, 1)]
        assert bits(made.at(1, 2)) == epochs[1][2:]
        assert epochs[0] != epochs[1]
        first = first or epochs
        assert epochs == first


def test_the_global_generators_do_not_notice_the_loading(tmp_path: Path) -> None:
    import numpy as np
    import torch

    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    list(loader(records(tmp_path), train=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]  # type: ignore[union-attr]


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_clips_are_left_out_and_named(tmp_path: Path, workers: int) -> None:
    made = loader(records(tmp_path, 6, bad=(1, 2)), workers=workers, max_bad=0.5)
    batches = list(made)
    assert [b["index"].tolist() for b in batches] == [[0], [3], [4, 5], [6, 7]]
    assert list(made.bad) == ["clip1.mp4", "clip2.mp4"]
    assert all(made.bad.values())
    list(made.at(1))
    assert len(made.bad) == 2, "the same clips count once"


def test_a_step_without_clips_is_still_a_step(tmp_path: Path) -> None:
    batches = list(loader(records(tmp_path, 4, bad=(2, 3)), max_bad=0.5))
    assert [(b["step"], len(b["x"])) for b in batches] == [(0, 2), (1, 0), (2, 2)]


def test_too_many_bad_clips_stop_the_work_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(loader(records(tmp_path, 6, bad=(1, 4)), batch=1))
    assert str(caught.value).startswith(
        "2 of 8 clips cannot be read, more than 1; the first is clip1.mp4: "
    )
    assert "\n" not in str(caught.value)


def test_a_share_of_nothing_spares_nobody(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 7 clips"):
        list(loader(records(tmp_path, 6, bad=(1,)), max_bad=0.0))


def test_bad_stretches_of_one_file_count_one_by_one(tmp_path: Path) -> None:
    video = labelled.put(tmp_path / "one.mp4")
    good = [Record(video, ("run",), 0.0, 0.5, "train")] * 6
    bad = [Record(video, ("run",), 5.0 + i, 6.0 + i, "train") for i in range(4)]
    data = Dataset((*good, *bad), ("run",), tmp_path)
    with pytest.raises(DataError, match="3 of 10 clips cannot be read, more than 2"):
        list(loader(data, batch=1, max_bad=0.25))


def test_too_many_in_a_row_stop_the_work(tmp_path: Path) -> None:
    data = records(tmp_path, 4, bad=(2, 3, 4))
    with pytest.raises(DataError, match="3 clips in a row"):
        list(loader(data, batch=1, max_bad=1.0, in_a_row=3))
    assert len(list(loader(data, batch=1, max_bad=1.0, in_a_row=4))) == 7


def test_damage_that_could_be_read_is_told(tmp_path: Path) -> None:
    folder = labelled.pictures(tmp_path / "clip", 20)
    (folder / "img_00007.png").unlink()  # the numbering has a gap
    data = Dataset((Record(folder, ("run",), split="train"),), ("run",), tmp_path)
    made = loader(data, fps=25.0)
    list(made)
    assert not made.bad
    assert list(made.warnings) == ["clip"]


class Fatal(Centre):
    """Takes its process down, or holds it up, at a clip of the class `run`."""

    def __call__(self, frames, labels, random=None):  # type: ignore[no-untyped-def]
        if labels == (1,):
            if self.crop == "none":
                time.sleep(60)
            os._exit(1)
        return super().__call__(frames, labels, random)


def test_a_dying_worker_is_one_line_with_the_clip(tmp_path: Path) -> None:
    made = make_loader(records(tmp_path, 2), None, FOUR, Fatal(32), batch=1, workers=1)
    with pytest.raises(DataError, match=r"^a loading process died while reading clip1\.mp4"):
        list(made)


def test_a_hanging_worker_is_one_line_with_the_clip(tmp_path: Path) -> None:
    hanging = Fatal(32, "squash", "none")
    made = make_loader(
        records(tmp_path, 2), None, FOUR, hanging, batch=1, workers=1, hang_seconds=1.0
    )
    began = time.monotonic()
    with pytest.raises(DataError, match=r"no batch for 1 seconds while reading clip1\.mp4"):
        list(made)
    assert time.monotonic() - began < 30


def test_other_errors_are_nobody_elses(tmp_path: Path) -> None:
    made = loader(records(tmp_path, 2))
    assert made.explain(RuntimeError("a shape does not fit")) is None
    assert made.explain(ConnectionResetError("somebody's socket")) is None


def test_a_worker_that_dies_while_it_hands_a_batch_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loader(records(tmp_path, 2), workers=1)

    def torn(*_: Any) -> Any:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(made, "_note", torn)
    with pytest.raises(DataError, match="a loading process died"):
        list(made)
    monkeypatch.undo()
    assert len(list(made)) == 1, "new workers are begun"


def test_workers_leave_ctrl_c_to_the_main_process(tmp_path: Path) -> None:
    made = loader(records(tmp_path, 6), workers=2)
    batches = iter(made)
    got = [next(batches)]
    for worker in made._loader._iterator._workers:  # type: ignore[union-attr]
        os.kill(worker.pid, signal.SIGINT)
    time.sleep(0.2)
    got += list(batches)
    assert sorted(i for b in got for i in b["index"].tolist()) == list(range(6))


@pytest.mark.parametrize(
    ("split", "labels", "said"),
    [("test", ("run",), "the split 'test' has no clips"), ("train", (), "clips.csv:2: 0 labels")],
)
def test_faults_are_told_before_the_first_step(
    tmp_path: Path, split: str, labels: tuple[str, ...], said: str
) -> None:
    record = Record(tmp_path / "a.mp4", labels, split="train", where="clips.csv:2")
    data = Dataset((record,), ("jump", "run"), tmp_path)
    with pytest.raises(DataError, match=said):
        make_loader(data, split, FOUR, Centre(32))


def test_from_a_folder_to_batches(tmp_path: Path) -> None:
    data = read(labelled.tree(tmp_path))
    batches = list(make_loader(data, None, FOUR, Centre(32), batch=4, workers=0))
    assert [len(b["x"]) for b in batches] == [4, 2]
    assert sorted(y for b in batches for y in b["y"].tolist()) == [0, 0, 0, 1, 1, 1]
