"""Graphs in an engine: ONNX Runtime, OpenVINO or LiteRT, none of which needs PyTorch.

Opening a graph runs no code of it: the formats describe operators that the engine has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from foveate.core import ConfigError, ModelError
from foveate.core.files import cache_folder
from foveate.core.lazy import import_extra
from foveate.models.weights.exported import Format, GraphCard, Precision

Array = np.ndarray[Any, Any]
Call = Callable[[Mapping[str, Array]], dict[str, Array]]
Engine = Literal["onnxruntime", "openvino", "litert"]

RUNS: dict[Format, tuple[Engine, ...]] = {
    "onnx": ("onnxruntime", "openvino"),
    "openvino": ("openvino",),
    "litert": ("litert",),
    "torchexport": (),
}
BATCH = "batch"
_MOST_BATCHES = 6  # sizes of a batch for which OpenVINO compiles a graph
_MODULES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert.interpreter",
}


def installed() -> list[Engine]:
    """The engines that can be imported here."""
    from importlib.util import find_spec

    return [
        name for name in ("onnxruntime", "openvino", "litert")
        if find_spec(_MODULES[name].partition(".")[0]) is not None
    ]  # fmt: skip


def check_engine(engine: Engine, precision: Precision, exported: Precision = "fp32") -> None:
    """Refuse an engine that is not installed, or a precision that it does not have here.

    Args:
        engine: The engine.
        precision: Of the computation.
        exported: Of the graphs.

    Raises:
        MissingExtra: The engine is not installed.
        ConfigError: It does not have that precision on this processor.
    """
    _module(engine)
    if "int8" in (precision, exported) and precision != exported:
        raise ConfigError(
            f"precision {precision}: the graphs are {exported}",
            f"foveate export MODEL --precision {precision} makes others",
        )
    if precision != "bf16":
        return
    if engine != "openvino":
        raise ConfigError(f"precision bf16: {engine} does not have it", "--engine openvino has")
    core = _module("openvino").Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError("precision bf16: this processor does not have it", "use fp32")


def open_graph(
    folder: Path, card: GraphCard, engine: Engine, precision: Precision, threads: int
) -> Call:
    """Open a graph of an exported folder.

    Args:
        folder: The folder.
        card: The graph.
        engine: One that runs its format.
        precision: Of the computation.
        threads: Threads of one call.

    Returns:
        A function of arrays by name that returns arrays by name. What it returns is not changed by
        later calls.

    Raises:
        ModelError: The engine cannot open the file.
        MissingExtra: The engine is not installed.
    """
    path = folder / next(iter(card.files))
    opened = {"onnxruntime": _onnxruntime, "openvino": _openvino, "litert": _litert}[engine]
    try:
        return opened(path, card, precision, threads)
    except (RuntimeError, ValueError, OSError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path.name}: {engine} cannot open it ({said[:200]})") from error


def _module(engine: Engine) -> Any:
    if engine == "onnxruntime":
        return import_extra("onnxruntime", "onnxruntime")
    if engine == "openvino":
        return import_extra("openvino", "openvino")
    return import_extra("ai_edge_litert.interpreter", "litert")


def _onnxruntime(path: Path, card: GraphCard, precision: Precision, threads: int) -> Call:
    runtime = _module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Threads that wait actively take the processor from decoding and from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base
        raise RuntimeError(str(error)) from error
    names = [one.name for one in card.outputs]

    def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return call


def _openvino(path: Path, card: GraphCard, precision: Precision, threads: int) -> Call:
    core = _module("openvino").Core()
    compiled_graphs = cache_folder() / "openvino"
    with suppress(OSError):  # without a cache folder a graph is compiled at every start
        compiled_graphs.mkdir(parents=True, exist_ok=True)
        core.set_property({"CACHE_DIR": str(compiled_graphs)})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    inputs = [one.name for one in card.inputs]
    outputs = [one.name for one in card.outputs]
    by_batch: dict[int, tuple[Any, list[Any]]] = {}

    def compiled(batch: int) -> tuple[Any, list[Any]]:
        """A graph of fixed shapes is faster than one of any batch."""
        model = core.read_model(str(path))
        dynamic = [one for one in card.inputs if BATCH in one.shape]
        if dynamic:
            model.reshape(
                {o.name: [batch if size == BATCH else size for size in o.shape] for o in dynamic}
            )
        made = core.compile_model(model, "CPU", settings)
        return made.create_infer_request(), [made.output(name) for name in outputs]

    by_batch[1] = compiled(1)

    def call(given: Mapping[str, Array]) -> dict[str, Array]:
        batch = len(given[inputs[0]])
        if batch not in by_batch and len(by_batch) >= _MOST_BATCHES:
            return in_pieces(given, batch)
        if batch not in by_batch:
            by_batch[batch] = compiled(batch)
        request, ports = by_batch[batch]
        found = request.infer(dict(given), share_inputs=True, share_outputs=False)
        return {name: found[port] for name, port in zip(outputs, ports, strict=True)}

    def in_pieces(given: Mapping[str, Array], batch: int) -> dict[str, Array]:
        """Rows in calls of sizes that are compiled: each further one costs time and memory."""
        rows, start = [], 0
        while start < batch:
            size = max(one for one in by_batch if one <= batch - start)
            rows.append(call({name: one[start : start + size] for name, one in given.items()}))
            start += size
        return {name: np.concatenate([row[name] for row in rows]) for name in outputs}

    return call


def _litert(path: Path, card: GraphCard, precision: Precision, threads: int) -> Call:
    interpreter = _module("litert").Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    signature = interpreter.get_signature_runner()
    inputs = {name: one["index"] for name, one in signature.get_input_details().items()}
    outputs = {name: one["index"] for name, one in signature.get_output_details().items()}

    # The signature itself can be called, too, but plans its memory anew at every call.
    def call(given: Mapping[str, Array]) -> dict[str, Array]:
        for name, value in given.items():
            interpreter.set_tensor(inputs[name], value)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in outputs.items()}  # copies

    return call
