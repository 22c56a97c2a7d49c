"""When footage is `unknown`: fitted on training clips, validation clips and generated noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foveate.models.spec import InputSpec
from foveate.models.weights.run import UnknownCard
from foveate.policy.unknown import fit_familiar, roc_area
from foveate.train.kit.batches import Prepare

GENERATED = 32  # clips of noise
_GRAINS = (8, 32)  # cells along a side


def fit_unknown(
    network: nn.Module,
    training: Tensor,
    validation: Tensor,
    spec: InputSpec,
    prepare: Prepare,
    seed: int = 0,
) -> UnknownCard | None:
    """Fit what the features of a trained network are like on clips of its classes.

    Args:
        network: Has `features`; evaluated.
        training: (N, channels) pooled features of training clips.
        validation: (M, channels) of validation clips.
        spec: Of the network's input, for the generated clips.
        prepare: Applied to each batch of clips.
        seed: Of the generated clips.

    Returns:
        None if there are too few clips, or if noise is more familiar than they are.
    """
    reference, known = training.numpy(), validation.numpy()
    others = torch.cat([_pooled(network, prepare(x)) for x in generated(spec, seed)]).numpy()
    found = fit_familiar(reference, known, others)
    if found is None:
        return None
    inside, outside = found.distance(known), found.distance(others)
    return UnknownCard.of(
        found.mean,
        found.spread,
        limit=found.limit,
        training=len(reference),
        clips=len(known),
        alarms=float((inside > found.limit).mean()),
        generated=len(others),
        found=float((outside > found.limit).mean()),
        roc_area=roc_area(outside, inside),
    )


def generated(spec: InputSpec, seed: int = 0) -> list[Tensor]:
    """Clips (B, 3, T, S, S) uint8 that show none of any classes: moving noise, coarse and fine."""
    stream = torch.Generator().manual_seed(seed)
    side, found = spec.size, []
    for at in range(0, GENERATED, 8):
        grain = _GRAINS[at // 8 % len(_GRAINS)]
        cells = torch.rand((8, 3, grain, grain), generator=stream)
        still = nn.functional.interpolate(cells, (side, side), mode="bilinear")
        step = max(1, side // 32)
        moving = [still.roll(step * t, -1) for t in range(spec.clip_frames)]
        found.append((255 * torch.stack(moving, 2)).to(torch.uint8))
    return found


@torch.no_grad()
def _pooled(network: nn.Module, clip: Tensor) -> Tensor:
    features: Any = network.eval().features
    pooled: Tensor = features(clip).float().mean(1).cpu()
    return pooled
