"""Recognisers over the tiny network, with their real policies and ledgers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nontrivial import randomise

from foveate.models import registry
from foveate.pipeline.executors import StreamExecutor
from foveate.pipeline.presets import Preset, edit
from foveate.pipeline.recogniser import Recogniser
from foveate.policy import Context
from tiny_weights import LABELS, SPEC


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def executor() -> StreamExecutor:
    model = randomise(registry.create_tiny("movinet-a0-stream-lite"))
    return StreamExecutor(model, torch.device("cpu"), SPEC)


@pytest.fixture
def make(executor) -> Callable[..., Recogniser]:
    """`make(top_k=3, look={...})`: a recogniser with those settings; 32 px, 5 frames/s, 2 s.

    A look, a decision or another executor may be given as objects, too.
    """

    def build(
        look: Any = None, decide: Any = None, executor: Any = executor, **settings: Any
    ) -> Recogniser:
        for key, policy in (("look", look), ("decide", decide)):
            if isinstance(policy, dict):
                settings[key] = policy
        preset = edit(Preset(), {"cut_threshold": 1.0, **settings})
        context = Context(SPEC, budget=preset.budget.value())
        own = {
            "look": preset.look.build(context) if look is None or isinstance(look, dict) else look,
            "decide": decide if callable(decide) else preset.decide.build(context),
        }
        return Recogniser(
            executor,
            LABELS,
            **own,
            budget=context.budget,
            window=preset.window or SPEC.clip_seconds,
            preset=preset,
        )

    return build
