"""int8 graphs: ranges of values are measured on clips, weights are quantised per channel.

ONNX Runtime's static quantisation writes pairs of quantising and dequantising operators around
dense convolutions and matrix products; ONNX Runtime and OpenVINO run both in int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.core.lazy import import_extra
from foveate.engines.network import EngineNetwork, logits_of
from foveate.engines.quiet import quiet
from foveate.engines.runtimes import Array
from foveate.models.weights.exported import ExportedNetwork, GraphCard
from foveate.models.weights.resolve import sha256_of

_SAMPLES = 96  # calls of a graph on which ranges are measured


class _Recorder(EngineNetwork):
    """Keeps the inputs of every so manyth call of each graph."""

    def __init__(self, every: int, *args: Any) -> None:
        super().__init__(*args)
        self.every, self.calls = every, dict.fromkeys(self._graphs, 0)
        self.samples: dict[str, list[dict[str, Array]]] = {name: [] for name in self._graphs}

    def call(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self.calls[graph] % self.every == 0:
            self.samples[graph].append(dict(inputs))
        self.calls[graph] += 1
        return super().call(graph, inputs)


def quantised(
    name: str, folder: Path, card: ExportedNetwork, clips: Sequence[Array]
) -> ExportedNetwork:
    """The network with its ONNX files quantised in place.

    Args:
        name: Of the model, for messages.
        folder: Of the files.
        card: The network in fp32.
        clips: As the network takes them (see `logits_of`).

    Raises:
        MissingExtra: ONNX Runtime is not installed.
    """
    import_extra("onnxruntime.quantization", "onnxruntime")
    steps = sum(len(clip) for clip in clips) if card.kind == "stream" else len(clips)
    recorder = _Recorder(max(1, steps // _SAMPLES), name, folder, card, "onnxruntime", "fp32")
    for clip in clips:
        for _ in logits_of(recorder, clip):
            pass
    graphs = {
        key: _quantise(folder, graph, recorder.samples[key]) if recorder.samples[key] else graph
        for key, graph in card.graphs.items()
    }
    return card.model_copy(update={"graphs": graphs})


def _dense(path: Path) -> list[str]:
    """Names of the matrix products and of the convolutions over all channels.

    Convolutions of single channels gain no time in int8 and lose accuracy.
    """
    import onnx

    found = []
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        groups = next((one.i for one in node.attribute if one.name == "group"), 1)
        if node.op_type in ("Gemm", "MatMul") or (node.op_type == "Conv" and groups == 1):
            found.append(node.name)
    return found


def _quantise(folder: Path, graph: GraphCard, samples: list[dict[str, Array]]) -> GraphCard:
    """One file, in place."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    path = folder / next(iter(graph.files))
    prepared = path.with_suffix(".prepared.onnx")
    try:
        with quiet():
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared), str(path), Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                nodes_to_quantize=_dense(prepared),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip
    finally:
        prepared.unlink(missing_ok=True)
    return graph.model_copy(update={"files": {path.name: sha256_of(path)}})
