"""Which clips form which batch, and how they are put together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from foveate.data.batches import Batches, collate, order
from foveate.data.dataset import BadClip


def indices(batches: Batches) -> list[list[int]]:
    return [[index for _, index in batch] for batch in batches]


def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own() -> None:
    orders = [order(50, seed, epoch, True) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert len({tuple(one) for one in orders}) == 3
    assert order(50, 0, 1, True) == orders[1]
    assert order(5, 0, 1, False) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_an_epoch_goes_on_from_any_step(start: int) -> None:
    whole, rest = Batches(18, 4, seed=3), Batches(18, 4, seed=3)
    whole.epoch = rest.epoch = 2
    rest.start = start
    assert indices(rest) == indices(whole)[start:]
    assert len(whole) == 5
    assert len(Batches(18, 4, drop_last=True)) == len(indices(Batches(18, 4, drop_last=True))) == 4


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_every_batch_out(world: int) -> None:
    alone = indices(Batches(18, 4, seed=3))
    parts = [indices(Batches(18, 4, seed=3, rank=rank, world=world)) for rank in range(world)]
    assert {len(part) for part in parts} == {len(alone)}
    for step, batch in enumerate(alone):
        assert sorted(i for part in parts for i in part[step]) == sorted(batch)


def test_a_batch_smaller_than_the_team_is_refused() -> None:
    with pytest.raises(ValueError, match="process 0 of 4"):
        Batches(10, 3, world=4)


def item(index: int, frames: int = 4, **more: Any) -> dict[str, Any]:
    x = torch.full((3, frames, 2, 2), index, dtype=torch.uint8)
    return {"x": x, "y": torch.tensor(index), "index": index, "warnings": (), **more}


def test_bad_clips_make_the_batch_smaller() -> None:
    bad = BadClip(1, "one.mp4", "no video stream")
    batch = collate([item(0), bad, item(2, warnings=("12 of 14 frames",))])
    assert batch["index"].tolist() == batch["y"].tolist() == [0, 2]
    assert batch["x"].shape == (2, 3, 4, 2, 2)
    assert batch["bad"] == [bad]
    assert batch["warnings"] == [(2, "12 of 14 frames")]


@pytest.mark.parametrize("items", [[], [BadClip(0, "a", "b")]])
def test_nothing_readable_is_an_empty_batch(items: list[Any]) -> None:
    batch = collate(items)
    assert len(batch["x"]) == len(batch["y"]) == len(batch["index"]) == 0
    assert batch["bad"] == items


def test_clips_of_different_length_are_filled_up_at_the_end() -> None:
    batch = collate([item(7, frames=2), item(9, frames=5)])
    assert batch["frames"].tolist() == [2, 5]
    assert batch["x"].shape == (2, 3, 5, 2, 2)
    assert int(batch["x"][0, :, :2].min()) == 7
    assert int(batch["x"][0, :, 2:].max()) == 0


def test_clips_of_different_size_are_refused() -> None:
    wide = item(1) | {"x": torch.zeros(3, 4, 2, 3, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="different shapes"):
        collate([item(0), wide])
