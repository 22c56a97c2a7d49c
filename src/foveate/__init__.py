"""Recognise what happens in video while looking only where it matters.

>>> import foveate
>>> recogniser = foveate.load("movinet-a0-stream-lite.k600")
>>> recogniser.predict("clip.mp4").labels[:5]

Importing this package loads nothing heavy; names are imported on their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate import policy as looks
    from foveate.core import Budget, FoveateError, Result
    from foveate.media import Limits, Video
    from foveate.pipeline.recogniser import Recogniser, load

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "FoveateError",
    "Limits",
    "Recogniser",
    "Result",
    "Video",
    "__version__",
    "load",
    "looks",
]

_HOMES = {
    "Budget": "core",
    "FoveateError": "core",
    "Limits": "media",
    "Recogniser": "pipeline.recogniser",
    "Result": "core",
    "Video": "media",
    "load": "pipeline.recogniser",
}


def __getattr__(name: str) -> Any:
    """Import the home of a public name on its first use (PEP 562)."""
    if name == "looks":
        return import_module("foveate.policy")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
