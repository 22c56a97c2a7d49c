"""Networks as graphs without writing them: the functions that would be exported, run by torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.engines.function import NetworkFunctions, graph_card
from foveate.engines.functions import functions_of
from foveate.engines.network import EngineNetwork
from foveate.models import LoadedModel


class TorchGraphs(EngineNetwork):
    """Calls the functions themselves, in batches of any size unless `single`."""

    def __init__(self, name: str, one: NetworkFunctions, single: bool = False) -> None:
        self.functions = one.functions
        graphs = {
            key: graph_card(function, {"none.onnx": 64 * "0"}, not single)
            for key, function in one.functions.items()
        }
        super().__init__(name, Path(), one.card(graphs), "onnxruntime", "fp32")
        self._opened = {key: self._run(key) for key in graphs}

    def _run(self, graph: str) -> Any:
        function = self.functions[graph]

        @torch.inference_mode()
        def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            given = [torch.from_numpy(inputs[key]) for key in function.inputs]
            found = function.module(*given)
            return {k: v.numpy() for k, v in zip(function.outputs, found, strict=True)}

        return run


def graphs_of(loaded: LoadedModel, single: bool = False, **options: Any) -> dict[str, TorchGraphs]:
    """The networks of a model as graphs."""
    found = functions_of(loaded, **options)
    return {part: TorchGraphs(loaded.name, one, single) for part, one in found.items()}
