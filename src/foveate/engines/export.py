"""Write the networks of a model as graphs into a run folder that needs no PyTorch.

Every format begins with `torch.export`, which records a function of tensors: what a network keeps
between calls without taking and returning it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.core import ConfigError, InputSpec, MissingExtra, ModelError
from foveate.core.files import replace_file
from foveate.core.lazy import import_extra
from foveate.engines.function import Function, NetworkFunctions, graph_card
from foveate.engines.functions import CHUNK, functions_of
from foveate.engines.litert import write_litert
from foveate.engines.network import EngineNetwork, logits_of
from foveate.engines.quantise import quantised
from foveate.engines.quiet import quiet
from foveate.engines.runtimes import BATCH, RUNS, Array, installed
from foveate.models import LoadedModel
from foveate.models.movinet_step import Temporal
from foveate.models.weights.builtin import CARD
from foveate.models.weights.exported import (
    ExportCard,
    ExportedNetwork,
    Format,
    GraphCard,
    Precision,
)
from foveate.models.weights.resolve import sha256_of
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, card_text

PARITY = 1e-4  # largest difference of a logit, as a share of the largest, of an fp32 export
_COMPARED = 16  # clips
_NO_INT8 = ("exits", "detector", "parts")  # kinds
_SUFFIXES = {"torchexport": "pt2", "litert": "tflite"}
_TEMPORAL: dict[Format, Temporal] = {"openvino": "products", "litert": "stacked"}
_FRAMES = CHUNK + 2  # of the pattern that is shown without clips
Clips = Sequence[Array]


def export(
    loaded: LoadedModel,
    folder: Path,
    format: Format = "onnx",
    *,
    precision: Precision = "fp32",
    sides: Sequence[int] = (),
    clips: Clips = (),
    memory: str | None = None,
    frames: int | None = None,
) -> RunCard:
    """Export a model.

    Args:
        loaded: The model, with its weights.
        folder: Where the graphs and `run.json` are written.
        format: Of the files.
        precision: `fp32` or `int8`; bf16 is a choice of the engine and needs no other graphs.
        sides: Of the frames, in pixels; one graph each. The model's own if empty.
        clips: Frames (T, S, S, 3) uint8 as the model takes them, on which the ranges of int8
            values are measured and the graphs are compared with the network.
        memory: For the card; the networks have it already.
        frames: Of a window, among which AdaFocus chooses; the model's own number if None.

    Returns:
        What was written to `run.json`.

    Raises:
        ModelError: The model cannot be exported, or the graphs give other numbers.
        ConfigError: No such combination, or int8 without clips.
        MissingExtra: The packages of the format are not installed.
    """
    if precision == "bf16":
        raise ConfigError("precision bf16: needs no other graphs", "export fp32, run with bf16")
    if precision == "int8" and not clips:
        raise ConfigError("precision int8: needs clips to measure ranges on", "--calibrate CLIPS")
    if precision == "int8" and format in ("torchexport", "litert"):
        raise ConfigError(f"precision int8: not in the format {format}", "--format onnx")
    if format == "litert":
        with quiet():
            import_extra("litert_torch", "litert-export")
    elif format != "torchexport":
        extra = "openvino" if format == "openvino" else "onnxruntime"
        for package in ("onnx", "onnxscript", extra):
            import_extra(package, extra)
    temporal = _TEMPORAL.get(format, "convolutions")
    found = functions_of(loaded, sides, temporal=temporal, frames=frames)
    if precision == "int8" and any(one.kind in _NO_INT8 for one in found.values()):
        what = f"precision int8: not for the method {loaded.method}"
        raise ConfigError(what, "export it as fp32")
    folder.mkdir(parents=True, exist_ok=True)
    networks, compared = {}, _Compared()
    for part, one in found.items():
        spec = loaded.input_of(part)
        shown = suited(clips, one, spec, sides)
        graphs = {
            name: _write(function, folder, f"{part}.{name}", format)
            for name, function in one.functions.items()
        }
        card = one.card(graphs)
        if precision == "int8":
            card = quantised(loaded.name, folder, card, shown)
        if format == "openvino":
            card = _each(card, partial(_converted, folder))
        if format != "torchexport":
            engine = next(one for one in RUNS[format] if one in installed())
            graphs_in = EngineNetwork(loaded.name, folder, card, engine, "fp32")
            compared.add(graphs_in, one, shown[:_COMPARED])
        networks[part] = card
    if precision == "fp32" and compared.worst > PARITY:
        raise ModelError(
            f"{loaded.name}: the graphs give other logits (by {compared.worst:.1e} of the largest)",
            "this is a fault of the export: use --engine torch",
        )
    exported = ExportCard(
        format=format,
        precision=precision,
        source=loaded.name,
        weights=weights_digest(loaded),
        memory=memory,
        networks=networks,
        parity=compared.worst,
        figures=compared.figures() if clips and compared.found else {},
        versions={name: version(name) for name in _packages(format)},
    )
    written = card_of(loaded, exported)
    replace_file(folder / CARD, card_text(written, folder.name))
    return written


def weights_digest(loaded: LoadedModel) -> str:
    """The sha256 of the file that a model's weights came from; empty for a module of a user."""
    if loaded.card is not None:
        return loaded.card.sha256
    return "" if loaded.entry is None else loaded.entry.file.sha256


def card_of(loaded: LoadedModel, exported: ExportCard) -> RunCard:
    """The card of an exported model: that of its run folder, or one of its entry in the table."""
    if loaded.card is not None:
        return loaded.card.model_copy(update={"exported": exported})
    entry = loaded.entry
    return RunCard(
        networks={part: NetworkCard(arch=entry.arch if entry else "own") for part in
                  loaded.networks},
        classes=list(loaded.labels),
        input=InputCard.of(loaded.input),
        output=loaded.output,
        method=loaded.method,
        protocol=entry.protocol if entry else "",
        licence=entry.licence if entry else None,
        exported=exported,
    )  # fmt: skip


def _packages(format: Format) -> tuple[str, ...]:
    others = {"onnx": "onnx", "openvino": "openvino", "litert": "litert-torch"}
    return ("torch", others[format]) if format in others else ("torch",)


def _write(function: Function, folder: Path, name: str, format: Format) -> GraphCard:
    """Write one graph, for OpenVINO as ONNX first, and describe it."""
    _check_no_memory(function, name)
    path = folder / f"{name}.{_SUFFIXES.get(format, 'onnx')}"
    if format == "litert":
        try:
            return write_litert(function, path)
        except MissingExtra:
            raise
        except Exception as error:  # of many kinds
            raise _not_exported(name, error) from error
    program, batched = _recorded(function, name)
    with quiet():
        if format == "torchexport":
            torch.export.save(program, path)
        else:
            made = torch.onnx.export(
                program, (), input_names=list(function.inputs),
                output_names=list(function.outputs), dynamo=True, verbose=False,
            )  # fmt: skip
            assert made is not None
            made.save(str(path), external_data=False)
    return graph_card(function, {path.name: sha256_of(path)}, batched)


def _recorded(function: Function, name: str) -> tuple[Any, bool]:
    """The program of a function, and whether it takes batches of any size.

    Raises:
        ModelError: It cannot be recorded.
    """
    single = tuple(function.inputs.values())
    double = tuple(torch.cat([value, value]) for value in single)
    batch = torch.export.Dim(BATCH, min=1, max=1 << 16)
    refused = Exception()
    for values, shapes in ((double, {"values": ({0: batch},) * len(double)}), (single, None)):
        try:
            with quiet(), torch.no_grad():
                program = torch.export.export(
                    _Fixed(function.module), values, dynamic_shapes=shapes
                )
        except Exception as error:  # of many kinds
            refused = error
            continue
        return program, shapes is not None
    raise _not_exported(name, refused)


def _not_exported(name: str, error: Exception) -> ModelError:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(f"{name}: cannot be exported ({said[:200]})", "use --engine torch")


def _check_no_memory(function: Function, name: str) -> None:
    """Refuse a module whose outputs depend on earlier calls: a graph would freeze what it keeps.

    Raises:
        ModelError: They do.
    """
    module = deepcopy(function.module)
    first, second = (_drawn(function, seed) for seed in (0, 1))
    with torch.no_grad():
        before, _, after = (module(*values) for values in (first, second, first))
    for a, b in zip(before, after, strict=True):
        if not torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max())):
            raise ModelError(
                f"{name}: keeps state between calls, which a graph would freeze",
                "give the network the functional step interface: initial_state and step_features",
            )


def _drawn(function: Function, seed: int) -> list[torch.Tensor]:
    """Random inputs of a function."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else torch.randint(0, 100, value.shape, generator=generator).to(value.dtype)
        for value in function.inputs.values()
    ]


class _Fixed(torch.nn.Module):
    """A module with one parameter for all its inputs, as `torch.export` names them."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found: tuple[torch.Tensor, ...] = self.module(*values)
        return found


def _each(card: ExportedNetwork, change: Callable[[GraphCard], GraphCard]) -> ExportedNetwork:
    """A network whose graphs were changed."""
    graphs = {name: change(graph) for name, graph in card.graphs.items()}
    return card.model_copy(update={"graphs": graphs})


def _converted(folder: Path, graph: GraphCard) -> GraphCard:
    """An ONNX file as OpenVINO's two files, in its place."""
    openvino = import_extra("openvino", "openvino")
    path = folder / next(iter(graph.files))
    target = path.with_suffix(".xml")
    try:
        # Not `convert_model`, which reports its use to the maker of OpenVINO.
        model = openvino.Core().read_model(str(path))
    except RuntimeError as error:
        raise ModelError(
            f"{path.stem}: OpenVINO lacks an operator of it", "export it with --format onnx"
        ) from error
    openvino.save_model(model, str(target), compress_to_fp16=False)
    path.unlink()
    files = {one.name: sha256_of(one) for one in (target, target.with_suffix(".bin"))}
    return graph.model_copy(update={"files": files})


# --- comparing -------------------------------------------------------------------------------


def moving_frames(spec: InputSpec) -> Array:
    """Frames (T, S, S, 3) of a pattern that moves, for comparing when there are no clips."""
    random = np.random.default_rng(0)
    wide = random.integers(0, 256, (spec.size // 4 + 2, spec.size // 4 + _FRAMES + 2, 3), np.uint8)
    wide = wide.repeat(4, 0).repeat(4, 1)
    return np.stack([wide[: spec.size, 2 * i : 2 * i + spec.size] for i in range(_FRAMES)])


@dataclass
class _Compared:
    """Logits of the network and of its graphs: all rows for the parity, the last of each clip."""

    worst: float = 0.0
    wanted: list[Array] = field(default_factory=list)
    found: list[Array] = field(default_factory=list)

    def add(self, network: EngineNetwork, one: NetworkFunctions, clips: Clips) -> None:
        """Compare on further clips; functions without a common reference, each by itself."""
        if one.reference is None:
            self.worst = max(self.worst, *(_apart(network, n, f) for n, f in one.functions.items()))
            return
        for clip in clips:
            with torch.inference_mode():
                wanted = one.reference(clip).numpy()
            found = np.stack(list(logits_of(network, clip)))
            if one.kind == "stream":
                wanted = np.concatenate([wanted, wanted[-1:]])
            worst = float(np.abs(found - wanted).max() / np.abs(wanted).max())
            self.worst = max(self.worst, worst)
            if one.kind == "detector":
                continue  # the figures are of labels of clips
            self.wanted.append(wanted[-1])
            self.found.append(found[-1])

    def figures(self) -> dict[str, float]:
        """Correlation of the logits, and share of clips with the same best class."""
        wanted, found = np.stack(self.wanted), np.stack(self.found)
        return {
            "correlation": float(np.corrcoef(wanted.ravel(), found.ravel())[0, 1]),
            "same-top1": float((wanted.argmax(1) == found.argmax(1)).mean()),
        }


def _apart(network: EngineNetwork, name: str, function: Function) -> float:
    """The largest difference of a graph from its function on random inputs.

    Each output is compared relative to its largest value; numbers of frames must be the same.
    """
    given = _drawn(function, 0)
    with torch.inference_mode():
        wanted = function.module(*given)
    inputs = {key: one.numpy() for key, one in zip(function.inputs, given, strict=True)}
    found = network.call(name, inputs)
    worst = 0.0
    for key, one in zip(function.outputs, wanted, strict=True):
        difference = np.abs(found[key] - one.numpy()).max()
        largest = np.abs(one.numpy()).max() if one.is_floating_point() else 0
        worst = max(worst, float(difference / max(largest, 1e-12)) if difference else 0.0)
    return worst


def suited(
    clips: Clips, one: NetworkFunctions, spec: InputSpec, sides: Sequence[int] = ()
) -> list[Array]:
    """Clips as a network takes them; pictures without meaning for exits.

    Without clips, a pattern that moves, in the size of the first graph.
    """
    if not clips:
        resized = sides and one.kind in ("stream", "clip")
        clips = [moving_frames(replace(spec, size=sides[0]) if resized else spec)]
    if one.kind == "clip":
        return [clip[np.arange(spec.clip_frames) * len(clip) // spec.clip_frames] for clip in clips]
    if one.kind == "exits":
        (example,) = one.functions["exit-0"].inputs.values()
        random = np.random.default_rng(0)
        return [random.uniform(0, 16, (3, *example.shape[1:])).astype(np.float32)]
    return list(clips)
