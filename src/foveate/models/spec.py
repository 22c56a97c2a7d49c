"""What a set of weights expects of the frames it is given."""

from foveate.core.spec import Crop, InputSpec, Resize

__all__ = ["Crop", "InputSpec", "Resize"]
