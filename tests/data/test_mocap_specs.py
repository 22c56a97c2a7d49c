"""What is drawn by lot for rendered clips, the motion behind them, time lines and sound."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from foveate.core import ConfigError
from foveate.data.mocap15 import ACTIONS, FPS, TIMELINE, clip_specs, render_clip
from foveate.data.mocap15.acting import Part, mirrored, perform
from foveate.data.mocap15.camera import REGIMES
from foveate.data.mocap15.figure import BODIES, body
from foveate.data.mocap15.motion import JOINTS, assemble, library
from foveate.data.mocap15.sound import RATE, tones
from foveate.data.mocap15.spec import SEGMENT

TINY = (64, 48)


def test_classes_and_splits_take_turns() -> None:
    specs = clip_specs(300, 1)
    assert Counter(spec.label for spec in specs) == dict.fromkeys(ACTIONS, 20)
    for action in ACTIONS:
        splits = Counter(spec.split for spec in specs if spec.label == action)
        assert splits == {"train": 12, "val": 3, "test": 5}
    assert {spec.split for spec in clip_specs(60, 1)} == {"train", "val", "test"}


def test_a_clip_does_not_depend_on_how_many_there_are() -> None:
    for mode in ("actions", "timeline", "audiovisual"):
        assert clip_specs(40, 3, mode)[:7] == clip_specs(7, 3, mode)
        assert clip_specs(7, 3, mode) != clip_specs(7, 4, mode)


def test_splits_share_neither_sector_nor_background_nor_body() -> None:
    specs = clip_specs(900, 2)
    for trait in ("sector", "background", "body"):
        found = {
            split: {getattr(spec, trait) for spec in specs if spec.split == split}
            for split in ("train", "val", "test")
        }
        assert not found["train"] & found["val"]
        assert not found["train"] & found["test"]
        assert not found["val"] & found["test"]
    train = {spec.sector for spec in specs if spec.split == "train"}
    assert all(abs(spec.azimuth) // 18 not in train for spec in specs if spec.split == "test")


def test_what_is_drawn_covers_its_range() -> None:
    specs = clip_specs(600, 4)
    regimes = Counter(spec.camera for spec in specs)
    assert set(regimes) == set(REGIMES)
    assert min(regimes.values()) > 110
    for values, low, high in (
        ([spec.frames / FPS for spec in specs], 2, 4),
        ([spec.elevation for spec in specs], 5, 40),
        ([spec.azimuth for spec in specs], -180, 180),
        ([spec.parts[0].speed for spec in specs], 0.7, 1.4),
    ):
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high
    assert 0.43 < np.mean([spec.distractors > 0 for spec in specs]) < 0.57
    assert 0.43 < np.mean([spec.mirror for spec in specs]) < 0.57


@pytest.mark.parametrize(
    ("n", "seed", "mode", "size"),
    [
        (0, 1, "actions", TINY),
        (1, -1, "actions", TINY),
        (1, 1, "x", TINY),
        (1, 1, "actions", (33, 48)),
    ],
)
def test_arguments_out_of_range_are_refused(n: int, seed: int, mode: str, size: tuple) -> None:
    with pytest.raises(ConfigError):
        clip_specs(n, seed, mode, size=size)


def test_recordings_are_played_without_jumps_and_stretching() -> None:
    recorded = library()
    assert tuple(recorded.recordings) == ACTIONS
    seconds = np.arange(-1.0, 9.0, 1 / 100)
    for action, recording in recorded.recordings.items():
        joints = assemble(recording.play(seconds), recorded.lengths, recorded.parents)
        lengths = np.linalg.norm(joints - joints[:, list(recorded.parents)], axis=-1)[:, 1:]
        assert np.abs(lengths - recorded.lengths[1:]).max() < 1e-6, action
        assert np.abs(np.diff(joints, axis=0)).max() * 100 < 18, action
        assert joints[..., 1].min() > -0.15, f"{action} stays above the ground"
        assert joints[..., 1].max() < 2.8, action


def test_a_walk_goes_forward_and_a_held_recording_stops() -> None:
    recorded = library()
    walk = recorded.recordings["walk"].play(np.array([0.0, 4.0]))
    assert 3.0 < (walk.root[1] - walk.root[0])[0] < 5.0
    rise = recorded.recordings["getup_faceup"]
    assert not rise.repeats
    held = rise.play(np.array([-1.0, 0.0, rise.length, rise.length + 5]))
    assert np.array_equal(held.root[0], held.root[1])
    assert np.array_equal(held.root[2], held.root[3])
    assert held.root[0, 1] < 0.3 < 0.7 < held.root[2, 1], "from lying to standing"


def test_mirroring_exchanges_the_sides() -> None:
    pose = library().recordings["kick"].play(np.linspace(0, 1, 9))
    other = mirrored(pose)
    right, left = JOINTS.index("right_ankle"), JOINTS.index("left_ankle")
    assert np.allclose(other.bones[:, left], pose.bones[:, right] * (1, 1, -1))
    assert np.allclose(mirrored(other).bones, pose.bones)


def test_bodies_differ_and_stay_what_they_are() -> None:
    found = [body(number) for number in range(BODIES)]
    assert len({who.stature for who in found}) == BODIES
    assert all(1.3 < who.stature < 2.0 for who in found)
    assert body(3).colours == found[3].colours


def test_timelines_are_actions_between_idle_gaps() -> None:
    for spec in clip_specs(8, 6, "timeline", size=TINY):
        assert spec.label == TIMELINE
        assert spec.parts[0].label is None
        assert spec.parts[-1].label is None
        assert [part.label is None for part in spec.parts] == [True, False] * (
            len(spec.parts) // 2
        ) + [True]
        for before, after in pairwise(spec.parts):
            assert before.end == after.start
            assert after.start * FPS == pytest.approx(round(after.start * FPS))
        assert spec.parts[-1].end * FPS == pytest.approx(spec.frames)
        truth = render_clip(spec).truth()["timeline"]
        assert [(s["start"], s["end"], s["label"]) for s in truth] == [
            (part.start, part.end, part.label) for part in spec.parts if part.label
        ]
        assert 3 <= len(truth) <= 5


def test_an_actor_stands_still_in_the_middle_of_a_gap_and_moves_in_an_action() -> None:
    parts = (Part(None, 0, 2), Part("spinkick", 2, 4), Part(None, 4, 6), Part("run", 6, 8))
    seconds = np.arange(200) / FPS
    recorded = library()
    joints = assemble(perform(parts, seconds), recorded.lengths, recorded.parents)
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(axis=1) * FPS
    middle = ((seconds[1:] > 0.1) & (seconds[1:] < 1.5)) | (
        (seconds[1:] > 4.5) & (seconds[1:] < 5.5)
    )
    acting = ((seconds[1:] > 2.1) & (seconds[1:] < 4)) | (seconds[1:] > 6.1)
    assert speed[middle].max() < 1e-6
    assert speed[acting].mean() > 0.5
    assert np.abs(np.diff(joints, axis=0)).max() * FPS < 18, "no jumps between parts"


def test_segments_say_what_is_seen_and_heard() -> None:
    states = Counter()
    for spec in clip_specs(36, 2, "audiovisual", size=TINY):
        truth = render_clip(replace(spec, distractors=0)).truth()
        segments = truth["audio"]["segments"]
        assert len(segments) * SEGMENT * FPS == pytest.approx(spec.frames)
        states.update((s["visible"], s["audible"]) for s in segments)
        assert any(s["visible"] or s["audible"] for s in segments)
        shown = sum(s["end"] - s["start"] for s in truth["timeline"])
        assert shown == pytest.approx(SEGMENT * sum(s["visible"] for s in segments))
        assert all(s["label"] == spec.label for s in truth["timeline"])
    assert len(states) == 4
    assert min(states.values()) > 0.15 * sum(states.values())


def share(wave: np.ndarray, action: str) -> float:
    """Share of the energy that lies near an action's two tones."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / RATE)
    near = sum((np.abs(frequency / tone - 1) < 0.035) for tone in tones(action)).astype(bool)
    return float(power[near].sum() / power.sum())


def test_the_pattern_is_heard_in_audible_segments_and_in_no_others() -> None:
    heard, silent = [], []
    for spec in clip_specs(15, 3, "audiovisual", size=TINY):
        clip = render_clip(spec)
        wave = clip.sound()
        assert wave is not None
        assert wave.dtype == np.float32
        assert len(wave) == round(spec.frames / FPS * RATE)
        assert np.abs(wave).max() <= 1
        assert np.array_equal(wave, clip.sound())
        for segment in clip.truth()["audio"]["segments"]:
            piece = wave[round(segment["start"] * RATE) : round(segment["end"] * RATE)]
            (heard if segment["audible"] else silent).append(share(piece, spec.label))
    assert min(heard) > max(silent), (min(heard), max(silent))
    assert all(render_clip(spec).sound() is None for spec in clip_specs(2, 3, size=TINY))


def test_no_two_actions_share_a_tone() -> None:
    found = sorted(tone for action in ACTIONS for tone in tones(action))
    assert len(found) == 30
    assert min(b / a for a, b in pairwise(found)) > 1.03**2
    assert found[-1] < RATE / 2
