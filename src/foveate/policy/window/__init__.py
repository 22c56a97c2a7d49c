"""From a motion map to windows: exact search, size, gate, track, crop, tokens."""

from foveate.policy.window.crop import crop, resample
from foveate.policy.window.select import TRACKS, Rule, Windows, select
from foveate.policy.window.tokens import top_tokens

__all__ = ["TRACKS", "Rule", "Windows", "crop", "resample", "select", "top_tokens"]
