"""Temporal ensembles: networks take turns at the frames, at the cost of one network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from executing import Counted, clip_view, frame_macs, frames_of_shape, head_macs
from nontrivial import randomise

from clips import encode
from foveate.core import ConfigError
from foveate.models import registry
from foveate.pipeline.ensemble import EnsembleExecutor
from foveate.pipeline.executors import executor_for
from tiny_weights import CLASSES, SPEC

CPU = torch.device("cpu")
HALF = replace(SPEC, frames_per_second=SPEC.frames_per_second / 2, clip_frames=5)


def members(arch: str, count: int = 2) -> dict[str, Any]:
    networks = [randomise(registry.create_tiny(arch), seed=seed) for seed in range(count)]
    return {f"m{i}": executor_for(one.eval(), CPU, HALF) for i, one in enumerate(networks)}


def logits_of(executor: Any, pixels: np.ndarray, splits: list[int]) -> np.ndarray:
    """The answer after frames in pieces of the given lengths."""
    state: Any = None
    for piece in np.split(pixels, np.cumsum(splits)[:-1]):
        (state,), _ = executor.run("network", [clip_view(piece)], [state])
    _, (evidence,) = executor.run("head", [{}], [state])
    return evidence.logits["final"]


@pytest.mark.parametrize("arch", ["movinet-a0-stream-lite", "movinet-a0"])
@pytest.mark.parametrize("splits", [[9], [1] * 9, [2, 3, 1, 3]])
@pytest.mark.parametrize("count", [2, 3])
def test_each_network_sees_its_turn_and_the_mean_of_logits_answers(arch, splits, count) -> None:
    networks = members(arch, count)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)
    found = logits_of(EnsembleExecutor(networks, SPEC), pixels, splits)
    alone = [
        logits_of(one, pixels[place::count], [len(pixels[place::count])])
        for place, one in enumerate(networks.values())
    ]
    np.testing.assert_allclose(found, np.mean(alone, 0), rtol=1e-4, atol=1e-5)
    assert not np.allclose(alone[0], alone[1], rtol=1e-2)


def test_one_frame_is_answered_by_one_network() -> None:
    networks = members("movinet-a0-stream-lite")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    found = logits_of(EnsembleExecutor(networks, SPEC), pixels, [1])
    np.testing.assert_allclose(found, logits_of(networks["m0"], pixels, [1]), rtol=1e-5)


def test_a_clip_costs_what_one_network_costs_at_the_full_rate(make) -> None:
    networks = members("movinet-a0-stream-lite")
    counted = {name: Counted(one) for name, one in networks.items()}
    whole = executor_for(next(iter(networks.values())).reference, CPU, SPEC)
    ensemble: Any = EnsembleExecutor(counted, SPEC)  # type: ignore[arg-type]
    data = encode(frames=50)  # ten frames at the model's rate
    cost = make(executor=ensemble).predict(data).cost
    single = make(executor=whole).predict(data).cost
    assert cost.macs == single.macs + head_macs(whole)  # one more answer, nothing else
    assert cost.stage("network").macs == single.stage("network").macs == 10 * frame_macs(whole, 32)
    for one in counted.values():
        assert one.calls == [("network", 1), ("head", 1)]


def test_a_step_of_a_stream_advances_and_answers_with_one_network(make) -> None:
    networks = members("movinet-a0-stream-lite")
    counted = {name: Counted(one) for name, one in networks.items()}
    whole = executor_for(next(iter(networks.values())).reference, CPU, SPEC)
    recogniser = make(executor=EnsembleExecutor(counted, SPEC))  # type: ignore[arg-type]
    data = encode(frames=50)
    steps = list(recogniser.stream(data))
    assert len(steps) == 10
    assert {s.cost.macs for s in steps} == {frame_macs(whole, 32) + head_macs(whole)}
    for one in counted.values():
        assert one.calls == [("network", 1), ("head", 1)] * 5
    assert steps[-1].labels[0].score == pytest.approx(
        recogniser.predict(data).labels[0].score, rel=1e-4
    )


def test_streams_of_different_age_share_a_call_where_their_turns_agree() -> None:
    executor = EnsembleExecutor(members("movinet-a0-stream-lite"), SPEC)
    one = frames_of_shape(1, 1, 32, 32)
    (old,), _ = executor.run("network", [frames_of_shape(1, 4, 32, 32)], [None])
    (young,), _ = executor.run("network", [frames_of_shape(1, 2, 32, 32)], [None])
    (odd,), _ = executor.run("network", [frames_of_shape(1, 3, 32, 32)], [None])
    keys = [executor.batch_key("network", one, state) for state in (old, young, odd)]
    assert keys[0] == keys[1] != keys[2]
    states, _ = executor.run("network", [one, one], [old, young])
    answered, evidence = executor.run("head", [{}, {}], states)
    assert [e.logits["final"].shape for e in evidence] == [(CLASSES,)] * 2
    assert executor.cost("head", {}, answered[0]) == 0  # nothing was seen since


def test_an_ensemble_is_of_several_networks() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        EnsembleExecutor(members("movinet-a0-stream-lite", 1), SPEC)
