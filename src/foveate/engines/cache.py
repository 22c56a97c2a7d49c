"""Models in an engine: exported folders as they are, others exported on first use and kept.

PyTorch is imported only to export. What was made is in the folder `engines` of the cache, by the
digest of the weights; deleting it costs the next export and nothing else.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foveate.core import ConfigError, FoveateError, ModelError
from foveate.core.files import cache_folder
from foveate.engines.network import open_exported
from foveate.engines.runtimes import Engine, check_engine
from foveate.models.loaded import LoadedModel
from foveate.models.weights.builtin import is_run, run_folder
from foveate.models.weights.exported import Format, Precision
from foveate.models.weights.run import read_run
from foveate.models.weights.table import find

VERSION = 2  # increased when the same model is exported otherwise
_FORMATS: dict[Engine, Format] = {
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "litert": "litert",
}
Notice = Callable[[str], None]


def exported_folder(model: str) -> Path | None:
    """The folder of a model that is an exported one, else None."""
    folder = run_folder(model)
    return folder if folder is not None and read_run(folder).exported is not None else None


def digest_of(model: str) -> str:
    """The sha256 of a model's weights, found without loading it.

    Raises:
        WeightsError: No such model.
    """
    folder = run_folder(model)
    if folder is None:
        return find(model).file.sha256
    card = read_run(folder)
    return card.sha256 if card.exported is None else card.exported.weights


def open_model(
    model: str,
    engine: Engine,
    *,
    precision: Precision | None = None,
    threads: int = 1,
    memory: str | None = None,
    side: int | None = None,
    frames: int | None = None,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    notice: Notice | None = None,
) -> LoadedModel:
    """A model with its networks in an engine.

    Args:
        model: A run folder, or weights of the table.
        engine: The engine.
        precision: Of the computation. None for int8 in LiteRT if the weights were published as such
            a file, else for fp32.
        threads: Threads of one call.
        memory: See `Preset.memory`.
        side: Of the frames that will be looked at first; the model's own if None.
        frames: Of a window, among which AdaFocus chooses; the model's own number if None.
        offline: Never touch the network for weights.
        progress: Of a download.
        notice: Called with a line when an export begins, which takes seconds.

    Raises:
        ConfigError: No such combination.
        MissingExtra: The engine is not installed.
        FoveateError: What loading and exporting raise.
    """
    published = engine == "litert" and precision != "fp32" and _published(model)
    precision = "int8" if published else precision or "fp32"
    check_engine(engine, precision, precision)
    if precision == "int8" and not published:
        raise ConfigError(
            f"precision int8: {model} was not exported in int8",
            f"foveate export {model} --precision int8 --calibrate CLIPS --out DIR",
        )

    def made(side: int | None) -> Path:
        kind = "litert-fp32" if engine == "litert" and not published else _FORMATS[engine]
        target = _place(model, kind, memory, side, frames)
        if not is_run(target):
            if notice is not None:
                notice(f"exporting {model} for {engine}, once")
            _make(model, target, engine, memory, side, frames, offline, progress, published)
        return target

    return open_exported(
        made(side), model, engine=engine, precision=precision, threads=threads, memory=memory,
        more=made,
    )  # fmt: skip


def _published(model: str) -> bool:
    """Whether the weights were published as a LiteRT file."""
    return run_folder(model) is None and find(model).litert


def _place(model: str, kind: str, memory: str | None, side: int | None, frames: int | None) -> Path:
    """The folder in the cache: model, weights, and everything that the graphs depend on."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", Path(model).name)[:60]
    parts = [name, digest_of(model)[:16], kind, f"{side or 'own'}"]
    parts += [] if memory is None else [memory.replace(":", "_")]
    parts += [] if frames is None else [f"{frames}-frames"]
    return cache_folder() / "engines" / "-".join([*parts, f"v{VERSION}"])


def _make(
    model: str,
    target: Path,
    engine: Engine,
    memory: str | None,
    side: int | None,
    frames: int | None,
    offline: bool,
    progress: Callable[[int, int], None] | None,
    published: bool,
) -> None:
    """Export to a folder of the cache."""
    from foveate.models import load

    loaded = load(model, offline=offline, progress=progress)
    with complete_folder(target) as partial:
        if published:
            from foveate.engines.published import export_published

            export_published(loaded, partial, offline=offline)
            return
        from foveate.engines.export import export

        for network in loaded.networks.values():
            set_memory(network, memory, model)
        export(
            loaded, partial, _FORMATS[engine],
            sides=() if side is None else (side,), memory=memory, frames=frames,
        )  # fmt: skip


@contextmanager
def complete_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its name when the block ends without an exception.

    Where another process has made a run folder of that name meanwhile, that one stays.

    Raises:
        FoveateError: It cannot be written.
    """
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if not is_run(target):
            os.replace(partial, target)
    except OSError as error:
        raise FoveateError(f"{target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def set_memory(network: Any, memory: str | None, model: str) -> None:
    """Let a streaming network remember what a preset says.

    Raises:
        ConfigError: Another network than a MoViNet stream, or an unknown memory.
    """
    if memory is None:
        return
    if not hasattr(network, "set_memory"):
        raise ConfigError(f"{model}: has no memory to choose", "only MoViNet streams have")
    try:
        network.set_memory(memory)
    except ModelError as error:
        raise ConfigError(f"memory: {error.cause}", error.hint) from None
