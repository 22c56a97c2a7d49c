"""Maps of where things move: one family, one interface, no training.

Every method takes a `MotionInput` and gives (T, h, w) float32, zero where nothing moves on its own.
All of them are pure and batched over the frames; `flow_affine` is the default.
"""

from foveate.policy.motion.combine import prepare
from foveate.policy.motion.family import METHODS, Method, saliency
from foveate.policy.motion.inputs import MotionInput, as_array
from foveate.policy.motion.sampling import motion_times

__all__ = ["METHODS", "Method", "MotionInput", "as_array", "motion_times", "prepare", "saliency"]
