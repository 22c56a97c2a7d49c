"""Presets of recipes: each is a configuration, and the published one says what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from foveate.app.train import run
from foveate.app.training_requests import TrainRequest
from foveate.core import ConfigError
from foveate.core.config import build, read_yaml
from foveate.models.registry import create_tiny
from foveate.primitives.augment import Augment, describe
from foveate.train.api import RECIPES, find_recipe
from foveate.train.kit.ema import EMA
from foveate.train.presets import find, names
from foveate.train.recipes.adafocus.config import AdaFocusConfig
from foveate.train.recipes.adafocus.networks import factors_of
from foveate.train.recipes.supervised import SupervisedConfig
from foveate.train.videos import transform_of


@pytest.mark.parametrize("name", names())
def test_every_preset_is_a_configuration(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = find(name)
    assert path is not None
    begins = name.partition("-")[0]
    recipe = begins if begins in RECIPES else "supervised"
    config: Any = build(find_recipe(recipe).config, read_yaml(path), name)
    request = TrainRequest(config=Path(name), recipe=recipe, print_config=True, sets=["epochs=7"])
    assert run(request) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown == config.model_copy(update={"epochs": 7}).model_dump(mode="json")


def test_amp_is_turned_off_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TrainRequest(print_config=True, sets=["amp=off"])) == 0
    assert "amp: 'off'" in capsys.readouterr().out


def test_the_published_recipe() -> None:
    path = find("resnet3drs")
    assert path is not None
    config = build(SupervisedConfig, read_yaml(path), "resnet3drs")
    steps = 73_682 / config.epochs
    assert round(config.warmup * steps) == 1_050
    assert (config.epochs, config.batch, config.lr, config.ema) == (350, 1024, 0.8, 0.9999)
    augment = transform_of(config.augment, 224, ("a",), True)
    assert isinstance(augment, Augment)
    assert describe(augment.transforms) == (
        "random-resized-crop(size=224, scale=0.08, ratio=2.0), flip, rand-augment"
    )
    assert augment.decode_size((320, 256)) == (320, 256)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("adafocus-v1", {"focus": 5e-4, "classifier": 0.05}),
        ("adafocus-v2", {"focus": 2e-3, "glance": 1e-3, "policy": 2e-4, "classifier": 1e-2}),
        ("adafocus-uni", {"focus": 2e-3, "glance": 1e-3, "policy": 4e-4, "classifier": 4e-2}),
    ],
)
def test_the_published_rates_of_adafocus(name: str, rates: dict[str, float]) -> None:
    path = find(name)
    assert path is not None
    config = build(AdaFocusConfig, read_yaml(path), name)
    network = nn.ModuleDict({part: nn.Linear(2, 2) for part in rates})
    factors = factors_of(network, config)
    assert {part: config.lr * factors[f"{part}.weight"] for part in rates} == pytest.approx(rates)
    assert config.ppo_lr * config.batch / 16 == pytest.approx(3e-4) or config.variant != "v1"


def test_the_average_has_the_statistics_of_norms() -> None:
    model = create_tiny("resnet3d-rs-50")
    before = EMA(model, 0.5)
    names = [n for n in before.tensors if n.endswith("running_var")]
    assert names
    state = model.state_dict()
    for name in names:
        state[name].fill_(3.0)
    before.update(model)
    # The first update remembers a tenth: (1 + 0) / (10 + 0).
    assert all(abs(float(before.tensors[n].mean()) - 2.8) < 1e-5 for n in names)


def test_a_preset_that_is_none() -> None:
    with pytest.raises(ConfigError, match="did you mean resnet3drs"):
        run(TrainRequest(config=Path("resnet3ds"), print_config=True))
