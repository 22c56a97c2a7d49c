"""Rendered clips: the same pixels everywhere, boxes that fit, backgrounds that move as recorded."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from foveate.core import ConfigError
from foveate.data.mocap15 import ClipSpec, clip_specs, render_clip
from foveate.data.mocap15.camera import REGIMES

SIZE = (160, 120)
DIGEST = """
import hashlib
from foveate.data.mocap15 import clip_specs, render_clip
for index in (7, 3):
    frames = render_clip(clip_specs(index + 1, 5, size=(64, 48))[index]).frames()
    print(index, hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest())
"""


def digest(spec: ClipSpec) -> str:
    return hashlib.sha256(b"".join(f.tobytes() for f in render_clip(spec).frames())).hexdigest()


def quiet(spec: ClipSpec, **changes: object) -> ClipSpec:
    """The clip without noise and changes of exposure, and short."""
    return replace(spec, noise=0.0, exposure=0.0, frames=14, **changes)


def test_pixels_depend_on_seed_and_number_only() -> None:
    specs = clip_specs(12, 5, size=(64, 48))
    found = {index: digest(specs[index]) for index in (3, 7)}
    assert digest(specs[3]) == found[3], "a second run"
    elsewhere = subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.split() == ["7", found[7], "3", found[3]]
    assert digest(clip_specs(4, 6, size=(64, 48))[3]) != found[3], "another seed"


def test_frames_can_be_drawn_again() -> None:
    clip = render_clip(clip_specs(1, 2, size=(64, 48))[0])
    first = list(clip.frames())
    assert len(first) == clip.spec.frames
    assert all(f.shape == (48, 64, 3) and f.dtype == np.uint8 for f in first)
    assert all(np.array_equal(a, b) for a, b in zip(first, clip.frames(), strict=True))


@pytest.mark.parametrize("index", range(0, 30, 3))
def test_the_box_is_what_the_actor_covers(index: int) -> None:
    clip = render_clip(quiet(clip_specs(30, 9, size=SIZE)[index], distractors=0))
    pairs = zip(clip.frames(), clip.frames(actor=False), strict=True)
    for (drawn, empty), box in zip(pairs, clip.tracks[0].boxes, strict=True):
        changed = np.abs(drawn.astype(int) - empty).max(axis=2) > 24
        assert box is not None
        x, y, w, h = cv2.boundingRect(changed.astype(np.uint8))
        assert np.abs(np.subtract(box, (x, y, x + w, y + h))).max() <= 1.01, (index, box)


@pytest.mark.parametrize("index", range(4))
def test_the_boxes_of_objects_fit(index: int) -> None:
    spec = quiet(clip_specs(30, 4, size=SIZE)[index], distractors=1)
    clip = render_clip(spec)
    assert clip.tracks[0].kind == "person"
    pairs = zip(clip.frames(actor=False), clip.frames(actor=False, objects=False), strict=True)
    for (drawn, empty), box in zip(pairs, clip.tracks[1].boxes, strict=True):
        changed = np.abs(drawn.astype(int) - empty).max(axis=2) > 24
        if box is None:
            assert not changed.any()
            continue
        x, y, w, h = cv2.boundingRect(changed.astype(np.uint8))
        assert np.array_equal(np.clip((x, y), np.subtract(box[:2], 1), None), (x, y))
        assert np.array_equal(np.clip((x + w, y + h), None, np.add(box[2:], 1)), (x + w, y + h))
        if w and h:  # faces as bright as what is behind them do not count as changed
            assert (box[2] - box[0]) * (box[3] - box[1]) <= 4 * w * h + 40


def test_actors_are_off_centre_in_the_frame_and_of_the_right_size() -> None:
    away, heights, middles = [], [], []
    for spec in clip_specs(90, 1, size=SIZE):
        clip = render_clip(replace(spec, frames=50))
        boxes = np.array(clip.tracks[0].boxes)
        assert (boxes[:, :2] > 0).all(), "never cut off"
        assert (boxes[:, 2:] < SIZE).all(), "never cut off"
        middle = ((boxes[:, :2] + boxes[:, 2:]) / 2 / SIZE).mean(axis=0) - 0.5
        away.append(np.abs(middle).max())
        middles.append(middle)
        heights.append(np.median(boxes[:, 3] - boxes[:, 1]) / SIZE[1])
        assert 0.15 <= clip.stature <= 0.45
    assert np.mean(np.array(away) > 0.13) > 0.97
    assert (np.std(middles, axis=0) > 0.12).all(), "off to every side"
    assert 0.2 < np.median(heights) < 0.35


def outside(clip_boxes: list, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels well away from all boxes."""
    free = np.ones(shape[:2], bool)
    for box in clip_boxes:
        if box is not None:
            x1, y1, x2, y2 = (int(v) for v in box)
            free[max(0, y1 - 3) : y2 + 3, max(0, x1 - 3) : x2 + 3] = False
    return free


def test_a_static_camera_shows_a_background_that_does_not_move() -> None:
    clip = render_clip(quiet(clip_specs(9, 8, size=SIZE)[8], camera="static", distractors=2))
    frames = list(clip.frames())
    for t in range(1, len(frames)):
        boxes = [track.boxes[at] for track in clip.tracks for at in (t - 1, t)]
        free = outside(boxes, frames[t].shape)
        assert free.mean() > 0.5
        assert np.array_equal(frames[t][free], frames[t - 1][free])


@pytest.mark.parametrize("camera", [regime for regime in REGIMES if regime != "static"])
def test_the_background_moves_as_the_matrices_say(camera: str) -> None:
    spec = replace(clip_specs(9, 8, size=SIZE)[6], noise=0.0, exposure=0.0, camera=camera)
    clip = render_clip(replace(spec, distractors=0))
    frames = list(clip.frames(actor=False))
    ends = [np.vstack([clip.matrices[t], (0, 0, 1)]) for t in (0, -1)]
    between = (ends[1] @ np.linalg.inv(ends[0]))[:2]
    moved = cv2.warpAffine(frames[0], between, SIZE)
    seen = cv2.warpAffine(np.ones(SIZE[::-1], np.uint8), between, SIZE) > 0
    seen = cv2.erode(seen.astype(np.uint8), np.ones((5, 5))) > 0
    still = np.abs(frames[-1][seen].astype(float) - frames[0][seen]).mean()
    led = np.abs(frames[-1][seen].astype(float) - moved[seen]).mean()
    assert led < 0.35 * still
    shift = np.abs(between[:, 2]).max()
    assert shift > 0.1 * SIZE[0] if camera.startswith("pan") else shift > 0.2
    steps = np.abs(np.diff(clip.matrices, axis=0)).max(axis=(1, 2))
    assert (steps > 1e-4).all(), "in every frame"


def test_noise_and_exposure_change_every_pixel_now_and_then() -> None:
    spec = clip_specs(9, 8, size=SIZE)[8]
    spec = replace(spec, camera="static", distractors=0, noise=3.0, exposure=0.0, frames=40)
    frames = np.array([f.astype(float) for f in render_clip(spec).frames(actor=False)])
    spread = frames.std(axis=0)
    assert 2.2 < np.median(spread) < 3.8
    bright = replace(spec, noise=0.0, exposure=0.2)
    means = [f.mean() for f in render_clip(bright).frames(actor=False)]
    assert 0.02 < (max(means) - min(means)) / np.mean(means) < 0.5


def sharpness(frame: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def test_degradations_are_of_the_named_splits_and_change_no_answer() -> None:
    plain = clip_specs(60, 5, "detection", degrade=(), size=SIZE)
    specs = clip_specs(60, 5, "detection", size=SIZE)
    assert all(2 <= spec.distractors <= 3 for spec in specs)
    for before, spec in zip(plain, specs, strict=True):
        if spec.split != "test":
            assert spec == before
            continue
        assert spec.shutter >= 0.5
        assert spec.posts >= 1
        assert spec.defocus >= 1.5
        assert replace(spec, shutter=0.0, posts=0, defocus=0.0) == before
    only = clip_specs(60, 5, "detection", degrade=["blur"], degraded=["val"], size=SIZE)
    assert {bool(spec.shutter) for spec in only if spec.split == "val"} == {True}
    assert not any(spec.posts or spec.defocus for spec in only)
    assert clip_specs(9, 5, degrade=None) == clip_specs(9, 5, degrade=())
    chosen = next(spec for spec in specs if spec.split == "test")
    before = plain[chosen.index]
    assert render_clip(chosen).tracks == render_clip(before).tracks
    assert digest(replace(chosen, frames=3)) == digest(replace(chosen, frames=3))


@pytest.mark.parametrize("name", ["shutter", "defocus"])
def test_blur_and_defocus_take_detail_away(name: str) -> None:
    spec = quiet(next(s for s in clip_specs(60, 5, size=SIZE) if s.camera == "pan"))
    sharp = [sharpness(frame) for frame in render_clip(spec).frames()]
    value = {"shutter": 1.0, "defocus": 4.0}[name]
    soft = [sharpness(frame) for frame in render_clip(replace(spec, **{name: value})).frames()]
    assert min(np.divide(soft, sharp)) < 0.8
    assert sum(soft) < 0.95 * sum(sharp)


def test_posts_are_in_front_of_everything() -> None:
    spec = quiet(next(s for s in clip_specs(60, 5, size=SIZE) if s.camera == "static"))
    with_posts = render_clip(replace(spec, posts=3))
    free, covered = next(render_clip(spec).frames()), next(with_posts.frames())
    bare = next(with_posts.frames(actor=False, objects=False))
    changed = (free != covered).any(-1)
    assert 0.02 < changed.mean() < 0.6
    assert changed.any(0).mean() < 0.6, "posts are upright"
    assert (covered[changed] == bare[changed]).mean() > 0.99, "nothing is before a post"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"degrade": ["fog"]}, "degradation 'fog'"), ({"degraded": ["all"]}, "split 'all'")],
)
def test_unknown_degradations_are_one_line(changes: dict[str, list[str]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        clip_specs(3, 1, **changes)
