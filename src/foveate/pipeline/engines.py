"""Which engine runs a model: loading it there, measuring engines, and remembering the fastest."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import ConfigError, Executor, FoveateError, View, Views
from foveate.core.files import cache_folder, replace_file
from foveate.engines.cache import digest_of, exported_folder, open_model, set_memory
from foveate.engines.network import EngineNetwork, open_exported
from foveate.engines.runtimes import RUNS, installed
from foveate.models.weights.run import read_run

if TYPE_CHECKING:
    from foveate.models import LoadedModel
    from foveate.pipeline.presets import Preset

ENGINES = ("torch", "onnxruntime", "openvino", "litert")
PRECISIONS = ("fp32", "bf16", "int8")
_PACKAGES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino",
             "litert": "ai-edge-litert"}  # fmt: skip
_ROUNDS = 15
_CHANNELS = {"mv": 2}


def is_exported(loaded: LoadedModel) -> bool:
    """Whether the networks are graphs in an engine, not torch modules."""
    return isinstance(next(iter(loaded.networks.values())), EngineNetwork)


def load_model(
    preset: Preset,
    own: Callable[[str], LoadedModel] | None = None,
    *,
    device: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> tuple[LoadedModel, Any]:
    """The model of a preset in an engine, and the device of its networks (None for an engine).

    PyTorch is imported only for the engine `torch`, and to export what was not exported yet.

    Args:
        preset: Names the model, its memory, and the size of what is looked at.
        own: Makes a user's module of the name of the model; None to load weights.
        device: As for `load`.
        engine: As for `load`, but not `auto`.
        precision: As for `load`.
        threads: As for `load`.
        offline: As for `load`.
        progress: As for `load`.
        notice: Called with a line when an export begins.

    Raises:
        ConfigError: No such combination.
        FoveateError: What loading raises.
    """
    if engine is not None and engine not in ENGINES:
        raise ConfigError(f"engine {engine!r}: unknown", f"one of: auto, {', '.join(ENGINES)}")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r}: unknown", f"one of: {', '.join(PRECISIONS)}")
    folder = exported_folder(preset.model) if own is None else None
    if folder is None and engine in (None, "torch"):
        return _in_torch(preset, own, device, precision, threads, offline, progress)
    if own is not None:
        raise ConfigError(
            f"engine {engine}: runs models with weights, not a module",
            "foveate.export(module, ..., labels=, input=) makes a folder that it runs",
        )
    if device not in (None, "cpu"):
        raise ConfigError(f"device {device}: {engine or 'the engine'} runs on the CPU")
    how: dict[str, Any] = {
        "precision": precision, "threads": threads or 1, "memory": preset.memory,
    }  # fmt: skip
    chosen: Any = engine
    if folder is not None:
        return open_exported(folder, preset.model, engine=chosen, **how), None
    side = getattr(preset.look, "size", None)
    loaded = open_model(
        preset.model, chosen, **how, side=side if isinstance(side, int) else None,
        frames=getattr(preset.look, "frames", None), offline=offline, progress=progress,
        notice=notice,
    )  # fmt: skip
    return loaded, None


def _in_torch(
    preset: Preset,
    own: Callable[[str], LoadedModel] | None,
    device: str | None,
    precision: str | None,
    threads: int | None,
    offline: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[LoadedModel, Any]:
    if precision not in (None, "fp32"):
        raise ConfigError(
            f"precision {precision}: the engine torch computes in fp32",
            "--engine openvino has bf16; foveate export --precision int8 makes int8 graphs",
        )
    import torch

    from foveate.models import load
    from foveate.models.device import choose_device

    place = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if own is not None:
        loaded = own(preset.model)
    else:
        loaded = load(preset.model, offline=offline, progress=progress)
    for network in loaded.networks.values():
        set_memory(network, preset.memory, preset.model)
    return loaded, place


# --- measuring ---------------------------------------------------------------------------------


def fastest(
    preset: Preset,
    build: Callable[[str], Executor],
    *,
    precision: str | None = None,
    threads: int = 1,
    notice: Callable[[str], None] | None = None,
    known: bool = True,
) -> str:
    """The engine that runs a model fastest on this machine.

    It is measured once per model, size, precision, number of threads and machine, and remembered
    in the cache folder. What computes with fewer bits is chosen only on request.

    Args:
        preset: Of the model.
        build: Name of an engine → executor of the model in it.
        precision: As for `load`.
        threads: Threads of the network.
        notice: Called with a line: what was measured, and why an engine was left out.
        known: Take what was measured before.
    """
    say = notice or (lambda line: None)
    candidates = _candidates(preset.model, precision)
    if len(candidates) < 2:
        why = "no other engine is installed here" if precision in (None, "fp32") else precision
        say(f"engine auto: {candidates[0]} ({why})")
        return candidates[0]
    key = key_of(preset, precision, threads, candidates)
    before = remembered().get(key)
    if known and before in candidates:
        return str(before)
    executors = {}
    for name in candidates:
        try:
            executors[name] = build(name)
        except FoveateError as error:
            say(f"engine auto: without {name}: {error}")
    if not executors:
        raise ConfigError(f"engine auto: no engine runs {preset.model}", "say --engine torch")
    found = measure(executors, getattr(preset.look, "size", None))
    best = min(found, key=lambda name: found[name]["median"])
    times = ", ".join(f"{name} {one['median']:.1f} ms" for name, one in found.items())
    say(f"engine auto: {best} ({times} of CPU time a step); remembered for this machine")
    remember(key, best)
    return best


def _candidates(model: str, precision: str | None) -> list[str]:
    """The engines to compare."""
    here = installed()
    folder = exported_folder(model)
    if folder is not None:
        card = read_run(folder).exported
        assert card is not None
        found = [name for name in RUNS[card.format] if name in here]
        return list(found) or list(RUNS[card.format]) or ["torch"]
    if precision == "bf16":
        return ["openvino"]
    if precision == "int8":
        return ["litert"]
    exports = find_spec("litert_torch") is not None  # published files have fewer bits
    return ["torch", *(name for name in here if name != "litert" or exports)]


def measure(
    executors: Mapping[str, Executor], side: int | None = None, rounds: int = _ROUNDS, rows: int = 1
) -> dict[str, dict[str, float]]:
    """CPU milliseconds of a step with its answer, measured in turn.

    Args:
        executors: By name.
        side: Of the frames; the model's own if None.
        rounds: Calls of each; two more are made first and not counted.
        rows: Streams or clips in one call.

    Returns:
        Name → `median`, `min` and `max` per row.
    """
    jobs = {name: job_of(one, side, rows) for name, one in executors.items()}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for at in range(rounds + 2):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            if at >= 2:
                times[name].append((time.process_time() - began) * 1e3 / rows)
    return {
        name: {"median": statistics.median(all_), "min": min(all_), "max": max(all_)}
        for name, all_ in times.items()
    }


def job_of(
    executor: Executor, side: int | None = None, rows: int = 1, frames: int = 1
) -> Callable[[], None]:
    """The next frames of a stream with an answer, one clip, all exits of a cascade, or a key frame.

    An executor whose parts take other views has a method `example`: parts with views of one row.

    Args:
        executor: Runs the model.
        side: Of the frames; the model's own if None.
        rows: Streams or clips in one call.
        frames: Of each stream.
    """
    if hasattr(executor, "example"):
        return _window_of(executor, rows)
    network = getattr(executor, "network", None) or getattr(executor, "reference", None)
    streaming = bool(getattr(network, "streaming", False))
    parts = [part for part in executor.parts if part != "glance"]
    if "key" in parts:
        parts = ["key"]
    modalities = list(dict.fromkeys(part.partition(".")[0] for part in parts if "." in part))
    first = {
        next(p for p in parts if p.startswith(f"{one}.")): one for one in modalities
    } or {parts[0]: "rgb"}  # fmt: skip
    random = np.random.default_rng(0)
    views: dict[str, Views] = {}
    for part, modality in first.items():
        spec = executor.input(part)
        size, count = side or spec.size, frames if streaming else spec.clip_frames
        shape = (1, count, size, size, _CHANNELS.get(modality, 3))
        array = random.integers(0, 256, shape).astype(np.uint8)
        if modality != "rgb":
            array = array.astype(np.float32)
        times, whole = tuple(i / 5 for i in range(count)), (0.0, 0.0, float(size), float(size))
        views[part] = {modality: View(array, times, np.ones(1, bool), (whole,) * count)}
    kept: list[Any] = [None] * rows

    def job() -> None:
        states: list[Any] = list(kept) if streaming else [None] * rows
        for part in parts:
            states, _ = executor.run(part, [views.get(part, {})] * rows, states)
        if executor.head is not None:
            executor.run(executor.head, [{}] * rows, states)
        kept[:] = states

    return job


def _window_of(executor: Any, rows: int) -> Callable[[], None]:
    """All parts of a window, one after another, with its answer."""
    parts: list[tuple[str, Views]] = executor.example()

    def job() -> None:
        states: list[Any] = [None] * rows
        for part, views in parts:
            states, _ = executor.run(part, [views] * rows, states)
        executor.run(executor.head, [{}] * rows, states)

    return job


# --- remembering -------------------------------------------------------------------------------


def _file() -> Path:
    return cache_folder() / "choices.json"


def remembered() -> dict[str, str]:
    """What was measured on this machine: key → engine, number of threads or look."""
    try:
        found = json.loads(_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(key: str, choice: str) -> None:
    """Keep a choice; a cache that cannot be written is measured again."""
    with suppress(FoveateError):
        text = json.dumps({**remembered(), key: choice}, indent=1, sort_keys=True)
        replace_file(_file(), f"{text}\n".encode())


def key_of(preset: Preset, precision: str | None, threads: int, candidates: list[str]) -> str:
    """Model, size, precision, threads; processor and versions of the engines as a digest."""
    machine = [processor(), str(os.cpu_count()), *(f"{c} {_version(c)}" for c in candidates)]
    size = getattr(preset.look, "size", None) or "own"
    return " ".join(
        [
            digest_of(preset.model)[:16], f"size={size}", f"precision={precision or 'fp32'}",
            f"memory={preset.memory}", f"threads={threads}",
            sha256("\n".join(machine).encode()).hexdigest()[:12],
        ]
    )  # fmt: skip


def _version(engine: str) -> str:
    return version(_PACKAGES[engine])


def processor() -> str:
    """Name of the processor, as far as the operating system says."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
