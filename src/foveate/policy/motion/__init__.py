"""Maps of where things move: one family, one interface, no training.

Every method takes what was `Seen` and gives (T, h, w) float32, zero where nothing moves on its own.
All of them are pure and batched over the frames; `flow_affine` is the default.
"""

from foveate.policy.motion.combine import prepare
from foveate.policy.motion.family import METHODS, Method, saliency
from foveate.policy.motion.sampling import motion_times
from foveate.policy.motion.seen import Seen, as_array

__all__ = ["METHODS", "Method", "Seen", "as_array", "motion_times", "prepare", "saliency"]
