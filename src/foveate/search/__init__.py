"""Searches for networks that cost no more than a target.

`space` describes which MoViNets can be found, `supernet` shares one set of weights between all of
them, `controller` learns which to draw, `costs` says what each costs, and `architecture` is the
search itself. `scaling` searches for coefficients that scale a network up or down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.core.lazy import lazy_names

if TYPE_CHECKING:
    from foveate.search.architecture import ArchitectureConfig, Study, search_architecture
    from foveate.search.space import SearchSpace

_MODULES = {
    "ArchitectureConfig": "architecture",
    "SearchSpace": "space",
    "Study": "architecture",
    "search_architecture": "architecture",
}

__all__ = ["ArchitectureConfig", "SearchSpace", "Study", "search_architecture"]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
