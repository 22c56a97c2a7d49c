"""Networks as graphs without writing them: the functions that would be exported, run by torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.engines.export import _tensor
from foveate.engines.functions import NetworkFunctions, functions_of
from foveate.engines.network import EngineNetwork
from foveate.models import LoadedModel
from foveate.models.weights.exported import ExportedNetwork, GraphCard


class TorchGraphs(EngineNetwork):
    """Calls the functions themselves, in batches of any size unless `single`."""

    def __init__(self, name: str, one: NetworkFunctions, single: bool = False) -> None:
        self.functions = one.functions
        graphs = {}
        with torch.inference_mode():
            for key, function in one.functions.items():
                found = function.module(*function.inputs.values())
                outputs = dict(zip(function.outputs, found, strict=True))
                graphs[key] = GraphCard(
                    files={"none.onnx": 64 * "0"},
                    inputs=[_tensor(k, v, not single) for k, v in function.inputs.items()],
                    outputs=[_tensor(k, v, not single) for k, v in outputs.items()],
                    state=list(function.state),
                    macs=function.macs,
                )
        card = ExportedNetwork(
            kind=one.kind, graphs=graphs, mixes_frames=one.mixes_frames, exits=one.exits,
            least_score=one.least_score, overlap=one.overlap,
        )  # fmt: skip
        super().__init__(name, Path(), card, "onnxruntime", "fp32")
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
