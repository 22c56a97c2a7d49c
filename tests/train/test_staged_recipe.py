"""A recipe with two stages, defined outside the package, is trained, resumed and found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import foveate
from foveate.core import ConfigError, FoveateError
from foveate.models.weights.run import load_run, read_run
from foveate.train.api import RECIPES, find_recipe
from foveate.train.kit.state import ProgressEvent
from foveate.train.run_state import read_training
from train import probe_then_tune, tiny_motion

SETTINGS: dict[str, Any] = {
    **tiny_motion.config().model_dump(include={"size", "frames", "rate", "batch", "lr", "augment"}),
    "workers": 0, "epochs": 2, "head_epochs": 3,
}  # fmt: skip


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    tiny_motion.enter()
    tiny_motion.on_disk(tmp_path / "clips", {"train": 12, "val": 6})
    return tmp_path / "clips"


def go(videos: Path | None, out: Path, resume: bool = False, **more: Any) -> Any:
    more.setdefault("on_progress", lambda event: None)
    settings = {} if resume else {**SETTINGS, "model": tiny_motion.ARCH}
    return foveate.train(
        videos, out=out, recipe=probe_then_tune.RECIPE, resume=resume, **settings, **more
    )


def test_two_stages_make_one_run(videos: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    run = go(videos, tmp_path / "run", on_progress=lambda event: stages.append(event.stage))
    assert run.outcome == "finished"
    assert (run.epochs, run.steps) == (5, 10)  # of both stages
    order = [stage for stage in dict.fromkeys(stages) if "epoch" in stage]
    head = [f"head, epoch {i}/3" for i in (1, 2, 3)]
    assert order == [*head, "all, epoch 1/2", "all, epoch 2/2"]
    assert run.card.recipe == "probe_then_tune"
    assert run.card.configuration["head_epochs"] == 3
    assert run.card.figures == read_run(tmp_path / "run" / "all").figures == run.figures
    # The second stage began with what the first had learned.
    assert read_run(tmp_path / "run" / "all").configuration["model"] == str(run.folder / "head")
    probed, tuned = (load_run(run.folder / n).network.state_dict() for n in ("head", "."))
    frozen = [name for name in probed if name.endswith("rezero")]
    assert any((probed[name] != tuned[name]).any() for name in frozen)
    assert foveate.load(run).predict(next(videos.rglob("*.mp4"))).labels


@pytest.mark.parametrize("stage", ["head", "all"])
def test_an_interrupted_stage_is_resumed_and_ends_the_same(
    videos: Path, tmp_path: Path, stage: str
) -> None:
    def interrupt(event: ProgressEvent) -> None:
        if event.stage.startswith(f"{stage}, ") and event.step == 3 and event.figures is None:
            os.kill(os.getpid(), 2)

    go(videos, tmp_path / "a" / "run")
    broken = tmp_path / "b" / "run"
    assert go(videos, broken, on_progress=interrupt).outcome == "interrupted"
    with pytest.raises(ConfigError, match="begun with head_epochs=3, not 4"):
        go(None, broken, resume=True, head_epochs=4)
    head = broken / "head"
    finished = read_training(head).outcome
    before = (head / "run.json").stat().st_mtime_ns
    assert finished == (None if stage == "head" else "finished")
    assert go(None, broken, resume=True).outcome == "finished"
    assert finished is None or (head / "run.json").stat().st_mtime_ns == before
    names = ("model.safetensors", "all/log.jsonl", "head/log.jsonl")
    for name in names:
        assert (tmp_path / "a" / "run" / name).read_bytes() == (broken / name).read_bytes(), name


def test_a_stage_that_cannot_be_trained_leaves_no_folder(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="did you mean"):
        foveate.train(
            videos, out=tmp_path / "run", recipe=probe_then_tune.RECIPE, model="tiny-motoin"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_the_package_has_its_name(name: str) -> None:
    assert find_recipe(name).name == name
    find_recipe(name).config()


def test_a_file_in_the_folder_of_recipes_is_a_recipe(tmp_path: Path) -> None:
    """Also: recipes are listed without importing torch."""
    (tmp_path / "probe_then_tune.py").write_bytes(Path(probe_then_tune.__file__).read_bytes())
    code = (
        "import sys, foveate.train.recipes as found; found.__path__.append(sys.argv.pop())\n"
        "from foveate.train.api import RECIPES\n"
        "assert 'probe_then_tune' in RECIPES and 'torch' not in sys.modules\n"
        "from foveate.app.main import app\n"
        "app(['train', '--recipe', 'probe_then_tune', '--print-config'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "head_epochs: 10" in done.stdout, done.stderr
