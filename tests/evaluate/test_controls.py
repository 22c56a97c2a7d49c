"""Controls: what the model sees, the baseline, and the rules of the conclusion."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.small_data import Dataset, Record, clip, dataset, recogniser
from foveate.core import ConfigError
from foveate.data.sources import motion_energy
from foveate.evaluate.bootstrap import compare_correct
from foveate.evaluate.controls import (
    ALTERED,
    ENERGY,
    STILLS,
    WHOLE,
    _copies,
    conclude,
    energy_baseline,
    with_controls,
)
from foveate.evaluate.metrics import mean
from foveate.evaluate.report import report
from foveate.evaluate.run import Control, Evaluation, evaluate, figure_of
from foveate.media import ArrayVideo
from tiny_weights import LABELS

N = 200


def rows(**shares: float) -> list[Control]:
    """Controls with these accuracies; the first clips are the right ones."""
    named = {name.replace("_", " "): share for name, share in shares.items()}
    right = {
        name: (np.arange(N) < N * named.get(name, named["whole"])).astype(float)
        for name in (WHOLE, *ALTERED, ENERGY)
    }
    return [
        Control(
            name=name,
            top1=figure_of("top1@video", mean(correct), N, None, repeats=200),
            loss=None if name == WHOLE else compare_correct(right[WHOLE], correct, repeats=200),
            agreement=1.0,
        )
        for name, correct in right.items()
    ]


STILL_HALF = {"first_frame": 0.5, "middle_frame": 0.5, "last_frame": 0.5}


@pytest.mark.parametrize(
    ("shares", "rule", "words"),
    [
        ({"whole": 0.52}, 1, "say nothing about motion"),
        ({"whole": 0.9, "last_frame": 0.4}, 2, "the classes differ by scene, not by motion"),
        ({"whole": 0.9, "first_frame": 0.5, "middle_frame": 0.5, "last_frame": 0.89}, 2, "last"),
        ({"whole": 0.9, **STILL_HALF}, 4, "the amount of motion alone"),
        ({"whole": 0.9, **STILL_HALF, "motion_energy": 0.6, "shuffled": 0.6}, 5, "uses motion"),
        ({"whole": 0.9, **STILL_HALF, "motion_energy": 0.6}, 6, "no use of their order"),
    ],
)
def test_the_first_rule_that_holds_concludes(shares, rule, words):
    found = conclude(rows(**shares), 0.5)
    assert found[0] == rule
    assert words in found[1]
    assert found[1].count(". ") == 0  # one sentence


def test_few_clips_are_undecided():
    few = rows(whole=0.9, **STILL_HALF)
    undecided = compare_correct(np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 1, 1]), repeats=200)
    few = [row.model_copy(update={"loss": undecided}) if row.name in STILLS else row for row in few]
    assert conclude(few, 0.5)[0] == 3


def test_altered_clips_hold_the_frames_of_the_clip():
    frames = clip(0, 9)
    copies = dict(_copies(frames, np.random.default_rng(0)))
    assert (copies["middle frame"] == frames[4]).all()
    assert (copies["last frame"] == frames[8]).all()
    assert (copies["reversed"][0] == frames[8]).all()
    assert not (copies["shuffled"] == frames).all()
    assert sorted(f.sum() for f in copies["shuffled"]) == sorted(f.sum() for f in frames)


def test_motion_energy_tells_moving_from_still_clips():
    still = np.broadcast_to(clip(0, 1), (50, 40, 40, 3))
    assert motion_energy(still, 25.0) == 0
    assert motion_energy(clip(0), 25.0) > 10
    truth = np.array([0, 1] * 6)
    energy = np.where(truth == 0, 1.0, 9.0) + np.linspace(0, 1, 12)
    assert (energy_baseline(energy, truth) == truth).all()
    # A class with one group has no training clips when that group is left out.
    alone = energy_baseline(energy, truth, ["b" if t else f"a{i}" for i, t in enumerate(truth)])
    assert (alone[truth == 1] == 0).all()


def test_controls_in_evaluation_json_and_report():
    model, data = recogniser(), dataset(6)
    found = evaluate(model, data, repeats=50)
    found = with_controls(found, model, data, "test", batch=3, repeats=50)
    assert [row.name for row in found.controls.rows] == [WHOLE, *ALTERED, ENERGY]
    assert found.controls.rows[0].top1.value == found.figure("top1").value
    assert found.controls.n == 6
    assert Evaluation.from_json(found.to_json()) == found
    assert found.controls.conclusion.split(" (")[0] in report(found)


def test_what_cannot_be_decoded_is_left_out(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = Record("bad.mp4", (LABELS[0],))
    data = Dataset([*dataset(3).records, bad], root=tmp_path)
    model = recogniser()
    found = with_controls(evaluate(model, data, repeats=20), model, data, "test", repeats=20)
    assert (found.controls.n, found.controls.left_out) == (3, 1)
    with pytest.raises(ConfigError, match=r"none of the 1 videos could be measured \(the first: "):
        with_controls(found, model, Dataset([bad], root=tmp_path), "test", repeats=20)
    several = Dataset([Record(ArrayVideo(clip(0), 25.0), LABELS[:2])], multilabel=True)
    with pytest.raises(ConfigError, match="one label each"):
        with_controls(evaluate(model, several, repeats=20), model, several, "test")
