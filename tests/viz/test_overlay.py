"""Annotated frames: whole, legible, and changed only where something is drawn."""

from __future__ import annotations

import math

import cv2
import made_up
import numpy as np
import pytest
from made_up import HOSTILE, segment

from foveate.core import FoveateError, Result, Score, Trace, TraceStep
from foveate.viz.images import to_jpeg
from foveate.viz.overlay import annotate, annotate_video

SIZES = [(48, 64), (64, 48), (120, 160), (172, 172), (240, 320), (1280, 720), (2160, 3840)]


def grey(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def simple(label: str = "dancing", score: float = 0.5, **rest: object) -> Result:
    return Result(source="a", model="m", segments=[segment(0, 5, label, score)], **rest)


def contrast(image: np.ndarray) -> float:
    """Contrast between the lightest pixels and the median, as accessibility rules define it."""
    linear = (image / 255.0) ** 2.2
    light = linear @ np.array([0.2126, 0.7152, 0.0722])
    return float((np.quantile(light, 0.995) + 0.05) / (np.median(light) + 0.05))


@pytest.mark.parametrize(("height", "width"), [*SIZES, (1, 1), (15, 400), (16, 16), (400, 17)])
def test_any_size_keeps_shape_and_type_and_leaves_its_input(height: int, width: int) -> None:
    frame = grey(height, width)
    frame.setflags(write=False)
    drawn = annotate(frame, made_up.result(), 13.0)
    assert drawn.shape == frame.shape
    assert drawn.dtype == np.uint8
    assert (frame == 128).all()
    assert drawn.flags.writeable
    assert not np.shares_memory(drawn, frame)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("paper", [0, 255])
def test_the_label_is_legible_on_black_and_on_white(height: int, width: int, paper: int) -> None:
    drawn = annotate(grey(height, width, paper), simple(score=0.0), 1.0)
    rows = np.flatnonzero((drawn[height // 2 :] != paper).any(axis=(1, 2))) + height // 2
    columns = np.flatnonzero((drawn[height // 2 :] != paper).any(axis=(0, 2)))
    card = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert contrast(card) > 4.5


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_most_of_the_picture_is_left_alone(height: int, width: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    drawn = annotate(frame, made_up.result().model_copy(update={"trace": None}), 13.0)
    changed = (drawn != frame).any(axis=2)
    assert changed.any()
    assert changed.mean() < (0.5 if height < 100 else 0.25)
    # The middle belongs to the picture.
    assert not changed[height * 2 // 5 : height // 2].any()


def test_nothing_is_drawn_where_there_is_nothing_to_say() -> None:
    frame = grey(60, 80)
    assert (annotate(frame, simple(), 9.0) == frame).all()
    assert (annotate(frame, made_up.failed(), math.nan) == frame).all()


def test_the_segment_of_that_time_is_shown() -> None:
    answer = Result(
        source="a", model="m", segments=[segment(0, 2, "one", 0.2), segment(2, 4, "two", 0.9)]
    )
    frame = grey(240, 320)
    first, edge, second = (annotate(frame, answer, t)[120:] for t in (0.0, 2.0, 3.9))
    assert (edge == second).all()
    assert (first != second).any()


def test_the_bar_is_as_long_as_the_score() -> None:
    def length(score: float) -> int:
        drawn = annotate(grey(240, 320, 0), simple(score=score), 1.0).astype(int)
        blue = (drawn[..., 2] - drawn[..., 0] > 80) & (drawn[..., 2] > 150)
        return int(blue.any(axis=0).sum())

    full = length(1.0)
    assert length(-3) == 0
    assert length(0.5) == pytest.approx(full / 2, abs=2)
    assert length(40.0) == full


def test_without_segments_the_best_label_of_the_clip_is_shown() -> None:
    answer = Result(source="a", model="m", labels=[Score(label="x", index=0, score=0.5)])
    frame = grey(240, 320)
    assert (annotate(frame, answer, 3.0)[120:] != frame[120:]).any()


@pytest.mark.parametrize("label", [HOSTILE, "", "long " * 4000, "हिन्दी नृत्य", "跳舞"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (360, 640)])
def test_any_label_stays_inside_its_card(label: str, height: int, width: int) -> None:
    frame = grey(height, width)
    drawn = annotate(frame, simple(label), 1.0)
    usual = annotate(frame, simple(), 1.0)
    assert (((drawn != frame).any(axis=2)) == ((usual != frame).any(axis=2))).mean() > 0.995


def test_boxes_are_scaled_to_the_frame_and_clipped() -> None:
    boxes = [[640.0, 0.0, 5000.0, 720.0]]
    trace = Trace(size=[1280, 720], steps=[TraceStep(time=0, frames=[0.0], boxes=boxes)])
    answer = Result(source="a", model="m", trace=trace)
    frame = grey(360, 640)
    changed = (annotate(frame, answer, 0.0)[100:] != frame[100:]).any(axis=2)
    columns = np.flatnonzero(changed.any(axis=0))
    assert columns[0] == 320
    assert columns[-1] == 639
    # An outline, not a filled box.
    assert not changed[100:120, 340:620].any()


def test_a_trace_without_a_size_does_not_stop_the_drawing() -> None:
    step = TraceStep(time=0, frames=[0.0], boxes=[[1, 1, 30, 30]])
    for size in ([], [0, 0], [1, 2, 3]):
        annotate(
            grey(60, 80), Result(source="a", model="m", trace=Trace(size=size, steps=[step])), 0
        )


@pytest.mark.parametrize(
    "frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_no_frame_is_refused_with_its_shape(frame: np.ndarray) -> None:
    with pytest.raises(FoveateError, match=r"must be \(H, W, 3\) uint8, not \(4, 4"):
        annotate(frame, simple(), 0.0)
    with pytest.raises(FoveateError, match=r"must be \(H, W, 3\) uint8"):
        to_jpeg(frame)


def test_a_video_is_annotated_frame_by_frame_into_the_writer() -> None:
    class Writer:
        def __init__(self) -> None:
            self.taken: list[tuple[float, np.ndarray]] = []

        def write(self, frame: np.ndarray, seconds: float) -> None:
            self.taken.append((seconds, frame))

    writer, answer, pulled = Writer(), made_up.result(), 0

    def frames() -> object:
        nonlocal pulled
        for seconds in (0.0, 0.5, 40.0):
            # The one before was written before this one is asked for.
            assert len(writer.taken) == pulled
            pulled += 1
            yield seconds, grey(120, 160)

    assert annotate_video(frames(), answer, writer) == 3
    assert [seconds for seconds, _ in writer.taken] == [0.0, 0.5, 40.0]
    for seconds, frame in writer.taken:
        assert (frame == annotate(grey(120, 160), answer, seconds)).all()


def test_a_thumbnail_is_a_small_jpeg_in_true_colours() -> None:
    frame = np.zeros((400, 600, 3), np.uint8)
    frame[..., 0] = 250
    data = to_jpeg(frame, height=90)
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == (90, 135, 3)
    assert back[..., 2].min() > 200
    assert back[..., 0].max() < 60
    assert len(data) < 4000
    assert cv2.imdecode(np.frombuffer(to_jpeg(frame[:10]), np.uint8), 1).shape[0] == 10


def test_a_label_has_one_score_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "foveate.viz.lettering.draw", lambda canvas, text, *_, **__: written.append(text)
    )
    labels = [Score(label="one", index=0, score=0.6), Score(label="two", index=1, score=0.4)]
    segments = [segment(0, 2, "one", 0.9)]
    annotate(grey(240, 320), Result(source="a", model="m", labels=labels, segments=segments), 1.0)
    assert written == ["window 90.0 %", "one", "0:01.0"]
    written.clear()
    annotate(grey(240, 320), Result(source="a", model="m", labels=labels), 1.0)
    assert written == ["clip 60.0 %", "one", "0:01.0"]
