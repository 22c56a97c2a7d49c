"""The policy of AdaFocus V1, trained by PPO on features of all patches of its grid.

Wang et al., ICCV 2021 (arXiv 2105.03245), section 3.3. Neither backbone is trained here, so their
features are computed once, for every place of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foveate.models.adafocus import AdaFocusV1
from foveate.models.adafocus_policies import RecurrentClassifier
from foveate.models.layers.crop import crop_at
from foveate.train.recipes.adafocus.config import AdaFocusConfig


@dataclass(frozen=True)
class GridFeatures:
    """Features of clips for all places of the grid.

    Attributes:
        maps: (N, T, C, h, w) of the glance.
        focus: (N, T, actions, C).
    """

    maps: Tensor
    focus: Tensor

    @classmethod
    def unpack(cls, flat: Tensor, network: AdaFocusV1, frames: int) -> GridFeatures:
        """From rows (N, K) as `grid_features` makes them."""
        cells, actions = network.cells, network.policy.actor.out_features
        shape = (frames, network.glance.map_channels, cells, cells)
        count = frames * network.glance.map_channels * cells * cells
        maps, focus = flat[:, :count], flat[:, count:]
        return cls(
            maps.unflatten(1, shape),
            focus.unflatten(1, (frames, actions, network.focus.num_features)),
        )

    def __getitem__(self, rows: Tensor) -> GridFeatures:
        """Those of some clips."""
        return GridFeatures(self.maps[rows], self.focus[rows])

    def at(self, chosen: Tensor) -> Tensor:
        """(N, T, C) of glance and focus with the patches at actions (N, T)."""
        index = chosen[..., None, None].expand(-1, -1, 1, self.focus.shape[-1])
        focus = self.focus.gather(2, index).squeeze(2)
        return torch.cat([self.maps.mean((3, 4)), focus], -1)


def grid_features(network: AdaFocusV1, x_bcthw: Tensor) -> Tensor:
    """Rows (B, K) of the glance's maps and the focus's features at every place; see `unpack`."""
    frames = x_bcthw.transpose(1, 2)
    flat, shape = frames.flatten(0, 1), frames.shape[:2]
    found = []
    for action in range(network.policy.actor.out_features):
        corners = network.corners(torch.full((len(flat),), action, device=flat.device))
        found.append(network.focus(crop_at(flat, corners, network.patch).unflatten(0, shape)))
    maps = network.look(frames)[0]
    return torch.cat([maps.flatten(1), torch.stack(found, 2).flatten(1)], 1)


def ppo_losses(
    network: AdaFocusV1, seen: GridFeatures, labels: Tensor, config: AdaFocusConfig,
    random: torch.Generator,
) -> Tensor:  # fmt: skip
    """Stage 2: losses (B,) of actions drawn from the policy; one update for each batch of them.

    The reward of an action is the probability of the right class with its patch less that with a
    random patch, from the same state of the classifier. Returns are standardised over the batch.

    Args:
        network: Its policy is trained.
        seen: Of the clips.
        labels: (B,).
        config: Discount, clipping, and weights of the terms.
        random: Draws actions and random patches.
    """
    scores, values, _ = network.policy(seen.maps)
    logs = scores.log_softmax(-1)
    clips, frames, actions = scores.shape
    flat = logs.detach().exp().flatten(0, 1).cpu()
    chosen = torch.multinomial(flat, 1, generator=random).view(clips, frames).to(scores.device)
    other = torch.randint(actions, (clips, frames), generator=random).to(scores.device)
    with torch.no_grad():
        rewards = gains(network.classifier, seen.at(chosen), seen.at(other), labels)
        returns = discounted(rewards, config.discount)
        returns = (returns - returns.mean()) / (returns.std(correction=0) + 1e-8)
    log = logs.gather(2, chosen.unsqueeze(-1)).squeeze(-1)
    surrogate = clipped(log, log.detach(), returns - values.detach(), config.ppo_clip)
    entropy = -(logs.exp() * logs).sum(-1)
    error = config.value_weight * (values - returns).square()
    losses: Tensor = (error - surrogate - config.entropy * entropy).mean(1)
    return losses


def gains(classifier: RecurrentClassifier, chosen: Tensor, other: Tensor, labels: Tensor) -> Tensor:
    """Rewards (B, T): probability of the right class, less that with other features at that step.

    Args:
        classifier: Of V1.
        chosen: (B, T, C), which the state of the classifier follows.
        other: (B, T, C).
        labels: (B,).
    """
    states, _ = classifier.gru(chosen)
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], 1)
    steps, _ = classifier.gru(other.flatten(0, 1).unsqueeze(1), before.flatten(0, 1).unsqueeze(0))
    both = torch.stack([states, steps.view_as(states)])
    right = labels.view(1, -1, 1, 1).expand(2, *states.shape[:2], 1)
    found: Tensor = classifier.fc(both).softmax(-1).gather(-1, right).squeeze(-1)
    return found[0] - found[1]


def discounted(rewards: Tensor, discount: float) -> Tensor:
    """Returns (B, T): each reward and the later ones, discounted for each step."""
    returns = rewards.clone()
    for at in range(rewards.shape[1] - 2, -1, -1):
        returns[:, at] += discount * returns[:, at + 1]
    return returns


def clipped(log: Tensor, old: Tensor, advantages: Tensor, limit: float) -> Tensor:
    """PPO's clipped surrogate objective (Schulman et al., arXiv 1707.06347, equation 7)."""
    ratio = (log - old).exp()
    return torch.minimum(ratio * advantages, ratio.clamp(1 - limit, 1 + limit) * advantages)


@torch.no_grad()
def likeliest(network: AdaFocusV1, seen: GridFeatures) -> Tensor:
    """(B, T) actions of prediction."""
    scores: Tensor = network.policy(seen.maps)[0]
    return scores.argmax(-1)


def grid_logits(
    network: AdaFocusV1, seen: GridFeatures, random: torch.Generator | None = None
) -> Tensor:
    """`v1_logits` of features, where no backbone is trained."""
    chosen = likeliest(network, seen)
    if random is not None:
        count = seen.focus.shape[2]
        chosen = torch.randint(count, chosen.shape, generator=random).to(chosen.device)
    logits: Tensor = network.classifier(seen.at(chosen))[0]
    return logits
