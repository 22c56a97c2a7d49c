"""`threads="auto"`: more than one thread only where it was measured to be faster here."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from foveate.core import FoveateError
from foveate.core.text import plural
from foveate.engines.cache import exported_folder
from foveate.pipeline.engines import key_of, remember, remembered

if TYPE_CHECKING:
    from foveate.pipeline.presets import Preset
    from foveate.pipeline.recogniser import Recogniser

Threads = int | Literal["auto"]
_COUNTS = (1, 2, 4, 8)
_ROUNDS = 5
_MOST_SECONDS = 3.0  # after which no further round begins
# Two threads must take at most this share of the time of one: a small gain would be lost as soon as
# other processes need the cores.
_GAIN = 0.8


def sleep_when_idle() -> None:
    """Let idle threads of PyTorch sleep, where it was not imported yet.

    OpenMP's threads spin between two pieces of work by default. A step of a small network is
    hundreds of short pieces: where other processes need the cores, spinning makes several threads
    many times slower than one (`benchmarks/threads.py`).
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def fastest_threads(
    preset: Preset,
    build: Callable[[int], Recogniser],
    *,
    engine: str | None = None,
    precision: str | None = None,
    own: bool = False,
    notice: Callable[[str], None] | None = None,
) -> int:
    """The number of threads that predicts fastest on this machine.

    One clip of random frames is predicted with 1, 2, 4 and 8 threads (at most the cores) in turn;
    more threads are taken if they save at least a fifth of the elapsed time. This is measured once
    per model, size, engine, precision and machine, for about three seconds at most unless two
    clips take longer, and remembered in the cache folder.

    Args:
        preset: Of the model.
        build: Number of threads → recogniser.
        engine: As for `load`, but not `auto`.
        precision: As for `load`.
        own: Whether the model is a user's module, for which nothing is remembered.
        notice: Called with a line: what was chosen and why.
    """
    say = notice or (lambda line: None)
    cores = _cores()
    counts = [count for count in _COUNTS if count <= cores]
    if len(counts) == 1:
        return 1
    in_torch = engine in (None, "torch") and (own or exported_folder(preset.model) is None)
    if in_torch and _spins():
        say("threads auto: 1 (PyTorch was imported before, with idle threads that spin: "
            "set OMP_WAIT_POLICY=PASSIVE before)")  # fmt: skip
        return 1
    key = ""
    if not own:
        engines = [] if engine is None else [engine]
        key = f"threads {key_of(preset, precision, cores, engines)} {engine or 'own'}"
        before = remembered().get(key, "")
        if before in map(str, counts):
            return int(before)
    first = build(1)  # a model that cannot be loaded is an error of its own
    try:
        seconds = _measured(first, build, counts, in_torch)
    except FoveateError as error:  # such as a cascade, which needs a compressed file
        say(f"threads auto: 1 (random frames cannot be predicted: {error})")
        return 1
    best = 1
    for count in counts[1:]:
        if seconds[count] <= _GAIN * seconds[best]:
            best = count
    times = ", ".join(f"{count}: {1000 * one:.0f} ms" for count, one in seconds.items())
    kept = "" if own else "; remembered for this machine"
    say(f"threads auto: {plural(best, 'thread')} ({times} a clip{kept})")
    if not own:
        remember(key, str(best))
    return best


def _measured(
    first: Recogniser, build: Callable[[int], Recogniser], counts: list[int], in_torch: bool
) -> dict[int, float]:
    """Number of threads → seconds of a prediction, median of rounds in turn."""
    # The number of PyTorch's threads can be changed, that of an engine is fixed when it is opened.
    recognisers = {n: first if in_torch or n == 1 else build(n) for n in counts}
    executor = first.executor
    spec = executor.input(executor.parts[0])
    shape = (spec.clip_frames, spec.size, spec.size, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    seconds: dict[int, list[float]] = {n: [] for n in counts}
    since = 0.0
    for done in range(_ROUNDS + 1):
        if done == 1:
            since = time.perf_counter()  # the first round loads what is loaded at first use
        elif done > 1 and time.perf_counter() - since > _MOST_SECONDS:
            break
        for count, recogniser in recognisers.items():
            if in_torch:
                import torch

                torch.set_num_threads(count)
            began = time.perf_counter()
            recogniser.predict(frames, fps=spec.frames_per_second)
            seconds[count].append(time.perf_counter() - began)
    return {count: statistics.median(found[1:]) for count, found in seconds.items()}


def _cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _spins() -> bool:
    """Whether PyTorch was imported with idle threads that spin, which cannot be changed then."""
    return "torch" in sys.modules and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE"
