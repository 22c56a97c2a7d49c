"""Streaming state as a value: a dictionary of tensors with the batch dimension first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from foveate.core.errors import ModelError
from foveate.models.layers.memory import CUMULATIVE, Memory

State = dict[str, torch.Tensor]


def inference_form(model: nn.Module, device: torch.device) -> Any:
    """The form of a streaming network that runs fastest on a device.

    A family with an optimised form for CPUs has a method `for_inference`; on other devices, and for
    other networks, it is the module itself.
    """
    fold = getattr(model, "for_inference", None)
    return fold() if fold is not None and device.type == "cpu" else model.to(device)


def stack_states(states: Sequence[State]) -> State:
    """Concatenate the states of several streams to the state of one batch.

    Args:
        states: One state per stream (or per group of streams), of one model and one
            resolution. The streams may differ in their numbers of frames.

    Returns:
        A new state with the streams in order.

    Raises:
        ModelError: No states, or states of different models or resolutions.
    """
    if not states:
        raise ModelError("no states to stack")
    keys = states[0].keys()
    for state in states[1:]:
        if state.keys() != keys:
            raise ModelError("states of different models cannot be stacked")
        for key in keys:
            if state[key].shape[1:] != states[0][key].shape[1:]:
                raise ModelError(
                    f"states of different resolutions cannot be stacked ({key}: "
                    f"{tuple(state[key].shape[1:])} and {tuple(states[0][key].shape[1:])})"
                )
    return {key: torch.cat([state[key] for state in states]) for key in keys}


def split_state(state: State) -> list[State]:
    """Split the state of a batch into one state per stream (the tensors are copies)."""
    batch = next(iter(state.values())).shape[0]
    return [{key: value[i : i + 1].clone() for key, value in state.items()} for i in range(batch)]


def empty_mean(
    batch: int, channels: int, device: torch.device | str, memory: Memory = CUMULATIVE
) -> State:
    """State entries of a mean over the features of the frames so far, before the first frame.

    Returns:
        ``head/sum`` (B, ..., channels) float32, the stored values; ``head/frames`` (B,) int64,
        the number of frames.
    """
    return {
        "head/sum": memory.start(batch, channels, device),
        "head/frames": torch.zeros(batch, dtype=torch.int64, device=device),
    }


def add_to_mean(state: State, features: torch.Tensor, memory: Memory = CUMULATIVE) -> State:
    """The entries of `empty_mean` after more frames.

    Args:
        state: Before them; it is not changed.
        features: (B, n, channels) of the new frames.
        memory: What the mean remembers.
    """
    seen = state["head/frames"]
    stored = memory.advance(features, state["head/sum"], seen)[1]
    return {"head/sum": stored, "head/frames": seen + features.shape[1]}


def mean_features(state: State, memory: Memory = CUMULATIVE) -> torch.Tensor:
    """The mean over the features of the frames so far, (B, channels); zeros before the first."""
    return memory.mean(state["head/sum"], state["head/frames"])
