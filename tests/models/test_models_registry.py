"""Names of models: known, misspelt and malformed ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torch import nn

import foveate.models
from foveate.core.errors import ConfigError, ModelError, WeightsError
from foveate.models import registry
from foveate.models.spec import InputSpec
from foveate.models.weights.table import entries, find, register_weights
from foveate.train.initial_model import build_initial_model


def test_families_are_discovered():
    assert "movinet-a0-stream-lite" in registry.available()
    assert registry.available() == sorted(registry.available())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("movinet-a0-stream-lite", ("movinet-a0-stream-lite", None)),
        ("movinet-a0-stream-lite.k600", ("movinet-a0-stream-lite", "k600")),
        ("tsm:resnet50.a1_in1k", ("tsm", None)),
        ("tsm.ucf101:resnet50.a1_in1k", ("tsm", "ucf101")),
    ],
)
def test_names_are_split(name, parts):
    assert registry.split_name(name) == parts


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'movinet-a0-stream-lite'"):
        registry.create("movinet-a0-streem-light")


def test_names_with_a_tag_have_a_hint_to_load():
    with pytest.raises(ModelError, match="use load"):
        registry.create("movinet-a0-stream-lite.k600")


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'num_classes'"):
        registry.create("movinet-a0-stream-lite", num_clases=3)


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    registry.register("twice")(test_families_are_discovered)
    with pytest.raises(ModelError, match="registered twice"):
        registry.register("twice")(test_names_are_split)


@pytest.mark.parametrize("name", ["Upper", "with.dot", "with:colon", "with space", ""])
def test_malformed_names_are_rejected(name):
    with pytest.raises(ModelError):
        registry.register(name)


def test_parts_can_be_built_but_are_not_listed_or_trained_alone():
    assert "coviar-exits" not in registry.available()
    assert not registry.entry("coviar-exits").classifier
    assert type(registry.create_tiny("coviar-exits")).__name__ == "ExitNetwork"
    for name in ("coviar-exits", "coviar-exits:resnet18.a1_in1k"):
        with pytest.raises(ConfigError, match="a part of models with several networks"):
            build_initial_model(name, ("a", "b"), {})


def test_modules_outside_the_registry_declare_by_attributes():
    class Own(nn.Module):
        streaming = True
        mixes_frames = False

    assert foveate.models.is_streaming(Own())
    assert not foveate.models.mixes_frames(Own())
    assert not foveate.models.is_streaming(nn.Identity())
    assert foveate.models.mixes_frames(nn.Identity())


def test_the_table_names_registered_models():
    for entry in entries():
        arch, tag = registry.split_name(entry.name)
        assert arch == entry.arch
        assert tag
        assert registry.entry(arch).name == arch
        for file in entry.files:
            # torchvision publishes only the first eight digits.
            assert len(file.sha256) == (64 if file.whole else 8)
            assert file.whole or ".pytorch.org/" in file.addresses[0]
            assert file.addresses
            assert all(address.startswith("https://") for address in file.addresses)


def test_weights_are_declared_with_their_family_and_once():
    for entry in entries():
        build = registry.entry(entry.arch).build
        build = getattr(build, "func", build)  # of a partial
        assert entry.read.__module__ == f"{build.__module__}_weights"
    with pytest.raises(WeightsError, match="registered twice"):
        register_weights(entries()[0])


def test_unknown_weights_name_the_nearest():
    with pytest.raises(WeightsError, match=r"did you mean 'movinet-a0-stream-lite\.k600'"):
        find("movinet-a0-stream-lite.k400")


def test_an_architecture_alone_finds_its_only_weights():
    assert find("movinet-a0-stream-lite").name == "movinet-a0-stream-lite.k600"


def test_input_of_the_first_weights():
    spec = find("movinet-a0-stream-lite.k600").input
    assert (spec.size, spec.frames_per_second, spec.clip_frames) == (172, 5.0, 50)
    assert spec.clip_seconds == 10.0


@pytest.mark.parametrize(
    "fields", [{"size": 0}, {"frames_per_second": 0.0}, {"std": (1.0, 0.0, 1.0)}]
)
def test_impossible_inputs_are_refused(fields):
    with pytest.raises(ConfigError, match="positive"):
        InputSpec(**{"size": 8, "frames_per_second": 5.0, "clip_frames": 4} | fields)


def test_public_names_exist():
    for name in foveate.models.__all__:
        assert getattr(foveate.models, name) is not None
    assert sorted(foveate.models._MODULES) == foveate.models.__all__
    with pytest.raises(AttributeError):
        foveate.models.nothing_of_the_kind  # noqa: B018


def test_the_table_loads_without_torch():
    code = (
        "import sys, foveate.models.weights.resolve\n"
        "from foveate.models.weights import table\n"
        "assert len(table.entries()) > 5\n"
        "assert not {'torch', 'numpy', 'tflite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
