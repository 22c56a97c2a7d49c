"""Networks, their registry and their weights.

Modules are imported on first use: ``foveate.models.weights.table`` can be read without importing
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.core.lazy import lazy_names

if TYPE_CHECKING:
    from foveate.models.loaded import LoadedModel
    from foveate.models.macs import count_macs, macs_of
    from foveate.models.registry import (
        available,
        create,
        is_streaming,
        mixes_frames,
        register,
        split_name,
    )
    from foveate.models.spec import InputSpec
    from foveate.models.streaming import State, split_state, stack_states
    from foveate.models.weights.load import load

__all__ = [
    "InputSpec",
    "LoadedModel",
    "State",
    "available",
    "count_macs",
    "create",
    "is_streaming",
    "load",
    "macs_of",
    "mixes_frames",
    "register",
    "split_name",
    "split_state",
    "stack_states",
]

_MODULES = {
    "InputSpec": "spec",
    "LoadedModel": "loaded",
    "State": "streaming",
    "available": "registry",
    "count_macs": "macs",
    "create": "registry",
    "is_streaming": "registry",
    "load": "weights.load",
    "macs_of": "macs",
    "mixes_frames": "registry",
    "register": "registry",
    "split_name": "registry",
    "split_state": "streaming",
    "stack_states": "streaming",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
