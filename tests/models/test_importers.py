"""Importers: every name is mapped or listed; no file can run code."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import foveate
from foveate.core.errors import FoveateError, ModelError, WeightsError
from foveate.models import backbones, registry
from foveate.models.weights.importers import Imported, checksums, from_arrays, importer, systems
from foveate.models.weights.importers import registry as sources
from foveate.models.weights.importers.autovideo import _eco_name
from foveate.models.weights.importers.checkpoints import import_file
from foveate.models.weights.importers.files import read_arrays

SMALL = {"model_depth": 10, "widen_factor": 1 / 16}


def r3d(classes: int = 3) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """A small 3D ResNet and its arrays by the original's names."""
    torch.manual_seed(0)
    model = registry.create("r3d", depth=10, width=4, num_classes=classes).eval()
    state = {n.replace("classifier.", "fc."): v.numpy() for n, v in model.state_dict().items()}
    return model, state


def test_systems_lists_all_importers():
    assert {"autovideo", "mmaction", "torchvision", "efficientnet-lite", "mobilenet-tflite"} <= set(
        systems()
    )
    with pytest.raises(WeightsError, match="did you mean 'autovideo'"):
        from_arrays("autovidio", {})


def test_importers_are_registered_once(monkeypatch):
    monkeypatch.setattr(sources, "_BUILDERS", dict(sources._BUILDERS))
    with pytest.raises(ModelError, match="twice"):
        importer("autovideo")(lambda arrays: Imported(nn.Identity(), dict))


def test_imported_networks_have_the_original_interface():
    model, state = r3d()
    network = from_arrays("autovideo", state, **SMALL, n_classes=3)
    clip = np.random.default_rng(0).random((2, 3, 8, 32, 32), dtype=np.float32)
    got = network(clip=clip)
    with torch.no_grad():
        want = model(torch.from_numpy(clip))
    torch.testing.assert_close(got["logits"], want)
    assert set(got) == {"logits", *(f"layer{i}_checksum" for i in (1, 2, 3, 4))}
    assert not network.model.training
    with pytest.raises(ModelError, match="the inputs are clip, not video"):
        network(video=clip)


def test_wrapper_prefixes_and_missing_counters_are_accepted():
    model, state = r3d()
    bare = {f"module.{n}": v for n, v in state.items() if "num_batches" not in n}
    again = from_arrays("autovideo", bare, **SMALL).model.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again[name])


def test_all_differences_are_listed_by_original_name():
    _, state = r3d()
    del state["layer3.0.bn1.running_mean"]
    state["layer2.0.conv2.weight"] = state["layer2.0.conv2.weight"][:-1]
    state["surplus.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(WeightsError) as caught:
        from_arrays("autovideo", state, **SMALL)
    said = str(caught.value)
    assert "3 names" in said
    assert "missing layer3.0.bn1.running_mean (16,)" in said
    assert "layer2.0.conv2.weight is (7, 8, 3, 3, 3), not (8, 8, 3, 3, 3)" in said
    assert "unused surplus.weight (2, 2)" in said


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"shortcut_type": "A"}, "shortcut_type='A' is not supported"),
        ({"n_classes": 4}, "n_classes=4, but fc.weight has 3 rows"),
        ({"colour": 1}, "unknown argument 'colour'"),
        ({"model_depth": 11}, "no depth 11"),
    ],
)
def test_a_configuration_that_is_not_the_network_s_is_rejected(config, error):
    with pytest.raises(FoveateError, match=error):
        from_arrays("autovideo", r3d()[1], **SMALL | config)


def test_stacked_frames_are_split_in_order():
    """A clip of indices is reshaped correctly from (B, T * 3, H, W) to (B, 3, T, H, W)."""
    torch.manual_seed(0)
    model = registry.create("tsm:resnet18", num_classes=3).eval()
    state = {}
    for name, value in model.state_dict().items():
        theirs = name.replace("backbone.", "base_model.").replace("classifier.", "new_fc.")
        state[theirs.replace(".layer.weight", ".net.weight")] = value.numpy()
    network = from_arrays("autovideo", state, num_segments=4)
    assert network.arch == "tsm:resnet18"
    clip = torch.rand(1, 4, 3, 32, 32)
    got = network(clip=clip.reshape(1, 12, 32, 32))
    with torch.no_grad():
        assert torch.equal(got["logits"], model(clip.transpose(1, 2)))
    assert got["frame_logits"].shape == (1, 4, 3)


def mmaction(network: nn.Module, classes: int, shifted: bool) -> dict[str, torch.Tensor]:
    """State dict of MMAction2's recogniser over timm's ResNet, implemented independently."""
    state = {"cls_head.fc_cls.weight": torch.randn(classes, 512),
             "cls_head.fc_cls.bias": torch.randn(classes)}  # fmt: skip
    for name, value in network.state_dict().items():
        *block, layer, leaf = name.split(".")
        if "downsample" in name:
            place = [*block, "conv" if layer == "0" else "bn"]
        elif layer.startswith("bn"):
            place = [*block, f"conv{layer[2]}", "bn"]
        else:
            place = [*block, layer, "conv"]
            if shifted and layer == "conv1" and block:
                place.append("net")
        state[".".join(["backbone", *place, leaf])] = value
    return state


@pytest.mark.parametrize("shifted", [False, True])
def test_mmaction_tsn_and_tsm(shifted):
    torch.manual_seed(0)
    original = backbones.build("resnet18").eval()
    for norm in original.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    state = mmaction(original, 3, shifted)
    assert ("backbone.layer1.0.conv1.conv.net.weight" in state) == shifted
    network = from_arrays("mmaction", state, num_classes=3)
    assert network.arch == ("tsm:resnet18" if shifted else "tsn:resnet18")
    frames = torch.rand(1, 4, 3, 64, 64)
    frames[:, 1:] = frames[:, :1]  # equal frames, so that features agree unless frames are shifted
    with torch.no_grad():
        one = original(frames[:, 0]) @ state["cls_head.fc_cls.weight"].T
        want = one + state["cls_head.fc_cls.bias"]
    got = network(inputs=frames)["logits"]
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-4) == (not shifted)
    if shifted:
        renamed = (
            (r"^backbone\.", "base_model."), (r"^cls_head\.fc_cls", "new_fc"),
            (r"downsample\.conv", "downsample.0"), (r"downsample\.bn", "downsample.1"),
            (r"conv(\d)\.bn", r"bn\1"), (r"\.conv\.", "."),
        )  # fmt: skip
        autovideo = {}
        for name, value in state.items():
            for theirs, other in renamed:
                name = re.sub(theirs, other, name)
            autovideo[name] = value
        again = from_arrays("autovideo", autovideo)
        assert torch.allclose(again(clip=frames.flatten(1, 2))["logits"], got, atol=1e-5)
    del state["backbone.layer2.0.downsample.bn.bias"]
    with pytest.raises(WeightsError, match=r"missing backbone\.layer2\.0\.downsample\.bn\.bias"):
        from_arrays("mmaction", state)


def test_mmaction_c3d_and_unsupported_networks():
    own = registry.create_tiny("c3d").state_dict()
    head = torch.zeros(2, own["classifier.weight"].shape[1])
    state = {"cls_head.fc_cls.weight": head, "cls_head.fc_cls.bias": torch.zeros(2)}
    for name, value in own.items():
        part, _, leaf = name.removeprefix("convs.").partition(".")
        if part in ("conv1", "conv2"):
            part += "a"
        if part.startswith("conv"):
            state[f"backbone.{part}.conv.{leaf}"] = value
        elif part.startswith("fc"):
            state[f"backbone.{part}.{leaf}"] = value
    with pytest.raises(WeightsError) as caught:  # the original's width is fixed
        from_arrays("mmaction", state)
    assert "backbone.conv1a.conv.weight is (" in str(caught.value)
    assert "missing" not in str(caught.value)
    assert "unused" not in str(caught.value)
    inflated = {"backbone.conv1.conv.weight": torch.zeros(8, 3, 5, 7, 7)} | {
        name: value for name, value in state.items() if name.startswith("cls_head")
    }
    with pytest.raises(WeightsError, match="but not TSN, TSM or C3D"):
        from_arrays("mmaction", inflated)


@pytest.mark.parametrize("arch", ["eco-lite", "eco-full"])
def test_eco_names_are_one_to_one(arch):
    names = list(registry.create_tiny(arch).state_dict())
    theirs = [_eco_name(name) for name in names]
    assert len(set(theirs)) == len(names)
    assert "base_model.res4a_down.weight" in theirs
    assert "base_model.res3b_1_bn.running_var" in theirs


@pytest.mark.parametrize("name", ["mc3_18", "swin3d_t"])
def test_outputs_equal_torchvision(name):
    import torchvision.models.video as video

    torch.manual_seed(0)
    original = getattr(video, name)(weights=None, num_classes=5).eval()
    network = from_arrays("torchvision", original.state_dict(), name=name)
    clip = torch.rand(1, 3, 4, 32, 32)
    with torch.no_grad():
        want = original(clip)
    torch.testing.assert_close(network(clip=clip)["logits"], want, rtol=1e-4, atol=1e-5)


def test_checksums_depend_on_values_and_order():
    x = torch.arange(24.0).reshape(2, 3, 4)
    plain, turned = checksums(x), checksums(x.flip(2))
    assert torch.equal(plain[:, :2], turned[:, :2])
    assert (plain[:, 2] - turned[:, 2]).abs().min() > 0.1
    assert plain[0, 0] == pytest.approx(5.5)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("this must not run",))


def test_files_that_hold_code_are_rejected(tmp_path, capsys):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hook": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="more than tensors"):
        read_arrays(tmp_path / "evil.pth")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError):
        read_arrays(tmp_path / "evil.pt")
    np.savez(tmp_path / "evil.npz", a=np.array([Evil()], dtype=object))
    with pytest.raises(WeightsError, match="not a plain npz"):
        read_arrays(tmp_path / "evil.npz")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_arrays(tmp_path / "cut.safetensors")
    assert "must not run" not in capsys.readouterr().out


def test_readable_files_give_the_network_s_state(tmp_path):
    state = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "a.pth.tar")
    np.savez(tmp_path / "a.npz", **{k: v.numpy() for k, v in state.items()})
    for file in ("a.pth.tar", "a.npz"):
        found = read_arrays(tmp_path / file)
        assert set(found) == {"a", "b"}
        assert np.array_equal(np.asarray(found["a"]), [0, 1, 2])
    torch.save({"a": 3}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="no tensors but: a"):
        read_arrays(tmp_path / "b.pth")


def test_an_import_can_be_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    model, state = r3d()
    torch.save({f"module.{n}": torch.from_numpy(v) for n, v in state.items()}, tmp_path / "x.pth")
    labels = ("jump", "run", "sit")
    config = {"widen_factor": 1 / 16}
    _, card = import_file(tmp_path / "x.pth", "mine.v1", config=config, labels=labels)
    assert card.configuration["system"] == "autovideo"
    assert card.network.settings == {"depth": 10, "width": 4}
    loaded = foveate.models.load("mine.v1")
    assert loaded.labels == labels
    assert loaded.input.size == 112
    x = torch.rand(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(x), model(x))
    recogniser = foveate.load("mine.v1", device="cpu")
    result = recogniser.predict(np.zeros((8, 48, 64, 3), np.uint8), fps=8)
    assert {score.label for score in result.labels} == set(labels)
    with pytest.raises(WeightsError, match="not a valid name"):
        import_file(tmp_path / "x.pth", "../out")
    with pytest.raises(WeightsError, match="2 labels for 3 classes"):
        import_file(tmp_path / "x.pth", "mine", config=config, labels=("a", "b"))
    np.savez(tmp_path / "y.npz", a=np.zeros(3, np.float32))
    with pytest.raises(WeightsError, match="no importer fits these arrays"):
        import_file(tmp_path / "y.npz", "mine")
