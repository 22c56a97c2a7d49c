"""Running means over time: against their definitions, for any split and any mixture of ages."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.core.errors import ModelError
from foveate.models.layers.memory import Cumulative, Exponential, Segments, memory

FRAMES = 23
VALUES = torch.randn(2, FRAMES, 5, generator=torch.Generator().manual_seed(0))
EMPTY = torch.zeros(2, dtype=torch.int64)


def cumulative(t):
    return torch.ones(t)


def exponential(t):
    return 0.5 ** (torch.arange(t - 1, -1, -1.0) / 4)


def segments(t):
    first = max(0, (t - 1) // 3 - 1) * 3  # two segments of three frames, the last one unfinished
    return (torch.arange(t) >= first).float()


KINDS = pytest.mark.parametrize(
    ("kind", "weights"),
    [(Cumulative(), cumulative), (Exponential(4), exponential), (Segments(2, 3), segments)],
    ids=["cumulative", "exponential", "segments"],
)


def reference(weights):
    """The weighted means after 1 to all frames, from the definition."""
    means = []
    for t in range(1, FRAMES + 1):
        w = weights(t)
        means.append((VALUES[:, :t] * w[None, :, None]).sum(1) / w.sum())
    return torch.stack(means, 1)


@KINDS
@settings(max_examples=30, deadline=None, database=None)
@given(cuts=st.sets(st.integers(1, FRAMES - 1)))
def test_means_are_those_of_the_definition_for_any_split(kind, weights, cuts):
    held, seen, found = kind.start(2, 5, "cpu"), EMPTY, []
    assert torch.equal(kind.mean(held, seen), torch.zeros(2, 5))
    for a, b in itertools.pairwise([0, *sorted(cuts), FRAMES]):
        kept = held.clone()
        means, after = kind.advance(VALUES[:, a:b], held, seen)
        assert torch.equal(held, kept)
        held, seen = after, seen + (b - a)
        found.append(means)
        torch.testing.assert_close(kind.mean(held, seen), means[:, -1])
    torch.testing.assert_close(torch.cat(found, 1), reference(weights))


@KINDS
def test_streams_of_different_age_share_a_batch(kind, weights):
    _, held = kind.advance(VALUES[:1, :7], kind.start(1, 5, "cpu"), EMPTY[:1])
    both = torch.cat([held, kind.start(1, 5, "cpu")])
    means, _ = kind.advance(
        torch.cat([VALUES[:1, 7:12], VALUES[1:, :5]]), both, torch.tensor([7, 0])
    )
    wanted = reference(weights)
    torch.testing.assert_close(means, torch.cat([wanted[:1, 7:12], wanted[1:, :5]]))


def test_an_endless_stream_is_forgotten_by_all_but_the_cumulative_mean():
    values = torch.cat([torch.zeros(1, 1000, 1), torch.ones(1, 60, 1)], 1)
    last = {}
    for name in ("cumulative", "exponential:10", "segments:3:10"):
        kind = memory(name)
        means, _ = kind.advance(values, kind.start(1, 1, "cpu"), EMPTY[:1])
        last[name] = means[0, -1].item()
    assert last["cumulative"] == pytest.approx(60 / 1060)
    assert last["exponential:10"] == pytest.approx(1 - 0.5**6, abs=1e-4)
    assert last["segments:3:10"] == 1


def test_names():
    assert memory("cumulative") == Cumulative()
    assert memory("exponential:12.5") == Exponential(12.5)
    assert memory("segments:4:25") == Segments(4, 25)


@pytest.mark.parametrize(
    "name", ["", "mean", "cumulative:3", "exponential", "exponential:0", "exponential:nan",
             "exponential:x", "segments:3", "segments:0:5", "segments:2:1.5"],
)  # fmt: skip
def test_other_names_are_refused(name):
    with pytest.raises(ModelError):
        memory(name)
