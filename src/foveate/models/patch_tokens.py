"""Vision transformers of which only some patch tokens are computed.

What is not chosen never enters the network: the chosen patches are cut out and embedded, their
position embeddings are gathered, class and register tokens are prepended, and the encoder runs on
these tokens alone. Works with timm's ``VisionTransformer`` and its subclasses.

A network that supports it has an attribute ``patch`` (frames, height and width of a patch in
pixels) and takes clips (B, 4, T, H, W), too: the last channel is 1 in the patches whose tokens are
computed and 0 elsewhere, so flips of a clip hold for its tokens as well.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from foveate.models.macs import count_macs

Patch = tuple[int, int, int]


def patch_of(backbone: nn.Module) -> tuple[int, int] | None:
    """Height and width in pixels of a patch of a vision transformer of timm.

    Returns:
        None for other networks, and for transformers on maps of a convolutional network.
    """
    timm: Any = sys.modules.get("timm.models.vision_transformer")
    if timm is None or not isinstance(backbone, timm.VisionTransformer):
        return None
    embed: Any = backbone.patch_embed
    if type(embed) is not timm.PatchEmbed or embed.dynamic_img_pad:
        return None
    height, width = embed.patch_size
    return int(height), int(width)


def accept_any_size(backbone: nn.Module) -> None:
    """Let a vision transformer of timm take images of any whole number of patches.

    It is timm's ``dynamic_img_size``: position embeddings are resampled for other sizes.
    """
    if patch_of(backbone) is not None:
        vit: Any = backbone
        vit.dynamic_img_size = True
        vit.patch_embed.strict_img_size = vit.patch_embed.flatten = False
        vit.patch_embed.output_fmt = type(vit.patch_embed.output_fmt)("NHWC")


def with_kept(x_bcthw: torch.Tensor, kept_btrc: torch.Tensor, patch: Patch) -> torch.Tensor:
    """Append the channel that says which tokens are computed.

    Args:
        x_bcthw: Clips (B, 3, T, H, W).
        kept_btrc: (B, T, rows, columns) bool, of the patches of each frame.
        patch: Of the network.

    Returns:
        (B, 4, T, H, W).
    """
    mask = kept_btrc.to(x_bcthw).repeat_interleave(patch[1], 2).repeat_interleave(patch[2], 3)
    return torch.cat([x_bcthw, mask.unsqueeze(1)], 1)


def split_kept(x: torch.Tensor, patch: Patch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Clips and their kept patches.

    Args:
        x: (B, 3, T, H, W), or (B, 4, T, H, W) with the channel of `with_kept`.
        patch: Of the network.

    Returns:
        (B, 3, T, H, W); and (B, T, rows, columns) bool, None without the channel.
    """
    if x.shape[1] != 4:
        return x, None
    return x[:, :3], x[:, 3, :, :: patch[1], :: patch[2]] > 0.5


def encode(
    vit: Any,
    x_ncthw: torch.Tensor,
    kept: torch.Tensor | None,
    weight: torch.Tensor,
    places: torch.Tensor,
) -> torch.Tensor:
    """Pooled features from the kept tokens; items with equal numbers of tokens share a batch.

    Args:
        vit: A ``VisionTransformer`` of timm.
        x_ncthw: (N, C, T, H, W): frames (T = 1), or clips whose tokens attend to each other.
        kept: (N, slots, rows, columns) bool, slots of time; None for all.
        weight: (D, C, frames, height, width) of the patch embedding.
        places: (1, prefix + slots * rows * columns, D): prefix tokens, then position embeddings.

    Returns:
        (N, features).
    """
    _, channels, *patch = weight.shape
    batch, _, frames, height, width = x_ncthw.shape
    slots, rows, columns = frames // patch[0], height // patch[1], width // patch[2]
    # (N, slots, rows, columns, C, frames, height, width), without copying
    apart = x_ncthw.view(
        batch, channels, slots, patch[0], rows, patch[1], columns, patch[2]
    ).permute(0, 2, 4, 6, 1, 3, 5, 7)
    prefix = places.shape[1] - slots * rows * columns
    if kept is None:
        kept = torch.ones(batch, slots, rows, columns, dtype=torch.bool, device="cpu")
    chosen = kept.flatten(1)
    counts = chosen.sum(1)
    found, order = [], []
    for count in counts.unique().tolist():
        items = (counts == count).nonzero()[:, 0]
        token = chosen[items].nonzero()[:, 1].view(len(items), count)
        item = items.unsqueeze(1).expand_as(token)
        patches = apart[item, token // (rows * columns), token // columns % rows, token % columns]
        embedded = functional.linear(
            patches.flatten(2), weight.flatten(1), vit.patch_embed.proj.bias
        )
        tokens = vit.patch_embed.norm(embedded) + places[0, prefix + token]
        first = places[:, :prefix].expand(len(items), -1, -1)
        encoded = vit.norm(vit.blocks(vit.norm_pre(torch.cat([first, tokens], 1))))
        found.append(vit.forward_head(encoded, pre_logits=True))
        order.append(items)
    return torch.cat(found)[torch.cat(order).argsort()]


def places_of(vit: Any, rows: int, columns: int) -> torch.Tensor:
    """Prefix tokens and position embeddings (1, prefix + rows * columns, D) of an image."""
    empty = vit.patch_embed.proj.weight.new_zeros(1, rows, columns, vit.embed_dim)
    places: torch.Tensor = vit._pos_embed(empty)
    return places


def count_kept_macs(network: Any, shape: Sequence[int], counts: Sequence[int]) -> int:
    """Multiply-adds of a call with so many tokens in each frame.

    Args:
        network: Has `patch`, `classify` and `token_features(x, kept)`.
        shape: (1, 3, T, H, W).
        counts: (T,) kept patches of each frame.
    """
    _, height, width = network.patch
    grid = shape[3] // height, shape[4] // width
    numbers = torch.arange(grid[0] * grid[1]).view(1, 1, *grid)
    kept = numbers < torch.tensor(counts).view(1, -1, 1, 1)
    return count_macs(_Kept(network, kept), tuple(shape))


class _Kept(nn.Module):
    """A network with fixed tokens, so that its operations follow from the shape alone."""

    def __init__(self, network: Any, kept: torch.Tensor) -> None:
        super().__init__()
        self.network, self.kept = network, kept

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network.classify(self.network.token_features(x, self.kept))
        return logits.mean(1)
