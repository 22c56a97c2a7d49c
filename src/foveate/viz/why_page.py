"""One HTML page about where a policy looked and why; whole in itself, no scripts, no network."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.core.text import escape
from foveate.core.units import clock, percent
from foveate.viz.report import POLICY, write_page
from foveate.viz.report_style import STYLE
from foveate.viz.why import Reason, describe

_PLOT = (720, 90)  # width, height


@dataclass(frozen=True)
class Explained:
    """What is known of one input.

    Attributes:
        name: Name of the input.
        reasons: One per frame looked at, in order.
        pictures: `(reason, JPEG bytes)` of some of them.
        notes: Warnings, such as why flow stands in for vectors.
    """

    name: str
    reasons: Sequence[Reason]
    pictures: Sequence[tuple[Reason, bytes]]
    notes: Sequence[str] = ()


def write_reasons(
    path: str | os.PathLike[str], inputs: Sequence[Explained], title: str = "Where it looked"
) -> None:
    """Write the page; it appears whole or not at all.

    Raises:
        FoveateError: The file cannot be written.
    """
    write_page(path, reasons_page(inputs, title))


def reasons_page(inputs: Sequence[Explained], title: str = "Where it looked") -> str:
    """The page as HTML; names and notes are text in it and nothing else."""
    items = "".join(_item(one) for one in inputs)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1></header>\n<main>\n{items}</main>\n"
        "<footer>Left: the frame with the window and its way; right: the map of motion. Made by "
        "foveate.</footer>\n</body>\n</html>\n"
    )


_STYLE = """
.why img { display: block; max-width: 100%; margin: .4rem 0 .1rem; border-radius: 4px; }
.why figcaption { color: var(--soft); font-size: .85rem; }
.why svg { width: 100%; height: auto; margin: .6rem 0; }
"""


def _item(one: Explained) -> str:
    total = len(one.reasons)
    fell = sum(reason.fallback for reason in one.reasons)
    sources = ", ".join(sorted({r.source for r in one.reasons if r.source})) or "not measured"
    facts = (
        f"{total} frames looked at; motion: {escape(sources)}; fallback on {fell} "
        f"({percent(fell / total if total else 0.0)})"
    )
    notes = "".join(f"<p class='soft'>{escape(note)}</p>" for note in one.notes)
    pictures = "".join(_picture(reason, data) for reason, data in one.pictures)
    return (
        f"<section class='why'><h2>{escape(one.name)}</h2><p>{facts}</p>{notes}"
        f"{_gates(one.reasons)}{pictures}</section>\n"
    )


def _picture(reason: Reason, data: bytes) -> str:
    source = base64.b64encode(data).decode("ascii")
    text = escape(describe(reason))
    return (
        f"<figure><img alt='{text}' src='data:image/jpeg;base64,{source}'>"
        f"<figcaption>{text}</figcaption></figure>"
    )


def _gates(reasons: Sequence[Reason]) -> str:
    """The gate over time as bars; frames that fell back are marked below."""
    shown = [reason for reason in reasons if reason.gate is not None]
    if not shown:
        return ""
    width, height = _PLOT
    step = width / len(shown)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{(1 - (r.gate or 0)) * (height - 10):.1f}" '
        f'width="{max(step - 1, 0.5):.1f}" height="{(r.gate or 0) * (height - 10):.1f}" '
        'fill="#4a86cf"/>'
        + (
            f'<rect x="{i * step:.1f}" y="{height - 6}" width="{max(step - 1, 0.5):.1f}" '
            'height="6" fill="#eb6e5a"/>'
            if r.fallback
            else ""
        )
        for i, r in enumerate(shown)
    )
    label = f"gate from {clock(shown[0].time, 1)} to {clock(shown[-1].time, 1)}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{bars}</svg>'
    )
