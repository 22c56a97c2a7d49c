"""Searches for pipelines on labelled videos, and for networks that cost no more than a target.

`pipelines` searches for pipelines: `study_space` describes what is varied, `study` draws trials and
keeps them, `study_trials` runs them in child processes, `study_ray` on a cluster, and `study_page`
draws them.

`space` describes which MoViNets can be found, `supernet` shares one set of weights between all of
them, `controller` learns which to draw, `costs` says what each costs, and `architecture` is the
search itself. `scaling` searches for coefficients that scale a network up or down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.core.lazy import lazy_names

if TYPE_CHECKING:
    from foveate.search.architecture import ArchitectureConfig, Study, search_architecture
    from foveate.search.pipelines import PipelineStudy, search_pipelines
    from foveate.search.space import SearchSpace

_MODULES = {
    "ArchitectureConfig": "architecture",
    "PipelineStudy": "pipelines",
    "SearchSpace": "space",
    "Study": "architecture",
    "search_architecture": "architecture",
    "search_pipelines": "pipelines",
}

__all__ = [
    "ArchitectureConfig", "PipelineStudy", "SearchSpace", "Study", "search_architecture",
    "search_pipelines",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
