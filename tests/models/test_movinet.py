"""The lite MoViNet: oracles, streaming, state as a value, training, the fast form."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nontrivial import clip, randomise

from foveate.core.errors import ModelError
from foveate.models import count_macs, create, split_state, stack_states
from foveate.models.movinet import MoViNetLite
from foveate.models.movinet_config import A0, TINY
from foveate.models.streaming import mean_features

SIZE = (37, 44)
FRAMES = 9
MODEL = MoViNetLite(TINY, 7)
randomise(MODEL)
FAST = MODEL.for_inference()
FORMS = pytest.mark.parametrize("form", [MODEL, FAST], ids=["plain", "fast"])


def run(form, x, splits, state=None):
    """Run a clip in pieces of the given lengths; return logits, features and state."""
    state = form.initial_state(x.shape[0], *x.shape[-2:]) if state is None else state
    features, logits, at = [], None, 0
    with torch.no_grad():
        for n in splits:
            out, after = form.step_features(x[:, :, at : at + n], state)
            logits = form.step(x[:, :, at : at + n], state)[0]
            features.append(out)
            state, at = after, at + n
    assert at == x.shape[2]
    return logits, torch.cat(features, 1), state


def close(a, b, bound=1e-5):
    """Whether two outputs differ by less than a fraction of the largest value."""
    return (a - b).abs().max() <= bound * b.abs().max()


def test_parameters_and_macs_of_the_published_network():
    model = create("movinet-a0-stream-lite")
    assert sum(p.numel() for p in model.parameters()) == 2_723_407
    one = (1, 3, 1, 172, 172)
    assert count_macs(model, one) == pytest.approx(49.7e6, rel=1e-3)
    head = count_macs(model, one) - count_macs(model, one, "features")
    assert head == 480 * 2048 + 2048 * 600
    temporal = sum(
        layer.feature_temporal.weight.numel() * h * h
        for (_, layer), h in zip(model.layers(), [43, *[22] * 3, *[11] * 7, *[6] * 4], strict=True)
        if layer.feature_temporal is not None
    )
    assert temporal == pytest.approx(0.95e6, rel=0.01)
    clip_macs = count_macs(model, (1, 3, 50, 172, 172))
    assert clip_macs == 50 * count_macs(model, one, "features") + head


@pytest.mark.parametrize("shape", [(1, 3, 1, 172, 172), (2, 3, 5, 37, 44), (1, 3, 2, 8, 9)])
@pytest.mark.parametrize("method", ["forward", "features"])
def test_macs_equal_the_count(shape, method):
    assert MODEL.macs(shape, method) == count_macs(MODEL, shape, method)
    full = create("movinet-a0-stream-lite")
    assert full.macs(shape, method) == count_macs(full, shape, method)


def test_shapes_of_the_published_state():
    state = create("movinet-a0-stream-lite").initial_state(2, 172, 172)
    slots = {key: value for key, value in state.items() if "/slot" in key}
    assert len(slots) == 28
    assert slots["block1_layer0/slot1"].shape == (2, 22, 22, 80)
    assert slots["block2_layer0/slot3"].shape == (2, 11, 11, 184)
    assert slots["block4_layer0/slot3"].shape == (2, 6, 6, 384)
    floats = sum(value[0].numel() for value in slots.values())
    assert floats * 4 == pytest.approx(2.68e6, rel=0.01)
    assert state["head/sum"].shape == (2, 480)
    assert state["head/frames"].tolist() == [0, 0]


def test_counting_does_not_change_the_model():
    before = {k: v.clone() for k, v in MODEL.state_dict().items()}
    count_macs(MODEL, (1, 3, 2, *SIZE))
    assert all(torch.equal(v, before[k]) for k, v in MODEL.state_dict().items())
    assert next(MODEL.parameters()).device.type == "cpu"


@FORMS
@settings(max_examples=25, deadline=None, database=None)
@given(cuts=st.sets(st.integers(1, FRAMES - 1)))
def test_any_split_equals_the_clip(form, cuts):
    x = clip((2, 3, FRAMES, *SIZE))
    edges = [0, *sorted(cuts), FRAMES]
    splits = [b - a for a, b in itertools.pairwise(edges)]
    with torch.no_grad():
        whole, features = MODEL(x), MODEL.features(x)
    logits, pieces, state = run(form, x, splits)
    assert close(logits, whole)
    assert close(pieces, features)
    assert state["head/frames"].tolist() == [FRAMES, FRAMES]


@FORMS
def test_the_future_does_not_reach_the_past(form):
    x = clip((1, 3, FRAMES, *SIZE))
    changed = x.clone()
    changed[:, :, 5:] = 1 - changed[:, :, 5:]
    with torch.no_grad():
        a, b = form.features(x), form.features(changed)
    assert torch.equal(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-3)


@FORMS
def test_the_past_reaches_the_future(form):
    x = clip((1, 3, 3, *SIZE))
    changed = x.clone()
    changed[:, :, 0] = 1 - changed[:, :, 0]
    with torch.no_grad():
        assert not torch.allclose(form.features(x)[:, 2], form.features(changed)[:, 2], atol=1e-4)


@FORMS
def test_a_batch_equals_its_streams(form):
    x = clip((3, 3, 4, *SIZE))
    together, _, _ = run(form, x, [1, 3])
    alone = torch.cat([run(form, x[i : i + 1], [1, 3])[0] for i in range(3)])
    assert close(together, alone)


@FORMS
def test_interleaved_streams_do_not_meet(form):
    a, b = clip((1, 3, 4, *SIZE), 1), clip((1, 3, 4, *SIZE), 2)
    states = {"a": form.initial_state(1, *SIZE), "b": form.initial_state(1, *SIZE)}
    for t in range(4):
        for key, x in (("a", a), ("b", b)):
            logits, states[key] = form.step(x[:, :, t : t + 1], states[key])
    assert torch.equal(logits, run(form, b, [1] * 4)[0])


@FORMS
def test_streams_of_different_age_run_as_one_batch(form):
    old, young = clip((1, 3, 5, *SIZE), 1), clip((1, 3, 5, *SIZE), 2)
    _, _, aged = run(form, old[:, :, :3], [2, 1])
    both = stack_states([aged, form.initial_state(1, *SIZE)])
    x = torch.cat([old[:, :, 3:], young[:, :, :2]])
    logits, both = form.step(x, both)
    assert both["head/frames"].tolist() == [5, 2]
    assert close(logits[:1], run(form, old, [5])[0])
    assert close(logits[1:], run(form, young[:, :, :2], [2])[0])
    first, second = split_state(both)
    assert close(mean_features(first), mean_features(both)[:1])
    assert second["head/frames"].tolist() == [2]


@FORMS
@pytest.mark.parametrize("splits", [[1, 1, 1], [3], [1, 6]])
def test_states_are_never_changed(form, splits):
    x = clip((1, 3, sum(splits), *SIZE))
    state, at = form.initial_state(1, *SIZE), 0
    for n in splits:
        before = {key: value.clone() for key, value in state.items()}
        piece = x[:, :, at : at + n]
        kept = piece.clone()
        _, after = form.step(piece, state)
        assert all(torch.equal(state[key], value) for key, value in before.items())
        assert torch.equal(piece, kept)
        assert after.keys() == state.keys()
        # A later step must not change the state that an earlier one returned either.
        frozen = {key: value.clone() for key, value in after.items()}
        form.step(piece, after)
        assert all(torch.equal(after[key], value) for key, value in frozen.items())
        state, at = after, at + n


@FORMS
@pytest.mark.parametrize("size", [(32, 32), (33, 50), (64, 40), (8, 9)])
def test_any_size_and_aspect(form, size):
    x = clip((1, 3, 3, *size))
    with torch.no_grad():
        whole = MODEL(x)
    assert close(run(form, x, [1, 2])[0], whole)


@FORMS
def test_a_state_of_another_resolution_is_refused(form):
    with pytest.raises(ModelError, match="initial_state"):
        form.step(clip((1, 3, 1, 64, 64)), form.initial_state(1, *SIZE))


@FORMS
@pytest.mark.parametrize("shape", [(3, 1, 32, 32), (1, 1, 1, 32, 32), (1, 3, 0, 32, 32)])
def test_what_is_no_clip_is_refused(form, shape):
    with pytest.raises(ModelError, match="shape"):
        form.step(torch.zeros(shape), form.initial_state(1, 32, 32))


def test_states_of_different_shapes_are_not_stacked():
    a, b = MODEL.initial_state(1, 32, 32), MODEL.initial_state(1, 64, 64)
    for states in ([], [a, b], [a, {"x": torch.zeros(1)}]):
        with pytest.raises(ModelError):
            stack_states(states)


def test_the_fast_form_of_the_published_size():
    model = randomise(create("movinet-a0-stream-lite", num_classes=11), seed=3)
    x = clip((1, 3, 3, 64, 48))
    with torch.no_grad():
        whole = model(x)
    assert close(run(model.for_inference(), x, [1, 2])[0], whole)


def test_frames_in_any_memory_layout():
    x = clip((1, *SIZE, 3)).permute(0, 3, 1, 2).unsqueeze(2)
    assert not x.is_contiguous()
    assert close(FAST(x), FAST(x.contiguous()))


def test_bfloat16_runs_and_agrees():
    model = randomise(MoViNetLite(TINY, 7)).to(torch.bfloat16)
    x = clip((1, 3, 4, *SIZE)).to(torch.bfloat16)
    with torch.no_grad():
        exact = MODEL(x.float())
        assert close(model(x).float(), exact, 0.1)
        for form in (model, model.for_inference()):
            logits, _, state = run(form, x, [1, 3])
            assert logits.dtype == torch.bfloat16
            assert close(logits.float(), exact, 0.1)
            # Sums are float32, for precision in long streams.
            assert state["head/sum"].dtype == torch.float32


def test_gradients_reach_every_parameter():
    model = randomise(MoViNetLite(TINY, 7, dropout=0.0)).train()
    loss = model(clip((2, 3, 6, *SIZE))).square().sum()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_flow_through_steps():
    x = clip((1, 3, 4, *SIZE)).requires_grad_()
    _, state = MODEL.step_features(x[:, :, :2], MODEL.initial_state(1, *SIZE))
    MODEL.step(x[:, :, 2:], state)[0].sum().backward()
    assert all(x.grad[:, :, t].abs().sum() > 0 for t in range(4))


def test_initialisation_of_branches_and_classifier():
    model = create("movinet-a0-stream-lite", num_classes=5)
    assert all(layer.rezero.item() == 0 for _, layer in model.layers())
    assert model.classifier.weight.std() < 0.02
    assert model.config == A0


def test_a_classifier_needs_a_class():
    with pytest.raises(ModelError):
        create("movinet-a0-stream-lite", num_classes=0)


def test_a_frozen_copy_stays_as_it_was():
    model = randomise(MoViNetLite(TINY, 7))
    fast = model.for_inference()
    x = clip((1, 3, 2, *SIZE))
    before = fast(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(fast(x), before)
