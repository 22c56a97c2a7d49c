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
from foveate.engines.litert import signature_of
from foveate.engines.network import EngineNetwork
from foveate.models import LoadedModel
from foveate.models.weights.builtin import CARD
from foveate.models.weights.exported import (
    ExportCard,
    ExportedNetwork,
    GraphCard,
    StateCard,
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
    import_extra("ai_edge_litert.interpreter", "litert")
    entry = loaded.entry
    if entry is None or not entry.litert:
        raise ConfigError(
            f"{loaded.name}: no int8 LiteRT file was published of these weights",
            "--precision fp32 writes one of any model, --format onnx makes int8 graphs",
        )
    source = locate(entry.file, offline=offline)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"network.step-{loaded.input.size}.tflite"
    shutil.copyfile(source, path)
    try:
        inputs, outputs = signature_of(path, (_IMAGE,), (_LOGITS,))
    except KeyError:
        raise WeightsError(f"{source.name}: takes no image, or returns no logits") from None
    (one,) = functions_of(loaded).values()
    graph = GraphCard(
        files={path.name: entry.file.sha256},
        inputs=inputs,
        outputs=outputs,
        state=[StateCard(inputs=[t.name], output=t.name) for t in inputs[1:]],
        macs=sum(one.functions[name].macs for name in (f"step-{loaded.input.size}", "head")),
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
