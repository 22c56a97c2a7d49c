"""Colours of labels, the same in frames, on pages and in terminals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from foveate.core import Segment
from foveate.core.text import plural

# Middle tones: each has a contrast of about 3 to both a white and a near-black background.
COLOURS = (
    "#4a86cf",
    "#d07a26",
    "#3f9a6b",
    "#9a6fc9",
    "#cf5f5d",
    "#27979a",
    "#a3891c",
    "#c9659e",
)
OTHER = "#7d8590"
NONE = "#a9b1ba"


def is_none(segment: Segment) -> bool:
    """Whether no class reached the threshold there."""
    return segment.index is None and segment.label == "none"


def ranking(segments: Iterable[Segment]) -> list[tuple[str, float]]:
    """Labels with the seconds that they cover, most first, without `none`."""
    covered: dict[str, float] = defaultdict(float)
    for segment in segments:
        if not is_none(segment):
            covered[segment.label] += max(0.0, segment.end - segment.start)
    return sorted(covered.items(), key=lambda item: -item[1])


def colours_of(segments: Iterable[Segment]) -> dict[str, str]:
    """Map labels to `#rrggbb`, those that cover the most time first; the others get `OTHER`.

    No colour is used twice: two labels of one colour would look like one label.
    """
    names = [label for label, _ in ranking(segments)]
    return dict(zip(names, COLOURS, strict=False))


def colour_of(segment: Segment, colours: Mapping[str, str]) -> str:
    """The colour of one segment, given those of its timeline."""
    return NONE if is_none(segment) else colours.get(segment.label, OTHER)


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def key_of(segments: Sequence[Segment], colours: Mapping[str, str]) -> list[tuple[str, str, float]]:
    """The key of a timeline: colour, name and covered seconds, most first, `none` last."""
    names = ranking(segments)
    entries = [(colours[name], name, time) for name, time in names if name in colours]
    rest = names[len(entries) :]
    if rest:
        entries.append((OTHER, plural(len(rest), "other label"), sum(time for _, time in rest)))
    silent = [max(0.0, s.end - s.start) for s in segments if is_none(s)]
    if silent:
        entries.append((NONE, "none", sum(silent)))
    return entries
