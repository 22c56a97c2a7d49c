"""AdaFocus through the importers: the originals' numbers (shared), and twins made up here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foveate
from foveate.core.errors import ModelError, WeightsError
from foveate.models.weights.importers import MisfitError, from_arrays
from foveate.models.weights.importers.checkpoints import import_file
from parity.cases import compare

CASES = ["adafocus_v1_p128", "adafocus_v1_tsm_p144", "adafocus_v2_mbv2_p128",
         "adafocus_v2_tsm_p144", "uni_adafocus_p128", "uni_adafocus_tsm_p128"]  # fmt: skip


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_numbers_of_the_original(shared: Path, name: str) -> None:
    compare(shared, name)


# --- twins ----------------------------------------------------------------------------------------

CLASSES, PATCH = 5, 64


def torchvision_towers() -> tuple[Any, Any]:
    """The originals' networks: torchvision's, with made-up statistics."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    towers = models.mobilenet_v2(num_classes=CLASSES), models.resnet18(num_classes=CLASSES)
    for tower in towers:
        for name, buffer in tower.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.05)
            elif name.endswith("running_var"):
                buffer.uniform_(0.8, 1.2)
    return tuple(tower.eval() for tower in towers)


def random_arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(shape, generator=generator) * 0.1 + 0.5
        if name.endswith(("running_var", "1.weight")) and len(shape) == 1
        else torch.randn(shape, generator=generator) * (0.5 / max(1, shape[-1])) ** 0.5
        for name, shape in shapes.items()
    }


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{leaf}": (width,)
            for leaf in ("weight", "bias", "running_mean", "running_var")}  # fmt: skip


def gru(name: str, given: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.weight_ih_l0": (3 * hidden, given), f"{name}.weight_hh_l0": (3 * hidden, hidden),
        f"{name}.bias_ih_l0": (3 * hidden,), f"{name}.bias_hh_l0": (3 * hidden,),
    }  # fmt: skip


def linear(name: str, given: int, out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, given), f"{name}.bias": (out,)}


def v1(glance: Any, focus: Any) -> dict[str, torch.Tensor]:
    policy = "focuser.policy.policy."
    return (
        {f"glancer.net.{k}": v for k, v in glance.state_dict().items()}
        | {f"focuser.net.{k}": v for k, v in focus.state_dict().items()}
        | random_arrays({
            f"{policy}state_encoder.0.weight": (32, 1280, 1, 1),
            **linear(f"{policy}state_encoder.3", 32 * 9, 16), **gru(f"{policy}gru", 16, 16),
            **linear(f"{policy}actor.0", 16, 25), **linear(f"{policy}critic.0", 16, 1),
            **gru("classifier.gru", 1280 + 512, 16), **linear("classifier.fc", 16, CLASSES),
        })
    )  # fmt: skip


def v2(glance: Any, focus: Any) -> dict[str, torch.Tensor]:
    policy = "policy_stn."
    return (
        {f"module.global_CNN.{k}": v for k, v in glance.state_dict().items()}
        | {f"module.local_CNN.{k}": v for k, v in focus.state_dict().items()}
        | {f"module.{k}": v for k, v in random_arrays({
            **linear("global_CNN_fc.1", 1280, CLASSES), **linear("local_CNN_fc.1", 512, CLASSES),
            f"{policy}encoder.0.weight": (64, 1280, 1, 1), **norm(f"{policy}encoder.1", 64),
            **linear(f"{policy}encoder.4", 64 * 9, 16), **norm(f"{policy}encoder.5", 16),
            **gru(f"{policy}gru", 16, 16), **linear(f"{policy}fc.0", 16, 2),
            **linear("classifier.mlp.layers.0", 1280 + 512, 8),
            **norm("classifier.mlp.layers.1", 8),
            **linear("classifier.classifiers.0.1", 8, CLASSES),
            **linear("classifier.classifiers.1.1", 8, CLASSES),
        }).items()}
    )  # fmt: skip


@pytest.mark.parametrize(("system", "build"), [("adafocus_v1", v1), ("adafocus_v2", v2)])
def test_torchvision_networks_inside_give_their_features(system: str, build: Any) -> None:
    glance, focus = torchvision_towers()
    network = from_arrays(system, build(glance, focus), input_size=96, patch_size=PATCH)
    images = torch.rand(2, 2 * 3, 96, 96, generator=torch.Generator().manual_seed(2))
    got = network(images=images)
    frames = images.reshape(4, 3, 96, 96)
    with torch.no_grad():
        maps = glance.features(frames)
    assert torch.allclose(got["global_feature"].flatten(0, 1), maps.mean((2, 3)), atol=1e-4)
    seen = network.model.steps(images.unflatten(1, (-1, 3)))
    focus.fc = torch.nn.Identity()
    with torch.no_grad():
        pooled = focus(seen.patches.flatten(0, 1))
    assert torch.allclose(got["local_feature"].flatten(0, 1), pooled, atol=1e-4)
    assert got["logits"].shape == (2, 2, CLASSES)
    assert torch.equal(got["prediction"], got["logits"][:, -1])


@pytest.mark.parametrize(("system", "build"), [("adafocus_v1", v1), ("adafocus_v2", v2)])
def test_an_imported_checkpoint_predicts(
    system: str, build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    arrays = build(*torchvision_towers())
    torch.save(arrays, tmp_path / "checkpoint.pth")
    settings = {"input_size": 96, "patch_size": PATCH}
    name = f"{system.replace('_', '.')}"
    _, card = import_file(tmp_path / "checkpoint.pth", name, config=settings)
    assert card.method == "adafocus"
    frames = np.random.default_rng(0).integers(0, 256, (30, 96, 128, 3)).astype(np.uint8)
    model = foveate.load(name)
    result = model.predict(frames, fps=10.0)
    glance, focus = result.trace.steps
    count = card.input.clip_frames
    assert (len(glance.frames), len(focus.boxes)) == (count, count)
    assert count == (16 if system == "adafocus_v1" else 2)
    assert result.cost.macs == model.executor.exit_macs()[f"focus.{count}"]


def test_missing_and_unused_arrays_are_named() -> None:
    arrays = v2(*torchvision_towers())
    arrays["module.policy_stn.extra.weight"] = torch.zeros(3)
    del arrays["module.policy_stn.fc.0.bias"]
    with pytest.raises(MisfitError) as error:
        from_arrays("adafocus_v2", arrays, input_size=96, patch_size=PATCH)
    assert "missing policy_stn.fc.0.bias (2,)" in error.value.faults
    assert "unused policy_stn.extra.weight (3,)" in error.value.faults


def test_settings_that_change_the_network_are_refused() -> None:
    arrays = v1(*torchvision_towers())
    with pytest.raises(ModelError, match="consensus='fc'"):
        from_arrays("adafocus_v1", arrays, input_size=96, consensus="fc")
    with pytest.raises(ModelError, match="unknown argument 'surprise'"):
        from_arrays("adafocus_v1", arrays, input_size=96, surprise=1)
    with pytest.raises(WeightsError, match="num_classes=9"):
        from_arrays("adafocus_v1", arrays, input_size=96, num_classes=9)
