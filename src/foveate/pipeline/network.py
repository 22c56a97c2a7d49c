"""A streaming network behind the loop's face; satisfies `core.Model`."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from foveate.core import Evidence
from foveate.models import split_state, stack_states
from foveate.models.movinet import pooled
from foveate.models.streaming import State


class StreamingNetwork:
    """Runs a MoViNet-like module step by step, heads only when asked.

    Args:
        module: Has `initial_state`, `step_features` and `classify`; in evaluation mode.
        device: Where it runs.
    """

    def __init__(self, module: Any, device: torch.device) -> None:
        self.reference: Any = module
        # The folded form is made of CPU kernels; elsewhere the plain module runs.
        on_cpu = device.type == "cpu" and hasattr(module, "for_inference")
        self.module: Any = module.for_inference() if on_cpu else module.to(device)
        self.device = device
        self._macs = cache(self._count)

    @torch.inference_mode()
    def observe(self, views: Tensor, state: State | None) -> State:
        """Look at views (B, 3, n, H, W); a state of None starts anew."""
        if state is None:
            state = self.module.initial_state(views.shape[0], *views.shape[-2:])
        _, state = self.module.step_features(views, state)
        return state

    @torch.inference_mode()
    def answer(self, state: State) -> Evidence:
        """Logits (B, classes) for all that was seen; the features are their pooled mean."""
        mean = pooled(state)
        return Evidence(logits={"final": self.module.classify(mean)}, features=mean)

    def __call__(self, views: Tensor, state: State | None) -> tuple[Evidence, State]:
        """Look, then answer."""
        state = self.observe(views, state)
        return self.answer(state), state

    def wait(self) -> None:
        """Return when all work given so far is done, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def observe_macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-adds of looking at views (B, 3, n, H, W): the step form does every frame alike,
        so one frame is counted and multiplied."""
        batch, channels, frames, height, width = shape
        return batch * frames * self._macs((1, channels, 1, height, width), "features")

    def answer_macs(self, batch: int) -> int:
        """Multiply-adds of answering for that many streams."""
        shape = (1, 3, 1, 32, 32)
        return batch * (self._macs(shape, "forward") - self._macs(shape, "features"))

    def stack(self, states: list[State]) -> State:
        """Join streams into one batch."""
        return stack_states(states)

    def split(self, state: State) -> list[State]:
        """Take a batch apart into its streams."""
        return split_state(state)

    def _count(self, shape: tuple[int, ...], method: str) -> int:
        macs: int = self.reference.macs(shape, method)
        return macs
