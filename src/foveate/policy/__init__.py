"""Decides what to look at and when to stop, under one budget."""

from foveate.policy.baselines import (
    ActivationPatch,
    CentrePatch,
    MoCropPatch,
    OracleGrid,
    RandomPatch,
    Resize,
    RwfCrop,
)
from foveate.policy.budget import Spent, resolve
from foveate.policy.confidence import AtEnd, Confident
from foveate.policy.frames import KeyframesFirst, Uniform
from foveate.policy.patches import MotionPatch, PatchLook, PatchPlan
from foveate.policy.window import top_tokens

__all__ = [
    "ActivationPatch",
    "AtEnd",
    "CentrePatch",
    "Confident",
    "KeyframesFirst",
    "MoCropPatch",
    "MotionPatch",
    "OracleGrid",
    "PatchLook",
    "PatchPlan",
    "RandomPatch",
    "Resize",
    "RwfCrop",
    "Spent",
    "Uniform",
    "resolve",
    "top_tokens",
]
