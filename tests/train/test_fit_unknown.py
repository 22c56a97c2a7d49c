"""The threshold of `unknown` of a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from foveate.train.kit.batches import TensorBatches
from foveate.train.unknown import fit_unknown, generated

SHAPE = (3, 4, 18, 18)


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def patterns() -> torch.Tensor:
    """(2, 3, T, H, W) of two classes: upper half bright, or left half bright."""
    found = torch.zeros(2, *SHAPE)
    found[0, :, :, :9] = 1
    found[1, :, :, :, :9] = 1
    return found - 0.5


class Matches(nn.Module):
    """Logits are how well a clip matches the pattern of each class."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 8 * torch.einsum("bcthw,kcthw->bk", x - 0.5, patterns()) / patterns()[0].numel()


def known(count: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips with one of the patterns under noise, and their classes."""
    y = torch.arange(count) % 2
    noise = 0.2 * torch.randn(count, *SHAPE, generator=stream())
    return (patterns()[y] + 0.5 + noise).clamp(0, 1), y


def fitted(network: nn.Module) -> Any:
    x, y = known()
    return fit_unknown(network, network(x), TensorBatches(x, y, 16), lambda x: x)


def test_clips_of_the_classes_are_known_and_others_are_not() -> None:
    card = fitted(Matches())
    assert card is not None
    assert (card.clips, card.generated) == (48, 2 * 3 * 16)
    assert card.alarms <= 0.05
    assert card.found > 0.8
    assert card.roc_area > 0.95
    assert card == fitted(Matches())


class Blind(nn.Module):
    """The same logits for everything."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(len(x), 2)


def test_a_network_that_sees_no_difference_has_no_threshold() -> None:
    assert fitted(Blind()) is None


def test_generated_clips_keep_shape_and_type_and_show_no_class() -> None:
    x = (255 * known(3)[0]).round().to(torch.uint8)
    blocks, noise, plain = made = list(generated(x, stream()))
    assert all(one.shape == x.shape and one.dtype == x.dtype for one in made)
    for clip, shuffled in zip(x, blocks, strict=True):
        # All pixels of the blocks are still there, in every frame at the same places.
        inner = clip[..., :16, :16].flatten(-2).sort().values
        assert torch.equal(shuffled[..., :16, :16].flatten(-2).sort().values, inner)
        assert torch.equal(shuffled[..., 16:], clip[..., 16:])
        assert not torch.equal(shuffled, clip)
    still = known(3)[0][:, :, :1].expand(3, *SHAPE)
    moved = next(iter(generated(still, stream())))
    assert torch.equal(moved, moved[:, :, :1].expand_as(moved))
    assert (noise[:, :, 0] != noise[:, :, 1]).any()
    assert (plain == plain[..., :1, :1, :1]).all()


def test_clips_smaller_than_the_blocks_are_left_whole() -> None:
    tiny: Iterator[torch.Tensor] = generated(torch.rand(2, 3, 2, 3, 3), stream())
    assert len(list(tiny)) == 2
