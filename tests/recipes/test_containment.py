"""A seconds-long twin of `benchmarks/motion_containment.py`: the window holds what moves."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.motion_scenes import CAMERAS, SIZE, Scene, contains, encoded, scene

from foveate.core import Budget, InputSpec, Window
from foveate.media import ArrayVideo, Video
from foveate.policy import Context, MotionPatch, RandomPatch

FRAMES = 64


@pytest.fixture(scope="module", params=CAMERAS)
def filmed(request) -> tuple[str, Scene, dict[str, bytes]]:
    clip = scene(request.param, FRAMES)
    return request.param, clip, {e: encoded(clip.frames, e) for e in ("x264", "x264-p1")}


def contained(
    look, data: bytes | np.ndarray, clip: Scene, counted: np.ndarray | None = None
) -> float:
    """Share of frames, of those that count, whose window holds the disc."""
    fitted = look.fitted(Context(InputSpec(SIZE[1], 12.5, 8), mixes_frames=False))
    raw = isinstance(data, np.ndarray)
    with closing(ArrayVideo(data, 25.0) if raw else Video(data)) as video:
        plan = fitted.plan(video, Window(0.16, 2.4), Budget())
    at = np.round(np.array(plan.times) * 25).astype(int)
    inside = contains(np.array(plan.boxes), clip.boxes[at])
    return float(inside.mean() if counted is None else inside[counted[at]].mean())


@pytest.mark.parametrize("source", ["vectors", "flow"])
@pytest.mark.parametrize("motion", ["affine_diff", "flow_affine"])
def test_window_holds_the_disc_whatever_the_camera_does(filmed, motion, source) -> None:
    _, clip, data = filmed
    look = MotionPatch(size=128, motion=motion, track="frame", gate=0.0)
    if source == "vectors":
        assert contained(look, data["x264-p1"], clip) >= 0.95
        assert contained(look, data["x264"], clip) >= 0.85
        return
    flow = MotionPatch(size=128, motion=motion, track="frame", gate=0.0, source="flow")
    assert contained(flow, data["x264"], clip) >= 0.95


@pytest.mark.parametrize("source", ["auto", "flow"])
def test_a_rigid_disc_is_held_where_bodies_are_preferred(filmed, source) -> None:
    _, clip, data = filmed
    look = MotionPatch(size=128, subject="bodies", track="viterbi", gate=0.0, source=source)
    assert contained(look, data["x264"], clip) >= 0.95


def test_plain_flow_and_random_windows_do_not(filmed) -> None:
    camera, clip, data = filmed
    plain = MotionPatch(size=128, motion="flow", track="frame", gate=0.0, source="flow")
    share = contained(plain, data["x264"], clip)
    assert (share >= 0.9) if camera == "static" else (share <= 0.8)
    assert contained(RandomPatch(size=128, per_frame=True), data["x264"], clip) <= 0.4


def test_black_bars_do_not_hide_the_camera(filmed) -> None:
    """Bars rest while the scene pans: a fifth of the picture that votes for no motion."""
    _, clip, _ = filmed
    barred = clip.frames.copy()
    barred[:, :26] = barred[:, -26:] = 0
    look = MotionPatch(size=128, track="viterbi", gate=0.0)
    inside = (clip.boxes[:, 1] > 26) & (clip.boxes[:, 3] < SIZE[1] - 26)
    assert inside[4:60].sum() > 10
    assert contained(look, barred, clip, inside) >= 0.9


def test_frames_that_are_shown_twice_do_not_lose_the_mover(filmed) -> None:
    """Half of the pairs of neighbours are equal: their maps are empty, and the track knows."""
    _, clip, _ = filmed
    at = np.arange(FRAMES) // 2 * 2
    twice = Scene(clip.frames[at], clip.boxes[at])
    look = MotionPatch(size=128, track="viterbi", gate=0.0)
    assert contained(look, twice.frames, twice) >= 0.9
    coded = encoded(twice.frames, "x264-p1")
    assert contained(look, coded, twice) >= 0.9
    assert contained(replace(look, source="flow"), coded, twice) >= 0.9


def test_looking_past_a_repeated_frame_costs_nothing_where_nothing_moves() -> None:
    pictures = scene("static", FRAMES).frames
    decoded = []
    for frames in (pictures, np.repeat(pictures[:1], FRAMES, 0)):
        with Video(encoded(frames, "x264-p1")) as video:
            video.motion(np.arange(4, 60, 2) / 25, "flow")
            decoded.append(video.meter.frames)
    assert decoded[1] <= decoded[0]


def test_a_cut_begins_a_new_track(filmed) -> None:
    """The scene upside down after the cut: the window jumps with the disc."""
    _, clip, _ = filmed
    half = FRAMES // 2
    frames, boxes = clip.frames.copy(), clip.boxes.copy()
    frames[half:] = 255 - frames[half:, ::-1, ::-1] // 2
    boxes[half:] = np.array([*SIZE, *SIZE]) - boxes[half:][:, [2, 3, 0, 1]]
    look = MotionPatch(size=128, track="viterbi", gate=0.0)
    assert contained(look, frames, Scene(frames, boxes)) >= 0.9
