"""Published LiteRT files of streaming networks, run as they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveate.core import ConfigError, WeightsError
from foveate.core.files import replace_file
from foveate.core.lazy import import_extra
from foveate.engines.export import card_of, moving_frames, weights_digest
from foveate.engines.functions import functions_of
from foveate.engines.network import EngineNetwork
from foveate.models import LoadedModel
from foveate.models.weights.builtin import CARD
from foveate.models.weights.exported import (
    ExportCard,
    ExportedNetwork,
    GraphCard,
    StateCard,
    TensorCard,
)
from foveate.models.weights.resolve import locate
from foveate.models.weights.run import RunCard, card_text

_IMAGE, _LOGITS = "image", "logits"


def export_published(loaded: LoadedModel, folder: Path, *, offline: bool = False) -> RunCard:
    """Write a run folder around the published int8 file of some weights.

    The file is copied unchanged. Its signature takes an image and the state and returns logits
    and the state under the same names.

    Args:
        loaded: The model, whose weights were converted from the file.
        folder: Where it is written.
        offline: Do not use the network.

    Raises:
        ConfigError: The weights were not published as such a file.
        MissingExtra: LiteRT is not installed.
    """
    module = import_extra("ai_edge_litert.interpreter", "litert")
    entry = loaded.entry
    if entry is None or not entry.file.name.endswith(".tflite"):
        raise ConfigError(
            f"{loaded.name}: no LiteRT file was published of these weights",
            "--format onnx and openvino take any model",
        )
    source = locate(entry.file, offline=offline)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"network.step-{loaded.input.size}.tflite"
    shutil.copyfile(source, path)
    interpreter = module.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    inputs = _tensors(runner.get_input_details(), first=_IMAGE)
    outputs = _tensors(runner.get_output_details(), first=_LOGITS)
    if inputs[0].name != _IMAGE or outputs[0].name != _LOGITS:
        raise WeightsError(f"{source.name}: takes no image, or returns no logits")
    (one,) = functions_of(loaded).values()
    graph = GraphCard(
        files={path.name: entry.file.sha256},
        inputs=inputs,
        outputs=outputs,
        state=[StateCard(inputs=[t.name], output=t.name) for t in inputs[1:]],
        macs=sum(function.macs for function in one.functions.values()),
    )
    card = ExportedNetwork(kind="stream", graphs={f"step-{loaded.input.size}": graph})
    exported = ExportCard(
        format="litert",
        precision="int8",
        source=loaded.name,
        weights=weights_digest(loaded),
        networks={"network": card},
        parity=_difference(EngineNetwork(loaded.name, folder, card, "litert", "int8"), one, loaded),
    )
    written = card_of(loaded, exported)
    replace_file(folder / CARD, card_text(written, folder.name))
    return written


def _tensors(details: Any, first: str) -> list[TensorCard]:
    """The tensors of a signature, the named one first."""
    return [
        TensorCard(
            name=name,
            dtype=np.dtype(details[name]["dtype"]).name,
            shape=[int(size) for size in details[name]["shape"]],
        )
        for name in sorted(details, key=lambda name: (name != first, name))
    ]


def _difference(network: EngineNetwork, one: Any, loaded: LoadedModel) -> float:
    """The largest difference of a logit from the network in fp32, as a share of the largest."""
    clip = moving_frames(loaded.input)
    state, rows = None, []
    for at in range(len(clip)):
        found, state = network.advance(clip[None, at : at + 1], state)
        rows.append(found[_LOGITS][0])
    with torch.inference_mode():
        wanted = one.reference(clip).numpy()
    return float(np.abs(np.stack(rows) - wanted).max() / np.abs(wanted).max())
