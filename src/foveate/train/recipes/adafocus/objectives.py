"""Losses of AdaFocus V1 (random patches, fine-tuning), V2 and Uni-AdaFocus.

Each takes frames (B, T, 3, S, S) in the order in which they are counted, labels (B,) and the
random stream of the step, and returns losses (B,). Sources: see `models.adafocus`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.models.adafocus import AdaFocusV1, AdaFocusV2, UniAdaFocus, window_features, windows_of
from foveate.models.adafocus_policies import choose_frames
from foveate.models.layers.crop import crop_at
from foveate.train.kit.losses import class_loss

Glanced = tuple[Tensor, Tensor]
"""The glance's maps (B, T, C, h, w) and their means (B, T, C)."""


def every(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy (B,), the mean over steps or frames: each carries the label of the clip.

    Args:
        logits: (B, steps, classes).
        labels: (B,).
        smoothing: See `class_loss`.
    """
    steps = logits.shape[1]
    losses = class_loss(logits.flatten(0, 1), labels.repeat_interleave(steps), smoothing)
    return losses.view(-1, steps).mean(1)


def v1_logits(network: AdaFocusV1, frames: Tensor, random: torch.Generator | None = None) -> Tensor:
    """Stages 1 and 3 of V1: logits (B, T, classes) of patches at random places, or the policy's.

    Glance and policy are not trained.

    Args:
        network: The network.
        frames: See above.
        random: Draws the places; None for the policy's likeliest ones.
    """
    with torch.no_grad():
        maps, glance = network.look(frames)
        if random is None:
            chosen = network.policy(maps)[0].argmax(-1)
        else:
            count = network.policy.actor.out_features
            chosen = torch.randint(count, frames.shape[:2], generator=random).to(frames.device)
        corners = network.corners(chosen)
        patches = crop_at(frames.flatten(0, 1), corners.flatten(0, 1), network.patch)
    focus = network.focus(patches.unflatten(0, frames.shape[:2]))
    logits: Tensor = network.classifier(torch.cat([glance, focus], -1))[0]
    return logits


def v2_losses(
    network: AdaFocusV2, frames: Tensor, labels: Tensor, random: torch.Generator,
    smoothing: float = 0.0, glanced: Glanced | None = None,
) -> Tensor:  # fmt: skip
    """V2: half the sum over the policy's patches and random ones (diversity augmentation).

    The loss reaches the policy through the crop; the policy's maps are detached, so that the
    glance does not learn from it. Auxiliary heads train both backbones.

    Args:
        network: The network.
        frames: See above.
        labels: (B,).
        random: Draws the places of the second pass.
        smoothing: Of the labels.
        glanced: What the glance found, where it is not trained.
    """
    maps, glance = network.look(frames) if glanced is None else glanced
    losses = every(network.glance_head(glance), labels, smoothing)
    drawn = torch.rand(*frames.shape[:2], 2, generator=random).to(frames)
    for places in (network.policy(maps)[0], drawn):
        focus = network.focus(network.cut(frames, network.squares(places)))
        logits, _ = network.classifier(torch.cat([glance, focus], -1))
        found = every(logits, labels, smoothing) + every(
            network.focus_head(focus), labels, smoothing
        )
        losses = losses + 0.5 * found
    return losses


def uni_losses(
    network: UniAdaFocus, frames: Tensor, labels: Tensor, random: torch.Generator,
    smoothing: float = 0.0, glanced: Glanced | None = None, *, draws: int = 128,
    extent: float = 1.0,
) -> Tensor:  # fmt: skip
    """Uni-AdaFocus: half the sum over the policies' patches and random ones, and their own losses.

    No gradient passes the focus network to a policy: the spatial one learns from the part of the
    glance's maps in its windows, the temporal one from the glance's logits of the frames it takes.

    Args:
        network: The network.
        frames: See above, all candidates.
        labels: (B,).
        random: Draws frames and windows.
        smoothing: Of the labels.
        glanced: What the glance found, where it is not trained.
        draws: See `temporal_losses`.
        extent: Weight of the squared distance of height and width from those of the frame.
    """
    clips, candidates = frames.shape[:2]
    shown = network.glance_frames(candidates)
    maps, glance = network.look(frames[:, shown]) if glanced is None else glanced
    scores = network.temporal_policy(glance)
    actions = network.spatial_policy(maps)
    guesses = network.glance_head(glance)
    windows = windows_of(actions, network.size)
    cells = window_features(maps, windows, network.size, network.patch)
    losses: Tensor = every(guesses, labels, smoothing)
    losses = losses + temporal_losses(scores, guesses.detach(), labels, draws, random, smoothing)
    losses = losses + class_loss(network.window_head(cells), labels, smoothing)
    losses = losses + extent * (actions[..., 2:] - 1).square().mean((1, 2))
    track = F.interpolate(
        actions.detach().transpose(1, 2), candidates, mode="linear", align_corners=False
    )
    anywhere = torch.rand(clips, candidates, 4, generator=random).to(frames)
    density = (scores.detach() / network.temperature).softmax(1)
    rows = torch.arange(clips, device=frames.device)[:, None]
    for places, shares in (
        (track.transpose(1, 2), density),
        (anywhere, torch.full_like(density, 1 / density.shape[1])),
    ):
        jitter = torch.rand(clips, network.focuses, generator=random).to(frames)
        chosen = choose_frames(shares, candidates, network.focuses, jitter)
        patches = network.cut(frames[rows, chosen], windows_of(places[rows, chosen], network.size))
        focus = network.focus(patches)
        found = every(network.classifier(glance, focus), labels, smoothing)
        losses = losses + 0.5 * (found + every(network.focus_head(focus), labels, smoothing))
    return losses


def temporal_losses(
    scores: Tensor, logits: Tensor, labels: Tensor, draws: int, random: torch.Generator,
    smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """Cross-entropy (B,) of the glance's logits that the temporal policy expects, by Monte-Carlo.

    For every number of frames that are taken already, up to a third of all, such frames are drawn
    from the density without replacement; the next one then has the density of the rest.

    Args:
        scores: (B, G), the policy's; their softmax is the density.
        logits: (B, G, classes) of each glance frame; they are not trained here.
        labels: (B,).
        draws: Number of draws.
        random: Makes the draws.
        smoothing: Of the labels.
    """
    density, frames = scores.softmax(1), scores.shape[1]
    # The largest k of scores with Gumbel noise are k draws without replacement.
    noise = torch.rand(len(scores), draws, frames, generator=random).clamp(1e-9, 1 - 1e-7)
    noisy = scores.detach().unsqueeze(1) - (-noise.to(scores).log()).log()
    ranks = noisy.argsort(2, descending=True).argsort(2)
    losses = scores.new_zeros(len(scores))
    steps = max(1, frames // 3)
    for taken in range(steps):
        left = density.unsqueeze(1) * (ranks >= taken)
        left = left / left.sum(2, keepdim=True).clamp_min(1e-9)
        expected = torch.einsum("bg,bgc->bc", left.mean(1), logits)
        losses = losses + class_loss(expected, labels, smoothing) / steps
    return losses
