"""The twins of benchmarks/motion_accuracy.py and motion_trained.py, on an untrained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import motion_accuracy, motion_trained
from benchmarks.motion_looks import RANDOM_SEEDS, Setting, entries

import foveate
from clips import encode
from foveate.data import read
from foveate.models import InputSpec, count_macs, registry
from foveate.models.weights.run import InputCard, NetworkCard, RunCard, write_run

LABELS = ("walk", "wave")
NET = "tsn:test_resnet"
SPEC = InputSpec(size=48, frames_per_second=4.0, clip_frames=8)
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four clips to train on and four to test on, and an untrained network that tells two."""
    root = tmp_path_factory.mktemp("set")
    rows = ["path,label,split,group,camera"]
    for number in range(8):
        data = encode(frames=55, size=(96, 64), first=7 * number)
        (root / f"{number}.mp4").write_bytes(data)
        split, camera = ("train", "test")[number // 4], ("static", "pan")[number % 2]
        rows.append(f"{number}.mp4,{LABELS[number // 2 % 2]},{split},{number},{camera}")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")
    torch.manual_seed(0)
    model = registry.create(NET, num_classes=2)
    card = RunCard(
        networks={"network": NetworkCard(arch=NET)}, classes=list(LABELS), input=InputCard.of(SPEC)
    )
    write_run(root / "run", {"network": model}, card)
    return root


@pytest.fixture(scope="module")
def asked(folder):
    clips = motion_accuracy.clips_of(folder, str(folder / "run"), "test", None)
    names = ("full", "resize", "centre", "random", "activation", "motion-patch", "context",
             "detail", "oracle")  # fmt: skip
    setting = Setting(SIZE, glance=64, cells=3)
    return clips, motion_accuracy.measure(clips, setting, names, {"loose": {"gate": 0.0}})


def test_looks_of_one_size_cost_the_same_and_less_than_the_whole_frame(asked) -> None:
    clips, found = asked
    per_frame = count_macs(registry.create(NET, num_classes=2), (1, 3, 1, SIZE, SIZE))
    for name in ("resize", "centre", "random", "motion-patch", "loose"):
        assert found[name].macs == pytest.approx(found["resize"].macs)
        assert np.mean(found[name].macs) % per_frame == pytest.approx(0, abs=1)
    assert np.mean(found["full"].macs) > 2 * np.mean(found["resize"].macs)
    assert len(clips.records) == 4


def test_a_glance_and_trials_are_charged(asked) -> None:
    _, found = asked
    model = registry.create(NET, num_classes=2)
    extra = np.array(found["activation"].macs) - np.array(found["centre"].macs)
    assert extra == pytest.approx(count_macs(model, (1, 3, 9, SPEC.size, SPEC.size)), rel=0.01)
    assert np.mean(found["oracle"].macs) > 9 * np.mean(found["centre"].macs)


def test_the_oracle_is_at_least_as_sure_of_the_truth_as_the_centre(asked) -> None:
    clips, found = asked
    at = [LABELS.index(r.labels[0]) for r in clips.records]
    best, middle = (np.array(found[name].scores)[range(4), at] for name in ("oracle", "centre"))
    assert (best >= middle - 1e-6).all()
    assert (best > middle + 1e-6).any()


def test_a_pair_is_the_mean_of_two_looks_at_the_cost_of_both(asked) -> None:
    _, found = asked
    pair, parts = found["detail + context"], [found[n] for n in motion_accuracy.PAIR]
    assert np.allclose(pair.scores, np.mean([p.scores for p in parts], 0))
    assert np.allclose(pair.macs, np.sum([p.macs for p in parts], 0))


def test_figures_compare_and_split_by_camera(asked) -> None:
    clips, found = asked
    figures = motion_accuracy.figures_of(found, clips, "motion-patch")
    assert figures["clips by camera"] == {"pan": 2, "static": 2}
    same = figures["looks"]["loose"]["motion-patch less this"]
    if found["loose"].right == found["motion-patch"].right:
        assert (same["difference"], same["found"]) == (0, False)
    row = figures["looks"]["full"]
    assert row["low"] <= row["top1"] <= row["high"]
    assert row["share_of_full_macs"] == 1
    assert set(row["by_camera"]) == {"pan", "static"}


def test_seeds_of_random_windows_differ_and_are_averaged(folder) -> None:
    run = str(folder / "run")
    recognisers = entries(run, read(folder), Setting(SIZE), ["random"])["random"]
    assert len(recognisers) == RANDOM_SEEDS
    file = folder / "5.mp4"
    boxes = {str(r.predict(file).trace.steps[0].boxes[0]) for r in recognisers}
    assert len(boxes) == RANDOM_SEEDS


def test_a_window_holds_the_actor_or_not(folder) -> None:
    result = foveate.load(str(folder / "run")).predict(folder / "4.mp4")
    assert motion_accuracy.held(result, [[30, 10, 60, 50]] * 55) == 1
    assert motion_accuracy.held(result, [[0, 10, 60, 50]] * 55) == 0
    assert np.isnan(motion_accuracy.held(result, [None] * 55))


def test_features_of_a_look_are_those_of_the_pipeline(folder) -> None:
    dataset = read(folder)
    extractor = motion_trained.Extractor(str(folder / "run"), dataset.classes, SIZE, {})
    windows = extractor.windows(folder / "6.mp4")
    assert [round(row["seconds"], 1) for row in windows] == [2.0]  # .2 s are left over
    for name, look in (("full", None), ("resize", foveate.looks.Resize(size=SIZE))):
        result = foveate.load(str(folder / "run"), look=look, window=10.0).predict(folder / "6.mp4")
        _, macs = windows[0][name][0]
        assert macs == pytest.approx(result.cost.macs, rel=0.01)
    head = motion_trained.Head(extractor.executor.reference)
    result = foveate.load(str(folder / "run")).predict(encode(frames=50, size=(96, 64), first=42))
    with torch.no_grad():
        scores = head(windows[0]["full"][0][0][None]).softmax(-1)[0]
    by_name = {s.label: s.score for s in result.labels}
    assert float(scores[0]) == pytest.approx(by_name["walk"], abs=1e-3)


def test_a_head_learns_what_its_features_tell(folder) -> None:
    torch.manual_seed(1)
    width = registry.create(NET, num_classes=2).classifier.in_features
    y = torch.arange(40) % 2
    x = torch.randn(40, width) * 0.1 + 2 * y[:, None] - 1
    head = motion_trained.trained_head(str(folder / "run"), LABELS, x, y, 0)
    windows = torch.arange(40) // 2  # two windows a clip, of which the longer one decides
    weight = torch.tensor([1.9, 0.1] * 20)
    part = motion_trained.Features(x, windows, weight, None)
    truth = torch.zeros(20, dtype=torch.long)
    assert motion_trained.right_of(head, part, np.arange(20), truth).mean() == 1
    assert motion_trained.right_of(head, part, np.arange(20), truth + 1).mean() == 0


def test_the_crop_trained_table_has_every_line(folder) -> None:
    dataset = read(folder)
    model = str(folder / "run")
    extractor = motion_trained.Extractor(model, dataset.classes, SIZE, {})
    clips, right, macs = motion_trained.answers_of(dataset, extractor, model, [0, 1])
    figures = motion_trained.figures_of(clips, right, macs)
    lines = {f"{n}, trained on full" for n in motion_trained.SHOWN if n != "full"}
    assert set(figures["looks"]) == {*motion_trained.SHOWN, *lines}
    assert right["random"].shape == (2, 4)
    assert figures["looks"]["resize"]["mmacs"] < figures["looks"]["full"]["mmacs"]


def test_a_thinned_set_keeps_its_splits_and_classes(folder) -> None:
    small = motion_trained.thinned(read(folder), 2)
    assert [r.path.stem for r in small.records] == ["0", "2", "4", "6"]
    assert small.classes == LABELS


def test_all_windows_cover_as_much_as_the_motion_patch(folder) -> None:
    setting = Setting(SIZE, patch=(("extent", 0.5),))
    names = ["centre", "random", "motion-patch"]
    table = entries(str(folder / "run"), read(folder), setting, names)
    for recognisers in table.values():
        x1, y1, x2, y2 = recognisers[0].predict(folder / "5.mp4").trace.steps[0].boxes[0]
        assert (x2 - x1, y2 - y1) == pytest.approx((32, 32), abs=0.1)  # half of 64
