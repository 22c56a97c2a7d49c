"""One HTML page about where a policy looked and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from foveate.viz.pages import render, write_page
from foveate.viz.why import Reason, describe


@dataclass(frozen=True)
class Explained:
    """What the page shows of one input.

    Attributes:
        name: Name of the input.
        reasons: One per frame looked at, in order.
        pictures: `(reason, JPEG bytes)` of some of them.
        notes: Warnings, such as why optical flow is used instead of motion vectors.
    """

    name: str
    reasons: Sequence[Reason]
    pictures: Sequence[tuple[Reason, bytes]]
    notes: Sequence[str] = ()


def write_reasons(
    path: str | os.PathLike[str], inputs: Sequence[Explained], title: str = "Where it looked"
) -> None:
    """Write the page of `reasons_page` atomically.

    Raises:
        FoveateError: The file cannot be written; an old one is left as it was.
    """
    write_page(path, reasons_page(inputs, title))


def reasons_page(inputs: Sequence[Explained], title: str = "Where it looked") -> str:
    """Build the page: HTML with everything inside."""
    return render("reasons.html.j2", title=title, inputs=inputs, describe=describe)
