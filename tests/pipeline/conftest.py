"""Recognisers over the tiny network, with their real policies and ledgers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from foveate.pipeline.network import StreamingNetwork
from foveate.pipeline.policies import make_decide, make_look
from nontrivial import randomise

from foveate.media import DEFAULT_LIMITS
from foveate.models import registry
from foveate.pipeline.presets import Preset, edit
from foveate.pipeline.recogniser import Recogniser
from foveate.pipeline.session import Plan
from tiny_weights import LABELS, SPEC


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def network() -> StreamingNetwork:
    model = randomise(registry.create_tiny("movinet-a0-stream-lite"))
    return StreamingNetwork(model, torch.device("cpu"))


@pytest.fixture
def make(network) -> Callable[..., Recogniser]:
    """`make(top_k=3, look={...})`: a recogniser with those settings; 32 px, 5 frames/s, 2 s."""

    def build(look: Any = None, decide: Any = None, **settings: Any) -> Recogniser:
        for key, policy in (("look", look), ("decide", decide)):
            if isinstance(policy, dict):
                settings[key] = policy
        preset = edit(Preset(), {"cut_threshold": 1.0, **settings})
        plan = Plan(
            look=look if callable(look) else make_look(preset, SPEC.frames_per_second),
            decide=decide if callable(decide) else make_decide(preset),
            budget=preset.budget.value(),
            spec=SPEC,
            device=torch.device("cpu"),
            window_seconds=preset.window or SPEC.clip_seconds,
            cut_threshold=preset.cut_threshold,
            macs_per_view=network.observe_macs((1, 3, 1, SPEC.size, SPEC.size)),
            macs_per_answer=network.answer_macs(1),
        )
        return Recogniser(network, plan, preset, LABELS, None, DEFAULT_LIMITS)

    return build
