"""Detectors on the loop: key frames, what happens between them, budgets, batches and streams."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from clips import encode
from foveate import Recogniser
from foveate.core import Budget, ConfigError, Detections, Evidence, InputSpec, PartCost, Window
from foveate.core.config import build
from foveate.media import ArrayVideo, Video
from foveate.models import registry
from foveate.models.detectors import Detector
from foveate.pipeline.boxes import moved
from foveate.pipeline.detection import DetectExecutor, warped
from foveate.pipeline.presets import Preset
from foveate.policy.looks.base import Context
from foveate.policy.looks.keys import KeyFrames, KeyFramesSpec, least_interval

CPU = torch.device("cpu")
SPEC = InputSpec(32, 25.0, 1, resize="squash", crop="none")
SIZE = (128, 96)


class Square(Detector):
    """Finds the red square of the test clips: its features are where red is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def low(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": ((x[:, :1] > 0.7) & (x[:, 1:2] < 0.4)).float()}

    def high(self, low: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"0": low["x"]}

    def detect(self, features: Any, sizes: Any) -> list[dict[str, torch.Tensor]]:
        found = []
        for one in features["0"][:, 0]:
            rows, columns = torch.nonzero(one > 0.5, as_tuple=True)
            boxes = torch.zeros(0, 4)
            if len(rows):
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                boxes = torch.tensor([[float(value) for value in box]])
            scores = torch.full((len(boxes),), 0.9)
            found.append(
                {"boxes": boxes, "scores": scores, "labels": torch.zeros(len(boxes)).long()}
            )
        return found


SPEED = 2  # pixels per frame
FINE = InputSpec(96, 25.0, 1, resize="shorter side", crop="none")


def recogniser(look: KeyFrames, network: Any = None, **settings: Any) -> Recogniser:
    executor = DetectExecutor(network or Square(), CPU, FINE if network is None else SPEC)
    preset = build(Preset, {"model": "square", "cut_threshold": 1.0, **settings})
    labels = ["square", "b", "c"]
    return Recogniser(executor, labels, look=look, task="detect", preset=preset)


def drawn(number: int, size: tuple[int, int]) -> np.ndarray:
    """A red textured square that moves two pixels a frame, over a blue texture."""
    width, height = size
    texture = np.random.default_rng(0).integers(40, 160, (height // 4, width // 4, 1))
    picture = texture.repeat(4, 0).repeat(4, 1) * np.array([0.2, 1, 1])
    inner = texture[:8, :8].repeat(4, 0).repeat(4, 1)[..., 0]
    left = 8 + SPEED * number
    picture[32:64, left : left + 32] = np.stack(
        [np.full_like(inner, 240), inner / 4, inner / 4], -1
    )
    return picture.astype(np.uint8)


def calm(number: int, size: tuple[int, int]) -> np.ndarray:
    """A picture that does not change."""
    return drawn(0, size)


@pytest.fixture(scope="module")
def clip() -> bytes:
    """Thirty frames in which the square moves to the right."""
    return encode(frames=30, size=SIZE, gop=60, draw=drawn, options={"preset": "veryfast"})


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    small = {"channels": (16, 32, 64), "repeats": (2, 2, 2)}
    return registry.create(
        "lsts", num_classes=3, detector="fastestdet", detector_settings=small, embedding=8, count=4
    ).eval()


def parts(result: Any) -> Counter[Any]:
    return Counter(step.part for step in result.trace.steps)


def lefts(result: Any) -> list[float]:
    """The left side of the square in each frame."""
    return [one.box[0] for one in result.detections]


# --- what happens between key frames -------------------------------------------------------


def test_boxes_follow_the_vectors_and_copied_ones_stay(clip: bytes) -> None:
    every = recogniser(KeyFrames(every=1)).predict(clip)
    assert parts(every) == {"key": 30}
    truth = lefts(every)
    assert truth[10] - truth[0] == pytest.approx(10 * SPEED, abs=1)
    with_vectors = recogniser(KeyFrames(every=10)).predict(clip)
    assert parts(with_vectors) == {"key": 3, "move": 27}
    assert lefts(with_vectors) == pytest.approx(truth, abs=2.5)
    assert with_vectors.cost.stage("move").calls == 27
    assert with_vectors.cost.stage("motion").calls == 30
    copied = recogniser(KeyFrames(every=10, between="copy")).predict(clip)
    assert parts(copied) == {"key": 3, None: 27}
    assert lefts(copied)[9] == lefts(copied)[0]
    assert len(copied.detections) == 30
    assert copied.cost.stage("key").calls == 3


@pytest.mark.parametrize("settings", [{"every": 10}, {"every": None}, {"every": 10, "hold": True}])
def test_no_frame_is_decoded_twice(clip: bytes, settings: dict[str, Any]) -> None:
    found = recogniser(KeyFrames(**settings)).predict(clip)
    assert set(parts(found)) == {"key", "move"}
    assert found.cost.stage("decode").frames <= 30  # and one to open the file


def test_boxes_follow_at_a_lower_rate_too(clip: bytes) -> None:
    found = recogniser(KeyFrames(every=5, rate=5.0)).predict(clip)
    assert parts(found) == {"key": 2, "move": 4}
    assert lefts(found) == pytest.approx([8 + SPEED * n for n in range(0, 30, 5)], abs=2)


def test_features_follow_the_flow() -> None:
    rows, columns = np.mgrid[:96, :128]
    waves = np.sin(columns / 5) + np.sin(rows / 7) + np.sin((columns + rows) / 11)
    picture = np.stack([0 * waves, 127 + 42 * waves, 127 + 42 * waves], -1).astype(np.uint8)
    picture[32:64, 16:48, 0], picture[32:64, 16:48, 1] = 240, picture[32:64, 16:48, 1] // 4
    frames = np.stack([np.roll(picture, SPEED * n, 1) for n in range(20)])  # the camera moves
    found = recogniser(KeyFrames(every=5, between="warp")).predict(frames, fps=25.0)
    assert parts(found) == {"key": 4, "warp": 16}
    middles = [(one.box[0] + one.box[2]) / 2 for one in found.detections]
    assert middles == pytest.approx([32 + SPEED * n for n in range(20)], abs=4)


def test_without_vectors_boxes_are_copied() -> None:
    frames = np.zeros((20, 96, 128, 3), np.uint8)
    frames[:, 20:40, 20:40] = (250, 30, 30)
    found = recogniser(KeyFrames(every=10)).predict(frames, fps=25.0)
    assert parts(found) == {"key": 2, None: 18}
    asked = recogniser(KeyFrames(every=10, between="move")).predict(frames, fps=25.0)
    assert parts(asked) == {"key": 2, None: 18}


@pytest.mark.parametrize("every", [10, None])
def test_boxes_stay_in_a_file_that_is_all_intra_coded(every: int | None) -> None:
    clip = encode(frames=20, size=SIZE, gop=1, draw=drawn, options={"preset": "veryfast"})
    found = recogniser(KeyFrames(every=every, hold=every is None)).predict(clip)
    assert len(found.times) == 20
    assert set(parts(found)) == {"key", "move"}
    assert lefts(found)[9] == lefts(found)[0]
    assert [line for line in found.warnings if "no motion vectors" in line] == found.warnings


def test_moved_takes_the_median_of_what_is_known() -> None:
    field = np.zeros((4, 4, 3), np.float32)
    field[..., 2] = 1
    field[:2, :2] = (3, -1, 1)
    field[0, 0] = (50, 50, 0)  # not known
    boxes = np.array([[0, 0, 16, 16.0], [16, 16, 32, 32], [9, 9, 10, 10], [40, 40, 50, 50]])
    found = moved(boxes, field, (0, 0, 32, 32))
    assert found[0] == pytest.approx([3, -1, 19, 15])
    assert found[1] == pytest.approx(boxes[1])
    assert found[2] == pytest.approx([12, 8, 13, 9])  # smaller than a cell
    assert found[3] == pytest.approx(boxes[3])  # outside of the picture: the nearest cell
    assert moved(boxes[:0], field, (0, 0, 32, 32)).shape == (0, 4)


def test_maps_are_sampled_where_the_flow_leads() -> None:
    maps = torch.rand(2, 3, 8, 8)
    flow = torch.zeros(2, 4, 4, 2)  # coarser than the maps
    flow[1, ..., 0] = -1 / 8
    found = warped(maps, flow)
    assert torch.allclose(found[0], maps[0], atol=1e-5)
    assert torch.allclose(found[1, :, :, 1:], maps[1, :, :, :-1], atol=1e-5)


# --- when a key frame is taken --------------------------------------------------------------


def test_motion_decides_when_the_next_key_frame_comes(clip: bytes) -> None:
    found = recogniser(KeyFrames(every=None, change=0.2)).predict(clip)
    # The square moves two pixels a frame, and the shorter side is 96: 0.2 of it after ten.
    keys = [n for n, step in enumerate(found.trace.steps) if step.part == "key"]
    assert 8 <= keys[1] <= 14
    still = encode(frames=30, size=SIZE, gop=60, draw=calm)
    found = recogniser(KeyFrames(every=None, longest=20)).predict(still)
    assert parts(found) == {"key": 2, "move": 28}


@pytest.mark.parametrize(
    ("longest", "keys"), [(25, [0, 12, 24]), (5, [0, 5, 10, 12, 17, 22, 24, 29])]
)
def test_the_key_frames_of_the_file_are_taken(longest: int, keys: list[int]) -> None:
    source = encode(frames=30, size=SIZE, gop=12)
    look = KeyFramesSpec(every="codec", longest=longest).build(Context(SPEC))
    found = recogniser(look).predict(source)
    steps = found.trace.steps
    assert [n for n, step in enumerate(steps) if step.part == "key"] == keys
    assert len(steps) == 30
    # A stream does not know where the next key frame is.
    stream = list(recogniser(look).stream(source))
    assert [n for n, s in enumerate(stream) if s.trace.steps[0].part == "key"] == [
        *range(0, 30, longest)
    ]


def test_where_nothing_moves_nothing_is_run() -> None:
    still = encode(frames=30, size=SIZE, gop=60, draw=calm)
    found = recogniser(KeyFrames(every=10, hold=True)).predict(still)
    assert parts(found)["key"] == 3
    assert parts(found)[None] >= 24
    assert found.cost.stage("move").calls <= 3


def test_the_budget_sets_the_least_interval() -> None:
    costs = {"key": PartCost(100.0, 20.0), "move": PartCost(0.0, 1.0), "decode": PartCost(0, 2.0)}
    assert least_interval(Budget(costs=costs), "move", 25.0, 50) == 1
    assert least_interval(Budget(ms_per_frame=5.0, costs=costs), "move", 25.0, 50) == 10
    assert least_interval(Budget(ms_per_frame=2.0, costs=costs), "move", 25.0, 50) == 50
    assert least_interval(Budget(macs_per_second=500.0, costs=costs), "move", 25.0, 50) == 5
    assert least_interval(Budget(macs_per_second=500.0), "move", 25.0, 50) == 1


def test_the_change_of_the_features_decides_where_there_are_no_vectors() -> None:
    look = KeyFrames(every=None, between="nonkey", change=0.3)
    source = ArrayVideo(np.zeros((20, 8, 8, 3), np.uint8), 25.0)
    memory, chosen, change = None, [], 0.0
    for _ in range(8):
        evidence = Evidence(proposals={"change": np.array([change])})
        selection, memory = look.next(source, Window(0, 2), memory, evidence, Budget())
        assert selection is not None
        change = 0.0 if selection.part == "key" else change + 0.1
        chosen.append(selection.part)
    assert [n for n, part in enumerate(chosen) if part == "key"] == [0, 4]


def test_looking_ahead_takes_the_middle(network: Any) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (25, 32, 32, 3)).astype(np.uint8)
    found = recogniser(KeyFrames(10, "nonkey", look_ahead=True), network).predict(frames, fps=25.0)
    keys = [step.frames[0] for step in found.trace.steps if step.part == "key"]
    assert keys == pytest.approx([4 / 25, 14 / 25, 22 / 25])
    assert parts(found) == {"key": 3, "nonkey": 22}
    times = [one.time for one in found.detections]
    assert times == sorted(times)
    assert len(set(times)) == 25
    stream = list(
        recogniser(KeyFrames(10, "nonkey", look_ahead=True), network).stream(frames, fps=25.0)
    )
    assert [n for n, step in enumerate(stream) if step.trace.steps[0].part == "key"] == [0, 10, 20]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every": 0}, "every"),
        ({"between": "nonkey"}, "has no part for other frames"),
        ({"look_ahead": True, "between": "move"}, "look_ahead"),
        ({"look_ahead": True, "every": "codec"}, "not the file's"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KeyFramesSpec(**settings).build(Context(SPEC))


def test_a_network_with_a_cheap_part_uses_it_by_default() -> None:
    assert KeyFramesSpec().build(Context(SPEC, temporal=True)).parts == ("key", "nonkey")
    assert KeyFramesSpec().build(Context(SPEC)).parts == ("key", "move")
    assert KeyFramesSpec(look_ahead=True).build(Context(SPEC)).between == "copy"


# --- LSTS on the loop -----------------------------------------------------------------------


def noise(seed: int, frames: int = 12, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3)).astype(np.uint8)


def test_videos_in_a_batch_are_detected_as_alone(network: Any) -> None:
    toy = recogniser(KeyFrames(4, "nonkey"), network)
    alone = [toy.predict(noise(n), fps=25.0) for n in range(3)]
    together = list(toy.predict_many([noise(n) for n in range(3)], batch=3, fps=25.0))
    for one, other in zip(alone, together, strict=True):
        assert parts(one) == {"key": 3, "nonkey": 9}
        assert len(one.detections) == len(other.detections) > 12
        for a, b in zip(one.detections, other.detections, strict=True):
            assert (a.time, a.label) == (b.time, b.label)
            assert a.box == pytest.approx(b.box, abs=1e-2)
    steps = list(toy.stream(noise(0), fps=25.0))
    assert [d for step in steps for d in step.detections] == alone[0].detections


def test_the_state_ends_with_a_scene_cut(network: Any) -> None:
    """What follows a cut is detected as if the video began there, tracks included."""
    dark = noise(0, 50) // 8
    bright = 255 - noise(1, 10) // 8
    toy = recogniser(KeyFrames(4, "nonkey"), network, cut_threshold=0.5, track=True)
    both = toy.predict(np.concatenate([dark, bright]), fps=25.0)
    alone = toy.predict(bright, fps=25.0)
    after = [one for one in both.detections if one.time >= 2.0 - 1e-6]
    assert [one.box for one in after] == [one.box for one in alone.detections]
    before = {one.track for one in both.detections if one.time < 2.0 - 1e-6}
    assert before
    assert not before & {one.track for one in after}


def test_numbers_of_objects_last_over_key_and_other_frames(clip: bytes) -> None:
    found = recogniser(KeyFrames(every=10), track=True).predict(clip)
    assert {one.track for one in found.detections} == {1}
    steps = list(recogniser(KeyFrames(every=10), track=True).stream(clip))
    assert [one.track for step in steps for one in step.detections] == [1] * 30


def test_low_scores_are_left_out() -> None:
    executor = DetectExecutor(Square(), CPU, FINE, min_score=0.95)
    frames = np.zeros((2, 96, 128, 3), np.uint8)
    frames[:, 20:40, 20:40] = (250, 30, 30)
    toy = Recogniser(executor, ["square"], look=KeyFrames(1), task="detect")
    assert toy.predict(frames, fps=25.0).detections == []


def test_parts_before_a_key_frame_are_refused() -> None:
    from foveate.core import ModelError

    executor = DetectExecutor(Square(), CPU, FINE)
    with Video(encode(frames=3, size=SIZE)) as video:
        assert video.info.has_vectors
    with pytest.raises(ModelError, match="needs a key frame"):
        executor.run("warp", [{"rgb": None}], [None])  # type: ignore[dict-item]
    assert isinstance(executor.input("key"), InputSpec)
    assert Detections(0.0, np.zeros((0, 4)), np.zeros(0), np.zeros(0)).tracks is None
