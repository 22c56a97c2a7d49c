"""Exporting a model by name, or a module of a user; what `foveate.export` is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from foveate.core import ConfigError, InputSpec
from foveate.core.config import nearest
from foveate.core.files import replace_file
from foveate.engines.cache import complete_folder, exported_folder
from foveate.media import DEFAULT_LIMITS, Limits, open_source
from foveate.models.weights.builtin import CARD
from foveate.models.weights.exported import Format
from foveate.models.weights.run import RunCard, card_text
from foveate.pipeline.engines import load_model
from foveate.pipeline.fetch import crop, decode_size
from foveate.pipeline.loading import OwnModule
from foveate.pipeline.presets import Preset, resolve

if TYPE_CHECKING:
    import torch

FORMATS: tuple[str, ...] = get_args(Format)
_MOST_FRAMES = 50  # of a calibration clip


def export(
    model: str | os.PathLike[str] | Preset | torch.nn.Module,
    out: str | os.PathLike[str],
    *,
    format: str = "onnx",
    precision: str | None = None,
    sizes: Sequence[int] = (),
    calibrate: Sequence[Any] = (),
    labels: Sequence[str] | None = None,
    input: InputSpec | None = None,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> RunCard:
    """Write a model as graphs that run without PyTorch.

    The folder is a run folder: `foveate.load(out)` and `predict --model out` give the results of
    the model.

    Args:
        model: A run folder, a preset, weights; or a module as `load` takes it.
        out: The folder, new or empty.
        format: `onnx`, `openvino`, `litert`, or `torchexport` (for other programs).
        precision: `fp32` or `int8`. If None, `int8` in the format `litert` where such a file was
            published, which is then copied, else `fp32`.
        sizes: Sides of frames in pixels, where a look shows others than the model's own.
        calibrate: Videos like those that the model will see, at least some dozens for int8.
        labels: Of a module.
        input: Of a module.
        offline: Never touch the network for weights.
        progress: Called with (bytes so far, bytes in total) during a download.
        limits: Bounds on what a calibration video may cost.

    Returns:
        The content of `run.json`; `exported.parity` says how closely the graphs follow the model.

    Raises:
        ModelError: The model cannot be exported.
        ConfigError: A setting that is unknown or does not fit.
        MissingExtra: The packages of the format are not installed.
        MediaError: A calibration video cannot be read.
    """
    if format not in FORMATS:
        guess = nearest(format, FORMATS)
        raise ConfigError(
            f"format {format!r}: unknown",
            f"did you mean {guess}?" if guess else f"one of: {', '.join(FORMATS)}",
        )
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not an empty folder", "name another one")
    own = None
    if isinstance(model, str | os.PathLike):
        preset = resolve(os.fspath(model))[1]
        if exported_folder(preset.model) is not None:
            raise ConfigError(f"{model}: is exported already", "export the model it was made from")
    elif isinstance(model, Preset):
        preset = model
    else:
        preset = Preset(model=type(model).__name__)
        own = OwnModule(model, labels, input, "softmax").loaded
    loaded, _ = load_model(
        preset, own, device="cpu", engine="torch", offline=offline, progress=progress
    )
    if precision is None:
        published = format == "litert" and loaded.entry is not None and loaded.entry.litert
        precision = "int8" if published else "fp32"
    with complete_folder(folder) as partial:
        if format == "litert" and precision == "int8":
            from foveate.engines.published import export_published

            card = export_published(loaded, partial, offline=offline)
        else:
            from foveate.engines import export as engine_export

            chosen: Any = (format, precision)
            side = getattr(preset.look, "size", None)
            card = engine_export.export(
                loaded, partial, chosen[0], precision=chosen[1],
                sides=sizes or ((side,) if isinstance(side, int) else ()),
                clips=[frames_of(one, loaded.input, limits) for one in calibrate],
                memory=preset.memory, frames=getattr(preset.look, "frames", None),
            )  # fmt: skip
        if own is None:  # it is used with the look and the other settings it was exported with
            settings = preset.model_dump(mode="json", exclude={"model", "engine", "precision"})
            card = card.model_copy(update={"preset": settings})
            replace_file(partial / CARD, card_text(card, folder.name))
    return card


def frames_of(source: Any, spec: InputSpec, limits: Limits = DEFAULT_LIMITS) -> Any:
    """The first frames of a video as a model sees them.

    Returns:
        (T, S, S, 3) uint8, at the model's rate, at most 50.
    """
    sample = open_source(source, limits=limits)
    try:
        size = decode_size((sample.info.width, sample.info.height), spec)
        seconds = sample.info.duration or spec.clip_seconds
        count = min(_MOST_FRAMES, max(1, int(seconds * spec.frames_per_second)))
        times = [i / spec.frames_per_second for i in range(count)]
        pixels = sample.frames(times, size).pixels
    finally:
        sample.close()
    return np.ascontiguousarray(crop(pixels, spec))
