"""Preparation outside training: the centre square, and uint8 until it is a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foveate.data.prepare import Centre, shorter_side, to_float
from foveate.models.spec import InputSpec


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((640, 480), (43, 32)),
        ((480, 640), (32, 43)),
        ((32, 32), (32, 32)),
        ((1, 1000), (32, 32000)),
    ],
)
def test_the_shorter_side(source: tuple[int, int], size: tuple[int, int]) -> None:
    assert shorter_side(source, 32) == size
    assert Centre(32).decode_size(source) == size
    assert Centre(32, "squash").decode_size(source) == (32, 32)


def test_the_centre_square_is_cut_and_nothing_is_drawn() -> None:
    frames = np.arange(2 * 8 * 12 * 3, dtype=np.uint8).reshape(2, 8, 12, 3)
    out, labels = Centre(8)(frames, (3,))
    assert labels == (3,)
    assert torch.equal(out, torch.from_numpy(frames[:, :, 2:10].copy()).permute(0, 3, 1, 2))


def test_it_follows_the_weights() -> None:
    assert Centre.of(InputSpec(96, 5.0, 8, resize="squash", crop="none")) == Centre(
        96, "squash", "none"
    )


def test_values_become_what_the_weights_expect() -> None:
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1, 1)
    assert to_float(x).flatten().tolist() == pytest.approx([0.0, 0.2, 1.0])
    normal = to_float(x, (0.5, 0.0, 0.0), (0.5, 2.0, 1.0)).flatten()
    assert normal.tolist() == pytest.approx([-1.0, 0.1, 1.0])
    ready = torch.full((1, 3, 1, 1, 1), 7.0)
    assert to_float(ready, (0.5,), (0.5,)) is ready
