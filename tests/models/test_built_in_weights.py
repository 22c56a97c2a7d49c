"""Built-in weights: complete, documented, small, and usable offline."""

from __future__ import annotations

from pathlib import Path

import pytest

import foveate
from foveate.models import load
from foveate.models.weights.builtin import built_in, run_folder
from foveate.models.weights.run import read_run

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "cartwheel.mp4"
NAMES = ["movinet-a0-stream-lite.actions15", "movinet-a0-stream-lite.fights"]


def test_built_in_weights_exist() -> None:
    assert list(built_in()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_built_in_weights_are_complete_small_and_documented(name: str) -> None:
    folder = built_in()[name]
    card = read_run(folder)
    assert card.size == (folder / "model.safetensors").stat().st_size <= 8_000_000
    assert card.licence == "Apache-2.0"
    assert "Google" in card.notice
    text = (folder / "MODEL_CARD.md").read_text()
    for heading in ("## Figures", "## Recipe", "**Limits**", "**Trained from**"):
        assert heading in text
    loaded = load(name)
    assert (loaded.name, loaded.labels) == (name, tuple(card.classes))
    assert (loaded.card, loaded.entry) == (card, None)
    assert not loaded.network.training


def test_the_demo_clip_is_recognised_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_OFFLINE", "1")
    monkeypatch.setenv("FOVEATE_WEIGHTS", "")
    assert DEMO.stat().st_size < 300_000
    result = foveate.load(NAMES[0]).predict(DEMO)
    assert result.labels[0].label == "cartwheel"


def test_a_folder_of_the_same_name_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_folder(NAMES[0]) == built_in()[NAMES[0]]
    (tmp_path / NAMES[0]).mkdir()
    assert run_folder(NAMES[0]) is None
