"""A controller that learns which networks of a space to draw.

One categorical distribution per decision, trained with REINFORCE. The reward is absolute: accuracy
plus `beta * |cost / target - 1|` with a negative `beta`, so networks that are too cheap lose as
well as those that are too expensive, and the search ends near the target.

Source: Bender et al., "Can Weight Sharing Outperform Random Architecture Search? An Investigation
With TuNAS", CVPR 2020 (arXiv 2008.06120), section 3.
"""

from __future__ import annotations

import random

import torch
from torch import nn

from foveate.search.space import Choice, SearchSpace


def absolute_reward(accuracy: float, cost: float, target: float, beta: float) -> float:
    """The reward of a network.

    Args:
        accuracy: In 0..1.
        cost: In any unit.
        target: In the same unit.
        beta: Negative; what a cost of twice the target, or of none, adds.
    """
    return accuracy + beta * abs(cost / target - 1)


class Controller(nn.Module):
    """The distributions of the decisions of a space, uniform at first.

    Args:
        space: Whose decisions.
        momentum: Of the mean of earlier rewards, which is subtracted from a reward.
    """

    def __init__(self, space: SearchSpace, momentum: float = 0.95) -> None:
        super().__init__()
        self.space, self.momentum = space, momentum
        self.logits = nn.ParameterList([torch.zeros(count) for count in space.options])
        self.baseline: torch.Tensor
        self.rewards: torch.Tensor
        self.register_buffer("baseline", torch.zeros((), dtype=torch.float64))
        self.register_buffer("rewards", torch.zeros((), dtype=torch.int64))

    def draw(self, generator: random.Random) -> Choice:
        """A choice drawn from the distributions."""
        return tuple(
            generator.choices(range(len(one)), one.detach().softmax(0).tolist())[0]
            for one in self.logits
        )

    def likeliest(self) -> Choice:
        """The likeliest option of every decision."""
        return tuple(int(one.argmax()) for one in self.logits)

    def log_probability(self, choice: Choice) -> torch.Tensor:
        """Of the decisions that matter for the network of a choice, a scalar."""
        _, made = self.space.walk(choice.__getitem__)
        terms = [self.logits[i].log_softmax(0)[choice[i]] for i in made]
        return torch.stack(terms).sum()

    def loss(self, choice: Choice, reward: float) -> torch.Tensor:
        """What to minimise after a reward; updates the mean of rewards.

        The mean is corrected for its start at zero, as in Adam.
        """
        self.rewards += 1
        self.baseline.mul_(self.momentum).add_(reward, alpha=1 - self.momentum)
        mean = float(self.baseline) / (1 - self.momentum ** int(self.rewards))
        return -(reward - mean) * self.log_probability(choice)
