"""CoViAR's networks and internal classifiers: stages, frozen backbones, inputs, importers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from foveate.core.errors import FoveateError, ModelError, WeightsError
from foveate.models.coviar import (
    CHANNELS,
    MODALITIES,
    SETS,
    CompressedNet,
    ExitNetwork,
    InternalClassifier,
    fuse,
    mirrored,
    normalise,
    square,
)
from foveate.models.weights.importers import from_arrays


def clips(modality: str, segments: int = 3, side: int = 64) -> torch.Tensor:
    shape = (2, CHANNELS[modality], segments, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("modality", MODALITIES)
def test_stages_in_sequence_equal_the_network(modality) -> None:
    net = CompressedNet(modality, SETS["tiny"][modality], 5).eval()
    x = clips(modality)
    with torch.no_grad():
        *inner, (last, features) = net.run_stages(x)
        torch.testing.assert_close(features, net.features(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.classify(features).mean(1), net(x), rtol=1e-4, atol=1e-5)
    assert last == ""
    assert [name for name, _ in inner] == net.stages[:-1]
    assert (net.data_bn is None) == (modality == "iframe")


@pytest.mark.parametrize("backbone", ["regnety_002", "efficientnet_lite0"])
def test_other_backbones_have_stages_too(backbone) -> None:
    assert len(CompressedNet("iframe", backbone, 3).stages) > 3


def test_non_sequential_backbones_are_rejected() -> None:
    with pytest.raises(ModelError, match="stage by stage"):
        _ = CompressedNet("iframe", "test_vit", 3).stages


@pytest.mark.parametrize("style", ["light", "paper"])
def test_later_stages_are_not_run_after_an_early_exit(style) -> None:
    network = ExitNetwork(CompressedNet("mv", "resnet18", 4), None, style, "resnet18").eval()
    ran: list[str] = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        part = network.network.backbone.get_submodule(name)
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    x = clips("mv")
    ran.clear()
    exits = network.segment_logits(x)
    name, logits = next(exits)
    assert (name, tuple(logits.shape), ran) == ("layer1", (2, 3, 4), ["layer1"])
    assert next(exits)[0] == "layer2"
    assert ran == ["layer1", "layer2"]
    assert list(network(x)) == network.exits == ["layer1", "layer2", "layer3", "final"]


def test_the_backbone_is_frozen_with_its_statistics() -> None:
    network = ExitNetwork(CompressedNet("residual", "test_resnet", 4)).train()
    before = {name: value.clone() for name, value in network.network.state_dict().items()}
    heads = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(heads, 0.1)
    start = [p.clone() for p in heads]
    loss = sum(logits.square().sum() for name, logits in network(clips("residual")).items()
               if name != "final")  # fmt: skip
    loss.backward()
    optimiser.step()
    assert all(torch.equal(v, before[n]) for n, v in network.network.state_dict().items())
    assert all(not torch.equal(a, b) for a, b in zip(start, heads, strict=True))


def test_heads_have_the_published_sizes() -> None:
    """Parameters for 101 classes: .304, .355 and 1.004 million on ResNet-18 (spec, derived)."""
    network = ExitNetwork(CompressedNet("mv", "resnet18"), None, "paper", "resnet18")
    counts = [sum(p.numel() for p in head.parameters()) for head in network.heads.values()]
    assert np.allclose(np.array(counts) / 1e6, [0.304, 0.355, 1.004], atol=6e-4)
    network = ExitNetwork(CompressedNet("iframe", "resnet50"), None, "paper", "resnet50")
    counts = [sum(p.numel() for p in head.parameters()) for head in network.heads.values()]
    assert np.allclose(np.array(counts) / 1e6, [0.251, 1.594, 11.09], atol=6e-3)


def test_inputs_are_normalised_as_published() -> None:
    motion = torch.tensor([-30.0, -20.0, 0.0, 10.0, 30.0]).reshape(1, 1, 1, 5).expand(1, 2, 1, 5)
    want = torch.tensor([0, 0, 128, 191, 255]) / 255 - 0.5
    torch.testing.assert_close(normalise("mv", motion)[0, 0, 0], want)
    residual = torch.tensor([-200.0, 0.0, 200.0]).reshape(1, 1, 3).expand(3, 1, 3)
    want = (torch.tensor([0, 128, 255]) / 255 - 0.5) / 0.229
    torch.testing.assert_close(normalise("residual", residual)[0, 0], want)
    grey = torch.full((3, 1, 1), 0.485 * 255)
    assert abs(float(normalise("iframe", grey)[0])) < 1e-6


def test_mirroring_negates_horizontal_motion() -> None:
    x = torch.arange(8.0).reshape(1, 2, 1, 4)
    got = mirrored("mv", x)
    assert got[0, 0, 0].tolist() == [-3, -2, -1, 0]
    assert got[0, 1, 0].tolist() == [7, 6, 5, 4]
    assert torch.equal(mirrored("mv", got), x)


def test_squares_keep_the_values_of_motion() -> None:
    got = square(torch.full((2, 2, 32, 43), 7.0), 24)
    assert got.shape == (2, 2, 24, 24)
    assert torch.allclose(got, torch.tensor(7.0))


def test_late_fusion_weights() -> None:
    logits = {name: torch.ones(1, 3) * 10**at for at, name in enumerate(MODALITIES)}
    assert fuse(logits)[0, 0] == 2 + 10 + 100


def names_of(net: nn.Module) -> dict[str, np.ndarray]:
    return {
        name.replace("backbone.", "base_model.").replace("classifier.", "base_model.fc."): v.numpy()
        for name, v in net.state_dict().items()
    }


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_modality_of_a_file_is_recognised_by_its_arrays(modality) -> None:
    net = CompressedNet(modality, "resnet18", 4).eval()
    network = from_arrays("coviar", {f"module.{n}": v for n, v in names_of(net).items()})
    x = clips(modality)
    got = network(**{modality: x.transpose(1, 2)})
    with torch.no_grad():
        torch.testing.assert_close(got[f"{modality}_logits"], net(x))


def test_arrays_that_do_not_fit_are_named() -> None:
    arrays = names_of(CompressedNet("mv", "resnet18", 4))
    with pytest.raises(WeightsError, match="num_class=5"):
        from_arrays("coviar", arrays, num_class=5)
    with pytest.raises(WeightsError, match="resnet18, not a resnet50"):
        from_arrays("coviar", arrays, base_models={"mv": "resnet50"})
    with pytest.raises(WeightsError, match="not a network of CoViAR"):
        from_arrays("pkd", {"a": np.zeros(1)})
    with pytest.raises(FoveateError, match="unused extra"):
        from_arrays("coviar", {**arrays, "base_model.fc.extra": np.zeros(1), "extra": np.zeros(1)})


def test_wrong_shapes_and_names_are_rejected() -> None:
    net = CompressedNet("mv", "test_resnet", 4)
    with pytest.raises(ModelError, match=r"\(B, 2, T, H, W\)"):
        net(torch.zeros(1, 3, 2, 32, 32))
    with pytest.raises(ModelError, match="no modality 'flow'"):
        CompressedNet("flow")
    with pytest.raises(ModelError, match="no stage 'layer9'"):
        ExitNetwork(net, ["layer9"])
    with pytest.raises(ModelError, match="no head 'heavy'"):
        InternalClassifier(8, 3, "heavy")


def test_rgb_weights_initialise_a_vector_network(monkeypatch) -> None:
    """Cross-modality initialisation: on two equal channels it is the network of three."""
    from foveate.models import backbones

    torch.manual_seed(0)
    whole = backbones.build("efficientnet_lite0").eval()
    entry = backbones.BACKBONES["efficientnet_lite0.imagenet_lite0"]
    monkeypatch.setattr(backbones, "load_backbone", lambda known: copy.deepcopy(whole))
    found = backbones.build(entry.name, pretrained=True, in_chans=2).eval()
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            found(grey.expand(-1, 2, -1, -1)), whole(grey.expand(-1, 3, -1, -1)),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip
    net = CompressedNet("mv", entry.name, 4, pretrained=True)
    assert net(torch.randn(1, 2, 2, 64, 64)).shape == (1, 4)
