"""A function of tensors that can be exported, and all functions of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from foveate.core import InputSpec
from foveate.engines.runtimes import BATCH
from foveate.models.macs import on_meta
from foveate.models.weights.exported import ExportedNetwork, GraphCard, StateCard, TensorCard

NEXT = "next:"  # before the name of a state among the outputs


@dataclass(frozen=True)
class Function:
    """A function of tensors that can be exported.

    Attributes:
        module: Called with the inputs in order, returns a tuple of the outputs.
        inputs: Name → example of a batch of one; those that are no state come first.
        outputs: Names, in order.
        state: How the next state follows.
        macs: Multiply-adds of a batch of one; None if they must be counted, see `counted`.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    state: tuple[StateCard, ...] = ()
    macs: int | None = None


def counted(function: Function) -> int:
    """Multiply-adds of a function for a batch of one, counted on the meta device."""
    if function.macs is not None:
        return function.macs
    from torch.utils.flop_counter import FlopCounterMode

    given = [value.to("meta") for value in function.inputs.values()]
    module = on_meta(function.module)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*given)
    return int(counter.get_total_flops() // 2)


def graph_card(function: Function, files: Mapping[str, str], batched: bool = True) -> GraphCard:
    """The description of a function, whose outputs are computed for it once.

    Args:
        function: Where its inputs are.
        files: Name → sha256.
        batched: Whether it takes batches of any size.
    """
    with torch.inference_mode():
        found = function.module(*function.inputs.values())
    outputs = dict(zip(function.outputs, found, strict=True))
    return GraphCard(
        files=dict(files),
        inputs=[tensor_card(key, value, batched) for key, value in function.inputs.items()],
        outputs=[tensor_card(key, value, batched) for key, value in outputs.items()],
        state=list(function.state),
        macs=counted(function),
    )


def tensor_card(name: str, value: torch.Tensor, batched: bool) -> TensorCard:
    """The description of an input or output by an example."""
    shape: list[Any] = list(value.shape)
    if batched:
        shape[0] = BATCH
    dtype: Any = str(value.dtype).removeprefix("torch.")
    return TensorCard(name=name, dtype=dtype, shape=shape)


@dataclass(frozen=True)
class NetworkFunctions:
    """All functions of one network.

    Attributes:
        kind: See `ExportedNetwork`.
        functions: By name of the graph.
        reference: Frames (T, S, S, 3) uint8 of one clip → logits of the original network, one row
            for each frame of a stream, else a single row; for exits, pictures → one row for each
            exit; for a detector, one row of boxes and scores for each frame. None: every function
            is compared by itself.
        mixes_frames: See `ExportedNetwork`.
        exits: See `ExportedNetwork`.
        least_score: See `ExportedNetwork`.
        overlap: See `ExportedNetwork`.
        facts: See `ExportedNetwork`.
    """

    kind: Any
    functions: Mapping[str, Function]
    reference: Callable[[Any], torch.Tensor] | None = None
    mixes_frames: bool = True
    exits: list[str] = field(default_factory=list)
    least_score: float = 0.0
    overlap: float = 1.0
    facts: Any = None

    def card(self, graphs: Mapping[str, GraphCard]) -> ExportedNetwork:
        """What a run folder says of the network, with its graphs."""
        return ExportedNetwork(
            kind=self.kind, graphs=dict(graphs), mixes_frames=self.mixes_frames, exits=self.exits,
            least_score=self.least_score, overlap=self.overlap, facts=self.facts,
        )  # fmt: skip


class Prepared(nn.Module):
    """Frames (B, ..., S, S, 3) uint8 as a network takes them; see `pipeline.executors.to_tensor`.

    Args:
        spec: Value range, mean and standard deviation.
    """

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        std = torch.tensor(spec.std)
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (torch.tensor(spec.mean) / std).float())
        self.shifted = any(spec.mean)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames.float() * self.scale
        return (x - self.shift if self.shifted else x).movedim(-1, 1)
