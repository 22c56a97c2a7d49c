"""The controller learns accuracy and keeps to the target."""

from __future__ import annotations

import random

import pytest
import torch

from foveate.search.controller import Controller, absolute_reward
from foveate.search.space import SearchSpace

SPACE = SearchSpace(stem=8, widths=(8, 16), strides=(2, 2), project=16, hidden=16, layers=3)


def test_the_reward_falls_on_both_sides_of_the_target() -> None:
    at = absolute_reward(0.5, 2.0, 2.0, -0.3)
    assert at == 0.5
    assert absolute_reward(0.5, 3.0, 2.0, -0.3) == absolute_reward(0.5, 1.0, 2.0, -0.3) < at


def test_it_finds_the_good_option_within_the_cost() -> None:
    """Accuracy comes from 5x3x3 kernels in the first layer; cost is the number of layers."""
    torch.manual_seed(0)
    controller, draws = Controller(SPACE), random.Random(0)
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.1)
    for _ in range(400):
        choice = controller.draw(draws)
        config = SPACE.config(choice)
        first, cost = config.blocks[0].layers[0], sum(len(b.layers) for b in config.blocks)
        accuracy = 0.8 if (first.temporal, first.kernel) == (5, 3) else 0.3
        optimizer.zero_grad()
        reward = absolute_reward(accuracy, cost, 4, -1.0)
        torch.autograd.backward(controller.loss(choice, reward))
        optimizer.step()
    found = SPACE.config(controller.likeliest())
    assert (found.blocks[0].layers[0].temporal, found.blocks[0].layers[0].kernel) == (5, 3)
    assert sum(len(stage.layers) for stage in found.blocks) == 4


def test_decisions_without_effect_get_no_gradient() -> None:
    controller = Controller(SPACE)
    controller.loss((0,) * len(SPACE.options), 1.0)  # the first reward is the mean of rewards
    torch.autograd.backward(controller.loss((0,) * len(SPACE.options), 0.0))
    _, made = SPACE.walk(lambda _: 0)
    for number, logits in enumerate(controller.logits):
        moved = logits.grad is not None and bool(logits.grad.abs().sum() > 0)
        assert moved == (number in made)


def test_the_mean_of_rewards_is_not_pulled_to_zero() -> None:
    controller = Controller(SPACE)
    choice = (0,) * len(SPACE.options)
    assert float(controller.loss(choice, 0.7).detach()) == pytest.approx(0.0, abs=1e-9)
    assert float(controller.loss(choice, 0.7).detach()) == pytest.approx(0.0, abs=1e-9)
    assert float(controller.loss(choice, 0.9).detach()) > 0
