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
    from foveate.core import (
        Budget,
        ConfigError,
        FoveateError,
        MediaError,
        MissingExtra,
        ModelError,
        Result,
        ResultError,
        WeightsError,
        read_results,
    )
    from foveate.data import DataError, DataRequest
    from foveate.evaluate.api import bench, evaluate
    from foveate.media import Limits, Video
    from foveate.models.spec import InputSpec
    from foveate.pipeline import presets as specs
    from foveate.pipeline.export import export
    from foveate.pipeline.loading import load
    from foveate.pipeline.presets import Preset
    from foveate.pipeline.recogniser import Recogniser
    from foveate.primitives.pipeline import Pipeline
    from foveate.train.api import train
    from foveate.train.classifier import VideoClassifier
    from foveate.train.pipelines import fit

__version__ = "0.1.0"

# Name → the module that defines it, imported on first use.
_DEFINED_IN = {
    "Budget": "core",
    "ConfigError": "core",
    "DataError": "data",
    "DataRequest": "data",
    "FoveateError": "core",
    "InputSpec": "models.spec",
    "Limits": "media",
    "MediaError": "core",
    "MissingExtra": "core",
    "ModelError": "core",
    "Pipeline": "primitives.pipeline",
    "Preset": "pipeline.presets",
    "Recogniser": "pipeline.recogniser",
    "Result": "core",
    "ResultError": "core",
    "Video": "media",
    "VideoClassifier": "train.classifier",
    "WeightsError": "core",
    "bench": "evaluate.api",
    "export": "pipeline.export",
    "fit": "train.pipelines",
    "load": "pipeline.loading",
    "read_results": "core",
}
# Names that are modules: policies, their specifications, and two packages that can be called.
_MODULES = {
    "evaluate": "evaluate",
    "looks": "policy",
    "specs": "pipeline.presets",
    "train": "train",
}

__all__ = [
    "Budget",
    "ConfigError",
    "DataError",
    "DataRequest",
    "FoveateError",
    "InputSpec",
    "Limits",
    "MediaError",
    "MissingExtra",
    "ModelError",
    "Pipeline",
    "Preset",
    "Recogniser",
    "Result",
    "ResultError",
    "Video",
    "VideoClassifier",
    "WeightsError",
    "__version__",
    "bench",
    "evaluate",
    "export",
    "fit",
    "load",
    "looks",
    "read_results",
    "specs",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use (PEP 562)."""
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
