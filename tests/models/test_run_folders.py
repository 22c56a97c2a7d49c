"""Run folders of one network or several, and their errors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nontrivial import randomise
from safetensors.torch import load as parse
from safetensors.torch import save
from torch import nn

from foveate.core.errors import FoveateError, ModelError, WeightsError
from foveate.models import backbones, load, registry
from foveate.models.coviar import CompressedNet, ExitNetwork
from foveate.models.spec import InputSpec
from foveate.models.weights.run import (
    InputCard,
    NetworkCard,
    RunCard,
    declared,
    load_run,
    read_run,
    write_run,
)

CLASSES = ["left", "right", "still"]
INPUT = InputCard(size=32, frames_per_second=5.0, clip_frames=4)
SMALL = InputCard(size=16, frames_per_second=5.0, clip_frames=4, std=(0.5, 0.5, 0.5))
PARTS = {
    "peripheral": NetworkCard(arch="tsn:test_resnet", settings={"dropout": 0.1}, input=SMALL),
    "foveal": NetworkCard(arch="r3d", settings={"depth": 10, "width": 4}),
}


def built(seed: int = 0) -> dict[str, nn.Module]:
    return {
        "peripheral": randomise(registry.create("tsn:test_resnet", num_classes=3), seed),
        "foveal": randomise(registry.create("r3d", num_classes=3, depth=10, width=4), seed + 1),
    }


def card_of(**changes: Any) -> RunCard:
    values: dict[str, Any] = {
        "method": "made-up", "networks": PARTS, "classes": CLASSES, "input": INPUT,
        "calibration": {"orders": [["foveal"], None, {"threshold": 0.5}]},
    }  # fmt: skip
    return RunCard(**{**values, **changes})


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks have the same parameters and buffers, bit for bit."""
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in mine.items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", built(), card_of())
    return tmp_path / "run"


def edited(folder: Path, change: Any) -> None:
    """Change the card's JSON."""
    data = json.loads((folder / "run.json").read_text())
    change(data)
    (folder / "run.json").write_text(json.dumps(data))


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return parse((folder / "model.safetensors").read_bytes())


def put_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write other tensors and a matching card."""
    data = save(tensors)
    (folder / "model.safetensors").write_bytes(data)
    edited(folder, lambda card: card.update(sha256=hashlib.sha256(data).hexdigest()))


def fault(folder: Path, kind: type[FoveateError] = WeightsError) -> str:
    """The one-line error for a folder."""
    with pytest.raises(kind) as caught:
        load_run(folder)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("run/")
    return said


def test_a_model_of_two_parts_round_trips(folder: Path) -> None:
    loaded = load(str(folder))
    assert list(loaded.networks) == ["peripheral", "foveal"]
    for name, network in built().items():
        assert same(loaded.networks[name], network)
        assert not loaded.networks[name].training
    assert (loaded.name, loaded.method, loaded.entry) == (str(folder), "made-up", None)
    assert (loaded.labels, loaded.input) == (tuple(CLASSES), INPUT.spec())
    assert loaded.input_of("peripheral") == InputSpec(16, 5.0, 4, std=(0.5, 0.5, 0.5))
    assert loaded.input_of("foveal") == loaded.input
    assert loaded.card == read_run(folder)
    assert loaded.card is not None
    assert loaded.card.calibration == card_of().calibration
    assert loaded.card.size == (folder / "model.safetensors").stat().st_size
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "run.json"]
    assert {key.partition(".")[0] for key in tensors_of(folder)} == set(PARTS)
    with pytest.raises(ModelError, match="has several networks: peripheral, foveal"):
        _ = loaded.network
    with pytest.raises(ModelError, match="several networks: peripheral, foveal"):
        _ = loaded.card.network
    assert declared(str(folder)) is None


def test_state_dicts_are_written_like_modules(folder: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "again", {k: n.state_dict() for k, n in built().items()}, card_of())
    for name in ("model.safetensors", "run.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_half_precision_is_loaded_as_single_precision(folder: Path, tmp_path: Path) -> None:
    card = write_run(tmp_path / "half", built(), card_of(), half=True)
    assert card.size < 0.6 * read_run(folder).size
    loaded = load_run(tmp_path / "half")
    for name, network in built().items():
        for key, value in network.state_dict().items():
            found = loaded.networks[name].state_dict()[key]
            want = value.half().float() if value.is_floating_point() else value
            assert torch.equal(found, want), key


def test_settings_are_plain_json(tmp_path: Path) -> None:
    network = registry.create_tiny("coviar-exits")
    assert isinstance(network, ExitNetwork)
    settings = {"backbone": "test_resnet", "modality": "residual", "stages": None}
    for number, stages in enumerate((None, ["layer2"])):
        settings["stages"] = stages
        network = registry.create("coviar-exits", num_classes=3, **settings)
        networks = {"any": NetworkCard(arch="coviar-exits", settings=settings)}
        write_run(tmp_path / str(number), {"any": network}, card_of(networks=networks))
        found = load_run(tmp_path / str(number)).networks["any"]
        assert isinstance(found, ExitNetwork)
        assert found.exits == network.exits
        assert same(found, network)


def test_parts_may_have_other_outputs_or_none(tmp_path: Path) -> None:
    networks = {"glance": NetworkCard(arch="tsn:test_resnet", settings={"num_classes": 49})}
    network = registry.create("tsn:test_resnet", num_classes=49)
    write_run(tmp_path / "run", {"glance": network}, card_of(networks=networks))
    assert same(load_run(tmp_path / "run").network, network)


def test_loading_downloads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = backbones.build

    def fresh(name: str, pretrained: bool = False, **settings: Any) -> nn.Module:
        assert not pretrained
        return build(name, pretrained, **settings)

    monkeypatch.setattr(backbones, "build", fresh)
    edited(folder, lambda card: card["networks"]["peripheral"]["settings"].update(pretrained=True))
    assert same(load_run(folder).networks["peripheral"], built()["peripheral"])


def test_the_card_and_the_networks_are_of_the_same_parts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['peripheral'\], but a card of"):
        write_run(tmp_path / "run", {"peripheral": built()["peripheral"]}, card_of())
    assert not (tmp_path / "run").exists()


def test_cards_that_are_too_large_are_not_written(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(WeightsError, match="would be larger than 4000000 bytes"):
        write_run(folder, built(3), card_of(calibration={"table": "x" * 4_000_000}))
    assert (folder / "model.safetensors").read_bytes() == before
    assert load_run(folder)


def renamed(old: str, new: str) -> Any:
    def change(card: dict[str, Any]) -> None:
        card["networks"][new] = card["networks"].pop(old)

    return change


def one_part(**changes: Any) -> Any:
    def change(card: dict[str, Any]) -> None:
        card["networks"]["foveal"].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed("foveal", "fove.al"), "run/run.json: networks.fove.al.[key]: string should match"),
        (renamed("foveal", "far"), "run/model.safetensors does not fit: missing far."),
        (lambda card: card["networks"].pop("foveal"), "model.safetensors does not fit: unused fov"),
        (lambda card: card.update(networks={}), "run/run.json: networks: "),
        (
            lambda card: card.update(method="network"),
            "networks: the method 'network' has one",
        ),
        (lambda card: card.update(method="../x"), "run/run.json: method: "),
        (lambda card: card.update(format=3), "run/run.json: format: "),
        (lambda card: card.update(unknown=1), "run/run.json: unknown: "),
        (lambda card: card.update(classes=["a", "a", "b"]), "run/run.json: classes: empty or rep"),
        (lambda card: card.update(calibration=[]), "run/run.json: calibration: "),
        (lambda card: card.pop("input"), "run/run.json: input: is missing"),
        (one_part(depth=18), "run/run.json: networks.foveal.depth: "),
        (one_part(settings={"depth": 18, "width": 4}), "run/model.safetensors does not fit: "),
        (one_part(settings={"depth": [1]}), "run/run.json: networks.foveal: r3d cannot be built"),
        (one_part(settings={"width": -1}), "run/run.json: networks.foveal: r3d cannot be built"),
        (one_part(input={"size": 0}), "run/run.json: networks.foveal.input.size: "),
    ],
)
def test_a_damaged_card_gives_one_line(folder: Path, change: Any, said: str) -> None:
    edited(folder, change)
    assert said in fault(folder)


@pytest.mark.parametrize(
    ("settings", "arch"), [({}, "nothing-such"), ({"depht": 10}, "r3d"), ({}, "r3d:resnet18")]
)
def test_errors_of_unknown_architectures_name_the_part(
    folder: Path, settings: Any, arch: str
) -> None:
    edited(folder, one_part(arch=arch, settings=settings))
    assert fault(folder, ModelError).startswith("run/run.json: networks.foveal: ")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": 2, "size": NaN}', "[" * 10_000, "\x00"]
)
def test_cards_that_are_not_json_objects_give_one_line(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text)
    assert fault(folder).startswith("run/run.json: not ")


def test_damaged_tensors_give_one_line(folder: Path) -> None:
    tensors = tensors_of(folder)
    put_tensors(folder, {**tensors, "third.weight": torch.zeros(1)})
    assert fault(folder) == "run/model.safetensors does not fit: unused third.weight"
    put_tensors(folder, {**tensors, "weight": torch.zeros(1)})
    assert fault(folder) == "run/model.safetensors does not fit: unused weight"
    put_tensors(folder, {k: v for k, v in tensors.items() if not k.startswith("foveal.")})
    assert "missing foveal.classifier.bias" in fault(folder)
    put_tensors(folder, {**tensors, "foveal.classifier.bias": torch.zeros(4)})
    assert "foveal.classifier.bias is (4,), not (3,)" in fault(folder)
    put_tensors(folder, tensors)
    assert load_run(folder)
    (folder / "model.safetensors").write_bytes(save(tensors)[:-1] + b"x")
    assert "does not match run.json" in fault(folder)
    (folder / "model.safetensors").unlink()
    assert "cannot be read" in fault(folder)
    (folder / "run.json").unlink()
    with pytest.raises(WeightsError, match=r"run: no run\.json in this folder"):
        load_run(folder)


# --- format 1 -----------------------------------------------------------------------------


def write_old(folder: Path, tensors: dict[str, torch.Tensor], **card: Any) -> str:
    """Write a folder of format 1; returns the digest of its weights."""
    folder.mkdir()
    data = save({k: v.contiguous() for k, v in tensors.items()}, {"format": "foveate-run"})
    (folder / "model.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    given = {
        "format": 1, "classes": CLASSES, "output": "sigmoid", "input": INPUT.model_dump(),
        "sha256": digest, "size": len(data), "preset": {"look": {"name": "uniform"}},
        "recipe": "old", "started_from": "an older one", "figures": {"top1": 0.5}, **card,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(given))
    return digest


def test_a_network_of_format_1_is_still_loaded(tmp_path: Path) -> None:
    network = built()["foveal"]
    settings = {"depth": 10, "width": 4}
    write_old(tmp_path / "run", network.state_dict(), arch="r3d", settings=settings)
    loaded = load(str(tmp_path / "run"))
    assert same(loaded.network, network)
    card = loaded.card
    assert card is not None
    assert (card.format, card.method) == (2, "network")
    assert card.network == NetworkCard(arch="r3d", settings=settings)
    assert (card.preset, card.started_from) == ({"look": {"name": "uniform"}}, "an older one")
    assert (loaded.output, loaded.labels) == ("sigmoid", tuple(CLASSES))
    found = declared(str(tmp_path / "run"))
    assert found is not None
    assert found.name == "r3d"
    # Writing it again converts it to the new format.
    write_run(tmp_path / "new", loaded.networks, card)
    assert json.loads((tmp_path / "new" / "run.json").read_text())["format"] == 2
    assert same(load_run(tmp_path / "new").network, network)


def test_damage_of_format_1_gives_one_line(tmp_path: Path) -> None:
    tensors = built()["foveal"].state_dict()
    write_old(tmp_path / "run", tensors, arch="r3d", settings={"depth": 18, "width": 4})
    assert "does not fit" in fault(tmp_path / "run")
    edited(tmp_path / "run", lambda card: card.update(settings=3))
    assert "networks.network.settings" in fault(tmp_path / "run")
    edited(tmp_path / "run", lambda card: card.update(settings={"num_classes": 3}))
    assert "num_classes is given by the classes" in fault(tmp_path / "run")
    edited(tmp_path / "run", lambda card: card.pop("arch"))
    assert "networks.network.arch" in fault(tmp_path / "run")


def test_a_cascade_of_format_1_is_still_loaded(tmp_path: Path) -> None:
    torch.manual_seed(2)
    exits = {
        name: ExitNetwork(CompressedNet(name, "test_resnet", 3), ["layer2"], style, "test_resnet")
        for name, style in (("mv", "light"), ("iframe", "paper"))
    }
    tensors = {
        f"{m}.{k}": v for m, network in exits.items() for k, v in network.state_dict().items()
    }
    digest = write_old(
        tmp_path / "run", tensors, arch="coviar-cascade",
        settings={"mv": "test_resnet", "iframe": "test_resnet"},
    )  # fmt: skip
    calibration = {"orders": {}, "calibrated_on": 5, "stage_seconds": {"open": 0.5}, "macs": {}}
    networks = {
        name: {"backbone": "test_resnet", "stages": ["layer2"], "heads": style}
        for name, style in (("mv", "light"), ("iframe", "paper"))
    }
    cascade = {"format": 1, "sha256": digest, "networks": networks, **calibration}
    file = tmp_path / "run" / "cascade.json"
    file.write_text(json.dumps(cascade))
    loaded = load_run(tmp_path / "run")
    assert list(loaded.networks) == ["mv", "iframe"]
    for name, network in exits.items():
        assert same(loaded.networks[name], network)
    assert loaded.card is not None
    assert (loaded.method, loaded.card.calibration) == ("cascade", calibration)
    for text, said in (
        (json.dumps({**cascade, "sha256": "0" * 64}), "cascade.json: does not match run.json"),
        (json.dumps({**cascade, "networks": ["mv"]}), "cascade.json: networks: "),
        ("{", "cascade.json: not JSON"),
    ):
        file.write_text(text)
        assert fault(tmp_path / "run").startswith(f"run/{said}")
    file.unlink()
    assert fault(tmp_path / "run").startswith("run/cascade.json: cannot be read")
