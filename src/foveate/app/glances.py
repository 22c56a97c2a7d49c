"""Explains a model that chooses its windows itself: glance, policy, patches, exit."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from foveate.app.inputs import Item
from foveate.core import Evidence, MediaError, Result, Views
from foveate.core.text import plural
from foveate.core.units import percent
from foveate.viz.why import Reason

CELLS = 48  # of the maps that are drawn, along the longer side of the frame

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """Where an input was looked at, and why.

    Attributes:
        reasons: One `viz.why.Reason` per frame looked at.
        size: `(width, height)` of the source.
        said: One line for the terminal.
        notes: Warnings.
        extra: Further fields of `viz.why_page.Explained`.
    """

    reasons: list[Any]
    size: tuple[int, int]
    said: str
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


class Recorded:
    """An executor whose glances are noted; everything else is the executor's."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self.glances: list[tuple[tuple[float, ...], Any, Floats]] = []  # times, region, maps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def run(
        self, part: str, views: Sequence[Views], states: Sequence[Any]
    ) -> tuple[list[Any], list[Evidence]]:
        """Run a part; see `core.Executor`."""
        after, found = self._executor.run(part, views, states)
        if part == "glance":
            for view, evidence in zip(views, found, strict=True):
                rgb = view["rgb"]
                self.glances.append((rgb.times, rgb.regions[0], evidence.features))
        return after, found


def watched(recogniser: Any, item: Item, *, fps: float | None = None) -> Explanation:
    """Run a model on an input and say why it looked where it did.

    Args:
        recogniser: Of an AdaFocus model.
        item: The input.
        fps: Frames per second of a folder of pictures.

    Raises:
        MediaError: The input cannot be read.
    """
    recorded = Recorded(recogniser.executor)
    seen_by = copy(recogniser)
    seen_by.executor, seen_by.plan = recorded, replace(recogniser.plan, executor=recorded)
    result: Result = seen_by.predict(item.source, fps=fps)
    assert result.trace is not None
    size = result.trace.size[0], result.trace.size[1]
    reasons = sorted(_reasons(result, recorded.glances, size), key=lambda one: one.time)
    if not reasons:
        raise MediaError(f"{item.name}: no frame could be decoded")
    glances = sum(len(step.frames) for step in result.trace.steps if step.part == "glance")
    patches = sum(len(step.frames) for step in result.trace.steps if step.boxes)
    best = result.top
    said = "" if best is None else f"{best.label} {percent(best.score)}, "
    said += f"{plural(glances, 'frame')} glanced at, {patches} patch{'' if patches == 1 else 'es'}"
    said += "".join(f", exit {name} ({plural(n, 'window')})" for name, n in result.exits.items())
    summary = (
        f"Windows from the glance and the policy of {recogniser.name}: {said}. The maps show how "
        "active the glance's last layer is, or the probabilities of the policy's places."
    )
    extra = {"summary": summary, "maps": "what the glance found", "scale": "glance: least to most"}
    return Explanation(reasons, size, said, list(result.warnings), extra)


def _reasons(
    result: Result, glances: Sequence[tuple[tuple[float, ...], Any, Floats]], size: tuple[int, int]
) -> list[Reason]:
    """One for each frame that the focus network saw; for a glance that decided, its frames."""
    maps = [
        (time, on_frame(one, region, size))
        for times, region, found in glances
        for time, one in zip(times, found, strict=True)
    ]
    assert result.trace is not None
    steps = [step for step in result.trace.steps if step.part != "glance"]
    total = sum(len(step.frames) for step in steps)
    found, number = [], 0
    for step in steps or result.trace.steps:
        for place, time in enumerate(step.frames):
            number += 1
            last = place + 1 == len(step.frames)
            words = f"patch {number} of {total}" if steps else f"glance {number}"
            if last and step.exit is not None:
                words += f"   exit {step.exit}"
                words += "" if step.gate is None else f", {percent(step.gate)} sure"
            heat = min(maps, key=lambda one: abs(one[0] - time))[1] if maps else None
            box = tuple(step.boxes[place]) if step.boxes else None
            found.append(Reason(time, box, None, step.fallback, heat, said=words))  # type: ignore[arg-type]
    return found


def on_frame(maps: Floats, region: Any, size: tuple[int, int]) -> Floats:
    """A map (h, w) of a region of a frame as one of the whole frame, zero outside the region.

    Args:
        maps: (h, w).
        region: `xyxy` in pixels of the source.
        size: `(width, height)` of the source.
    """
    cell = max(size) / CELLS
    rows, columns = (max(1, round(side / cell)) for side in (size[1], size[0]))
    y = (np.arange(rows) + 0.5) * size[1] / rows
    x = (np.arange(columns) + 0.5) * size[0] / columns
    left, top, right, bottom = region
    inside = np.ix_((y >= top) & (y < bottom), (x >= left) & (x < right))
    row = ((y - top) / (bottom - top) * maps.shape[0]).astype(int)[(y >= top) & (y < bottom)]
    column = ((x - left) / (right - left) * maps.shape[1]).astype(int)[(x >= left) & (x < right)]
    whole = np.zeros((rows, columns), np.float32)
    whole[inside] = maps[np.ix_(row, column)]
    return whole
