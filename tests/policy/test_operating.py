"""Thresholds read off a calibration split: what they cost, what a budget asks for."""

from __future__ import annotations

import pytest
import torch

from foveate.core import Budget, ConfigError
from foveate.policy.calibration import within
from foveate.policy.operating import NEVER, decided, default_point, operating_points

MACS, SECONDS = (1e9, 3e9, 4e9), (0.01, 0.02, 0.05)


def answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four samples, three exits: confidences, classes, and what is right."""
    confidences = torch.tensor([[0.9, 0.9, 0.9], [0.6, 0.8, 0.9], [0.5, 0.6, 0.7], [0.4, 0.9, 0.5]])
    classes = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    return confidences, classes, torch.tensor([0, 0, 0, 1])


def test_each_point_charges_all_that_ran_right_or_wrong() -> None:
    confidences, classes, labels = answers()
    points = operating_points(confidences, classes, labels, MACS, SECONDS)
    for point in points:
        taken = decided(confidences, point.threshold)
        assert point.exits == tuple(int((taken == e).sum()) for e in range(3))
        assert point.macs == pytest.approx(sum(MACS[e] for e in taken) / 4)
        assert point.seconds == pytest.approx(sum(SECONDS[e] for e in taken) / 4)
        hits = [int(classes[i, e] == labels[i]) for i, e in enumerate(taken)]
        assert point.accuracy == sum(hits) / 4
    assert points[0].exits == (4, 0, 0)
    assert points[-1].exits == (0, 0, 4)
    assert [p.threshold for p in points] == sorted(p.threshold for p in points)
    assert len({p.exits for p in points}) == len(points)


def test_a_larger_budget_never_stops_earlier() -> None:
    points = operating_points(*answers(), MACS, SECONDS)
    budgets = [1e9, 1.5e9, 2e9, 3e9, 4e9, 9e9]
    found = [within(points, Budget(macs_per_answer=b)) for b in budgets]
    assert [p.threshold for p in found] == sorted(p.threshold for p in found)
    assert all(p.macs <= b for p, b in zip(found, budgets, strict=True))
    assert found[-1].threshold == points[-1].threshold
    assert within(points, Budget(ms_per_answer=10)).exits == (4, 0, 0)
    with pytest.raises(ConfigError, match=r"1 GMAC and 10 ms"):
        within(points, Budget(macs_per_answer=0.9e9))


def test_the_default_is_the_cheapest_of_the_best() -> None:
    points = operating_points(*answers(), MACS, SECONDS)
    best = max(p.accuracy for p in points)
    chosen = default_point(points)
    assert chosen.accuracy >= best - 0.01
    assert all(p.macs >= chosen.macs for p in points if p.accuracy >= best - 0.01)


def test_no_confidence_reaches_never() -> None:
    assert decided(torch.ones(2, 3), NEVER).tolist() == [2, 2]
    assert decided(torch.ones(2, 3), 1.0).tolist() == [0, 0]


def test_shapes_that_do_not_fit() -> None:
    confidences, classes, labels = answers()
    with pytest.raises(ConfigError, match="different shape"):
        operating_points(confidences, classes[:2], labels, MACS, SECONDS)
    with pytest.raises(ConfigError, match="one cost per exit"):
        operating_points(confidences, classes, labels, MACS[:2], SECONDS)
