"""Modules of a user, and arguments of `load`, that cannot be meant: one sentence each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import foveate
from foveate import Budget, InputSpec
from foveate.core import ConfigError, FoveateError, ModelError
from foveate.models.weights.builtin import FOLDER
from foveate.models.weights.table import find

NAME = "movinet-a0-stream-lite.actions15"
SPEC = InputSpec(16, 5.0, 4)
LABELS = ["red", "green", "blue"]


class Own(nn.Module):
    """Gives what a function makes of clips (B, 3, T, H, W)."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x_bcthw: Tensor) -> Any:
        return self.function(x_bcthw)


def mean(x_bcthw: Tensor) -> Tensor:
    return x_bcthw.mean((2, 3, 4))


def recognise(module: nn.Module, labels: Any = LABELS, **more: Any) -> foveate.Result:
    given = {"input": SPEC, "device": "cpu", **more}
    own = foveate.load(module, labels=labels, **given)
    return own.predict(np.full((10, 24, 24, 3), (200, 50, 50), np.uint8), fps=5)


def test_a_look_has_the_name_that_it_has_on_the_command() -> None:
    plain = recognise(Own(mean))
    assert plain.labels[0].label == "red"
    for look in ("full", {"name": "full", "rate": 5.0}):
        assert recognise(Own(mean), look=look).labels == plain.labels


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: (mean(x), 1), "gives a tuple, not logits of shape (1, classes)"),
        (lambda x: {"logits": mean(x)}, "gives a dict, not logits"),
        (lambda x: None, "gives a NoneType, not logits"),
        (lambda x: mean(x)[0], "gives shape (3,), not logits of shape (1, classes)"),
        (lambda x: x, "gives shape (1, 3, 4, 16, 16), not logits"),
        (lambda x: mean(x) * 1j, "gives shape (1, 3) of complex numbers, not logits"),
        (lambda x: mean(x).to_sparse(), "gives shape (1, 3), sparse, not logits"),
        (lambda x: mean(x).repeat(2, 1), "gives shape (2, 3), not logits of shape (1, classes)"),
        (lambda x: mean(x)[:, :2], "scores of shape (2,) for 3 labels"),
        (lambda x: mean(x) * math.nan, "scores of the network are not finite"),
        (lambda x: x @ torch.zeros(7, 7), "Own fails on an input of shape (1, 3, 4, 16, 16)"),
        (lambda x: 1 / 0, "division by zero"),
    ],
)
def test_a_module_that_gives_no_logits_is_one_sentence(function: Any, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        recognise(Own(function))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Own(lambda x: mean(x) if x.mean() > -1e9 else x),
        lambda: Own(lambda x: mean(x) + x[torch.nonzero(x)[:, 0]].sum().item() * 0),
        lambda: Own(lambda x: torch.from_numpy(mean(x).numpy())),
        lambda: torch.jit.script(nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())),
        lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
    ],
    ids=["if", "item", "numpy", "scripted", "lazy"],
)
def test_a_module_that_needs_values_is_counted_by_a_call(make: Callable[[], nn.Module]) -> None:
    """Multiply-adds are counted without values where that is possible."""
    assert len(recognise(make()).labels) == 3


def test_logits_of_any_precision_are_taken() -> None:
    plain = recognise(Own(mean)).labels
    for precise in (torch.float64, torch.bfloat16):
        found = recognise(Own(lambda x, d=precise: mean(x).to(d))).labels
        assert [(s.label, pytest.approx(s.score, abs=5e-3)) for s in plain] == [
            (s.label, s.score) for s in found
        ]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_a_module_of_another_precision_is_refused_when_it_is_loaded(dtype: str) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 3)).to(getattr(torch, dtype))
    with pytest.raises(ConfigError, match=rf"computes in {dtype} .*module\.float\(\)"):
        foveate.load(module, labels=LABELS, input=SPEC)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"labels": "ab"}, "labels='ab': not a list of names"),
        ({"labels": []}, "labels=[]: not a list of names"),
        ({"labels": ["a", "a", "b"]}, "labels: 'a' is there twice"),
        ({"labels": [1, 2, 3]}, "labels: 1 is not a name"),
        ({"labels": ["a", " ", "b"]}, "labels: ' ' is not a name"),
        ({"labels": None}, "needs `labels=` and `input=`"),
        ({"input": (64, 5, 16)}, "needs `labels=` and `input=`"),
        ({"output": "foo"}, "output='foo': unknown (one of: softmax, sigmoid)"),
        ({"budget": 3}, "budget=3: no unit (say budget='3fps'"),
        ({"decide": "never"}, "decide.name: there is no never (known: at-end"),
    ],
)
def test_arguments_that_cannot_be_meant_are_one_sentence(arguments: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recognise(Own(mean), **arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize("arguments", [{"labels": ["a"]}, {"input": SPEC}, {"output": "softmax"}])
def test_named_models_have_their_own_labels_and_input(arguments: Any) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(arguments))}=: only for a module"):
        foveate.load(NAME, **arguments)


def test_a_module_without_values_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ConfigError, match="Linear has no values"):
        foveate.load(nn.Linear(3, 3, device="meta"), labels=list("abc"), input=SPEC)


@pytest.mark.parametrize("one", ["a.mp4", np.zeros((3, 8, 8, 3), np.uint8), None, 5])
def test_many_sources_are_not_one(one: Any) -> None:
    with pytest.raises(ConfigError, match="takes several sources"):
        next(foveate.load(Own(mean), labels=list("abc"), input=SPEC).predict_many(one))


@pytest.mark.parametrize("model", [5, None, nn.Linear])
def test_what_is_no_module_is_no_model(model: Any) -> None:
    with pytest.raises(ConfigError, match="is not a model"):
        foveate.load(model, labels=LABELS, input=SPEC)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("r3d", "an architecture without weights (train it: foveate train VIDEOS --model r3d"),
        ("tsn:resnet18", "an architecture without weights (train it: "),
        ("other.pth", "a checkpoint, not a model (foveate weights import other.pth --as NAME)"),
        ("runs/1/model.safetensors", "a checkpoint, not a model"),
        ("", "an empty name is not a model"),
        ("r3d.nosuch", "there is no model or preset 'r3d.nosuch'"),
    ],
)
def test_a_name_without_weights_says_what_to_do(model: str, says: str) -> None:
    with pytest.raises(FoveateError) as caught:
        foveate.load(model)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"frames_per_second": math.nan}, {"frames_per_second": math.inf}, {"size": 1.5},
        {"frames_per_second": "5"}, {"mean": (0.0, 0.0)}, {"resize_to": 8}, {"clip_frames": 0},
    ],
)  # fmt: skip
def test_an_input_that_cannot_be_meant(fields: Any) -> None:
    with pytest.raises(ConfigError, match="InputSpec: "):
        InputSpec(**{"size": 16, "frames_per_second": 5.0, "clip_frames": 4, **fields})


@pytest.mark.parametrize("value", [-1, 0, math.nan, "3"])
def test_a_budget_that_cannot_be_meant(value: Any) -> None:
    with pytest.raises(ConfigError, match="Budget: frames_per_second must be positive"):
        Budget(frames_per_second=value)


def test_a_file_of_a_run_folder_says_its_folder_and_training_refuses_checkpoints() -> None:
    with pytest.raises(ModelError, match=r"name the folder: .*actions15"):
        foveate.load(FOLDER / NAME / "model.safetensors")
    with pytest.raises(ModelError, match=r"weights import other\.pth --as NAME"):
        find("other.pth")
