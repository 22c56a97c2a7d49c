"""Every look that chooses windows: deterministic, inside, within budget, alive in dull videos.

With it the specifications: every look is found by its name, built, and made for streams.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from clips import encode
from foveate.core import Budget, ConfigError, Evidence, InputSpec, More, Stop, Window
from foveate.core.config import build
from foveate.media import ArrayVideo, Video
from foveate.policy import (
    ActivationPatch,
    CentrePatch,
    Context,
    Groups,
    MoCropPatch,
    MotionPatch,
    OracleGrid,
    RandomPatch,
    Resize,
    RwfCrop,
    TimedLook,
)
from foveate.policy.build import DECISIONS
from foveate.policy.build import LOOKS as SPECS
from foveate.policy.motion import METHODS
from foveate.policy.window import TRACKS

WINDOW = Window(0.4, 2.4)
SIZE = (96, 72)


def channels(pixels: np.ndarray) -> np.ndarray:
    """Brightness in 9x12 cells, as a network with one channel would give it."""
    height, width = pixels.shape[1:3]
    grey = pixels.mean(-1)[:, : height // 9 * 9, : width // 12 * 12]
    return grey.reshape(len(grey), 1, 9, height // 9, 12, width // 12).mean((3, 5))


LOOKS = {
    **{
        f"motion-{name}": MotionPatch(motion=name)
        for name, method in METHODS.items()
        if method.need != "features"
    },
    **{f"track-{t}": MotionPatch(track=t) for t in TRACKS},
    "auto-size": MotionPatch(extent="auto"),
    "motion-sampling": MotionPatch(sampling="motion"),
    "lasting": MotionPatch(motion="articulated", lasting=0.6),
    "bodies": MotionPatch(subject="bodies"),
    "online": MotionPatch().online(),
    "resize": Resize(),
    "centre": CentrePatch(),
    "random": RandomPatch(),
    "random-per-frame": RandomPatch(per_frame=True),
    "rwf": RwfCrop(),
    "rwf-fixed": RwfCrop(fixed=True),
    "mocrop": MoCropPatch(),
    "activation": ActivationPatch(glance=72),
    "oracle": OracleGrid(
        score=lambda sample, times, boxes: [-abs(b[0] - 10) - abs(b[1] - 5) for b in boxes]
    ),
}
CONTEXT = Context(InputSpec(224, 5.0, 10), mixes_frames=False, patch=(1, 16, 16))
LOOKS = {name: look.fitted(CONTEXT) for name, look in LOOKS.items()}


@cache
def moving() -> bytes:
    return encode(frames=75, size=SIZE, gop=12)


@cache
def without_vectors() -> bytes:
    return encode("matroska", "libvpx-vp9", 75, size=SIZE)


@cache
def turned() -> bytes:
    return encode(frames=75, size=SIZE[::-1], rotation=90)


def still() -> ArrayVideo:
    return ArrayVideo(np.full((75, 72, 96, 3), 90, np.uint8), 25.0)


@cache
def sources() -> dict:
    black = np.zeros((75, 72, 96, 3), np.uint8)
    black[:, 20:52] = np.random.default_rng(0).integers(0, 255, (75, 32, 96, 3))
    noisy = np.random.default_rng(1).integers(0, 256, (75, 72, 96, 3)).astype(np.uint8)
    twice = black[np.arange(75) // 2]
    return {
        "vectors": lambda: Video(moving()),
        "no vectors": lambda: Video(without_vectors()),
        "still": still,
        "one frame": lambda: ArrayVideo(noisy[:1], 2.0),
        "noise": lambda: ArrayVideo(noisy, 25.0),
        "black bars": lambda: ArrayVideo(black, 25.0),
        "duplicates": lambda: ArrayVideo(twice, 25.0),
        "portrait": lambda: ArrayVideo(noisy.swapaxes(1, 2), 25.0),
        "turned": lambda: Video(turned()),
        "tiny": lambda: ArrayVideo(noisy[:, :12, :14], 25.0),
    }


def seen_in(sample, selection) -> Evidence | None:
    """What the model says of a step: a glance gives maps, of the frames that come."""
    if selection.part != "glance":
        return Evidence()
    request = selection.views["rgb"]
    clip = sample.frames(request.times, request.size)
    return Evidence(features=channels(clip.pixels)) if len(clip) else None


def selections(look, sample, budget=None, part: str | None = "network") -> list:
    """The steps of a window that ask for a part of the model."""
    chosen, memory, evidence = [], None, None
    for _ in range(200):
        selection, memory = look.next(sample, WINDOW, memory, evidence, budget or Budget())
        if selection is None:
            return chosen
        assert selection.part in (*look.parts, None)
        evidence = seen_in(sample, selection)
        if selection.part == part:
            chosen.append(selection)
    raise AssertionError("a look that never ends")


@pytest.mark.parametrize("source", sources())
@pytest.mark.parametrize("name", LOOKS)
def test_every_look_keeps_the_contract(name, source) -> None:
    look, open_source = LOOKS[name], sources()[source]
    answers = []
    for _ in range(2):
        with_it = open_source()
        answers.append(selections(look, with_it))
        with_it.close()
    assert answers[0] == answers[1]
    info = open_source().info
    assert answers[0]
    times = [t for s in answers[0] for t in s.times]
    assert times == sorted(times)
    assert all(WINDOW.start <= t < WINDOW.end for t in times)
    for selection in answers[0]:
        (request,) = selection.views.values()
        assert request.size == look.size
        if request.boxes is None:
            continue
        assert len(request.boxes) == len(request.times)
        for x1, y1, x2, y2 in request.boxes:
            assert 0 <= x1 < x2 <= info.width + 1e-3
            assert 0 <= y1 < y2 <= info.height + 1e-3


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_that_is_asked_again_says_the_same(name) -> None:
    """A live source may make the loop repeat a question."""
    memory, evidence = None, None
    with Video(moving()) as video:
        for _ in range(3):
            first, again = (
                LOOKS[name].next(video, WINDOW, memory, evidence, Budget()) for _ in range(2)
            )
            assert first[0] == again[0]
            if first[0] is None:
                return
            memory, evidence = first[1], seen_in(video, first[0])


def test_the_glance_is_one_step_over_the_frames_of_the_window() -> None:
    look = LOOKS["activation"]
    for allowed, count in ((None, 10), (2.0, 4)):
        sample, budget = still(), Budget(frames_per_second=allowed)
        (glance,) = selections(look, sample, budget, "glance")
        chosen = selections(look, sample, budget)
        request = glance.views["rgb"]
        assert request.size == (72, 72)
        assert request.boxes is None
        assert len(request.times) == count
        assert request.times == tuple(t for one in chosen for t in one.times)
        assert not glance.closes
        assert not glance.dense


def test_without_a_glance_the_whole_frame_is_shown_and_said() -> None:
    look = LOOKS["activation"]
    _, memory = look.next(still(), WINDOW, None, None, Budget())
    selection, _ = look.next(still(), WINDOW, memory, None, Budget())
    assert selection.fallback
    assert set(selection.views["rgb"].boxes) == {(12.0, 0.0, 84.0, 72.0)}


@pytest.mark.parametrize("name", LOOKS)
def test_every_look_respects_the_budget(name) -> None:
    chosen = selections(LOOKS[name], still(), Budget(frames_per_second=2.0))
    assert 1 <= sum(len(s.times) for s in chosen) <= 4


@pytest.mark.parametrize("name", [n for n, k in LOOKS.items() if isinstance(k, MotionPatch)])
def test_nothing_moves_and_the_whole_frame_is_shown_and_said(name) -> None:
    look = LOOKS[name]
    for selection in selections(look, still()):
        if look.gate:
            assert selection.fallback
            assert set(selection.views["rgb"].boxes) == {(12.0, 0.0, 84.0, 72.0)}
            assert selection.gate == 0


def test_the_source_of_motion_is_loud() -> None:
    look = LOOKS["motion-flow_affine"]
    with Video(moving()) as video:
        assert selections(look, video)[0].measured == ("motion:vectors",)
        assert video.warnings == []
    with Video(without_vectors()) as video:
        assert selections(look, video)[0].measured == ("motion:flow",)
        assert ["optical flow instead" in w for w in video.warnings] == [True]
        plan = look.plan(video, WINDOW, Budget())
        assert "vp9" in plan.reason


def test_threads_change_no_box() -> None:
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            pixels = np.random.default_rng(1).integers(0, 256, (75, 72, 96, 3)).astype(np.uint8)
            found.append(selections(LOOKS["motion-flow_affine"], ArrayVideo(pixels, 25.0)))
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    assert found[0] == found[1]


def test_same_clip_in_two_codecs_gives_the_same_window_within_a_cell() -> None:
    boxes = []
    for codec, options in (("libx264", {"refs": "1"}), ("mpeg4", None)):
        data = encode("matroska", codec, 75, size=(192, 144), gop=12, options=options)
        with Video(data) as video:
            plan = MotionPatch(track="tube", gate=0.0).plan(video, WINDOW, Budget())
            assert plan.source == "vectors"
            boxes.append(plan.boxes[0])
    assert np.abs(np.subtract(*boxes)).max() <= 8


# --- specifications -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_every_look_is_built_from_its_name_alone(name) -> None:
    spec = build(SPECS[name], {"name": name})
    assert spec.name == name
    assert build(SPECS[name], spec.model_dump()) == spec
    if name == "groups":
        context = replace(CONTEXT, calibration={"wise": {"exits": ["mv.final", "iframe.final"]}})
        look = spec.build(context)
        assert look.parts == ("mv.final", "iframe.final")
        return
    if name.startswith("adafocus"):
        with pytest.raises(ConfigError, match="the model: is not an AdaFocus model"):
            spec.build(CONTEXT)
        return  # tests/pipeline/test_adafocus_loop.py
    if name == "modalities":
        with pytest.raises(ConfigError, match="has no policy over modalities"):
            spec.build(CONTEXT)
        return
    look = spec.build(CONTEXT)
    assert isinstance(look, TimedLook)
    if name == "key-frames":
        chosen = selections(look, still(), part="key")
        assert [one.times[0] for one in chosen] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
        return
    chosen = selections(look, still())
    assert all(WINDOW.start <= t < WINDOW.end for one in chosen for t in one.times)
    assert len([t for one in chosen for t in one.times]) == 10


@pytest.mark.parametrize(
    "name", [n for n in SPECS if n not in ("groups", "modalities") and "adafocus" not in n]
)
def test_every_look_has_a_form_for_streams_or_says_why_not(name) -> None:
    look = SPECS[name]().build(CONTEXT)
    if name in ("activation-patch", "rwf-crop"):
        with pytest.raises(ConfigError, match="a stream has not seen it yet"):
            look.online()
        return
    if name == "key-frames":  # the boxes of array videos, which have no vectors, stay as they are
        assert len(selections(look.online(), still(), part=None)) == 45
        return
    chosen = selections(look.online(), still())
    assert [len(one.times) for one in chosen] == [1] * 10


def test_a_group_is_a_window_in_a_stream() -> None:
    assert Groups(("mv.final",), 3).online() == Groups(("mv.final",), 3, each=True)


@pytest.mark.parametrize("name", ["at-end", "confident"])
def test_every_decision_is_built_from_its_name_alone(name) -> None:
    assert set(DECISIONS) == {"at-end", "confident", "calibrated"}
    decide = build(DECISIONS[name], {"name": name}).build(replace(CONTEXT, output="sigmoid"))
    assert decide.eager == (name == "confident")
    # Where classes do not exclude each other the least certain one decides.
    sure = decide(Evidence({"final": np.array([9.0, -9.0, 9.0])}), Budget())
    unsure = decide(Evidence({"final": np.array([9.0, 0.1, 9.0])}), Budget())
    assert isinstance(sure, Stop) == (name == "confident")
    assert isinstance(unsure, More)
