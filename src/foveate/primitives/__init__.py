"""Typed pipelines: samplers, looks, transforms, recognisers, stopping rules, training.

`from foveate.primitives import TSM, MotionPatch, Segments` imports the settings of these parts;
`foveate.Pipeline` joins them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.primitives.augment import *  # noqa: F403
    from foveate.primitives.base import *  # noqa: F403
    from foveate.primitives.looks import *  # noqa: F403
    from foveate.primitives.modalities import *  # noqa: F403
    from foveate.primitives.recognisers import *  # noqa: F403
    from foveate.primitives.samplers import *  # noqa: F403
    from foveate.primitives.training import *  # noqa: F403

# Where names are looked for, in this order.
_MODULES = ("base", "samplers", "looks", "recognisers", "training", "modalities", "augment")


def __getattr__(name: str) -> Any:
    """Import a primitive on its first use (PEP 562)."""
    if name[:1].isupper():
        for module in _MODULES:
            found = import_module(f"{__name__}.{module}")
            if name in getattr(found, "__all__", vars(found)):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
