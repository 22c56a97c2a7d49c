"""AdaMML through the importer: the original's numbers (shared), and a twin made up here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from foveate.core.errors import ModelError
from foveate.models import create
from foveate.models.weights.importers import MisfitError, from_arrays
from models.nontrivial import randomise
from parity.cases import compare


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamml_r18_small_b2", "adamml_rgb_sound"])
def test_the_numbers_of_the_original(shared: Path, name: str) -> None:
    compare(shared, name)


def original(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Our network under the original's names, written down independently for ResNet-18 and flow."""
    arrays: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if name == "free_weights":
            arrays["main_net.lf_weights"] = value
        elif name.startswith("nets."):
            _, modality, part, leaf = name.split(".", 3)
            leaf = re.sub(r"^(layer[234])\.1\.", r"\1.", leaf)
            at = ("rgb", "flow").index(modality)
            arrays[f"main_net.nets.{at}.{'fc.' * (part == 'fc')}{leaf}"] = value
    return arrays


def test_arrays_that_are_missing_are_named() -> None:
    model = randomise(create("adamml", num_classes=5, modalities=("rgb", "flow"),
                             visual="resnet18", frames=4))  # fmt: skip
    with pytest.raises(MisfitError) as error:
        from_arrays("adamml", original(model), modality=["rgb", "flow", "rgbdiff"], groups=4)
    faults = error.value.faults
    assert "missing policy_net.joint_net.nets.1.features.0.0.weight (32, 15, 3, 3)" in faults
    assert all("policy_net" in fault for fault in faults)


def test_the_modalities_must_be_said() -> None:
    with pytest.raises(ModelError, match="modality="):
        from_arrays("adamml", {})
