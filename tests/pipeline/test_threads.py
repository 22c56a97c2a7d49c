"""`threads="auto"`: one thread unless more were measured to be faster."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import foveate
from foveate.app.requests import PredictRequest
from foveate.core import ConfigError, InputSpec, MediaError
from foveate.pipeline import threads
from foveate.pipeline.presets import Preset

PRESET = Preset(model="movinet-a0-stream-lite.actions15")


class Timed:
    """A recogniser whose predictions take a given time, by the number of threads."""

    def __init__(self, seconds: dict[int, float], count: int) -> None:
        self._seconds, self._count = seconds, count
        self.executor = SimpleNamespace(parts=("network",), input=lambda part: InputSpec(8, 5.0, 2))

    def predict(self, frames: Any, fps: float) -> None:
        assert frames.shape == (2, 8, 8, 3)
        assert fps == 5.0
        time.sleep(self._seconds[self._count])


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(threads, "_cores", lambda: 2)
    monkeypatch.setattr(threads, "_spins", lambda: False)
    monkeypatch.setattr(threads, "_ROUNDS", 2)
    monkeypatch.setattr(threads, "_MOST_SECONDS", 60.0)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))


def choose(seconds: dict[int, float], **settings: Any) -> tuple[int, list[str], list[int]]:
    """The choice, what was said, and for which numbers of threads something was built."""
    built: list[int] = []
    lines: list[str] = []

    def build(count: int) -> Any:
        built.append(count)
        return Timed(seconds, count)

    settings = {"engine": "onnxruntime", **settings}
    chosen = threads.fastest_threads(PRESET, build, notice=lines.append, **settings)
    return chosen, lines, built


def test_more_threads_are_chosen_only_where_they_save_a_fifth() -> None:
    chosen, lines, built = choose({1: 0.02, 2: 0.004})
    assert (chosen, built) == (2, [1, 2])
    assert "threads auto: 2 threads (1: " in lines[0]
    assert choose({1: 0.02, 2: 0.019}, engine="openvino")[0] == 1


def test_the_choice_is_remembered_by_engine_and_precision() -> None:
    assert choose({1: 0.02, 2: 0.004})[0] == 2
    assert choose({1: 0.0, 2: 1.0}) == (2, [], [])
    assert choose({1: 0.004, 2: 0.02}, precision="bf16")[0] == 1
    assert choose({1: 0.004, 2: 0.02}, own=True)[2] == [1, 2]  # a module has no digest


def test_one_core_is_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_cores", lambda: 1)
    assert choose({}) == (1, [], [])


def test_what_cannot_be_measured_is_one_thread() -> None:
    def fail(*given: Any, **more: Any) -> Any:
        raise MediaError("no groups of pictures")

    class Cascade(Timed):
        predict = fail

    def build(count: int) -> Any:
        return Cascade({}, count)

    lines: list[str] = []
    assert threads.fastest_threads(PRESET, build, engine="openvino", notice=lines.append) == 1
    assert "no groups of pictures" in lines[0]
    # A model that cannot be loaded is no matter of threads.
    with pytest.raises(MediaError):
        threads.fastest_threads(PRESET, fail, engine="openvino", notice=lines.append)
    assert len(lines) == 1


def test_pytorch_whose_idle_threads_spin_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(threads, "_cores", lambda: 2)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    chosen, lines, built = choose({}, engine=None)
    assert (chosen, built) == (1, [])
    assert "OMP_WAIT_POLICY=PASSIVE" in lines[0]
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert not threads._spins()


def test_the_policy_is_set_only_before_pytorch_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    threads.sleep_when_idle()
    assert "OMP_WAIT_POLICY" not in os.environ  # this process has PyTorch
    monkeypatch.delitem(sys.modules, "torch")
    threads.sleep_when_idle()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_load_measures_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    layers = torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2)
    recogniser = foveate.load(
        torch.nn.Sequential(*layers), labels=["day", "night"], input=InputSpec(8, 5.0, 4),
        threads="auto",
    )  # fmt: skip
    assert seen == [1, *[1, 2] * 3, seen[-1]]  # built with one, in turn, and the choice
    assert seen[-1] in (1, 2)
    assert recogniser.labels == ("day", "night")


@pytest.mark.parametrize("given", ["0", "two", "-1"])
def test_a_number_of_threads_that_is_none_is_one_line(given: str) -> None:
    with pytest.raises(ConfigError, match="must be at least 1, or auto"):
        _ = PredictRequest(threads=given).thread_count
    assert PredictRequest(threads="auto").thread_count == "auto"
    assert PredictRequest(threads="3").thread_count == 3
