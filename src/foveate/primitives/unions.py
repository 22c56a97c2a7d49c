"""The unions of primitives, with those of entry points; imported by what takes any of a group.

They are apart from the primitives, so that a package can subclass those while its entry points are
not loaded yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.primitives.augment.base import Transform
from foveate.primitives.base import registered, union
from foveate.primitives.recognisers import Recogniser
from foveate.primitives.samplers import Sampler
from foveate.primitives.training import Training

if TYPE_CHECKING:
    AnyRecogniser = Recogniser
    AnySampler = Sampler
    AnyTraining = Training
    AnyTransform = Transform
else:
    AnyRecogniser = union("recognisers")
    AnySampler = union("samplers")
    AnyTraining = union("training")
    AnyTransform = union("transforms")
    for _one in registered("transforms").values():
        _one.model_rebuild(_types_namespace={"AnyTransform": AnyTransform})
