"""Draws Results into frames, pages and terminals; independent of models.

Names are imported on first use, so that a caller that draws nothing loads neither OpenCV nor rich.
The function `report` is not among them, because a name cannot mean both it and its module: import
it from `foveate.viz.report`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.viz.images import letterbox, to_jpeg
    from foveate.viz.overlay import annotate, annotate_video
    from foveate.viz.report import write_report
    from foveate.viz.terminal import print_line, print_result, print_summary
    from foveate.viz.timeline import timeline_svg
    from foveate.viz.why_page import write_reasons

_MODULES = {
    "annotate": "overlay",
    "annotate_video": "overlay",
    "letterbox": "images",
    "print_line": "terminal",
    "print_result": "terminal",
    "print_summary": "terminal",
    "timeline_svg": "timeline",
    "to_jpeg": "images",
    "write_reasons": "why_page",
    "write_report": "report",
}

__all__ = [
    "annotate",
    "annotate_video",
    "letterbox",
    "print_line",
    "print_result",
    "print_summary",
    "timeline_svg",
    "to_jpeg",
    "write_reasons",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
