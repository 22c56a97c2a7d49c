"""The MoViNets: oracles, streaming, state as a value, memories, training, the fast form."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nontrivial import clip, randomise

from foveate.core.errors import ModelError
from foveate.models import count_macs, create, split_state, stack_states
from foveate.models.movinet import movinet, stream_from_base
from foveate.models.movinet_config import TABLES, TINY, base, lite, stream

SIZE = (37, 44)
FRAMES = 9
MODEL = randomise(movinet(lite(TINY), 7))
FAST = MODEL.for_inference()
CAUSAL = {
    "lite": MODEL,
    "stream": randomise(movinet(stream(TINY, "a4"), 7)),
    "swish": randomise(movinet(replace(stream(TINY), activation="swish", squeeze="none"), 7)),
    "causal-3d": randomise(movinet(replace(base(TINY), causal=True), 7)),
    "symmetric": randomise(movinet(replace(stream(TINY), padding="symmetric"), 7)),
    "exponential": randomise(movinet(stream(TINY), 7, remembers="exponential:3")),
    "segments": randomise(movinet(stream(TINY), 7, remembers="segments:2:3")),
}
FORMS = pytest.mark.parametrize(
    ("model", "form"),
    [(model, form) for model in CAUSAL.values() for form in (model, model.for_inference())],
    ids=[f"{name}-{form}" for name in CAUSAL for form in ("plain", "fast")],
)


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


@cache
def whole(model):
    """Logits and features of the clip in one piece."""
    x = clip((2, 3, FRAMES, *SIZE))
    with torch.no_grad():
        return model(x), model.features(x)


@FORMS
@settings(max_examples=12, deadline=None, database=None)
@given(cuts=st.sets(st.integers(1, FRAMES - 1)))
def test_any_split_equals_the_clip(model, form, cuts):
    x = clip((2, 3, FRAMES, *SIZE))
    edges = [0, *sorted(cuts), FRAMES]
    splits = [b - a for a, b in itertools.pairwise(edges)]
    logits, pieces, state = run(form, x, splits)
    wanted, features = whole(model)
    assert close(logits, wanted)
    assert close(pieces, features)
    assert state["head/frames"].tolist() == [FRAMES, FRAMES]


@FORMS
def test_the_future_does_not_reach_the_past(model, form):
    x = clip((1, 3, FRAMES, *SIZE))
    changed = x.clone()
    changed[:, :, 5:] = 1 - changed[:, :, 5:]
    with torch.no_grad():
        a, b = form.features(x), form.features(changed)
    assert torch.equal(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:], atol=1e-3)


@FORMS
def test_the_past_reaches_the_future(model, form):
    x = clip((1, 3, 3, *SIZE))
    changed = x.clone()
    changed[:, :, 0] = 1 - changed[:, :, 0]
    with torch.no_grad():
        assert not torch.allclose(form.features(x)[:, 2], form.features(changed)[:, 2], atol=1e-4)


@FORMS
def test_a_batch_equals_its_streams(model, form):
    x = clip((3, 3, 4, *SIZE))
    together, _, _ = run(form, x, [1, 3])
    alone = torch.cat([run(form, x[i : i + 1], [1, 3])[0] for i in range(3)])
    assert close(together, alone)


@FORMS
def test_interleaved_streams_do_not_meet(model, form):
    a, b = clip((1, 3, 4, *SIZE), 1), clip((1, 3, 4, *SIZE), 2)
    states = {"a": form.initial_state(1, *SIZE), "b": form.initial_state(1, *SIZE)}
    for t in range(4):
        for key, x in (("a", a), ("b", b)):
            logits, states[key] = form.step(x[:, :, t : t + 1], states[key])
    assert torch.equal(logits, run(form, b, [1] * 4)[0])


@FORMS
def test_streams_of_different_age_run_as_one_batch(model, form):
    old, young = clip((1, 3, 5, *SIZE), 1), clip((1, 3, 5, *SIZE), 2)
    _, _, aged = run(form, old[:, :, :3], [2, 1])
    both = stack_states([aged, form.initial_state(1, *SIZE)])
    x = torch.cat([old[:, :, 3:], young[:, :, :2]])
    logits, both = form.step(x, both)
    assert both["head/frames"].tolist() == [5, 2]
    assert close(logits[:1], run(form, old, [5])[0])
    assert close(logits[1:], run(form, young[:, :, :2], [2])[0])
    first, second = split_state(both)
    assert close(model.pooled(first), model.pooled(both)[:1])
    assert second["head/frames"].tolist() == [2]


@FORMS
@pytest.mark.parametrize("splits", [[1, 1, 1], [3], [1, 6]])
def test_states_are_never_changed(model, form, splits):
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
def test_any_size_and_aspect(model, form, size):
    x = clip((1, 3, 3, *size))
    with torch.no_grad():
        whole = model(x)
    assert close(run(form, x, [1, 2])[0], whole)


@FORMS
def test_a_state_of_another_resolution_is_refused(model, form):
    with pytest.raises(ModelError, match="initial_state"):
        form.step(clip((1, 3, 1, 64, 64)), form.initial_state(1, *SIZE))


@FORMS
@pytest.mark.parametrize("shape", [(3, 1, 32, 32), (1, 1, 1, 32, 32), (1, 3, 0, 32, 32)])
def test_what_is_no_clip_is_refused(model, form, shape):
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
    model = randomise(movinet(lite(TINY), 7)).to(torch.bfloat16)
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
    model = randomise(movinet(lite(TINY), 7, dropout=0.0)).train()
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
    assert model.config == lite(TABLES["a0"])


def test_a_classifier_needs_a_class():
    with pytest.raises(ModelError):
        create("movinet-a0-stream-lite", num_classes=0)


def test_a_frozen_copy_stays_as_it_was():
    model = randomise(movinet(lite(TINY), 7))
    fast = model.for_inference()
    x = clip((1, 3, 2, *SIZE))
    before = fast(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(fast(x), before)


# --- the family -----------------------------------------------------------------------------------

# Parameters, GMACs, megabytes of stream buffers and floats of pools of the specification.
ORACLES = {
    "a0": (3_111_799, 2.63, 50, 172, 3_748_031, 2.43, 2.68, 3_248, 29),
    "a1": (4_690_296, 5.87, 50, 172, 6_447_352, 5.54, 4.86, 6_144, 41),
    "a2": (5_249_562, 11.56, 50, 224, 7_326_962, 10.70, 10.8, 6_992, 45),
    "a3": (7_397_545, 55.6, 120, 256, 10_986_618, 52.1, 18.2, 10_032, 53),
    "a4": (11_349_463, 103.3, 80, 290, 18_136_182, 96.7, 49.3, 16_064, 77),
    "a5": (18_650_523, 276.3, 120, 320, 31_495_934, 261.7, 75.0, 24_592, 95),
}


@pytest.mark.parametrize("name", ORACLES)
def test_oracles_of_the_family(name):
    params, gmacs, frames, side, stream_params, stream_gmacs, buffers, pools, field = ORACLES[name]
    with torch.device("meta"):
        whole, causal = create(f"movinet-{name}"), create(f"movinet-{name}-stream")
        state = causal.initial_state(1, side, side)
    assert sum(p.numel() for p in whole.parameters()) == params
    assert sum(p.numel() for p in causal.parameters()) == stream_params
    shape = (1, 3, frames, side, side)
    assert whole.macs(shape) == pytest.approx(gmacs * 1e9, rel=2e-3)
    assert causal.macs(shape) == pytest.approx(stream_gmacs * 1e9, rel=2e-3)
    floats = {"slot": 0, "pool": 0}
    for key, value in state.items():
        floats["slot" if "/slot" in key else "pool"] += value[0].numel()
    assert floats["slot"] * 4e-6 == pytest.approx(buffers, rel=5e-3)
    assert floats["pool"] - 1 == pools  # less the counter
    assert 1 + sum(layer.kernel_t - 1 for _, layer in causal.layers()) == field


def test_parameters_of_t0():
    with torch.device("meta"):
        assert sum(p.numel() for p in create("movinet-t0").parameters()) == 1_727_414


@pytest.mark.parametrize("kind", [base(TINY), stream(TINY, "a3")], ids=["base", "stream"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 37, 44), (1, 3, 1, 64, 48)])
@pytest.mark.parametrize("method", ["forward", "features"])
def test_macs_with_squeeze_excitation_are_those_that_run(kind, shape, method):
    model = movinet(kind, 7)
    assert model.macs(shape, method) == count_macs(model, shape, method)


BASE = randomise(movinet(base(TINY), 7))


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (8, 9)])
def test_a_network_of_whole_clips_folds_to_the_same_numbers(size):
    x = clip((2, 3, 5, *size))
    with torch.no_grad():
        assert close(BASE.for_inference()(x), BASE(x))
        changed = x.clone()
        changed[:, :, 4] = 1 - changed[:, :, 4]
        assert not torch.allclose(BASE.features(x)[:, 0], BASE.features(changed)[:, 0], atol=1e-4)


def test_a_network_of_whole_clips_does_not_stream():
    assert not hasattr(BASE, "step")
    with pytest.raises(ModelError, match="MoViNetStream"):
        type(BASE)(stream(TINY), 7)
    with pytest.raises(ModelError, match="no memory"):
        movinet(base(TINY), 7, remembers="exponential:8")


def test_kinds_of_gates_and_kernels_are_options():
    x = clip((1, 3, 3, 32, 32))
    answers = []
    for options in ({}, {"gate": "hard-sigmoid-0.2"}, {"conv": "3d"}):
        model = randomise(create("movinet-a0-stream", num_classes=3, tiny=True, **options))
        with torch.no_grad():
            answers.append(model(x))
    assert not close(answers[0], answers[1])
    assert not close(answers[0], answers[2])
    for wrong in ({"gate": "tanh"}, {"conv": "1d"}):
        with pytest.raises(ModelError, match="is not known"):
            create("movinet-a0-stream", **wrong)


def test_stochastic_depth_drops_branches_of_whole_clips():
    model = randomise(movinet(base(TINY), 7, dropout=0.0, stochastic_depth=1.0))
    rates = [layer.drop_path for _, layer in model.layers()]
    assert rates == pytest.approx([i / len(rates) for i in range(1, len(rates) + 1)])
    last = model.blocks[list(model.blocks)[-1]]
    last.train().requires_grad_(False)
    state = {"head/frames": torch.zeros(16, dtype=torch.int64)}
    y = torch.rand(16 * 3, last.expansion.in_channels, 8, 8)
    last.drop_path = 0.5
    branch = last(y, state, {}) - last._skip(y)
    silent = branch.unflatten(0, (16, 3)).abs().amax((1, 2, 3, 4)) == 0
    assert 0 < silent.sum() < 16


def test_the_causal_network_starts_from_the_one_of_whole_clips():
    separable = randomise(movinet(base(TINY), 7))
    for _, layer in separable.layers():  # what one kernel over space and one over time can be
        weight = layer.feature.weight.data
        if weight.ndim == 5:
            taps = torch.tensor([0.2, 0.5, 0.2, 0.05, 0.05])[: weight.shape[2]]
            weight.copy_(weight[:, :, :1] * taps[:, None, None] / taps.sum())
    causal = stream_from_base(separable, movinet(stream(TINY), 7)).eval()
    still = clip((1, 3, 1, 37, 44)).expand(-1, -1, 12, -1, -1)
    fresh = randomise(movinet(stream(TINY), 7), seed=5)

    def alike(a, b):
        return torch.corrcoef(torch.stack([a[0, 8], b[0, 8]]))[0, 1]

    with torch.no_grad():
        wanted = separable.features(still)
        assert alike(causal.features(still), wanted) > 0.9
        assert alike(fresh.features(still), wanted) < 0.5
    other = movinet(stream(TINY), 3)
    kept = other.classifier.weight.clone()
    assert torch.equal(stream_from_base(BASE, other).classifier.weight, kept)
    with pytest.raises(ModelError, match="same name"):
        stream_from_base(BASE, movinet(lite(TABLES["a0"]), 7))
