"""Patches in the loop: the network is shown the window and nothing else, and the ledger says so."""

import numpy as np
import pytest
import torch
from executing import frame_macs

from clips import encode
from foveate.core import Budget, Clip, ViewRequest, Window
from foveate.media import Video
from foveate.pipeline import fetch
from foveate.policy import CentrePatch, Context, MotionPatch, RandomPatch, Resize
from tiny_weights import SPEC

SIZE = (128, 96)
MOVER = 20


def draw(number: int, size: tuple[int, int]) -> np.ndarray:
    """A textured square that wanders in the right lower corner of a picture at rest."""
    random = np.random.default_rng(5)
    out = random.integers(60, 180, (size[1] // 4, size[0] // 4, 3)).repeat(4, 0).repeat(4, 1)
    square = random.integers(0, 256, (MOVER // 2, MOVER // 2, 3)).repeat(2, 0).repeat(2, 1)
    x, y = 84 + round(8 * np.sin(number / 4)), 56 + round(6 * np.cos(number / 5))
    out[y : y + MOVER, x : x + MOVER] = square
    return out.astype(np.uint8)


def clip(codec: str = "libx264", frames: int = 50, **more) -> bytes:
    return encode("matroska", codec, frames, size=SIZE, draw=draw, **more)


class Shown:
    """Keeps what really reaches the network."""

    def __init__(self, executor, monkeypatch) -> None:
        self.views: list[torch.Tensor] = []
        real = executor.module.step_features

        def step(x, state):
            self.views.append(x.clone())
            return real(x, state)

        monkeypatch.setattr(executor.module, "step_features", step, raising=False)


def patch(**more) -> MotionPatch:
    return MotionPatch(size=16, **more).fitted(Context(SPEC))


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_network_sees_the_mover_and_pays_for_the_window_only(
    make, executor, monkeypatch, codec
) -> None:
    shown = Shown(executor, monkeypatch)
    result = make(look=patch()).predict(clip(codec))
    assert {tuple(v.shape[-2:]) for v in shown.views} == {(16, 16)}
    assert sum(v.shape[2] for v in shown.views) == 10
    stage = result.cost.stage("network")
    assert stage.macs == 10 * frame_macs(executor, 16)
    full = 10 * frame_macs(executor, SPEC.size)
    assert stage.macs < 0.4 * full
    boxes = [box for step in result.trace.steps for box in step.boxes]
    assert len(boxes) == 10
    assert all(b[2] - b[0] == pytest.approx(48) for b in boxes)
    # The model mixes frames, so one window holds for the whole clip, around the mover.
    assert len({tuple(b) for b in boxes}) == 1
    x1, y1, x2, y2 = boxes[0]
    assert x1 <= 77
    assert y1 <= 51
    assert x2 >= 111
    assert y2 >= 81
    source = "vectors" if codec == "libx264" else "flow"
    assert f"motion:{source}" in result.trace.steps[0].modalities
    assert any("optical flow" in w for w in result.warnings) == (source == "flow")
    assert result.cost.stage("motion").seconds > 0
    assert result.cost.stage("policy").seconds > 0
    assert not result.trace.steps[0].fallback
    assert result.trace.steps[0].gate > 0.3


def test_the_pixels_are_those_of_the_window(make, executor, monkeypatch) -> None:
    data = clip()
    shown = Shown(executor, monkeypatch)
    result = make(look=patch()).predict(data)
    step = result.trace.steps[0]
    with Video(data) as video:
        windows = video.frames(step.frames, (16, 16), boxes=[tuple(box) for box in step.boxes])
    expected = windows.pixels.astype(np.float32) / 255
    seen = shown.views[0][0].permute(1, 2, 3, 0).numpy()
    assert np.abs(seen - expected).max() < 1e-6


def test_measuring_motion_does_not_decode_twice(make) -> None:
    data = clip(gop=25)
    result = make(look=patch()).predict(data)
    assert result.cost.frames_decoded <= 50 + 5  # a few to see whether there are vectors
    assert result.cost.stage("decode").seconds >= 0


def test_without_motion_the_model_s_own_view_is_shown_at_the_same_cost(make, executor) -> None:
    still = np.full((50, 96, 128, 3), 120, np.uint8)
    result = make(look=patch()).predict(still, fps=25.0)
    assert all(step.fallback for step in result.trace.steps)
    assert result.trace.steps[0].boxes[0] == [16.0, 0.0, 112.0, 96.0]
    assert result.trace.steps[0].gate == 0
    assert result.cost.stage("network").macs == 10 * frame_macs(executor, 16)


def test_scene_cut_chooses_the_window_anew(make) -> None:
    def two_scenes(number, size):
        picture = draw(number, size)
        return picture if number < 30 else 255 - picture[:, ::-1] // 2

    data = encode("matroska", "libx264", 60, size=SIZE, draw=two_scenes)
    result = make(look=patch(), cut_threshold=0.3, window=4.0).predict(data)
    before = [s.boxes[i] for s in result.trace.steps for i, t in enumerate(s.frames) if t < 1.19]
    after = [s.boxes[i] for s in result.trace.steps for i, t in enumerate(s.frames) if t > 1.21]
    assert before
    assert after
    assert min(b[0] for b in before) > 40
    assert max(b[0] for b in after) < 40
    assert result.cost.stage("head").calls == 2


def test_streams_choose_online_in_constant_memory(make) -> None:
    data = clip(frames=75)
    steps = list(make(look=patch(track="viterbi")).stream(data))
    assert len(steps) == 15
    centres = []
    for step in steps:
        (box,) = step.trace.steps[0].boxes
        centres.append((box[0] + box[2]) / 2)
        assert step.cost.stage("motion").calls == 1
    assert np.abs(np.diff(centres)).max() < 16
    look = patch().online()
    memory = None
    sizes = []
    with Video(data) as video:
        for _ in range(9):
            _, memory = look.next(video, Window(0.0, 2.0), memory, None, Budget())
            sizes.append(len(memory.plan.times) + (memory.plan.maps is not None))
    assert set(sizes) == {0}  # neither plan nor map is kept


@pytest.mark.parametrize("name", ["resize", "centre", "random", "rwf-crop", "mocrop", "mv-patch"])
def test_competitors_run_by_name_at_the_same_cost(make, executor, name) -> None:
    result = make(look={"name": name, "size": 16}).predict(clip())
    assert result.cost.stage("network").macs == 10 * frame_macs(executor, 16)
    assert (result.trace.steps[0].boxes == []) == (name == "resize")


def test_resize_is_the_model_s_view_made_small(make, executor, monkeypatch) -> None:
    shown = Shown(executor, monkeypatch)
    data = clip()
    look = Resize(size=16).fitted(Context(SPEC))
    result = make(look=look).predict(data)
    with Video(data) as video:
        frames = video.frames(result.trace.steps[0].frames, (21, 16)).pixels[:, :, 2:18]
    seen = shown.views[0][0].permute(1, 2, 3, 0).numpy() * 255
    assert np.abs(seen - frames).max() < 1e-3


def test_random_windows_differ_by_seed_and_agree_with_themselves(make) -> None:
    boxes = []
    for seed in (0, 0, 1):
        look = RandomPatch(size=16, seed=seed).fitted(Context(SPEC))
        boxes.append(make(look=look).predict(clip()).trace.steps[0].boxes)
    assert boxes[0] == boxes[1] != boxes[2]
    centre = CentrePatch(size=16).fitted(Context(SPEC))
    assert make(look=centre).predict(clip()).trace.steps[0].boxes[0] == [40.0, 24.0, 88.0, 72.0]


def test_windows_of_mixed_sizes_are_resampled_to_one() -> None:
    pixels = np.zeros((2, 96, 128, 3), np.uint8)
    pixels[:, :, 64:] = 200
    boxes = ((0.0, 0, 32, 32), (16.0, 0, 112, 96))
    request = ViewRequest((0.0, 1.0), boxes=boxes, size=32)
    assert fetch.decode_size_for(SIZE, SPEC, request) == SIZE
    cut = fetch.cut_out(Clip(pixels, (0.0, 1.0)), SIZE, SPEC, request)
    assert cut.shape == (2, 32, 32, 3)
    assert cut[0].max() == 0
    assert cut[1, :, 2:13].max() == 0
    assert cut[1, :, 19:].min() == 200


def test_boxes_follow_frames_that_are_missing() -> None:
    assert fetch.matched((0.0, 0.4), (0.0, 0.2, 0.4)) == [0, 2]
    assert fetch.matched((0.0, 0.0, 0.36), (0.0, 0.02, 0.4)) == [0, 1, 2]
    assert fetch.matched((), (0.0,)) == []
