"""Policies: what to look at and when to stop, within a budget."""

from foveate.policy.budget import Spent, resolve
from foveate.policy.looks.activation import ActivationPatch
from foveate.policy.looks.base import Context, TimedLook
from foveate.policy.looks.baselines import (
    CentrePatch,
    MoCropPatch,
    OracleGrid,
    RandomPatch,
    Resize,
    RwfCrop,
)
from foveate.policy.looks.frames import KeyframesFirst, Uniform
from foveate.policy.looks.groups import Groups
from foveate.policy.looks.keys import KeyFrames
from foveate.policy.looks.patches import MotionPatch, PatchLook, PatchPlan
from foveate.policy.looks.tokens import MotionTokens
from foveate.policy.stopping import AtEnd, Confident
from foveate.policy.window import top_tokens

__all__ = [
    "ActivationPatch",
    "AtEnd",
    "CentrePatch",
    "Confident",
    "Context",
    "Groups",
    "KeyFrames",
    "KeyframesFirst",
    "MoCropPatch",
    "MotionPatch",
    "MotionTokens",
    "OracleGrid",
    "PatchLook",
    "PatchPlan",
    "RandomPatch",
    "Resize",
    "RwfCrop",
    "Spent",
    "TimedLook",
    "Uniform",
    "resolve",
    "top_tokens",
]
