"""Decides what to look at and when to stop, under one budget."""

from foveate.policy.budget import Spent, resolve
from foveate.policy.confidence import AtEnd, Confident
from foveate.policy.frames import KeyframesFirst, Uniform

__all__ = ["AtEnd", "Confident", "KeyframesFirst", "Spent", "Uniform", "resolve"]
