"""Thresholds read off a calibration split: what they cost, what a budget asks for."""

from __future__ import annotations

import pytest
import torch

from foveate.core import Budget, ConfigError, Evidence, Stop, WeightsError
from foveate.policy.calibration import ExitCard, Operating, within
from foveate.policy.operating import (
    NEAR,
    NEVER,
    decided,
    default_point,
    fit_exits,
    least_sure,
    operating_points,
    trust,
    upper_bound,
)

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


def many(count: int, spoiled: int) -> list[Operating]:
    """Points of clips that the first exit is sure of, some of them wrongly."""
    confidences = torch.linspace(0.7, 0.9, count)[:, None].repeat(1, 3)
    classes = torch.zeros(count, 3, dtype=torch.int64)
    classes[:spoiled, 0] = 1
    return operating_points(confidences, classes, torch.zeros(count), MACS, SECONDS, least_sure(2))


def test_the_default_is_the_cheapest_that_enough_clips_vouch_for() -> None:
    chosen = default_point(many(60, 0), least_sure(2))
    assert chosen.exits == (60, 0, 0)
    assert chosen.threshold >= 2 / 3
    assert "100% are decided early, which spoils at most 3.8%" in trust(chosen, 60)


@pytest.mark.parametrize(("count", "spoiled"), [(11, 0), (44, 0), (60, 60), (4, 0)])
def test_too_few_clips_or_wrong_exits_never_decide_early(count, spoiled) -> None:
    points = many(count, spoiled)
    assert points[0].threshold == 0
    chosen = default_point(points, least_sure(2))
    assert chosen.threshold == NEVER
    assert ("too few" in trust(chosen, count)) == (count < 45)


def test_an_unsure_exit_never_decides_however_many_clips() -> None:
    confidences = torch.full((200, 2), 0.55)
    right = torch.zeros(200, 2, dtype=torch.int64)
    for classes, exits in ((2, (0, 200)), (10, (200, 0))):  # .55 of two is hardly a guess
        floor = least_sure(classes)
        costs = (1.0, 2.0)
        points = operating_points(confidences, right, right[:, 0], costs, costs, floor)
        chosen = default_point(points, floor)
        assert chosen.exits == exits
        assert chosen.threshold == (NEVER if classes == 2 else floor)


def test_the_bound_is_clopper_and_pearson_s() -> None:
    assert upper_bound(0, 11) == pytest.approx(1 - 0.1 ** (1 / 11))
    assert upper_bound(11, 11) == 1
    assert upper_bound(0, 45) < NEAR < upper_bound(0, 44)
    assert upper_bound(3, 100) == pytest.approx(0.0656, abs=2e-4)  # qbeta(.9, 4, 97)
    assert upper_bound(3, 5000) < upper_bound(4, 5000) < 0.002


def test_no_confidence_reaches_never() -> None:
    assert decided(torch.ones(2, 3), NEVER).tolist() == [2, 2]
    assert decided(torch.ones(2, 3), 1.0).tolist() == [0, 0]


def test_shapes_that_do_not_fit() -> None:
    confidences, classes, labels = answers()
    with pytest.raises(ConfigError, match="different shape"):
        operating_points(confidences, classes[:2], labels, MACS, SECONDS)
    with pytest.raises(ConfigError, match="one cost per exit"):
        operating_points(confidences, classes, labels, MACS[:2], SECONDS)


# --- exits of one network ---------------------------------------------------------------------

NAMES = ("focus.1", "focus.2", "focus.3")


def sharpening(count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, 3, 4) that grow surer from exit to exit, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (count,), generator=generator)
    noise = torch.randn(count, 3, 4, generator=generator)
    gain = torch.tensor([1.0, 3.0, 6.0]).reshape(1, 3, 1)
    return noise + gain * torch.nn.functional.one_hot(labels, 4).unsqueeze(1), labels


def test_shares_follow_the_geometric_rule() -> None:
    logits, labels = sharpening()
    card = fit_exits(logits, labels, MACS, NAMES)
    for point in card.points:
        if point.q is None:
            assert point.exits == [0, 0, 200]
            continue
        powers = [point.q**k for k in (1, 2, 3)]
        wanted = [200 * power / sum(powers) for power in powers]
        assert point.exits == pytest.approx(wanted, abs=1.01)
        assert point.macs == pytest.approx(sum(map(lambda n, m: n * m, point.exits, MACS)) / 200)
    assert [p.macs for p in card.points] == sorted(p.macs for p in card.points)
    assert card.points[-1].q is None
    assert card.points[card.default].spoiled <= NEAR


def test_exits_executed_are_exits_simulated() -> None:
    logits, labels = sharpening()
    card = ExitCard.model_validate_json(fit_exits(logits, labels, MACS, NAMES).model_dump_json())
    for budget in (Budget(macs_per_answer=1.5e9), Budget(macs_per_answer=2.5e9), Budget()):
        point, rule = card.point(budget), card.decide(budget)
        assert not budget or point.macs <= (budget.macs_per_answer or 0)
        taken = [0, 0, 0]
        for rows in logits.numpy():
            verdicts = (
                rule(Evidence(logits={name: row}), Budget())
                for name, row in zip(NAMES, rows, strict=True)
            )
            taken[next(i for i, v in enumerate(verdicts) if isinstance(v, Stop))] += 1
        assert taken == point.exits


def test_budgets_that_exits_cannot_keep_are_one_line() -> None:
    logits, labels = sharpening()
    card = fit_exits(logits, labels, MACS, NAMES)
    with pytest.raises(ConfigError, match="less than the first exit costs"):
        card.point(Budget(macs_per_answer=0.5e9))
    with pytest.raises(ConfigError, match="no times were measured"):
        card.point(Budget(ms_per_answer=10))
    timed = fit_exits(logits, labels, MACS, NAMES, seconds_by_step=SECONDS)
    assert timed.point(Budget(ms_per_answer=15)).seconds <= 0.015
    with pytest.raises(ConfigError, match="one name and one cost"):
        fit_exits(logits, labels, MACS[:2], NAMES)
    with pytest.raises(WeightsError, match=r"runs/run.json: calibration.points"):
        ExitCard.read(timed.model_dump() | {"points": []}, "runs/run.json")
    single = fit_exits(logits[:, :1], labels, MACS[:1], NAMES[:1])
    assert [p.exits for p in single.points] == [[200]]
