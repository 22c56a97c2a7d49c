"""3D ResNet-RS through the importer: the original's numbers (shared), and a twin made up here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foveate.core.errors import ModelError, WeightsError
from foveate.models import registry
from foveate.models.weights.importers import MisfitError, from_arrays
from parity.cases import recipe


def apart(got: Any, want: Any) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "objects"),
    [("rs50_9x97x115", False), ("rs50_9x97x115", True), ("rs50_16x128", False)],
)
def test_the_originals_numbers(shared: Path, name: str, objects: bool) -> None:
    folder = shared / "parity" / "tf_resnet3drs"
    spec = json.loads((folder / "spec.json").read_text("utf-8"))
    want, case = np.load(folder / "expected.npz"), spec["cases"][name]
    weights = recipe(folder.parent, "weights_tf.py")
    model = spec["models"][case["model"]]
    rows = model["variables"]
    state = weights.make_state([(n, s) for n, s, _ in rows], case["salt"], case["rules"])
    assert weights.state_digest(state) == case["weights_sha256"]
    if objects:
        state = {f"model/{p}/.ATTRIBUTES/VARIABLE_VALUE": state[n] for n, _, p in rows}
    network = from_arrays("tf_resnet3drs", state, **model["config"])
    got = network(clip=weights.make_clip(case["input"], case["input_shape"]))
    assert apart(got["logits"].numpy(), want[f"{name}/logits"]) < spec["tolerance"]["logits"]
    samples = want[f"{name}/endpoints_sample"]
    for key, row in zip(case["endpoint_shapes"], samples, strict=True):
        assert list(got[key].shape) == case["endpoint_shapes"][key]
        sample = weights.sample(key, got[key].contiguous().numpy())
        assert apart(sample, row) < spec["tolerance"]["endpoint_sample"], key


# --- the twin -----------------------------------------------------------------------------------

INNER = {
    "gate.dense": "_self_gating/_transformer_w",
    "se.reduce": "_squeeze_excitation/_se_reduce",
    "se.expand": "_squeeze_excitation/_se_expand",
}
NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def export(model: torch.nn.Module, root: str) -> dict[str, Any]:
    """Our network as a TensorFlow checkpoint lists it, written down independently."""
    arrays: dict[str, Any] = {}
    blocks = [f"{g}.{i}" for g in ("group1", "group2", "group3", "group4")
              for i in range(len(getattr(model, g)))]  # fmt: skip
    stem = ["conv0", "bn0", "conv1", "bn1", "conv2", "bn2"]
    for name, tensor in model.state_dict().items():
        path, leaf = name.rsplit(".", 1)
        value = tensor.numpy()
        if leaf == "num_batches_tracked":
            continue
        if path == "classifier":
            place = "model/layer_with_weights-1"
            leaf, value = {"weight": ("kernel", value.T), "bias": ("bias", value)}[leaf]
        else:
            head, _, layer = path.partition(".")
            if head == "stem":
                place = f"{root}/layer_with_weights-{stem.index(layer)}"
            else:
                number, layer = layer.split(".", 1)
                place = f"{root}/layer_with_weights-{6 + blocks.index(f'{head}.{number}')}"
                place += f"/{INNER.get(layer, '_' + layer)}"
            if "norm" in layer or "bn" in layer:
                leaf = NORM[leaf]
            elif leaf == "weight":
                leaf = "kernel"
                if layer == "gate.dense":
                    value = value.T[None, None, None]
                elif layer in INNER:
                    value = value.T[None, None]
                else:
                    value = value.transpose(2, 3, 4, 1, 0)
        arrays[f"{place}/{leaf}/.ATTRIBUTES/VARIABLE_VALUE"] = np.ascontiguousarray(value)
    return arrays


@pytest.fixture(scope="module")
def small() -> torch.nn.Module:
    torch.manual_seed(0)
    model = registry.create("resnet3d-rs-50", num_classes=5, width=4).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5)  # no statistic or scale at its start value
    return model


@pytest.mark.parametrize("root", ["model/layer_with_weights-0", "backbone"])
def test_a_checkpoint_comes_back(small: torch.nn.Module, root: str) -> None:
    arrays = export(small, root)
    arrays["save_counter/.ATTRIBUTES/VARIABLE_VALUE"] = np.array(3)
    arrays["optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE"] = np.array(100)
    network = from_arrays("tf_resnet3drs", arrays, depth=50, num_classes=5)
    assert network.arch == "resnet3d-rs-50"
    assert network.settings == {"width": 4}
    x = torch.rand(1, 3, 5, 33, 40)
    got = network(clip=x.permute(0, 2, 3, 4, 1))
    with torch.no_grad():
        want = small(x)
    assert apart(got["logits"].numpy(), want.numpy()) < 1e-5
    assert got["group4"].shape == (1, 3, 2, 2, 128)


def test_names_that_do_not_fit_are_listed(small: torch.nn.Module) -> None:
    arrays = export(small, "backbone")
    gone = next(name for name in arrays if "_norm2/gamma" in name)
    del arrays[gone]
    arrays["backbone/extra/kernel"] = np.zeros(3)
    with pytest.raises(MisfitError) as caught:
        from_arrays("tf_resnet3drs", arrays)
    text = str(caught.value)
    assert "missing group1/block0/norm2/gamma" in text
    assert "unused backbone/extra/kernel" in text
    assert len(caught.value.faults) == 2


def test_what_is_said_must_agree(small: torch.nn.Module) -> None:
    arrays = export(small, "backbone")
    with pytest.raises(WeightsError, match="depth=101"):
        from_arrays("tf_resnet3drs", arrays, depth=101)
    with pytest.raises(ModelError, match="norm_epsilon"):
        from_arrays("tf_resnet3drs", arrays, norm_epsilon=1e-3)
    with pytest.raises(WeightsError, match="blocks"):
        from_arrays("tf_resnet3drs", {"something": np.zeros(3)})
