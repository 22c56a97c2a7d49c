"""Heads learn from their teachers in turn, all recipes equally long, the backbone untouched."""

from __future__ import annotations

from functools import cache as keep

import pytest
import torch

from foveate.core import ConfigError
from foveate.models.coviar import CompressedNet, ExitNetwork
from foveate.policy.fuse import Wise
from foveate.train.recipes.compressed import pkd
from foveate.train.recipes.compressed.pkd import (
    HeadRecipe,
    Teacher,
    cache_exits,
    exit_logits,
    head_recipe,
    train_heads,
)

CLASSES = 3


@keep
def clips() -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (48, 2, 2, 32, 32) that flow in one of three directions, and which one."""
    random = torch.Generator().manual_seed(3)
    labels = torch.arange(48) % CLASSES
    angle = labels * (2 * torch.pi / CLASSES)
    flow = torch.stack([angle.cos(), angle.sin()], 1)[:, :, None, None, None]
    return flow + 0.7 * torch.randn(48, 2, 2, 32, 32, generator=random), labels


def student() -> tuple[ExitNetwork, pkd.ExitCache]:
    torch.manual_seed(0)
    network = ExitNetwork(CompressedNet("mv", "test_resnet", CLASSES), style="light")
    return network, cache_exits(network, clips()[0].split(16))


def teacher_of(labels: torch.Tensor) -> torch.Tensor:
    return 8 * torch.nn.functional.one_hot(labels, CLASSES).float()


def answers(network: ExitNetwork, cache: pkd.ExitCache) -> torch.Tensor:
    return exit_logits(network, cache)[:, :-1].argmax(-1)


@pytest.mark.parametrize("name", pkd.ORDERS)
def test_every_recipe_teaches_and_leaves_the_backbone_alone(name) -> None:
    network, cache = student()
    cache = pkd.ExitCache(cache.maps, teacher_of(clips()[1]))  # an own classifier that is right
    before = {n: v.clone() for n, v in network.network.state_dict().items()}
    teachers = dict.fromkeys(("mv", "residual", "iframe"), teacher_of(clips()[1]))
    losses = train_heads(
        network, cache, clips()[1], head_recipe(name, 12, lr=0.02, batch=16), teachers
    )
    assert len(losses) == 12
    assert losses[-1] < 0.6 * losses[0]
    assert (answers(network, cache) == clips()[1][:, None]).float().mean() > 0.9
    assert all(torch.equal(v, before[n]) for n, v in network.network.state_dict().items())


def test_the_teacher_changes_at_its_epoch() -> None:
    labels = clips()[1]
    other = (labels + 1) % CLASSES
    teachers = {"mv": teacher_of(labels), "residual": teacher_of(other)}
    network, cache = student()
    short = HeadRecipe((Teacher("mv", 10),), 10, lr=0.02, batch=16)
    train_heads(network, cache, labels, short, teachers)
    assert (answers(network, cache) == labels[:, None]).float().mean() > 0.9
    network, cache = student()
    both = HeadRecipe((Teacher("mv", 10), Teacher("residual", 40)), 40, lr=0.02, batch=16)
    train_heads(network, cache, labels, both, teachers)
    assert (answers(network, cache) == other[:, None]).float().mean() > 0.9


def test_the_orders_are_the_published_ones() -> None:
    def order(name: str) -> list[tuple[str, int]]:
        return [(t.name, t.until) for t in head_recipe(name).teachers]

    assert order("pkd") == [("mv", 50), ("residual", 100), ("iframe", 300)]
    assert order("pkd-own") == [("mv", 50), ("residual", 100), ("own", 300)]
    assert order("anti") == [("own", 50), ("residual", 100), ("mv", 300)]
    assert order("kd") == [("iframe", 300)]
    assert {head_recipe(name).epochs for name in pkd.ORDERS} == {300}


def test_cached_exits_are_those_of_the_network_and_fuse() -> None:
    network, cache = student()
    train_heads(network, cache, clips()[1], head_recipe("ce", 4, lr=0.02, batch=16))
    logits = exit_logits(network, cache)
    with torch.no_grad():
        direct = torch.stack(list(network(clips()[0]).values()), 1)
    torch.testing.assert_close(logits, direct, rtol=5e-2, atol=2e-2)  # maps are kept as halves
    wise = Wise.fit(network.exits, logits, clips()[1])
    assert wise.probabilities(logits).shape == (48, CLASSES)


def test_distillation_is_cross_entropy_with_a_softened_teacher() -> None:
    random = torch.Generator().manual_seed(4)
    student_z, teacher_z = torch.randn(2, 6, CLASSES, generator=random)
    how = HeadRecipe((Teacher("mv", 1),), 1, temperature=2.0, hard_weight=0.5)
    labels = torch.arange(6) % CLASSES
    soft = (teacher_z / 2).softmax(-1)
    want = -(soft * (student_z / 2).log_softmax(-1)).sum(-1).mean()
    want = want - 0.5 * student_z.log_softmax(-1)[torch.arange(6), labels].mean()
    torch.testing.assert_close(pkd.head_loss(student_z, labels, teacher_z, how), want)


def test_recipes_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="no head recipe 'pdk'"):
        head_recipe("pdk")
    with pytest.raises(ConfigError, match="the last at 4"):
        HeadRecipe((Teacher("mv", 3),), 4)
    with pytest.raises(ConfigError, match="nothing to learn from"):
        HeadRecipe()
    network, cache = student()
    with pytest.raises(ConfigError, match="teacher 'mv'"):
        train_heads(network, cache, clips()[1], head_recipe("pkd", 6))
