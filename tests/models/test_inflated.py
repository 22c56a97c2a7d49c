"""Inflated image networks: initial equality, and learning from motion."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from foveate.models import registry
from foveate.models.inflated import Inflated, TemporalConvolution
from foveate.models.tsm import ShiftContext, shift_context


def pair(backbone: str) -> tuple[nn.Module, Inflated]:
    """TSN and the inflated network with the same weights."""
    torch.manual_seed(0)
    image = registry.create(f"tsn:{backbone}", num_classes=5).eval()
    inflated = registry.create(f"inflated:{backbone}", num_classes=5).eval()
    assert isinstance(inflated, Inflated)
    kept = {k: v for k, v in inflated.state_dict().items() if ".time." not in k}
    names = {k.replace(".layer.", "."): k for k in kept}
    assert set(names) == set(image.state_dict())
    inflated.load_state_dict({names[k]: v for k, v in image.state_dict().items()}, strict=False)
    return image, inflated


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_vit", "vgg11"])
def test_it_is_initialised_to_the_image_network(backbone: str) -> None:
    image, inflated = pair(backbone)
    size = 160 if backbone == "test_vit" else 64
    clip = torch.rand(2, 3, 3, size, size)
    with torch.no_grad():
        assert torch.allclose(image(clip), inflated(clip), atol=1e-5)


def test_channels_are_convolved_over_the_frames_of_a_position() -> None:
    class Keep(nn.Conv2d):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return given

    layer = TemporalConvolution(Keep(2, 2, 1), "t")
    with torch.no_grad():
        layer.time.weight[:] = torch.tensor([[1.0, 10.0, 100.0], [0.0, 0.0, 1.0]])[:, None, :, None]
    x = torch.arange(1.0, 25.0).reshape(6, 2, 1, 2)  # two clips of three frames, two places
    with torch.no_grad(), shift_context(ShiftContext(2, 3)) as context:
        got = layer(x)
    assert context.done == {"t"}
    clips, found = x.unflatten(0, (2, 3)), got.unflatten(0, (2, 3))
    padded = torch.cat([torch.zeros_like(clips[:, :1]), clips, torch.zeros_like(clips[:, :1])], 1)
    first = padded[:, :-2, 0] + 10 * padded[:, 1:-1, 0] + 100 * padded[:, 2:, 0]
    assert torch.equal(found[:, :, 0], first)
    assert torch.equal(found[:, :, 1], padded[:, 2:, 1])
    assert torch.equal(layer(x), x)  # outside of a context the layer alone


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit"])
def test_frames_are_mixed_after_training(backbone: str) -> None:
    size = 160 if backbone == "test_vit" else 64
    _, inflated = pair(backbone)
    clip = torch.rand(1, 3, 4, size, size)
    turned = clip.flip(2)
    inflated(clip).sum().backward()
    times = [p for name, p in inflated.named_parameters() if ".time." in name]
    assert times
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in times)
    with torch.no_grad():
        one, other = inflated(clip), inflated(turned)
        assert (one - other).abs().max() < 1e-5 * one.abs().max()
        for p in times:
            p[:, :, 0] += 0.3
        one, other = inflated(clip), inflated(turned)
        assert (one - other).abs().max() > 1e-3 * one.abs().max()


def test_few_parameters_are_added() -> None:
    with torch.device("meta"):
        image = registry.create("tsn:efficientnet_lite0", num_classes=400)
        inflated = registry.create("inflated:efficientnet_lite0", num_classes=400)
    more = sum(p.numel() for p in inflated.parameters()) - sum(
        p.numel() for p in image.parameters()
    )
    assert more == 3 * 1024  # three weights a channel of nine branches
    assert registry.entry("inflated").mixes_frames
