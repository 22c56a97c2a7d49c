"""What every model must do; new families are found by themselves, on their tiny networks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from foveate.models import count_macs, macs_of, registry

NAMES = registry.available()
# MViT answers from its class token alone, and in its last block these act on the other tokens only.
BEHIND_THE_ANSWER = {
    "mvit-v2-s": [f"trunk.blocks.1.attn.{n}" for n in ("rel_pos_h", "rel_pos_w", "rel_pos_t")]
    + ["trunk.blocks.1.attn.pool_q.pool.weight"]
}
STREAMING = [name for name in NAMES if registry.entry(name).streaming]


def build(name: str) -> nn.Module:
    """The tiny network with no weight left at zero, where it would hide mistakes."""
    torch.manual_seed(0)
    model = registry.create_tiny(name)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.empty_like(parameter).uniform_(0.2, 0.6)
            parameter.copy_(torch.where(parameter == 0, drawn, parameter))
    return model.eval()


def views(name: str, frames: int | None = None) -> torch.Tensor:
    """A random input for the tiny network, values in 0..1."""
    shape = list(registry.entry(name).tiny_input)
    if frames is not None:
        shape[2] = frames
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def close(a: torch.Tensor, b: torch.Tensor, bound: float = 1e-5) -> bool:
    """Whether two outputs differ by less than a share of the largest value."""
    return bool((a.float() - b.float()).abs().max() <= bound * b.float().abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_finite_and_repeatable(name):
    model, x = build(name), views(name)
    with torch.no_grad():
        first, second = model(x), model(x)
    assert first.shape[0] == x.shape[0]
    assert first.isfinite().all()
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("name", NAMES)
def test_backward_reaches_every_parameter(name):
    model = build(name)
    model(views(name)).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert sorted(silent) == sorted(BEHIND_THE_ANSWER.get(name, []))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16(name):
    model, x = build(name), views(name)
    with torch.no_grad():
        want = model(x)
        got = model.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert got.dtype == torch.bfloat16
    assert close(got, want, 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_one_by_one(name):
    model, x = build(name), views(name)
    with torch.no_grad():
        alone = torch.cat([model(x[i : i + 1]) for i in range(x.shape[0])])
        assert close(model(x), alone)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_whether_it_streams(name):
    model = build(name)
    steps = all(hasattr(model, f) for f in ("initial_state", "step_features", "step"))
    assert steps == registry.is_streaming(registry.entry(name)) == registry.is_streaming(model)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_whether_it_mixes_frames(name):
    """Another last frame changes what is said of the first position, or it does not."""
    model, x = build(name), views(name)
    other = x.clone()
    other[:, :, -1] = 1 - other[:, :, -1]
    positions = model.features
    with torch.no_grad():
        first, second = positions(x), positions(other)
    mixes = first.shape[1] == 1 or not torch.equal(first[:, 0], second[:, 0])
    if registry.entry(name).streaming:  # causal: the first position cannot know, the last one does
        other = x.clone()
        other[:, :, 0] = 1 - other[:, :, 0]
        with torch.no_grad():
            mixes = not torch.equal(first[:, -1], positions(other)[:, -1])
    assert mixes == registry.mixes_frames(registry.entry(name)) == registry.mixes_frames(model)


@pytest.mark.parametrize("name", NAMES)
def test_saving_and_loading_is_bit_equal(name, tmp_path):
    from safetensors.torch import load_file, save_file

    model = build(name)
    values = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(values, tmp_path / "model.safetensors")
    torch.manual_seed(9)
    other = registry.create_tiny(name).eval()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    with torch.no_grad():
        assert torch.equal(model(views(name)), other(views(name)))
        assert torch.equal(copy.deepcopy(model)(views(name)), model(views(name)))


@pytest.mark.parametrize("name", NAMES)
def test_macs_are_counted(name):
    model, x = build(name), views(name)
    counted = count_macs(model, tuple(x.shape))
    assert counted > 0
    twice = (2 * x.shape[0], *x.shape[1:])
    assert count_macs(model, twice) == 2 * counted
    for method in ("forward", "features"):
        assert macs_of(model, twice, method) == count_macs(model, twice, method)


@pytest.mark.parametrize("name", NAMES)
def test_features_and_head_are_the_network(name):
    """What `freeze=backbone` relies on: features per position, then a head that can be replaced."""
    model, x = build(name), views(name)
    with torch.no_grad():
        features = model.features(x)
        assert features.ndim == 3
        assert features.shape[0] == x.shape[0]
        logits = model.classify(features.mean(1))
        assert close(logits, model(x))
    assert isinstance(model.classifier, nn.Linear)
    assert model.classifier.out_features == logits.shape[1] == 7
    heads = [n for n, _ in model.named_parameters() if n.startswith("classifier")]
    assert {"classifier.weight", "classifier.bias"} <= set(heads)


@pytest.mark.parametrize("name", NAMES)
def test_the_full_network_builds_without_memory(name):
    with torch.device("meta"):
        model = registry.create(name)
    assert sum(p.numel() for p in model.parameters()) > 0


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize("splits", [[7], [1] * 7, [2, 5], [3, 1, 3], [6, 1]])
def test_steps_equal_the_clip(name, splits):
    model = build(name)
    x = views(name, sum(splits))
    forms = [model]
    if hasattr(model, "for_inference"):
        forms.append(model.for_inference())
    with torch.no_grad():
        whole = model(x)
        for form in forms:
            state, at = form.initial_state(x.shape[0], *x.shape[-2:]), 0
            for n in splits:
                logits, state = form.step(x[:, :, at : at + n], state)
                at += n
            assert close(logits, whole)
            assert all(v.shape[0] == x.shape[0] for v in state.values())
