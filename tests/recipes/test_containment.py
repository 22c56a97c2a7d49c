"""A seconds-long twin of `benchmarks/motion_containment.py`: the window holds what moves."""

import numpy as np
import pytest
from benchmarks.motion_scenes import CAMERAS, SIZE, Scene, contains, encoded, scene

from foveate.core import Budget, Window
from foveate.media import Video
from foveate.policy import MotionPatch, RandomPatch

FRAMES = 64


@pytest.fixture(scope="module", params=CAMERAS)
def filmed(request) -> tuple[str, Scene, dict[str, bytes]]:
    clip = scene(request.param, FRAMES)
    return request.param, clip, {e: encoded(clip.frames, e) for e in ("x264", "x264-p1")}


def held(look, data: bytes, clip: Scene) -> float:
    """Share of frames whose window holds the disc."""
    fitted = look.fitted(SIZE[1], 12.5, aligned=False)
    with Video(data) as video:
        plan = fitted.plan(video, Window(0.16, 2.4), Budget())
    at = np.round(np.array(plan.times) * 25).astype(int)
    return float(contains(np.array(plan.boxes), clip.boxes[at]).mean())


@pytest.mark.parametrize("source", ["vectors", "flow"])
@pytest.mark.parametrize("motion", ["affine_diff", "flow_affine"])
def test_window_holds_the_disc_whatever_the_camera_does(filmed, motion, source) -> None:
    _, clip, data = filmed
    look = MotionPatch(size=128, motion=motion, track="frame", gate=0.0)
    if source == "vectors":
        assert held(look, data["x264-p1"], clip) >= 0.95
        assert held(look, data["x264"], clip) >= 0.85
        return
    flow = MotionPatch(size=128, motion=motion, track="frame", gate=0.0, source="flow")
    assert held(flow, data["x264"], clip) >= 0.95


def test_plain_flow_and_random_windows_do_not(filmed) -> None:
    camera, clip, data = filmed
    plain = MotionPatch(size=128, motion="flow", track="frame", gate=0.0, source="flow")
    share = held(plain, data["x264"], clip)
    assert (share >= 0.9) if camera == "static" else (share <= 0.8)
    assert held(RandomPatch(size=128, per_frame=True), data["x264"], clip) <= 0.4
