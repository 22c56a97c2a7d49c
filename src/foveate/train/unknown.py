"""The threshold of `unknown`, from validation clips and clips that show none of the classes.

Clips without any of the classes are generated from those of the validation split (their blocks in
another order, so that colours and motion stay) and from nothing (moving colour noise, plain
colours), so no further footage is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from foveate.models.weights.run import UnknownCard
from foveate.policy.unknown import energy, fit_threshold, roc_area
from foveate.train.kit.batches import Batches, Prepare, worker_errors

_BATCHES = 2  # of validation clips that further clips are generated from
_BLOCKS = 4  # along each side of a frame


@torch.no_grad()
def fit_unknown(
    network: nn.Module, known: Tensor, clips: Batches, prepare: Prepare, seed: int = 0
) -> UnknownCard | None:
    """Fit the threshold of a trained network.

    Args:
        network: Gives logits (B, classes) of clips; evaluated.
        known: (N, classes) logits of the validation clips.
        clips: The validation clips, whole.
        prepare: Applied to each batch of clips.
        seed: Of the generated clips.

    Returns:
        None if there are too few clips, or if their scores do not tell them apart.
    """
    network.eval()
    stream = torch.Generator().manual_seed(seed)
    rows: list[Tensor] = []
    with worker_errors(clips):
        for batch in islice(clips.batches(0), _BATCHES):
            if len(batch["x"]):
                rows += [
                    network(prepare(made)).float().cpu() for made in generated(batch["x"], stream)
                ]
    inside = energy(known.numpy())
    outside = energy(torch.cat(rows).numpy()) if rows else inside[:0]
    threshold = fit_threshold(inside, outside)
    if threshold is None:
        return None
    return UnknownCard(
        thresholds={"final": threshold},
        clips=len(inside),
        alarms=float((inside < threshold).mean()),
        generated=len(outside),
        found=float((outside < threshold).mean()) if len(outside) else 0.0,
        roc_area=roc_area(inside, outside) if len(outside) else 0.0,
    )


def generated(clips: Tensor, stream: torch.Generator) -> Iterator[Tensor]:
    """Clips that show none of the classes, three of each.

    Args:
        clips: (B, 3, T, H, W) uint8, or floating-point as the network takes them.
        stream: Random numbers.

    Yields:
        Clips of the same shape and type: blocks of the frames in another order, the same one in
        every frame; moving colour noise; a plain colour.
    """
    count, channels, frames, height, width = clips.shape
    high, wide = height // _BLOCKS, width // _BLOCKS
    if high and wide:
        cut = clips[..., : high * _BLOCKS, : wide * _BLOCKS]
        blocks = cut.unflatten(-1, (_BLOCKS, wide)).unflatten(-3, (_BLOCKS, high))
        grid = blocks.movedim((-4, -2), (0, 1)).flatten(0, 1)
        order = torch.randperm(_BLOCKS**2, generator=stream)
        mixed = grid[order].unflatten(0, (_BLOCKS, _BLOCKS)).movedim((0, 1), (-4, -2))
        made = clips.clone()
        made[..., : high * _BLOCKS, : wide * _BLOCKS] = mixed.flatten(-2).flatten(-3, -2)
        yield made
    low, most = float(clips.min()), float(clips.max())
    coarse = torch.rand((count, channels, 8, 8), generator=stream)
    field = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    shift = max(1, width // 32)
    moving = torch.stack([field.roll(shift * t, -1) for t in range(frames)], 2)
    plain = torch.rand((count, channels, 1, 1, 1), generator=stream).expand(clips.shape)
    for share in (moving, plain):
        yield (low + share * (most - low)).to(clips.dtype)
