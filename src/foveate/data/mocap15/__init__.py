"""mocap15, a rendered benchmark: real human motion in procedural scenes, with exact labels.

There is one recording per action, so accuracy on it measures invariance to view, speed, body and
surroundings, not to how people move. Every table of such numbers must say "rendered" and this.
"""

from foveate.data.mocap15.dataset import make
from foveate.data.mocap15.motion import ACTIONS
from foveate.data.mocap15.render import RenderedClip, Track, render_clip
from foveate.data.mocap15.spec import FPS, MODES, TIMELINE, ClipSpec, clip_specs
from foveate.media.encode import ENCODINGS

__all__ = [
    "ACTIONS",
    "ENCODINGS",
    "FPS",
    "MODES",
    "TIMELINE",
    "ClipSpec",
    "RenderedClip",
    "Track",
    "clip_specs",
    "make",
    "render_clip",
]
