"""The short form of benchmarks/zoo_accuracy.py: pairs that differ by the order of frames alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from benchmarks import zoo_accuracy

from foveate.models import count_macs, registry
from train.tiny_motion import movies


@pytest.fixture(scope="module")
def clips() -> zoo_accuracy.LoadedClips:
    """Bars that move; at 32 pixels."""
    parts = {}
    for seed, (split, count) in enumerate({"train": 16, "val": 8, "test": 8}.items()):
        x, y = movies(count, seed, frames=4, size=32)
        parts[split] = (x, y)
    return zoo_accuracy.LoadedClips(("left", "right", "still"), parts, tuple("abcdefgh"))


def test_pairs_have_the_same_frames_in_reverse_order(clips) -> None:
    pairs = zoo_accuracy.paired(clips)
    x, y = pairs.parts["test"]
    assert y.tolist() == [0] * 8 + [1] * 8
    assert torch.equal(x[:8].flip(2), x[8:])
    assert pairs.digest("test") != clips.digest("test")
    assert pairs.groups == tuple("abcdefghabcdefgh")


def test_a_training_clip_is_cut_alike_in_all_frames(clips) -> None:
    x = clips.parts["train"][0][0][:, :1].expand(-1, 4, -1, -1)
    random = torch.Generator().manual_seed(0)
    drawn = [zoo_accuracy.varied(x, random) for _ in range(8)]
    assert all(y.shape == x.shape and y.dtype == x.dtype for y in drawn)
    assert all(torch.equal(y[:, 0], y[:, t]) for y in drawn for t in range(4))
    assert len({int(y.long().sum()) for y in drawn}) > 1


def test_tsm_learns_what_tsn_cannot(tmp_path: Path) -> None:
    """Bars that move one way, and the reverse; that TSN cannot is seen above without training."""
    clips = zoo_accuracy.paired(zoo_accuracy.bars({"train": 40, "val": 16, "test": 24}))
    entry = dataclasses.replace(zoo_accuracy.SMALL[1], epochs=6)
    found = zoo_accuracy.train_and_test(entry, clips, tmp_path)
    assert found["model"] == "tsm:test_efficientnet"
    assert found["low"] > 0.6
    assert zoo_accuracy.SMALL[0].model == "tsn:test_efficientnet"


def test_the_difference_is_of_the_same_clips() -> None:
    found = {"TSM, all layers": {"right": [1, 1, 1, 0] * 10},
             "TSN, all layers": {"right": [1, 0, 1, 0] * 10}}  # fmt: skip
    (line,) = zoo_accuracy.compared(found, tuple(f"g{i}" for i in range(40)))
    assert line.startswith("top1: TSM, all layers is higher than TSN, all layers (+0.250")


@pytest.mark.parametrize(("arch", "tells"), [("tsn", False), ("tsm", True)])
def test_only_a_network_that_shifts_can_tell_them_apart(clips, arch, tells) -> None:
    torch.manual_seed(0)
    model = registry.create(f"{arch}:test_efficientnet", num_classes=2).eval()
    x, _ = zoo_accuracy.paired(clips).parts["test"]
    scores = torch.from_numpy(zoo_accuracy.scores_of(model, x, zoo_accuracy.SPEC))
    apart = (scores[:8] - scores[8:]).abs().max() / scores.abs().max()
    assert (apart > 1e-3) == tells


def test_a_line_of_the_table_is_trained_and_measured(clips, tmp_path: Path) -> None:
    entry = zoo_accuracy.Entry("TSM", "tsm:test_efficientnet", epochs=2, start="chance")
    found = zoo_accuracy.train_and_test(entry, zoo_accuracy.paired(clips), tmp_path / "run")
    model = registry.create("tsm:test_efficientnet", num_classes=2)
    assert found["macs"] == count_macs(model, (1, 3, 4, 32, 32))
    assert found["n"] == 16
    assert 0 <= found["low"] <= found["top1"] <= found["high"] <= 1
    assert found["ms"] > 0
    assert 0 < found["ratio"] < 1
    assert sum(found["right"]) == round(found["top1"] * 16)
    page = zoo_accuracy.markdown({"entries": {"TSM": found}, "differences": ["one"]})
    assert f"| TSM | chance | {found['top1']:.3f} |" in page
    assert page.endswith("* one.")
