"""The input that a set of weights expects."""

from foveate.core.spec import Crop, InputSpec, Resize

__all__ = ["Crop", "InputSpec", "Resize"]
