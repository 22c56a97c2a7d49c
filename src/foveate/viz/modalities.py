"""Which modality was used when, and what it cost: of models that choose them segment by segment."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.core import Result
from foveate.core.text import plural, visible
from foveate.core.units import clock, macs, seconds
from foveate.viz.pages import render
from foveate.viz.palette import COLOURS
from foveate.viz.timeline import nice_step, tick_text

_LEFT, _RIGHT, _LANE, _AXIS = 110, 250, 24, 24

Span = tuple[float, float]


@dataclass(frozen=True)
class Lane:
    """One modality, or the policy.

    Attributes:
        name: Of the part of the model.
        spans: Start and end in seconds of the segments for which it was run.
        macs: Multiply-adds of its network.
        seconds: Of its network.
    """

    name: str
    spans: tuple[Span, ...]
    macs: int
    seconds: float


def lanes_of(result: Result) -> list[Lane]:
    """The lanes of a Result, the policy first; empty if its model does not choose modalities."""
    spans: dict[str, list[Span]] = {}
    for step in result.trace.steps if result.trace else ():
        if step.part is None or not step.proposals or "segments" not in step.proposals:
            continue
        spans.setdefault(step.part, [])
        for name in step.proposals:
            if name != "segments":
                spans.setdefault(name, [])
        values = step.proposals["segments"]
        spans[step.part] += zip(values[::2], values[1::2], strict=False)
    stages = {name: result.cost.stage(f"network-{name}") for name in spans}
    return [
        Lane(name, tuple(found), stages[name].macs, stages[name].seconds)
        for name, found in spans.items()
    ]


def segments_in(lanes: list[Lane]) -> int:
    """How many segments there were."""
    return len({span for lane in lanes for span in lane.spans})


def summary(lanes: list[Lane]) -> str:
    """One line, such as `rgb 3, sound 8 of 10 segments`."""
    used = ", ".join(f"{visible(one.name)} {len(one.spans)}" for one in lanes)
    return f"{used} of {plural(segments_in(lanes), 'segment')}"


def modalities_svg(result: Result, width: int = 940) -> str:
    """Draw a lane for each modality with the segments for which it was used, and its cost.

    Args:
        result: Of a model that chooses modalities; of others the drawing has no lanes.
        width: Width of the drawing in pixels, at least 500.

    Returns:
        One `<svg>` element that refers to nothing outside.
    """
    lanes, width = lanes_of(result), max(500, width)
    length = width - _LEFT - _RIGHT
    ends = [end for lane in lanes for _, end in lane.spans]
    span = max([*ends, result.duration or 0.0])
    scale = length / span if span > 0 else 0.0
    step = nice_step(span, max(2, length // 80))
    total = segments_in(lanes)
    rows = [
        {
            "name": visible(lane.name),
            "y": number * _LANE,
            "fill": COLOURS[number % len(COLOURS)],
            "text": f"{len(lane.spans)} of {total} · {macs(lane.macs)} · {seconds(lane.seconds)}",
            "boxes": [
                {
                    "x": start * scale,
                    "width": max(1.0, (end - start) * scale - 1),
                    "title": f"{visible(lane.name)}, {clock(start, 2)} to {clock(end, 2)}",
                }
                for start, end in lane.spans
            ],
        }
        for number, lane in enumerate(lanes)
    ]
    return render(
        "modalities.svg.j2",
        width=width, height=len(lanes) * _LANE + _AXIS, left=_LEFT, length=length, lane=_LANE,
        rows=rows, base=len(lanes) * _LANE, label=f"Modalities over time: {summary(lanes)}.",
        ticks=[
            (k * step * scale, tick_text(k * step, step))
            for k in range(int(span / step + 1e-9) + 1)
        ],
    )  # fmt: skip
