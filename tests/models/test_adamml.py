"""AdaMML: decisions, real skipping, fusion, and the published costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from foveate.core.errors import ModelError
from foveate.models import count_macs, create, registry
from foveate.models.adamml import AdaMML, ModalityPolicy, SegmentNet, TimePool, selection_loss
from models.nontrivial import randomise

TINY = registry.entry("adamml").tiny


def tiny(**settings: Any) -> AdaMML:
    torch.manual_seed(0)
    model = randomise(create("adamml", **{**TINY, **settings}))
    assert isinstance(model, AdaMML)
    with torch.no_grad():
        model.free_weights.fill_(0.4)
    return model


def inputs(model: AdaMML, batch: int = 2, segments: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    wide = {"rgb": 3, "flow": 10, "rgbdiff": 15, "sound": 1}
    return {
        name: torch.rand(
            (batch, segments, 1 if name == "sound" else model.frames, wide[name], 64, 64),
            generator=generator,
        )
        for name in model.inputs
    }


def test_decisions_are_deterministic_and_sampled_in_training_only() -> None:
    model = tiny()
    x = inputs(model)
    with torch.no_grad():
        first, second = model.choose(x), model.choose(x)
    assert torch.equal(first.use, second.use)
    assert torch.equal(first.use, first.policy_logits.argmax(-1).float())
    torch.manual_seed(0)
    drawn = [model.decide(torch.zeros(1, 200, 1, 2), 5.0) for _ in range(2)]
    assert not torch.equal(*drawn)
    assert all(0.3 < float(use.mean()) < 0.7 for use in drawn)


def test_what_is_not_chosen_is_not_computed() -> None:
    model = tiny()
    x = inputs(model)
    rows: dict[str, list[int]] = {"rgb": [], "sound": []}
    for name, net in model.nets.items():
        net.register_forward_pre_hook(
            lambda module, given, name=name: rows[name].append(len(given[0]))
        )
    use = torch.tensor([[[1, 0], [0, 0], [1, 0]], [[0, 1], [1, 0], [0, 0]]]).float()
    with torch.no_grad():
        found = model.recognise(x, use)
        assert rows == {"rgb": [3], "sound": [1]}
        whole = model.recognise(x)
    assert torch.allclose(found, whole * use.unsqueeze(-1), atol=1e-5)
    assert torch.allclose(model.fuse(found, use), model.fuse(whole, use), atol=1e-5)
    rows["rgb"].clear()
    with torch.no_grad():
        nothing = model.recognise(x, torch.zeros(2, 3, 2))
    assert rows["rgb"] == []
    assert not model.fuse(nothing, torch.zeros(2, 3, 2)).any()


def test_all_modalities_together_are_a_weighted_mean() -> None:
    model = tiny()
    x = inputs(model)
    assert float(model.weights.detach().sum()) == pytest.approx(1)
    with torch.no_grad():
        found = model.recognise(x)
        fused = model.fuse(found, torch.ones(2, 3, 2))
    assert torch.allclose(fused, 0.4 * found[:, :, 0] + 0.6 * found[:, :, 1], atol=1e-5)


def test_weights_may_be_renormalised() -> None:
    model = tiny(renormalise=True)
    found = torch.rand(1, 1, 2, 7)
    only = torch.tensor([[[0.0, 1.0]]])
    assert torch.allclose(model.fuse(found, only), found[:, :, 1])
    assert torch.allclose(tiny().fuse(found, only), 0.6 * found[:, :, 1])


def test_flow_is_seen_by_its_proxy() -> None:
    model = tiny(modalities=("rgb", "flow"))
    assert model.inputs == ("rgb", "flow", "rgbdiff")
    x = inputs(model)
    with torch.no_grad():
        want = model.choose(x).use
        x["flow"] = x["flow"].flip(-1)
        assert torch.equal(model.choose(x).use, want)
        before = model.policy(model.views(x))
        x["rgbdiff"] = x["rgbdiff"].flip(-1)
        assert not torch.allclose(model.policy(model.views(x)), before)


def test_the_policy_remembers_its_last_decisions() -> None:
    policy = randomise(ModalityPolicy([3, 1], [1, 1], "test_efficientnet", 16, 8))
    views = [torch.rand(2, 4, 1, 3, 32, 32), torch.rand(2, 4, 1, 1, 32, 32)]
    with torch.no_grad():
        logits = policy(views)
        features, before = policy.features(views), None
        for at in range(4):
            one, before = policy.step(features[:, at], before)
            assert torch.allclose(one, logits[:, at], atol=1e-5)
        hidden, cell, last = before
        other, _ = policy.step(features[:, 3], (hidden, cell, last + 1))
        same, _ = policy.step(features[:, 3], (hidden, cell, last))
    assert not torch.allclose(other, same)


def test_pooling_over_time_keeps_the_maximum() -> None:
    x = torch.rand(2 * 5, 3, 4, 4)
    pooled = TimePool(5)(x).unflatten(0, (2, 3))
    assert torch.equal(pooled[1, 1], x[5:][1:4].amax(0))
    assert torch.equal(pooled[0, 0], x[:2].amax(0))


def test_the_gradient_reaches_the_policy() -> None:
    model = tiny()
    torch.manual_seed(0)
    chosen = model.choose(inputs(model), temperature=1.0)
    loss = chosen.logits.logsumexp(1).sum()
    loss = loss + selection_loss(chosen.use, torch.tensor([True, False]), torch.tensor([1.0, 0.05]))
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.policy.heads.parameters())
    assert model.free_weights.grad is not None


def test_the_cost_of_a_selection() -> None:
    use = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    loss = selection_loss(use, torch.tensor([True, False]), torch.tensor([1.0, 0.5]))
    assert float(loss) == pytest.approx((1.0 * 1 + 0.5 * 0.25) / 2)


@pytest.mark.parametrize("modalities", [(), ("rgb", "rgb"), ("smell",), ("flow", "rgbdiff")])
def test_wrong_modalities_are_one_line(modalities: tuple[str, ...]) -> None:
    with pytest.raises(ModelError):
        create("adamml", **{**TINY, "modalities": modalities})


def test_missing_inputs_are_named() -> None:
    model = tiny()
    x = inputs(model)
    del x["sound"]
    with pytest.raises(ModelError, match="lacks sound"):
        model(x)
    with pytest.raises(ModelError, match=r"segments are \(N, 2, 3, H, W\)"):
        model.nets["rgb"](torch.rand(1, 3, 3, 64, 64))


# --- the published costs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "channels", "frames", "side", "classes", "want"),
    [
        ("resnet50", 3, 8, 224, 31, 14_136_047_616),
        ("resnet50", 10, 8, 224, 31, 16_338_974_720),
        ("mobilenetv2_100", 1, 1, 256, 31, 381_778_688),
        ("mobilenetv2_100", 3, 4, 160, None, 375_446_400),
        ("mobilenetv2_100", 1, 1, 256, None, 381_739_008),
        ("mobilenetv2_100", 15, 4, 160, None, 463_920_000),
    ],
)
def test_multiply_adds_of_the_parts(
    backbone: str, channels: int, frames: int, side: int, classes: int | None, want: int
) -> None:
    with torch.device("meta"):
        net = SegmentNet(backbone, channels, frames, classes)
    assert count_macs(net, (1, frames, channels, side, side)) == want


def test_parameters_of_the_policy() -> None:
    with torch.device("meta"):
        policy = create("adamml").policy
    total = sum(p.numel() for p in policy.parameters())
    assert total == pytest.approx(16.25e6, rel=1e-3)
