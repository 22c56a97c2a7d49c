"""The benchmarks of MoViNets measure what they say: equal forms, endless streams, memories."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.movinet import forms_of, spatial_only, state_bytes
from benchmarks.movinet_streams import MEMORIES, features_of, long_spec, means_of, rendered
from nontrivial import clip, randomise

from foveate.data.mocap15.motion import ACTIONS
from foveate.models.movinet import movinet
from foveate.models.movinet_config import TINY, lite, stream


def test_forms_with_the_same_weights_give_the_same_numbers(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.movinet.movinet", lambda c: randomise(movinet(c)))
    forms = forms_of(stream(TINY))
    assert len(forms) == 6
    x = clip((1, 3, 1, 32, 32))
    with torch.no_grad():
        answers = {
            name: form.step(x, form.initial_state(1, 32, 32))[0] for name, form in forms.items()
        }
    whole = answers.pop("for_inference")
    for name, answer in answers.items():
        same = (answer - whole).abs().max() < 1e-4 * whole.abs().max()
        assert same == name.startswith("modules"), name
    assert state_bytes(forms["no temporal kernels"], 32)["buffers"] == 0
    assert state_bytes(forms["no squeeze-excitation"], 32)["means"] == 24 * 4 + 8
    assert all(one.temporal == 1 for b in spatial_only(TINY).blocks for one in b.layers)


def test_a_stream_goes_on_with_one_actor() -> None:
    spec = long_spec(0, 60.0)
    assert spec.frames >= 60 * 25
    assert [one.start for one in spec.parts[1:]] == [one.end for one in spec.parts[:-1]]
    frames, truth = rendered(0, 4.0)
    assert frames.shape == (3, 20, 172, 172)
    named = {ACTIONS[i] for i in truth if i >= 0}
    assert named == {one.label for one in spec.parts if one.label and one.start < 3.8}


@pytest.mark.parametrize("name", MEMORIES)
def test_features_and_means_are_those_of_the_network(name: str) -> None:
    network: Any = randomise(movinet(lite(TINY), 7, remembers=name))
    frames = (clip((3, 25, 32, 32)) * 255).to(torch.uint8)
    with torch.inference_mode():
        features = features_of(network.for_inference(), frames)
        found = network.classify(means_of(features, name, []))
        for at in (0, 9, 24):
            want = network(frames[None, :, : at + 1].float() / 255)[0]
            torch.testing.assert_close(found[at], want, rtol=1e-3, atol=1e-3)
        anew = means_of(features_of(network.for_inference(), frames[:, 10:]), name, [10])
        want = network(frames[None, :, 10:13].float() / 255)[0]
        torch.testing.assert_close(network.classify(anew[2]), want, rtol=1e-3, atol=1e-3)
