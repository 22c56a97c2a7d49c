"""The functions of a network in PyTorch, called as graphs in an engine are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from foveate.core import FoveateError, ModelError
from foveate.engines.function import NetworkFunctions, counted, tensor_card
from foveate.engines.network import PartFunctions
from foveate.engines.runtimes import Array
from foveate.models.weights.exported import StateCard, TensorCard


class TorchNetwork(PartFunctions):
    """Parts of a torch module as functions of NumPy arrays.

    Args:
        one: The functions.
        device: Where they run.
        more: Makes the functions for frames of another side.
    """

    def __init__(
        self,
        one: NetworkFunctions,
        device: torch.device | None = None,
        more: Callable[[int], NetworkFunctions] | None = None,
    ) -> None:
        self.device, self.facts = device or torch.device("cpu"), one.facts
        self._more, self._functions = more, dict(one.functions)
        self._macs: dict[str, int] = {}
        for function in self._functions.values():
            function.module.to(self.device)

    def has(self, name: str) -> bool:
        """Whether there is a function of that name."""
        return name in self._functions

    def sized(self, prefix: str, side: int) -> str:
        """The name of the function for frames of a side."""
        name = f"{prefix}-{side}"
        if name not in self._functions and self._more is not None:
            function = self._more(side).functions[name]
            function.module.to(self.device)
            self._functions[name] = function
        return name

    def inputs(self, name: str) -> Sequence[TensorCard]:
        """The inputs of a function."""
        given = self._functions[name].inputs
        return [tensor_card(key, value, batched=True) for key, value in given.items()]

    def state(self, name: str) -> Sequence[StateCard]:
        """How the next state of a function follows."""
        return self._functions[name].state

    def macs(self, name: str) -> int:
        """Multiply-adds of a call for a batch of one."""
        if name not in self._macs:
            self._macs[name] = counted(self._functions[name])
        return self._macs[name]

    @torch.inference_mode()
    def call(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Call a function with all its inputs; see `PartFunctions`."""
        function = self._functions[name]
        given = [
            torch.from_numpy(np.ascontiguousarray(inputs[key])).to(self.device)
            for key in function.inputs
        ]
        try:
            found = function.module(*given)
        except FoveateError:
            raise
        except Exception as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{name}: fails on an input of shape {tuple(given[0].shape)}: {said[:200]}"
            ) from error
        return {
            key: value.cpu().numpy() for key, value in zip(function.outputs, found, strict=True)
        }
