"""The recipe adafocus: every variant learns, policies find what matters, runs resume exactly."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import foveate
from foveate.core import ConfigError, FoveateError
from foveate.models import create
from foveate.models.adafocus_policies import GridPolicy, RecurrentClassifier
from foveate.models.weights.run import load_run, read_run
from foveate.policy.calibration import ExitCard
from foveate.train.kit.batches import TensorBatches
from foveate.train.recipe import run_recipe
from foveate.train.recipes.adafocus import objectives, ppo
from foveate.train.recipes.adafocus.config import AdaFocusConfig
from foveate.train.recipes.adafocus.networks import BATCH, factors_of
from foveate.train.recipes.adafocus.recipe import RECIPE, ordered
from models.nontrivial import randomise
from train import tiny_motion


def movies(count: int, seed: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (N, 3, T, 64, 64) with fine stripes in the upper left quarter, whose direction counts.

    At half the size the stripes of both classes are the same grey.
    """
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=random)
    x = torch.randint(90, 110, (count, 3, frames, 64, 64), generator=random)
    stripes = torch.zeros(32, 32)
    stripes[::2] = 80
    for i, label in enumerate(y.tolist()):
        x[i, :, :, :32, :32] = (60 + (stripes if label else stripes.T)).long()
    return x.to(torch.uint8), y


@dataclass
class Clips:
    """The part of a data set that the recipe reads."""

    classes: tuple[str, ...] = ("lying", "standing")
    multilabel: bool = False
    root: Any = None
    counts: dict[str, int] = field(default_factory=lambda: {"train": 48, "val": 24})

    def digest(self, split: str) -> str:
        return split

    def subset(self, split: str) -> list[int]:
        return [*range(self.counts.get(split, 0))]

    def source(self, split: str, training: bool, spec: Any, group: Any) -> Any:
        if not self.counts.get(split):
            return None
        x, y = movies(self.counts[split], 1 if split == "train" else 2, spec.clip_frames)
        return TensorBatches(x, y, 16, 0 if training else None)


def config(**changes: Any) -> AdaFocusConfig:
    values: dict[str, Any] = {
        "glance": "test_efficientnet", "focus": "test_resnet", "size": 64, "glance_size": 32,
        "patch": 32, "actions": 4, "frames": 2, "rate": 2.0, "epochs": 6, "hidden": 32,
        "pooled": 64, "stages": (0, 6, 8, 3), "lr": 4e-3, "glance_lr": 1.0, "classifier_lr": 1.0,
        "ppo_lr": 1e-2, "warmup": 0, "calibration": 0, "workers": 0, "draws": 16,
    }  # fmt: skip
    return AdaFocusConfig(**{**values, **changes})


def trained(folder: Path, clips: Clips | None = None, resume: bool = False, **changes: Any) -> Any:
    clips = clips or Clips()
    on_progress = changes.pop("on_progress", lambda event: None)
    data: Any = clips
    return run_recipe(
        RECIPE, config(**changes), data, folder, resume, on_progress, source=clips.source
    )


def top1(summary: Any) -> float:
    return next(value for name, value in summary.figures.items() if name.startswith("top1"))


# --- what the recipe trains -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adafocus") / "v2"
    summary = trained(folder, epochs=6, policy_lr=1.0)
    assert top1(summary) > 0.9
    assert not summary.warnings
    return folder


def test_v1_finds_the_place_in_three_stages(tmp_path: Path) -> None:
    summary = trained(tmp_path / "run", variant="v1", stages=(0, 12, 6, 2), lr=6e-3)
    first, then = (
        next(value for name, value in summary.stages[stage].items() if name.startswith("top1"))
        for stage in ("random", "policy")
    )
    assert first < then
    assert top1(summary) > 0.9
    network: Any = load_run(tmp_path / "run").networks["network"]
    x, _ = movies(8, 9, 2)
    with torch.no_grad():
        seen = network.steps((x.float() / 255).transpose(1, 2))
    assert (seen.actions == 0).all()  # the upper left of four places
    card = read_run(tmp_path / "run")
    assert (card.method, card.networks["network"].arch) == ("adafocus", "adafocus-v1")
    assert card.configuration["stages"] == [0, 12, 6, 2]
    assert card.configuration["model"] == ""


def test_files_become_a_model_with_calibrated_exits(tmp_path: Path) -> None:
    data = tiny_motion.on_disk(tmp_path / "videos", {"train": 8, "val": 2})
    changes = {"size": 32, "patch": 24, "rate": None, "batch": 4, "timed": 1, "variant": "v1",
               "stages": (1, 1, 1, 1), "tune": "focus"}  # fmt: skip
    folder = tmp_path / "run"
    summary = run_recipe(
        RECIPE, config(**changes, calibration=0.4, chunk=1), data, folder,
        on_progress=lambda event: None,
    )  # fmt: skip
    assert list(summary.stages) == ["glance", "focus", "random", "policy"]
    card = read_run(summary.folder)
    assert card.digests == {"train": data.digest("train")}  # calibration clips included
    exits = ExitCard.read(card.calibration, "run")
    assert exits.exits == ["focus.1", "focus.2"]
    assert exits.calibrated_on + len(data.subset("train")) * 0.6 == pytest.approx(8, abs=1)
    assert len(exits.seconds) == 2
    assert card.input.frames_per_second == pytest.approx(2 / 1.6, rel=0.1)  # two frames a clip
    path = data.records[0].path
    everything = foveate.load(folder, decide={"name": "at-end"}).predict(path)
    first = foveate.load(folder, decide={"name": "calibrated", "threshold": 0.0}).predict(path)
    assert everything.cost.macs == pytest.approx(exits.macs[-1], rel=0.01)
    assert first.cost.macs == pytest.approx(exits.macs[0], rel=0.01)


def test_uni_learns(tmp_path: Path) -> None:
    trained(tmp_path / "run", variant="uni", epochs=3, policy_lr=1.0)
    epochs = [row for row in tiny_motion.rows(tmp_path / "run") if row["event"] == "epoch"]
    assert epochs[-1]["loss"] < 0.4 * epochs[0]["loss"]
    assert read_run(tmp_path / "run").networks["network"].arch == "uni-adafocus"


def test_frozen_backbones_keep_their_weights(tmp_path: Path, v2: Path) -> None:
    before = load_run(v2).networks["network"].state_dict()
    trained(tmp_path / "run", model=str(v2), freeze="backbone", epochs=1)
    after = load_run(tmp_path / "run").networks["network"].state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(("glance.", "focus."))} <= kept
    assert "classifier.mlp.0.weight" not in kept
    assert "policy.actor.weight" not in kept
    assert len(list((tmp_path / "run" / "features").glob("train-*.safetensors"))) == 1


def test_a_network_that_does_not_learn_is_reported(tmp_path: Path) -> None:
    few = Clips(counts={"train": 16, "val": 8})
    summary = trained(tmp_path / "run", few, epochs=1, lr=1e-9)
    assert any("the network did not learn: mean-class-accuracy" in w for w in summary.warnings)


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, variant: str) -> None:
    changes = {"variant": variant, "epochs": 2, "stages": (0, 1, 2, 1)}
    few = Clips(counts={"train": 32, "val": 8})
    trained(tmp_path / "whole", few, **changes)
    count = 0

    def interrupt(event: Any) -> None:
        nonlocal count
        count += event.loss is not None
        if count == 4:  # the second epoch of V2, the training of the policy of V1
            signal.raise_signal(signal.SIGINT)

    summary = trained(tmp_path / "cut", few, on_progress=interrupt, **changes)
    assert summary.outcome == "interrupted"
    trained(tmp_path / "cut", few, resume=True, **changes)
    whole, cut = (
        load_run(tmp_path / name).networks["network"].state_dict() for name in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("glance", "order"), [("test_resnet", [1, 0, 2]), ("movinet-a0-stream", [0, 1, 2])]
)
def test_a_glance_that_remembers_sees_frames_in_their_order(glance: str, order: list[int]) -> None:
    context: Any = SimpleNamespace(
        config=config(glance=glance), group=SimpleNamespace(device=torch.device("cpu"))
    )
    ready = ordered(context, foveate.InputSpec(8, 3.0, 3))
    frames = torch.arange(3.0).reshape(1, 1, 3, 1, 1).expand(1, 3, 3, 8, 8)
    assert ready(frames)[0, 0, :, 0, 0].tolist() == order


def test_parts_learn_at_their_own_rates_scaled_with_the_batch() -> None:
    network = network_of("adafocus-v2", exits=2, hidden=8, pooled=8)
    settings = AdaFocusConfig(batch=2 * BATCH, glance_lr=0.5, policy_lr=0.1, classifier_lr=5)
    found = factors_of(network, settings)
    assert found["glance.net.conv_stem.weight"] == 1.0
    assert found["policy.actor.weight"] == pytest.approx(0.2)
    assert found["focus_head.weight"] == found["classifier.mlp.0.weight"] == 10
    assert {v for k, v in found.items() if k.startswith("focus.")} == {2.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 96}, "patches of 96 pixels out of frames of 64"),
        ({"variant": "v1", "actions": 5}, "actions=5: must be a square"),
        ({"glance": "no_such_net"}, "no backbone 'no_such_net'"),
        ({"model": "nowhere"}, "model: nowhere: no run folder"),
        ({"variant": "v1", "freeze": "backbone", "tune": "focus"}, "tune=focus trains the focus"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(FoveateError, match=message):
        trained(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_another_network_cannot_be_started_from(tmp_path: Path, v2: Path) -> None:
    with pytest.raises(ConfigError, match=r"v2: is another network \(hidden=32\)"):
        trained(tmp_path / "run", model=str(v2), hidden=16)
    several = Clips(multilabel=True)
    with pytest.raises(ConfigError, match="one class per clip"):
        trained(tmp_path / "run", several)


# --- objectives -----------------------------------------------------------------------------------


class Bright(nn.Module):
    """Stands for a focus network: the mean of a patch."""

    num_features, shifted = 1, False

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """(B, T, 1) of patches (B, T, 3, P, P)."""
        return patches.mean((2, 3, 4)).unsqueeze(-1)


class Sign(nn.Module):
    """Stands for a classifier of two classes: by the sign of the focus's last feature."""

    def forward(self, features: torch.Tensor, *memory: Any) -> tuple[torch.Tensor, None]:
        """Logits (B, T, 2) of features (B, T, C)."""
        last = 8 * features[..., -1:]
        return torch.cat([last, -last], -1), None


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames (N, 2, 3, 64, 64) that are bright or dark, by the class, around row 16, column 48."""
    y = torch.randint(2, (count,), generator=torch.Generator().manual_seed(seed))
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = torch.exp(-((rows - 16) ** 2 + (columns - 48) ** 2) / (2 * 10**2))
    frames = (1 - 2 * y.float())[:, None, None, None, None] * blob
    return frames.expand(-1, 2, 3, -1, -1).contiguous(), y


def network_of(arch: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    return create(
        arch, num_classes=2, glance="test_efficientnet", focus="test_resnet", size=64, patch=32,
        glance_size=32, **settings,
    ).eval()  # fmt: skip


def test_the_policy_of_v2_moves_to_what_tells_the_classes_apart() -> None:
    network = network_of("adafocus-v2", exits=2, hidden=16, pooled=8)
    network.focus, network.classifier = Bright(), Sign()
    network.focus_head = nn.Linear(1, 2)
    frames, y = blobs(16, 0)
    optimizer = torch.optim.Adam(network.policy.parameters(), 0.01)
    random = torch.Generator().manual_seed(0)
    network.policy.train()
    for _ in range(40):
        loss = objectives.v2_losses(network, frames, y, random).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        seen = network.steps(frames)
    # The patch around the blob begins at row 0 and column 32: places (0, 1).
    assert seen.actions[..., 0].mean() < 0.15
    assert seen.actions[..., 1].mean() > 0.85


def test_no_gradient_passes_the_policy_of_v2_to_the_glance() -> None:
    network = network_of("adafocus-v2", exits=2, hidden=16, pooled=8).train()
    frames, y = blobs(4, 0)
    maps, glance = (one.detach().requires_grad_() for one in network.look(frames))
    network.glance_head.weight.data.zero_()
    # Only the policy reads the maps; glance features reach the classifier apart from it.
    objectives.v2_losses(
        network, frames, y, torch.Generator().manual_seed(0), glanced=(maps, glance)
    ).mean().backward()
    assert maps.grad is None
    assert glance.grad is not None
    assert all(p.grad is not None and p.grad.any() for p in network.policy.actor.parameters())


def test_the_window_of_uni_moves_to_the_cells_that_tell_the_classes_apart() -> None:
    network = network_of("uni-adafocus", glances=2, focuses=2, pooled=8)
    y = torch.randint(2, (16,), generator=torch.Generator().manual_seed(0))
    frames = torch.zeros(16, 6, 3, 64, 64)
    channels = network.glance.map_channels
    maps = torch.zeros(16, 2, channels, 2, 2)
    maps[..., 0, 0, 1] = (3 - 6 * y.float())[:, None]  # the upper right of four cells
    network.spatial_policy = Constant()
    network.window_head.requires_grad_(False).weight.zero_()
    network.window_head.weight[:, 0] = torch.tensor([1.0, -1.0])
    optimizer = torch.optim.Adam(network.spatial_policy.parameters(), 0.15)
    random = torch.Generator().manual_seed(0)
    for _ in range(25):
        losses = objectives.uni_losses(
            network, frames, y, random, glanced=(maps, maps.mean((3, 4))), draws=4, extent=0.0
        )
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    row, column, high, wide = network.spatial_policy.found.sigmoid().tolist()
    assert row < 0.2
    assert column > 0.8
    assert high < 0.5
    assert wide < 0.5


def test_the_regulariser_of_uni_draws_windows_to_the_whole_frame() -> None:
    network = network_of("uni-adafocus", glances=2, focuses=2, pooled=8)
    network.spatial_policy = Constant()
    frames, y = torch.zeros(4, 6, 3, 64, 64), torch.zeros(4, dtype=torch.long)
    maps = torch.zeros(4, 2, network.glance.map_channels, 1, 1)

    def loss(extent: float) -> torch.Tensor:
        random = torch.Generator().manual_seed(0)
        return objectives.uni_losses(
            network, frames, y, random, glanced=(maps, maps.mean((3, 4))), draws=4, extent=extent
        )

    assert torch.allclose(loss(1.0) - loss(0.0), torch.full((4,), 0.25), atol=1e-5)


class Constant(nn.Module):
    """Stands for a policy over windows: the same for every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.found = nn.Parameter(torch.zeros(4))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, G, 4) of maps (B, G, C, h, w)."""
        return self.found.sigmoid().expand(*maps.shape[:2], 4)


def test_the_temporal_policy_takes_frames_whose_glance_is_right() -> None:
    scores = torch.zeros(8, 6, requires_grad=True)
    y = torch.randint(2, (8,), generator=torch.Generator().manual_seed(0))
    logits = torch.zeros(8, 6, 2)
    logits[torch.arange(8), 4, y] = 4.0  # the fifth frame knows the class
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([scores], 0.3)
    for _ in range(20):
        optimizer.zero_grad()
        objectives.temporal_losses(scores, logits, y, 32, random).sum().backward()
        optimizer.step()
    assert (scores.softmax(1)[:, 4] > 0.5).all()


def test_draws_without_replacement_follow_the_density() -> None:
    """With one frame taken, the expectation is over the rest: computed exactly for three frames."""
    scores = torch.tensor([[0.0, 1.0, 0.5, -1.0, 0.2, 0.1]])
    logits = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([1])
    density = scores.softmax(1)[0]
    first = density @ logits[0]
    second = torch.stack([
        density[taken] * torch.where(torch.arange(6) == taken, 0, density) / (1 - density[taken])
        for taken in range(6)
    ]).sum(0) @ logits[0]  # fmt: skip
    want = sum(F.cross_entropy(one[None], y) for one in (first, second)) / 2
    found = objectives.temporal_losses(scores, logits, y, 40_000, torch.Generator().manual_seed(0))
    assert float(found) == pytest.approx(float(want), abs=5e-3)


# --- PPO ------------------------------------------------------------------------------------------


def test_ppo_finds_the_action_that_tells_the_classes_apart() -> None:
    torch.manual_seed(0)
    network = network_of("adafocus-v1", actions=4, hidden=16)
    channels, width = network.glance.map_channels, network.focus.num_features
    y = torch.randint(2, (32,), generator=torch.Generator().manual_seed(0))
    focus = torch.zeros(32, 3, 4, width)
    focus[:, :, 2, 0] = (2 - 4 * y.float())[:, None]  # the third place knows the class
    seen = ppo.GridFeatures(torch.rand(32, 3, channels, 1, 1), focus)
    everywhere = seen.at(torch.full((32, 3), 2))
    learner = torch.optim.Adam(network.classifier.parameters(), 0.02)
    for _ in range(30):
        learner.zero_grad()
        objectives.every(network.classifier(everywhere)[0], y).mean().backward()
        learner.step()
    optimizer = torch.optim.Adam(network.policy.parameters(), 0.02)
    random, settings = torch.Generator().manual_seed(0), AdaFocusConfig()
    before = (ppo.likeliest(network, seen) == 2).float().mean()
    for _ in range(30):
        optimizer.zero_grad()
        ppo.ppo_losses(network, seen, y, settings, random).mean().backward()
        optimizer.step()
    assert before < 0.5
    assert (ppo.likeliest(network, seen) == 2).float().mean() > 0.95


def test_rewards_are_gains_over_other_patches_at_the_same_state() -> None:
    classifier = randomise(RecurrentClassifier(6, 3, hidden=8)).eval()
    random = torch.Generator().manual_seed(0)
    chosen, other = torch.rand(2, 2, 4, 6, generator=random)
    y = torch.tensor([2, 0])
    found = ppo.gains(classifier, chosen, other, y)
    state = None
    for at in range(4):
        tried, _ = classifier(other[:, at : at + 1], state)
        kept, state = classifier(chosen[:, at : at + 1], state)
        gain = kept.softmax(-1) - tried.softmax(-1)
        assert torch.allclose(found[:, at], gain[torch.arange(2), 0, y], atol=1e-6)


def test_returns_and_the_clipped_objective() -> None:
    rewards = torch.tensor([[1.0, 0.0, 2.0]])
    assert torch.allclose(ppo.discounted(rewards, 0.5), torch.tensor([[1.5, 1.0, 2.0]]))
    old = torch.zeros(4)
    new = torch.tensor([1.5, 0.5, 1.5, 0.5]).log()
    gained = ppo.clipped(new, old, torch.tensor([1.0, 1.0, -1.0, -1.0]), 0.2)
    assert torch.allclose(gained, torch.tensor([1.2, 0.5, -1.5, -0.8]))


def test_features_on_the_grid_are_those_of_the_patches() -> None:
    network = network_of("adafocus-v1", actions=4, hidden=16)
    clip = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        flat = ppo.grid_features(network, clip)
        seen = ppo.GridFeatures.unpack(flat, network, 3)
        steps = network.steps(clip.transpose(1, 2))
        logits = ppo.grid_logits(network, seen)
        live = objectives.v1_logits(network, clip.transpose(1, 2))
    assert torch.allclose(seen.at(ppo.likeliest(network, seen))[..., -steps.focus.shape[-1] :],
                          steps.focus, atol=1e-4)  # fmt: skip
    assert torch.allclose(logits, steps.logits, atol=1e-4)
    assert torch.allclose(live, steps.logits, atol=1e-4)
    drawn = [
        call(network, x, torch.Generator().manual_seed(1))
        for call, x in ((ppo.grid_logits, seen), (objectives.v1_logits, clip.transpose(1, 2)))
    ]
    assert torch.allclose(*drawn, atol=1e-4)
    assert not torch.allclose(drawn[0], logits, atol=1e-4)
    assert isinstance(network.policy, GridPolicy)
