"""Looks and stopping rules under the names of pipelines; `foveate.policy` has what they build."""

from foveate.policy.calibration import CalibratedSpec as Calibrated
from foveate.policy.looks.activation import ActivationPatchSpec as ActivationPatch
from foveate.policy.looks.adafocus import AdaFocusMotionSpec as AdaFocusMotion
from foveate.policy.looks.adafocus import AdaFocusSpec as AdaFocusLook
from foveate.policy.looks.auto import AutoSpec as Auto
from foveate.policy.looks.frames import KeyframesFirstSpec as KeyframesFirst
from foveate.policy.looks.groups import GroupsSpec as Groups
from foveate.policy.looks.keys import KeyFramesSpec as KeyFrames
from foveate.policy.looks.modalities import ModalitiesSpec as Modalities
from foveate.policy.looks.patches import MotionPatchSpec as MotionPatch
from foveate.policy.looks.patches import VectorPatchSpec as VectorPatch
from foveate.policy.looks.tokens import MotionTokensSpec as MotionTokens
from foveate.policy.stopping import AtEndSpec as AtEnd
from foveate.policy.stopping import ConfidentSpec as Confident

__all__ = [
    "ActivationPatch", "AdaFocusLook", "AdaFocusMotion", "AtEnd", "Auto", "Calibrated", "Confident",
    "Groups", "KeyFrames", "KeyframesFirst", "Modalities", "MotionPatch",
    "MotionTokens", "VectorPatch",
]  # fmt: skip
