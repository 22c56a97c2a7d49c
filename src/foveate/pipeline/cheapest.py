"""Which of several looks takes the least time for a source: measured once, then remembered."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from foveate.core import FoveateError, Look, Sample, SampleInfo, Window
from foveate.engines.cache import digest_of
from foveate.pipeline.engines import processor, remember, remembered
from foveate.pipeline.scheduler import in_order, schedule
from foveate.policy.looks.auto import WHOLE, AutoLook

if TYPE_CHECKING:
    from foveate.pipeline.recogniser import Recogniser

SECONDS = 10.0  # of the source that are measured at most
_ROUNDS = 3


@dataclass(frozen=True)
class Beginning:
    """A look at the first seconds of a source only."""

    look: Look
    seconds: float = SECONDS

    def __getattr__(self, name: str) -> Any:
        return getattr(self.look, name)

    def window(self, sample: Sample, start: float, seconds: float) -> Window | None:
        """The look's own windows, as long as they begin in time."""
        return self.look.window(sample, start, seconds) if start < self.seconds else None


def cheapest(
    recogniser: Recogniser,
    source: Any,
    info: SampleInfo,
    fps: float | None,
    notice: Callable[[str], None] | None,
) -> str:
    """Name of the look that takes the least CPU time.

    It is measured on the first such source, once per model and its settings, engine, size of the
    picture, codec and machine, in turns, and remembered in the cache folder. A module of your own
    has no digest to be remembered by, and is measured once per recogniser.

    Args:
        recogniser: Whose look is `auto`.
        source: What was opened; if it cannot be read again (a camera, an open file), whole frames
            are taken where nothing is known.
        info: Of the source.
        fps: As for `predict`.
        notice: Called with a line about what was measured.
    """
    auto = recogniser.plan.look
    assert isinstance(auto, AutoLook)
    key = _key(recogniser, info)
    known = recogniser.cheapest_looks.get(key) or remembered().get(key)
    if known in auto.looks:
        return str(known)
    if not isinstance(source, str | bytes | os.PathLike) and not hasattr(source, "shape"):
        return WHOLE
    try:
        times = _measured(recogniser, auto, source, fps)
    except FoveateError:
        return WHOLE  # what is wrong with the source is said when it is recognised
    best = min(times, key=lambda name: times[name])
    if notice is not None:
        said = ", ".join(f"{name} {1000 * one:.0f} ms" for name, one in times.items())
        size = f"{info.codec} {info.width}x{info.height}"
        notice(f"look auto: {best} for {size} ({said} of CPU time); remembered for this machine")
    recogniser.cheapest_looks[key] = best
    if not key.startswith("own"):
        remember(key, best)
    return best


def _measured(
    recogniser: Recogniser, auto: AutoLook, source: Any, fps: float | None
) -> dict[str, float]:
    """CPU seconds by look, median of some rounds after one to warm up."""
    spent: dict[str, list[float]] = {name: [] for name in auto.looks}
    for number in range(_ROUNDS + 1):
        for name, look in auto.looks.items():
            plan = replace(recogniser.plan, look=Beginning(look), on_step=None)
            started = time.process_time()
            opener = recogniser.opener(source, fps, plan)
            (outcome,) = in_order(schedule(recogniser.executor, iter([opener]), 1))
            if outcome.error is not None:
                raise outcome.error
            if number:
                spent[name].append(time.process_time() - started)
    return {name: statistics.median(all_) for name, all_ in spent.items()}


def _key(recogniser: Recogniser, info: SampleInfo) -> str:
    """Model, engine, codec and size of the picture; the machine and all settings as a digest."""
    try:
        digest = digest_of(recogniser.name)[:16]
    except FoveateError:
        digest = "own"
    here = [processor(), str(os.cpu_count()), recogniser.preset.model_dump_json(exclude={"model"})]
    settings = sha256("\n".join(here).encode()).hexdigest()[:12]
    engine = getattr(recogniser.executor, "device", "cpu")
    return f"{digest} look engine={engine} {info.codec} {info.width}x{info.height} {settings}"
