"""The contrastive recipe: what it learns without labels, a linear probe finds again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import contrastive as bars

from foveate.data import read
from foveate.data.samplers import pair
from foveate.data.transforms import EachView
from foveate.models import registry
from foveate.models.weights.run import read_run
from foveate.primitives.augment import Augment, ColourJitter, Grey, RandomResizedCrop
from foveate.train.kit.batches import TensorBatches
from foveate.train.recipe import run_recipe
from foveate.train.recipes import contrastive
from foveate.train.recipes.contrastive import ContrastiveConfig, info_nce
from train import tiny_motion


def settings_of(**changes: Any) -> ContrastiveConfig:
    values = {
        "model": tiny_motion.ARCH, "size": 16, "frames": 6, "rate": 5.0, "epochs": 15,
        "batch": 24, "lr": 1e-2, "hidden": 32, "projection": 16, "workers": 0, "temperature": 0.5,
    }  # fmt: skip
    return ContrastiveConfig(**{**values, **changes})


def test_a_linear_probe_beats_random_features(tmp_path: Path, monkeypatch) -> None:
    """The twin of benchmarks/contrastive.py, on a seed and sizes that nothing was chosen by."""
    monkeypatch.setattr(bars, "TEMPERATURES", (0.5,))
    monkeypatch.setattr(bars, "PROBE_RATES", (1e-2,))
    sizes = bars.Sizes(videos=96, epochs=6, train=60, val=40, test=80, probe_epochs=20)
    found = bars.measure(tmp_path, (11,), sizes)
    assert found["contrastive"]["low"] > found["random features"]["top1"]
    assert found["contrastive"]["n"] == 80
    assert "is higher than random features" in found["difference"]
    card = read_run(tmp_path / "0.5-0.01-11" / "pre")
    assert card.recipe == "contrastive"
    assert card.network.arch == "resnet3d-rs-50"


def test_pieces_save_memory_and_change_no_gradient() -> None:
    """With norms that see the pieces either way, waiting clips change nothing."""
    torch.manual_seed(0)
    network = registry.create(bars.NETWORK["model"], **bars.NETWORK["settings"]).train()
    seen: list[int] = []
    network.stem.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    x = torch.rand(3, 2, 3, 8, 24, 24)
    model = contrastive.Contrast(network, 32, 8)
    plain = copy.deepcopy(model)
    model.pieces = 3
    torch.manual_seed(1)  # of stochastic depth
    info_nce(model(x), 0.1).mean().backward()
    assert seen == [2] * 6  # every piece, and again in the backward pass
    torch.manual_seed(1)
    pooled = torch.cat([plain._pooled(part) for part in x.flatten(0, 1).split(2)])
    z = torch.nn.functional.normalize(plain.projection(pooled), dim=-1).view(3, 2, -1)
    info_nce(z, 0.1).mean().backward()
    for (name, one), two in zip(model.named_parameters(), plain.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-6, msg=name)
    for (name, one), two in zip(model.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, two), name


def test_pieces_give_the_gradient_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    network = registry.create(bars.NETWORK["model"], **bars.NETWORK["settings"])
    whole = contrastive.Contrast(network, 32, 8)
    whole.network.eval()  # its batch norms would see the pieces
    parts = copy.deepcopy(whole)
    parts.pieces = 4
    x = torch.rand(5, 2, 3, 8, 24, 24)
    for model in (whole, parts):
        info_nce(model(x), 0.1).mean().backward()
    one, two = (
        torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        for model in (whole, parts)
    )
    assert (one - two).norm() <= 1e-4 * one.norm()


def test_one_frame_does_not_tell_the_speed() -> None:
    """What the probe is to find is motion: frames of all speeds come from one distribution."""
    random = torch.Generator().manual_seed(0)
    means = [
        torch.stack([bars.clip_of(speed, random)[:, 3].float() for _ in range(60)]).mean((0, 1, 2))
        for speed in bars.SPEEDS
    ]
    spread = torch.stack(means).std(0).mean()
    assert spread < 15  # sampling alone gives six or seven grey levels
    a, b = (bars.clip_of(2, random) for _ in range(2))
    assert not torch.equal(a, b)


def test_pairs_of_videos_are_validated_by_their_partners(tmp_path: Path) -> None:
    tiny_motion.enter()
    clips: Any = tiny_motion.Clips(counts={"train": 8, "val": 6})

    def pairs(split: str, training: bool, spec: Any, team: Any) -> TensorBatches:
        x, y = tiny_motion.movies(2 * clips.counts[split], seed=3)
        return TensorBatches(x.unflatten(0, (-1, 2)), y[::2], 4, 0 if training else None)

    summary = run_recipe(contrastive.RECIPE, 
        settings_of(epochs=1, batch=4), clips, tmp_path / "pre", on_progress=lambda now: None,
        source=pairs,
    )  # fmt: skip
    assert set(summary.figures) == {"infonce@clip,views=2", "partner-top1@clip,views=2"}


def test_the_loss_is_the_equation() -> None:
    z = torch.nn.functional.normalize(
        torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    got = info_nce(z, 0.5)
    flat = [z[i, v] for v in (0, 1) for i in range(3)]
    for i in range(3):
        terms = []
        for own, other in ((i, i + 3), (i + 3, i)):
            scores = [float(flat[own] @ flat[k]) / 0.5 for k in range(6) if k != own]
            below = sum(torch.tensor(scores).exp())
            terms.append(float(-torch.log(torch.exp(flat[own] @ flat[other] / 0.5) / below)))
        assert float(got[i]) == pytest.approx(sum(terms) / 2, rel=1e-5)
    same = torch.stack([z[:, 0], z[:, 0]], 1)
    assert info_nce(same, 0.1).mean() < info_nce(z, 0.1).mean()


def test_near_pairs_are_drawn_more_often() -> None:
    import numpy as np

    random = np.random.default_rng(0)
    gaps = []
    for _ in range(2000):
        first, second = pair(2.0, 12.0, random, count=4, rate=2.0)
        assert first[0] >= 2.0
        assert second[-1] < 12.0
        assert len(first) == len(second) == 4
        gaps.append(second[0] - first[0])
    share = np.array(gaps) / 8.0  # two seconds of ten are the window's own
    # Density 2 (1 - d): the mean is 1/3, and three quarters lie below one half.
    assert share.mean() == pytest.approx(1 / 3, abs=0.02)
    assert (share < 0.5).mean() == pytest.approx(0.75, abs=0.03)
    even = [pair(0.0, 10.0, random, count=1, rate=1.0, power=0) for _ in range(2000)]
    assert np.mean([b[0] - a[0] for a, b in even]) == pytest.approx(4.5, abs=0.2)
    assert pair(0.0, 1.0, None, count=8, rate=2.0)[0] == pair(0.0, 1.0, None, count=8, rate=2.0)[1]


def test_frames_of_a_view_are_treated_alike_and_views_apart() -> None:
    import numpy as np

    still = np.random.default_rng(0).integers(0, 255, (1, 40, 48, 3), dtype=np.uint8)
    frames = still.repeat(6, 0)
    drawn = (RandomResizedCrop(16, scale=0.3, ratio=2.0), ColourJitter(), Grey())
    both = EachView(Augment(16, drawn), 2)
    x, labels = both(frames, (0,), np.random.default_rng(1))
    assert x.shape == (6, 3, 16, 16)
    assert labels == (0,)
    assert all(torch.equal(x[i], x[0]) for i in (1, 2))
    assert all(torch.equal(x[i], x[3]) for i in (4, 5))
    assert not torch.equal(x[0], x[3])


def test_it_takes_a_folder_of_videos_without_classes(tmp_path: Path) -> None:
    tiny_motion.enter()
    tiny_motion.on_disk(tmp_path / "made", {"train": 8, "val": 4})
    flat = tmp_path / "videos"
    for i, path in enumerate(sorted((tmp_path / "made").rglob("*.mp4"))):
        split = "val" if "val" in path.parts else "train"
        target = flat / split / f"{i}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    data = read(flat, "unlabelled")
    assert [len(data.subset(s)) for s in ("train", "val")] == [8, 4]
    settings = settings_of(epochs=1, batch=4, frames=3)
    summary = run_recipe(
        contrastive.RECIPE, settings, data, tmp_path / "pre", on_progress=lambda now: None
    )
    assert summary.steps == 2
    assert not summary.failures
    assert read_run(tmp_path / "pre").classes == ["unlabelled"]
