"""Mixup and cutmix: pixels and labels are mixed in the same shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from foveate.data.mixing import cutmix, mixup, soft

MIXES = {"mixup": mixup, "cutmix": cutmix}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Clip i is full of the number i, and i is its class: a clip says what it is made of."""
    y = torch.arange(6)
    return y.float().reshape(6, 1, 1, 1, 1).expand(6, 3, 4, 10, 10).contiguous(), y


def mixed(mix: Callable[..., tuple[torch.Tensor, torch.Tensor]], seed: int):
    x, y = batch()
    return mix(x, y, np.random.default_rng(seed), classes=6, alpha=1.0)


@pytest.mark.parametrize("name", MIXES)
def test_labels_say_what_the_pixels_are_made_of(name: str) -> None:
    for seed in range(20):
        x, shares = mixed(MIXES[name], seed)
        assert shares.shape == (6, 6)
        torch.testing.assert_close(shares.sum(1), torch.ones(6))
        torch.testing.assert_close(x.mean((1, 2, 3, 4)), shares @ torch.arange(6.0))


@pytest.mark.parametrize("name", MIXES)
def test_it_changes_something_repeats_itself_and_leaves_its_input(name: str) -> None:
    x, y = batch()
    before = x.clone()
    out = MIXES[name](x, y, np.random.default_rng(1), classes=6, alpha=1.0)
    assert torch.equal(x, before)
    assert not torch.equal(out[0], x)
    again = mixed(MIXES[name], 1)
    assert torch.equal(out[0], again[0])
    assert torch.equal(out[1], again[1])


def test_cutmix_cuts_one_rectangle_through_all_frames() -> None:
    x, _ = mixed(cutmix, 3)
    for clip, own in zip(x, range(6), strict=True):
        foreign = clip != own
        assert torch.equal(foreign, foreign[:1, :1].expand_as(foreign))
        rows, columns = foreign[0, 0].any(1), foreign[0, 0].any(0)
        assert int(foreign[0, 0].sum()) == int(rows.sum()) * int(columns.sum())


def test_a_small_alpha_leaves_most_clips_nearly_alone() -> None:
    x, y = batch()
    strongest = [
        float(mixup(x, y, np.random.default_rng(s), classes=6, alpha=0.05)[1].max(1).values.mean())
        for s in range(50)
    ]
    assert np.mean(strongest) > 0.95


def test_soft_labels() -> None:
    assert soft(torch.tensor([1]), 3).tolist() == [[0.0, 1.0, 0.0]]
    several = torch.tensor([[1, 1, 0]])
    assert soft(several, 3).tolist() == [[1.0, 1.0, 0.0]]
