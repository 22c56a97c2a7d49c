"""MoViNets through the importers: the originals' numbers (shared), and twins made up here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate.core.errors import ModelError, WeightsError
from foveate.models import create, load
from foveate.models.weights.importers import MisfitError, from_arrays
from foveate.models.weights.importers.checkpoints import import_file
from models.nontrivial import randomise
from parity.cases import compare, recipe
from parity.test_tf_resnet3drs import apart

PORT = ["movinet_a0_base", "movinet_a0_base_notf", "movinet_a0_stream", "movinet_a0_stream_notf",
        "movinet_a1_stream", "movinet_a2_base"]  # fmt: skip
TENSORFLOW = ["a0_base_8x112", "a0_base_7x97x131", "a2_base_8x112", "a0_stream_5x172",
              "a0_stream_5x96x130", "a2_stream_5x112", "a3_stream_5x96"]  # fmt: skip


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", PORT)
def test_the_numbers_of_the_pytorch_port(shared: Path, name: str) -> None:
    compare(shared, name)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", TENSORFLOW)
@pytest.mark.parametrize("objects", [False, True])
def test_the_numbers_of_tensorflow(shared: Path, name: str, objects: bool) -> None:
    folder = shared / "parity" / "tf_movinet"
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    want, case = np.load(folder / "expected.npz"), spec["cases"][name]
    weights, model = recipe(folder.parent, "weights_tf.py"), spec["models"][case["model"]]
    rows = model["variables"]
    state = weights.make_state([(n, s) for n, s, _ in rows], case["salt"], case["rules"])
    assert weights.state_digest(state) == case["weights_sha256"]
    if objects:
        state = {f"model/{p}/.ATTRIBUTES/VARIABLE_VALUE": state[n] for n, _, p in rows}
    network = from_arrays("tf_movinet", state, **model["config"])
    got = network(clip=weights.make_clip(case["input"], case["input_shape"]))
    for key in ("logits", "logits_frames", "logits_clip", "logits_split"):
        if (wanted := f"{name}/{key}") in want:
            assert apart(got[key].numpy(), want[wanted]) < spec["tolerance"]["logits"], key
    shapes = {**case["endpoint_shapes"], **case.get("state_shapes", {})}
    rows = [*want[f"{name}/endpoints_sample"], *want.get(f"{name}/states_sample", [])]
    for (key, shape), row in zip(shapes.items(), rows, strict=True):
        assert list(got[key].shape) == shape
        flat = got[key].contiguous().numpy().reshape(-1)
        count = 64 if key in case["endpoint_shapes"] else 16
        sample = flat[weights.make_indices(key, flat.size, count)]
        assert apart(sample, row[: len(sample)]) < spec["tolerance"]["endpoint_sample"], key


# --- twins ----------------------------------------------------------------------------------------


def port(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Our network as a state dict of the port, written down independently."""
    conv = "conv3d" if model.config.conv == "3d" else "conv2d"
    parts = {
        "expansion": "expand.conv_1", "feature": "deep.conv_1", "feature_temporal": "deep.conv_2",
        "projection": "project.conv_1", "skip_project": "res.1.conv_1",
        "squeeze.reduce": "se.fc1.conv_1", "squeeze.expand": "se.fc2.conv_1",
        "stem": "conv1.conv_1",
        "head_project": "conv7.conv_1", "classifier_head": "classifier.0.conv_1",
        "classifier": "classifier.3.conv_1",
    }  # fmt: skip
    arrays = {}
    for name, tensor in model.state_dict().items():
        where = re.match(r"blocks\.block(\d+)_layer(\d+)\.", name)
        prefix = f"blocks.b{where[1]}_l{where[2]}." if where else ""
        path, _, leaf = name[where.end() if where else 0 :].rpartition(".")
        if leaf == "rezero":
            arrays[f"{prefix}alpha"] = tensor.numpy()
            continue
        role, kind = path.removesuffix("_norm"), "norm" if path.endswith("_norm") else conv
        if kind == conv and leaf == "weight":
            while tensor.ndim < 4:
                tensor = tensor.unsqueeze(-1)
            if conv == "conv3d" and tensor.ndim == 4:
                tensor = tensor.unsqueeze(2)
        arrays[f"{prefix}{parts[role]}.{kind}.{leaf}"] = tensor.numpy()
    return arrays


def tensorflow(model: torch.nn.Module, joined: bool = False) -> dict[str, np.ndarray]:
    """Our network as TensorFlow names its variables; `joined`: as `3d_2plus1d` does."""
    flat = model.config.conv == "3d" or joined
    leaves = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
              "running_var": "moving_variance"}  # fmt: skip
    parts = {
        "expansion": "bneck/expansion", "feature": "bneck/feature",
        "feature_temporal": "bneck/feature", "projection": "bneck/projection",
        "skip_project": "bneck/skip/skip_project", "squeeze.reduce": "bneck/se/se_reduce",
        "squeeze.expand": "bneck/se/se_expand", "stem": "stem/stem", "head_project": "head/project",
        "classifier_head": "classifier_head/head", "classifier": "classifier_head/classifier",
    }  # fmt: skip
    arrays = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        where = re.match(r"blocks\.(block\d+_layer\d+)\.", name)
        prefix = f"{where[1]}/" if where else ""
        path, _, leaf = name[where.end() if where else 0 :].rpartition(".")
        value = tensor.numpy()
        if leaf in ("rezero", "position_scale"):
            arrays[prefix + {"rezero": "scale"}.get(leaf, "bneck/se/pos_encoding/scale")] = value
            continue
        role, norm = path.removesuffix("_norm"), path.endswith("_norm")
        temporal = "_temporal" if role.endswith("_temporal") else ""
        inner = "" if flat else f"conv2d{temporal}/"
        if norm:
            arrays[f"{prefix}{parts[role]}/{inner}bn{temporal}/{leaves[leaf]}"] = value
            continue
        depthwise = role.startswith("feature")
        if leaf == "weight":
            value = value.reshape(value.shape + (1,) * (4 - value.ndim))
            if flat and value.ndim == 4:
                value = value[..., None] if temporal else value[:, :, None]
            moved = (0, 1) if depthwise and not flat else (1, 0)
            value = np.moveaxis(value, moved, (-2, -1))
            leaf = "depthwise_kernel" if depthwise and not flat else "kernel"
        layer = f"conv3d{temporal}" if flat else "depthwise_conv2d" if depthwise else "conv2d"
        arrays[f"{prefix}{parts[role]}/{inner}{layer}/{leaf}"] = value
    return arrays


FRAMES = torch.rand(2, 3, 5, 40, 52, generator=torch.Generator().manual_seed(1))


def network(name: str) -> torch.nn.Module:
    options = {"gate": "hard-sigmoid-0.2"} if name.endswith("port") else {}
    return randomise(create(name.removesuffix("-port"), num_classes=5, **options))


@pytest.mark.parametrize("name", ["movinet-a0", "movinet-a0-stream-port"])
def test_a_network_comes_back_from_names_of_the_port(name: str) -> None:
    model = network(name)
    imported = from_arrays("movinet", port(model), tf_like=True)
    assert imported.arch == name.removesuffix("-port")
    assert imported.model.config == model.config
    with torch.no_grad():
        wanted = model(FRAMES).numpy()
    assert apart(imported(clip=FRAMES)["logits"].numpy(), wanted) < 1e-5


@pytest.mark.parametrize(
    ("name", "joined"),
    [("movinet-a0", False), ("movinet-a0-stream", False), ("movinet-a0-stream", True),
     ("movinet-t0-stream", False)],
)  # fmt: skip
def test_a_network_comes_back_from_names_of_tensorflow(name: str, joined: bool) -> None:
    model = network(name)
    imported = from_arrays("tf_movinet", tensorflow(model, joined))
    assert imported.arch == name
    assert imported.model.config == model.config
    got = imported(clip=FRAMES.permute(0, 2, 3, 4, 1))
    with torch.no_grad():
        wanted = model(FRAMES)
    key = "logits_clip" if "stream" in name else "logits"
    assert apart(got[key].numpy(), wanted.numpy()) < 1e-5


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    model = network("movinet-a0")
    arrays = port(model)
    for config, words in (
        ({"cfg": "A1"}, "MoViNet-A0"),
        ({"causal": True}, "squeeze-excitation says otherwise"),
        ({"conv_type": "2plus1d"}, "conv3d kernels"),
        ({"num_classes": 6}, "5 classes"),
    ):
        with pytest.raises(WeightsError, match=words):
            from_arrays("movinet", arrays, **config)
    with pytest.raises(ModelError, match="unknown argument 'depth'"):
        from_arrays("movinet", arrays, depth=3)
    del arrays["conv7.conv_1.norm.bias"]
    with pytest.raises(MisfitError, match=r"conv7\.conv_1\.norm\.bias"):
        from_arrays("movinet", arrays)
    with pytest.raises(WeightsError, match="widths"):
        from_arrays("movinet", {"conv1.conv_1.conv3d.weight": np.zeros((8, 3, 1, 3, 3))})
    arrays = tensorflow(model)
    for config, words in (
        ({"model_id": "a2"}, "model_id='a2'"),
        ({"se_type": "2plus3d"}, "se_type"),
        ({"conv_type": "2plus1d"}, "say otherwise"),
    ):
        with pytest.raises(WeightsError, match=words):
            from_arrays("tf_movinet", arrays, **config)
    for config in ({"conv_type": "1d"}, {"activation": "gelu"}, {"depth": 1}):
        with pytest.raises(ModelError):
            from_arrays("tf_movinet", arrays, **config)


@pytest.mark.parametrize(
    ("system", "name"),
    [("movinet", "movinet-a0-port"), ("movinet", "movinet-a0-stream-port"),
     ("tf_movinet", "movinet-t0-stream")],
)  # fmt: skip
def test_an_imported_file_is_saved_and_loaded_by_its_name(
    system: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    model = network(name)
    arrays = port(model) if system == "movinet" else tensorflow(model)
    np.savez(tmp_path / "file.npz", **arrays)
    import_file(tmp_path / "file.npz", "net.mine", labels=tuple("abcde"))
    (loaded,) = load("net.mine").networks.values()
    wanted: Any = from_arrays(system, arrays).model
    assert loaded.config == wanted.config
    with torch.no_grad():
        assert apart(loaded(FRAMES).numpy(), wanted(FRAMES).numpy()) < 1e-6
