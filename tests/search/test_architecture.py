"""The search from clips to a trained winner, resumed after an interruption."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.core import ConfigError
from foveate.core.config import build
from foveate.models.movinet_config import parse_table, stream
from foveate.models.weights.run import load_run
from foveate.search import architecture
from foveate.search.architecture import RECIPE, ArchitectureConfig, Study
from foveate.search.costs import Macs
from foveate.train.kit.batches import TensorBatches
from foveate.train.kit.state import ProgressEvent
from foveate.train.recipe import run_recipe

TARGET = 0.3e6
QUICK: dict[str, Any] = {
    "target": "0.3MMAC", "width": 0.125, "layers": 1, "kernels": (133, 333), "size": 16,
    "frames": 3, "rate": 4, "epochs": 3, "batch": 8, "candidates": 3, "reward_batch": 8,
    "train_epochs": 0, "workers": 0,
}  # fmt: skip


@dataclass
class Clips:
    """Clips of two brightnesses, as much of a data set as a recipe reads."""

    classes: tuple[str, ...] = ("dark", "light")
    multilabel: bool = False
    root: Any = None

    def digest(self, split: str) -> str:
        return split

    def source(self, split: str, training: bool, spec: Any, group: Any) -> TensorBatches | None:
        if split not in ("train", "val"):
            return None
        random = torch.Generator().manual_seed(len(split))
        y = torch.arange(24) % 2
        x = torch.randint(0, 100, (24, 3, 3, 16, 16), generator=random) + 120 * y.view(
            -1, 1, 1, 1, 1
        )
        return TensorBatches(x.to(torch.uint8), y, 8, 0 if training else None)


def search(folder: Path, resume: bool = False, on_progress: Any = None, **changes: Any) -> Any:
    config = build(ArchitectureConfig, {**QUICK, **changes}, "settings")
    data: Any = Clips()
    return run_recipe(
        RECIPE, config, data, folder, resume, on_progress or (lambda event: None),
        source=data.source,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "s"
    assert search(folder).outcome == "finished"
    return folder


def test_the_winner_is_the_best_within_the_target(finished: Path) -> None:
    study = Study.read(finished)
    within = [one for one in study.candidates if one.cost <= TARGET]
    assert study.winner in within
    assert study.winner.top1 == max(one.top1 for one in within)
    cost = Macs(16, 3, 2)
    for one in study.candidates:
        assert cost(stream(parse_table(one.table))) == one.cost
    assert [one.cost for one in study.candidates] == sorted(one.cost for one in study.candidates)


def test_the_front_holds_what_nothing_beats(finished: Path) -> None:
    candidates = Study.read(finished).candidates
    for one in candidates:
        better = [
            other for other in candidates
            if (other.cost < one.cost and other.top1 >= one.top1)
            or (other.cost <= one.cost and other.top1 > one.top1)
        ]  # fmt: skip
        assert one.front == (not better)


def test_an_interrupted_search_ends_like_an_uninterrupted_one(
    finished: Path, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(event: ProgressEvent) -> None:
        if event.stage == "train" and event.step == 7:  # in the third epoch
            raise Killed

    with pytest.raises(Killed):
        search(tmp_path / "s", on_progress=kill)
    assert not (tmp_path / "s" / architecture.PARETO).exists()
    search(tmp_path / "s", resume=True)
    assert Study.read(tmp_path / "s") == Study.read(finished)


def test_a_resumed_search_keeps_its_settings(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"begun with target=0\.3MMAC, not 1MMAC"):
        search(finished, resume=True, target="1MMAC")


def test_the_winner_is_trained_and_loads_like_any_model(tmp_path: Path) -> None:
    # The stage reads clips from files; here it is given the same tensors.
    pattern = architecture.supervised.RECIPE
    data = Clips()

    def train_stage(self: Any, name: str, recipe: Any, config: Any) -> Path:
        assert recipe is pattern
        found = run_recipe(
            recipe, config, self.dataset, self.folder / name, False, lambda event: None,
            source=data.source,
        )  # fmt: skip
        self.summaries.append(found)
        return found.folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architecture.RecipeContext, "train_stage", train_stage)
        summary = search(tmp_path / "s", train_epochs=8, target="10ms", warm_up=0.5)
    study = Study.read(tmp_path / "s")
    loaded = load_run(tmp_path / "s" / architecture.WINNER)
    assert loaded.card is not None
    assert loaded.card.network.arch == "movinet-table-stream"
    assert loaded.card.network.settings["table"] == study.winner.table
    assert loaded.labels == ("dark", "light")
    assert summary.figures["ms per frame"] == study.winner.cost > 0
    assert any(name.startswith("top1") for name in summary.figures)
    table = json.loads((tmp_path / "s" / architecture.LATENCIES).read_text("utf-8"))
    assert len(table["milliseconds"]) > 8


@pytest.mark.parametrize("kind", ["stream", "base"])
def test_shared_weights_learn(kind: str, tmp_path: Path) -> None:
    """The two classes differ in brightness: any network learns them."""
    search(tmp_path / "s", kind=kind, epochs=10, lr=1e-2)
    assert Study.read(tmp_path / "s").winner.top1 > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "2"}, "target 2: not understood"),
        ({"kernels": [544]}, "kernel '544': not understood"),
        ({"warm_up": 1.0}, "warm_up: must be less than 1"),
        ({"wdth": 1}, "unknown key wdth"),
    ],
)
def test_wrong_settings_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(ArchitectureConfig, {**QUICK, **changes}, "settings")


def test_several_labels_are_refused(tmp_path: Path) -> None:
    config = build(ArchitectureConfig, QUICK, "settings")
    data: Any = Clips(multilabel=True)
    with pytest.raises(ConfigError, match="one label"):
        run_recipe(RECIPE, config, data, tmp_path / "s", source=data.source)
    assert not (tmp_path / "s").exists()


def test_a_damaged_study_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished search"):
        Study.read(tmp_path)
    (tmp_path / architecture.PARETO).write_text('{"candidates": [{"table": 1}]}')
    with pytest.raises(ConfigError, match="damaged"):
        Study.read(tmp_path)


def test_a_target_below_every_network_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="target 1kMAC: the smallest network of the space costs"):
        search(tmp_path / "s", target="1kMAC")
    assert not (tmp_path / "s").exists()
